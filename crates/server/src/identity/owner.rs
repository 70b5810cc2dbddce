//! The right to command, as a type: a handler that does what only an owner may asks for an [`Owner`], so that none can take
//! a session's code for the proof of it.

use axum::{
    extract::FromRequestParts,
    http::{StatusCode, request::Parts},
};
use chaarfm_domain::Role;

use super::Principal;
use crate::error::ApiError;

/// Somebody who may command. Only what the gate has found out about a request makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owner(Principal);

impl Owner {
    /// As records call them.
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
