//! The gate before every route: identifies the client, and applies the table of routes.

use std::{
    collections::HashMap,
    convert::Infallible,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    RequestPartsExt,
    extract::{FromRequestParts, MatchedPath, RawPathParams, Request, State},
    http::{HeaderMap, Method, StatusCode, header, request::Parts},
    middleware::Next,
    response::Response,
};
use chaarfm_domain::{AuditEvent, Role, SessionId};
use chaarfm_store::{Credential, CredentialKind, Store, StoreError};
use tokio::time::{Instant, timeout};

use super::{
    cookies,
    page::{Closed, closed},
    routes::{self, Access},
    secret::Secret,
};
use crate::{
    audit::{self, Audit, Event},
    border::Client,
    error::ApiError,
    hub::system_time,
};

/// Time limit for the database when a reading client was identified recently.
const STORE_LIMIT_SECONDS: u64 = 3;

/// While the database is down, clients identified within this time may still read: the metrics, for example, show the
/// outage. Owner permissions are never decided from memory.
const KNOWN_FOR_SECONDS: u64 = 600;

/// Maximum number of remembered credentials. Owners have few.
const MAX_KNOWN: usize = 1000;

/// A route that is not recorded: every page asks for it when it is opened, and it makes a session only if there is none.
const CURRENT_SESSION: &str = "/api/sessions/current";

/// The client that sends a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Principal {
    /// Unidentified.
    Stranger,
    /// Identified by a credential.
    Known {
        role: Role,
        /// Name for the log: that of the token, or which browser it is.
        name: String,
    },
}

impl Principal {
    pub(crate) fn role(&self) -> Option<Role> {
        match self {
            Self::Stranger => None,
            Self::Known { role, .. } => Some(*role),
        }
    }

    /// The name for the log.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Stranger => "a stranger",
            Self::Known { name, .. } => name,
        }
    }
}

impl From<&Credential> for Principal {
    fn from(credential: &Credential) -> Self {
        let name = match credential.kind {
            CredentialKind::Token => format!("the token {}", credential.name),
            CredentialKind::Browser | CredentialKind::Link => format!("the browser {}", credential.id),
        };
        Self::Known { role: credential.role, name }
    }
}

impl<S: Sync> FromRequestParts<S> for Principal {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get().cloned().unwrap_or(Self::Stranger))
    }
}

/// Recognises clients by their credentials.
#[derive(Clone)]
pub(crate) struct Identities {
    store: Store,
    audit: Arc<Audit>,
    known: Arc<Mutex<HashMap<i64, Known>>>,
}

/// A credential that was valid.
#[derive(Debug, Clone)]
struct Known {
    credential: Credential,
    at: Instant,
}

/// The credential in a request.
struct Shown {
    kind: CredentialKind,
    id: i64,
    secret: Secret,
}

impl Identities {
    pub(crate) fn new(store: Store, audit: Arc<Audit>) -> Self {
        Self { store, audit, known: Arc::default() }
    }

    /// Records an action of this client in the audit record.
    pub(crate) fn note(
        &self,
        event: AuditEvent,
        actor: &str,
        client: Option<IpAddr>,
        session: Option<SessionId>,
        detail: &str,
    ) {
        let address = audit::address(client);
        self.audit.note(system_time(), event, &Event { session, actor, address: &address }, detail);
    }

    /// Number of the session named in a path.
    async fn session(&self, params: &RawPathParams) -> Option<SessionId> {
        let code = params.iter().find(|(name, _)| *name == "code")?.1.parse().ok()?;
        Some(self.store.session(&code).await.ok()??.id)
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Identifies the sender of a request that requires this access.
    pub(crate) async fn principal(&self, headers: &HeaderMap, access: Access) -> Result<Principal, StoreError> {
        let Some(shown) = shown(headers) else { return Ok(Principal::Stranger) };
        let known = if access == Access::Reader { self.known_lately(&shown) } else { None };
        let asked = self.store.credential(shown.id, system_time());
        let found = match known {
            None => asked.await?,
            Some(known) => match timeout(Duration::from_secs(STORE_LIMIT_SECONDS), asked).await {
                Ok(Err(error)) if !error.is_passing() => return Err(error),
                Ok(Ok(found)) => found,
                Ok(Err(_)) | Err(_) => return Ok(Principal::from(&known)),
            },
        };
        let found = found.filter(|credential| shown.is(credential));
        self.remember(shown.id, found.as_ref());
        Ok(found.as_ref().map_or(Principal::Stranger, Principal::from))
    }

    fn known_lately(&self, shown: &Shown) -> Option<Credential> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.get(&shown.id).filter(|known| known.at.elapsed() < Duration::from_secs(KNOWN_FOR_SECONDS))?;
        shown.is(&known.credential).then(|| known.credential.clone())
    }

    fn remember(&self, id: i64, found: Option<&Credential>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match found {
            Some(credential) => {
                if known.len() >= MAX_KNOWN {
                    known.clear();
                }
                known.insert(id, Known { credential: credential.clone(), at: Instant::now() });
            }
            // The secret was wrong, or the credential has ended; a correct one is looked up again.
            None => drop(known.remove(&id)),
        }
    }
}

impl Shown {
    fn is(&self, credential: &Credential) -> bool {
        credential.kind == self.kind && self.secret.is_behind(&credential.hash)
    }
}

/// The credential in a request: a token, or else a browser's cookie.
fn shown(headers: &HeaderMap) -> Option<Shown> {
    let (kind, text) = match bearer(headers) {
        Some(token) => (CredentialKind::Token, token.to_owned()),
        None => (CredentialKind::Browser, cookies::shown(headers)?),
    };
    let (id, secret) = Secret::read(&text)?;
    Some(Shown { kind, id, secret })
}

/// RFC 6750, section 2.1. Other schemes are meant for a proxy, and ignored.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Passes a request on to its route, or rejects it.
pub(crate) async fn admit(
    State(identities): State<Identities>,
    path: Option<MatchedPath>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    // A path without a route gets a page, or nothing.
    let access = path.as_ref().map_or(Access::Open, |path| routes::access(request.method(), path.as_str()));
    if access.allows(None) {
        return Ok(next.run(request).await);
    }
    let principal = identities.principal(request.headers(), access).await?;
    if access.allows(principal.role()) {
        let (mut parts, body) = request.into_parts();
        let params = parts.extract::<RawPathParams>().await.ok();
        let is_command = !parts.method.is_safe() && path.as_ref().is_some_and(|path| path.as_str() != CURRENT_SESSION);
        let command = path.filter(|_| is_command).zip(params);
        let (method, client) = (parts.method.clone(), parts.extensions.get().map(|client: &Client| client.address));
        parts.extensions.insert(principal.clone());
        let response = next.run(Request::from_parts(parts, body)).await;
        if let Some((path, params)) = command.filter(|_| response.status().is_success()) {
            let session = identities.session(&params).await;
            let detail = command_line(&method, &path, &params);
            identities.note(AuditEvent::Commanded, principal.name(), client, session, &detail);
        }
        return Ok(response);
    }
    if is_for_a_person(request.headers()) {
        return Ok(closed(Closed::NotLetIn));
    }
    Err(match principal {
        Principal::Stranger => {
            let message = "this is for the coordinator's owner: open the link that it printed, or run chaarfm-server token; \
                           programs show a token in Authorization: Bearer";
            ApiError::new(StatusCode::UNAUTHORIZED, message)
        }
        Principal::Known { role, .. } => ApiError::new(StatusCode::FORBIDDEN, format!("this is not for a {role}")),
    })
}

/// A command's form in the audit record: method, route and the names in its path, without session codes.
fn command_line(method: &Method, path: &MatchedPath, params: &RawPathParams) -> String {
    let named = params.iter().filter(|(name, _)| *name != "code");
    let named = named.map(|(name, value)| format!(" {name}={value}")).collect::<String>();
    format!("{method} {}{named}", path.as_str())
}

/// Whether a browser will show the answer as a page.
fn is_for_a_person(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|kind| kind.trim_start().starts_with("text/html"))
}
