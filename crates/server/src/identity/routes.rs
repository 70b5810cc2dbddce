//! The role that each route and each socket requires. A route that is missing in this table is for the owner only.

use axum::http::Method;
use chaarfm_domain::Role;
use utoipa::openapi::{
    OpenApi, SecurityRequirement,
    extensions::ExtensionsBuilder,
    path::{Operation, PathItem},
    security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme},
};

/// The roles that may use a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Everybody: health checks, and what pages, workers and future workers load.
    Open,
    /// Workers. The route itself checks their authorisation: an invitation's code, a worker's key, or a job's lease.
    Worker,
    /// Readers and the owner.
    Reader,
    /// Only the owner.
    Owner,
}

impl Access {
    /// Whether the gate admits a client with this role; none is an unidentified client.
    pub(super) fn allows(self, role: Option<Role>) -> bool {
        match self {
            Self::Open | Self::Worker => true,
            Self::Reader => matches!(role, Some(Role::Reader | Role::Owner)),
            Self::Owner => role == Some(Role::Owner),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Worker => Role::Worker.name(),
            Self::Reader => Role::Reader.name(),
            Self::Owner => Role::Owner.name(),
        }
    }
}

/// Method, path and required access.
const ROUTES: &[(Method, &str, Access)] = &[
    (Method::GET, "/healthz", Access::Open),
    (Method::GET, "/readyz", Access::Open),
    (Method::GET, "/api/keepalive", Access::Open),
    (Method::GET, "/metrics", Access::Reader),
    (Method::GET, "/api/openapi.json", Access::Reader),
    // The owner's login. The page explains it to a browser that is not logged in.
    (Method::GET, "/enter", Access::Open),
    (Method::GET, "/ingest", Access::Owner),
    (Method::GET, "/api/tokens", Access::Owner),
    (Method::POST, "/api/tokens", Access::Owner),
    (Method::DELETE, "/api/tokens/{name}", Access::Owner),
    (Method::GET, "/api/audit", Access::Owner),
    (Method::GET, "/api/audit/export", Access::Owner),
    // Sessions: a session shows the codes of its invitations.
    (Method::POST, "/api/sessions/current", Access::Owner),
    (Method::POST, "/api/sessions", Access::Owner),
    (Method::GET, "/api/sessions/{code}", Access::Owner),
    (Method::DELETE, "/api/sessions/{code}", Access::Owner),
    (Method::POST, "/api/sessions/{code}/start", Access::Owner),
    (Method::POST, "/api/sessions/{code}/pause", Access::Owner),
    (Method::POST, "/api/sessions/{code}/resume", Access::Owner),
    (Method::POST, "/api/sessions/{code}/stop", Access::Owner),
    (Method::GET, "/api/sessions/{code}/invitations", Access::Owner),
    (Method::POST, "/api/sessions/{code}/invitations", Access::Owner),
    (Method::DELETE, "/api/sessions/{code}/invitations/{id}", Access::Owner),
    (Method::POST, "/api/sessions/{code}/invitations/{id}/rotate", Access::Owner),
    (Method::GET, "/api/sessions/{code}/jobs", Access::Owner),
    (Method::GET, "/api/sessions/{code}/jobs/export", Access::Owner),
    (Method::POST, "/api/sessions/{code}/jobs/retry", Access::Owner),
    (Method::POST, "/api/sessions/{code}/jobs/{id}/retry", Access::Owner),
    (Method::POST, "/api/sessions/{code}/workers/{key}/discard", Access::Owner),
    (Method::GET, "/api/sessions/{code}/events", Access::Owner),
    // Readable data.
    (Method::GET, "/api/libraries", Access::Reader),
    (Method::POST, "/api/libraries", Access::Owner),
    (Method::GET, "/api/models", Access::Reader),
    (Method::GET, "/api/collections", Access::Reader),
    (Method::GET, "/api/collections/{name}/tracks", Access::Reader),
    (Method::GET, "/api/collections/{name}/export", Access::Reader),
    // Workers and future workers.
    (Method::GET, "/api/sessions/{code}/worker", Access::Worker),
    (Method::GET, "/api/audio/{job}", Access::Worker),
    (Method::GET, "/models/{sha256}/{file}", Access::Open),
    (Method::GET, "/api/downloads", Access::Open),
    (Method::GET, "/downloads/SHA256SUMS", Access::Open),
    (Method::GET, "/downloads/{name}", Access::Open),
];

/// The access that a route requires. HEAD is treated like GET.
pub(super) fn access(method: &Method, path: &str) -> Access {
    let method = if method == Method::HEAD { &Method::GET } else { method };
    entry(method, path).unwrap_or(Access::Owner)
}

fn entry(method: &Method, path: &str) -> Option<Access> {
    ROUTES.iter().find(|(known, route, _)| known == method && *route == path).map(|(_, _, access)| *access)
}

/// The names of the credentials in the OpenAPI document.
const BEARER: &str = "token";
const COOKIE: &str = "browser";

/// Adds each route's role to the OpenAPI document: as `x-role`, and as the accepted credentials.
pub(crate) fn describe(document: &mut OpenApi) {
    for (path, item) in &mut document.paths.paths {
        for (method, operation) in operations(item) {
            let access = access(&method, path);
            operation
                .extensions
                .get_or_insert_default()
                .merge(ExtensionsBuilder::new().add("x-role", access.name()).build());
            if matches!(access, Access::Reader | Access::Owner) {
                let by = |name: &str| SecurityRequirement::new(name, [access.name()]);
                operation.security = Some(vec![by(BEARER), by(COOKIE)]);
            }
        }
    }
    let schemes = &mut document.components.get_or_insert_default().security_schemes;
    schemes.insert(BEARER.to_owned(), SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
    let cookie = ApiKeyValue::with_description(super::cookies::NAME, "set by the link that the coordinator prints");
    schemes.insert(COOKIE.to_owned(), SecurityScheme::ApiKey(ApiKey::Cookie(cookie)));
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = (Method, &mut Operation)> {
    let PathItem { get, post, delete, put, patch, .. } = item;
    let all = [
        (Method::GET, get),
        (Method::POST, post),
        (Method::DELETE, delete),
        (Method::PUT, put),
        (Method::PATCH, patch),
    ];
    all.into_iter().filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_route_of_the_interface_has_its_role_and_no_other_route_has_one() {
        let mut document = crate::api::document();
        let mut described = BTreeSet::new();
        for (path, item) in &mut document.paths.paths {
            described.extend(operations(item).map(|(method, _)| (method.to_string(), path.clone())));
        }
        let table: BTreeSet<_> =
            ROUTES.iter().map(|(method, path, _)| (method.to_string(), (*path).to_owned())).collect();
        assert_eq!(table.len(), ROUTES.len(), "a route is there twice");
        assert_eq!(table, described);
    }

    #[test]
    fn what_is_in_no_table_is_the_owners() {
        assert_eq!(access(&Method::GET, "/api/nothing"), Access::Owner);
        assert_eq!(access(&Method::PUT, "/healthz"), Access::Owner);
        assert_eq!(access(&Method::HEAD, "/healthz"), Access::Open);
        for (role, reads, commands) in [
            (None, false, false),
            (Some(Role::Worker), false, false),
            (Some(Role::Reader), true, false),
            (Some(Role::Owner), true, true),
        ] {
            assert_eq!((Access::Reader.allows(role), Access::Owner.allows(role)), (reads, commands), "{role:?}");
        }
    }
}
