//! The owner's permission as a type: a handler for owner-only actions requires an [`Owner`], so that a session's code
//! cannot be mistaken for a proof of it.

use axum::{
    extract::FromRequestParts,
    http::{StatusCode, request::Parts},
};
use chaarfm_domain::Role;

use super::Principal;
use crate::error::ApiError;

/// A client with the owner's permissions. Only the gate's result for a request creates one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owner(Principal);

impl Owner {
    /// The name for the log.
    pub(crate) fn name(&self) -> &str {
        self.0.name()
    }
}

impl<S: Sync> FromRequestParts<S> for Owner {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Ok(principal) = Principal::from_request_parts(parts, state).await;
        if principal.role() == Some(Role::Owner) {
            return Ok(Self(principal));
        }
        Err(ApiError::new(StatusCode::FORBIDDEN, "this is for the coordinator's owner"))
    }
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    #[tokio::test]
    async fn no_code_makes_an_owner_and_nobody_else_does_but_the_gate() {
        let known = |role| Principal::Known { role, name: "a name".to_owned() };
        for (principal, is_owner) in [
            (None, false),
            (Some(Principal::Stranger), false),
            (Some(known(Role::Worker)), false),
            (Some(known(Role::Reader)), false),
            (Some(known(Role::Owner)), true),
        ] {
            let mut request = Request::post("/api/sessions/K7Q-M4X-WDP/stop").body(()).unwrap();
            if let Some(principal) = principal.clone() {
                request.extensions_mut().insert(principal);
            }
            let (mut parts, ()) = request.into_parts();
            let owner = Owner::from_request_parts(&mut parts, &()).await;
            assert_eq!(owner.is_ok(), is_owner, "{principal:?}");
        }
    }
}
