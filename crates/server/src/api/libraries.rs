//! Listing and adding libraries.

use std::net::IpAddr;

use axum::{
    Extension, Json,
    extract::State,
    http::{HeaderMap, HeaderName, StatusCode, header},
};
use chaarfm_api::{AddedLibraryView, ErrorView, LibraryView, NewLibrary};
use chaarfm_sources::{Added, LibraryError, LibraryLocation, LibraryState};
use url::{Host, Url};

use super::App;
use crate::{
    border::Peer,
    error::{ApiError, Body},
    identity::Owner,
};

/// Headers in which proxies name the original client.
const FORWARDED: [HeaderName; 3] =
    [header::FORWARDED, HeaderName::from_static("x-forwarded-for"), HeaderName::from_static("x-forwarded-host")];

/// The libraries that the coordinator offers, including absent ones.
#[utoipa::path(get, path = "/api/libraries", tag = "sessions", responses((status = 200, body = Vec<LibraryView>)))]
pub(super) async fn list(State(hub): App) -> Json<Vec<LibraryView>> {
    let view = |LibraryState { name, problem }| LibraryView { name, problem };
    Json(hub.libraries.states().into_iter().map(view).collect())
}

/// Adds a library, and writes it to the settings file. Only from the coordinator's own machine, because any folder named
/// here gives access to all audio in it.
#[utoipa::path(
    post, path = "/api/libraries", tag = "sessions", request_body = NewLibrary,
    responses(
        (status = 201, body = AddedLibraryView), (status = 400, body = ErrorView),
        (status = 403, description = "Asked from another machine", body = ErrorView),
        (status = 409, description = "It is offered already, or there are too many", body = ErrorView)
    )
)]
pub(super) async fn add(
    owner: Owner,
    State(hub): App,
    Extension(Peer { address: peer, .. }): Extension<Peer>,
    headers: HeaderMap,
    Body(NewLibrary { location }): Body<NewLibrary>,
) -> Result<(StatusCode, Json<AddedLibraryView>), ApiError> {
    if !is_on_this_machine(peer, &headers) {
        let message = "libraries are added on the coordinator's own machine, at an address like http://localhost:8080";
        return Err(ApiError::new(StatusCode::FORBIDDEN, message));
    }
    let bad = |error: &dyn std::fmt::Display| ApiError::new(StatusCode::BAD_REQUEST, error.to_string());
    let parsed = LibraryLocation::parse(location.clone().into()).map_err(|error| bad(&error))?;
    if let LibraryLocation::Folder(path) = &parsed
        && !path.is_absolute()
    {
        return Err(bad(&format!("{location} is no whole path; it is written like /home/me/Music")));
    }
    let Added { name, was_absent } = hub.libraries.add(&parsed).await?;
    // A library that was absent is already configured for the next start.
    let problem = if was_absent { None } else { hub.remember_library(&location).err() };
    tracing::info!("{} added the library {name}: {parsed}", owner.name());
    Ok((StatusCode::CREATED, Json(AddedLibraryView { name, problem })))
}

/// Whether the request comes from this machine, under one of its local host names: that excludes pages of another site,
/// even if the site's name resolves to this machine.
fn is_on_this_machine(peer: IpAddr, headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let host = host.and_then(|host| Url::parse(&format!("http://{host}")).ok());
    let is_own_name = match host.as_ref().and_then(Url::host) {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    is_own_name && peer.to_canonical().is_loopback() && !FORWARDED.iter().any(|name| headers.contains_key(name))
}

impl From<LibraryError> for ApiError {
    fn from(error: LibraryError) -> Self {
        let status = match error {
            LibraryError::AlreadyOffered { .. } | LibraryError::NameTaken(_) | LibraryError::TooMany => {
                StatusCode::CONFLICT
            }
            LibraryError::Folder { .. } | LibraryError::Bucket { .. } => StatusCode::BAD_REQUEST,
        };
        Self::new(status, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_under_its_own_name_counts() {
        let asked = |peer: &str, headers: &[(HeaderName, &str)]| {
            let headers = headers.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect();
            is_on_this_machine(peer.parse().unwrap(), &headers)
        };
        let host = |name| (header::HOST, name);
        for name in ["localhost:8080", "LOCALHOST", "127.0.0.1:8080", "127.0.0.9", "[::1]:8080"] {
            assert!(asked("127.0.0.1", &[host(name)]), "{name}");
        }
        assert!(asked("::1", &[host("localhost")]));
        assert!(asked("::ffff:127.0.0.1", &[host("localhost")]));
        for name in ["music.example", "192.168.0.4", "localhost.music.example", "", "a b"] {
            assert!(!asked("127.0.0.1", &[host(name)]), "{name}");
        }
        assert!(!asked("192.168.0.4", &[host("localhost")]));
        assert!(!asked("127.0.0.1", &[]));
        for name in FORWARDED {
            assert!(!asked("127.0.0.1", &[host("localhost"), (name, "203.0.113.4")]));
        }
    }
}
