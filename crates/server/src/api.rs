//! The HTTP interface: routing, and the checks before it.

mod audit;
mod collections;
mod commands;
mod downloads;
mod files;
mod health;
mod identity;
mod invitations;
mod libraries;
mod paging;
mod sessions;

use std::sync::Arc;

use axum::{
    Extension, Json, Router,
    extract::{Request, State},
    http::{HeaderName, HeaderValue, StatusCode, header},
    middleware::{Next, from_fn_with_state},
    response::Response,
};
use chaarfm_api::ModelView;
use serde::Serialize;
use tower_http::set_header::SetResponseHeaderLayer;
use utoipa::{OpenApi, ToSchema, openapi};
use utoipa_axum::{
    router::{OpenApiRouter, UtoipaMethodRouterExt},
    routes,
};

use crate::{
    border::{Border, Hosts, Share, asked_host, note_client, of_programs, refuse_other_hosts, take_share, whole_body},
    downloads::Downloads,
    error::ApiError,
    hub::Hub,
    identity::{Identities, admit, describe},
    models, pages, worker_socket,
};

type App = State<Arc<Hub>>;

/// Security headers of every response. The last two let pages use threads and precise timers.
const SECURITY_HEADERS: [(HeaderName, HeaderValue); 5] = [
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
    (HeaderName::from_static("cross-origin-embedder-policy"), HeaderValue::from_static("require-corp")),
];

#[derive(OpenApi)]
#[openapi(info(title = "ChaarFM coordinator", description = "Sessions, their jobs and the vectors they produce."))]
struct Document;

/// All routes of the coordinator.
pub(crate) fn router(hub: Arc<Hub>, downloads: Downloads, border: Border) -> Router {
    let Border { guard, hosts } = border;
    let identities = Identities::new(hub.store.clone(), Arc::clone(&hub.audit));
    let (api, mut document) = routes(downloads).split_for_parts();
    describe(&mut document);
    let mut router = api
        .layer(Extension(Arc::new(document)))
        .layer(Extension(identities.clone()))
        .method_not_allowed_fallback(async || ApiError::wrong_method())
        .fallback(pages::page)
        .layer(from_fn_with_state(Share::of_bodies(), whole_body))
        .layer(from_fn_with_state(identities, admit))
        .layer(Extension(Arc::clone(&guard.guesses)))
        .layer(from_fn_with_state((guard, hosts.clone()), note_client))
        .layer(from_fn_with_state(hosts.clone(), refuse_other_sites))
        .layer(from_fn_with_state(hosts, refuse_other_hosts));
    for (name, value) in SECURITY_HEADERS {
        router = router.layer(SetResponseHeaderLayer::overriding(name, value));
    }
    // Responses about tracks and sessions must not be cached; cacheable responses set their own header.
    let kept = SetResponseHeaderLayer::if_not_present(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let policy = {
        let hub = Arc::clone(&hub);
        move |_: &Response| Some(of_programs(&hub.libraries.storages()))
    };
    let policy = SetResponseHeaderLayer::if_not_present(header::CONTENT_SECURITY_POLICY, policy);
    router.layer(kept).layer(policy).with_state(hub)
}

/// All routes. Their access roles are in `identity/routes.rs`.
fn routes(downloads: Downloads) -> OpenApiRouter<Arc<Hub>> {
    let downloads = OpenApiRouter::new()
        .routes(routes!(downloads::list))
        .routes(routes!(downloads::sums))
        .routes(routes!(downloads::file))
        .with_state(downloads);
    let exports = from_fn_with_state(Share::of_exports(), take_share);
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(sessions::current))
        .routes(routes!(sessions::create))
        .routes(routes!(sessions::show, sessions::end))
        .routes(routes!(sessions::start))
        .routes(routes!(invitations::list, invitations::add))
        .routes(routes!(invitations::revoke))
        .routes(routes!(invitations::rotate))
        .routes(routes!(sessions::pause))
        .routes(routes!(sessions::resume))
        .routes(routes!(sessions::stop))
        .routes(routes!(sessions::jobs))
        .routes(routes!(sessions::export_jobs).layer(exports.clone()))
        .routes(routes!(sessions::retry_all))
        .routes(routes!(sessions::retry_one))
        .routes(routes!(sessions::discard_worker))
        .routes(routes!(sessions::events).layer(from_fn_with_state(Share::of_events(), take_share)))
        .routes(routes!(worker_socket::worker_socket))
        .routes(routes!(libraries::list, libraries::add))
        .routes(routes!(list_models))
        .routes(routes!(files::audio))
        .routes(routes!(files::weights))
        .routes(routes!(collections::list))
        .routes(routes!(collections::tracks))
        .routes(routes!(collections::export).layer(exports.clone()))
        .routes(routes!(keep_alive))
        .routes(routes!(health::alive))
        .routes(routes!(health::ready))
        .routes(routes!(health::metrics))
        .routes(routes!(interface))
        .routes(routes!(pages::owners_page))
        .routes(routes!(identity::enter))
        .routes(routes!(identity::tokens, identity::add_token))
        .routes(routes!(identity::revoke_token))
        .routes(routes!(audit::list))
        .routes(routes!(audit::export).layer(exports))
        .merge(downloads)
}

/// The OpenAPI document of the routes alone.
#[cfg(test)]
pub(crate) fn document() -> openapi::OpenApi {
    routes(Downloads::of(None)).split_for_parts().1
}

/// The description of this interface (OpenAPI). `x-role` is the role that each route requires.
#[utoipa::path(get, path = "/api/openapi.json", tag = "health", responses((status = 200, description = "It")))]
async fn interface(Extension(document): Extension<Arc<openapi::OpenApi>>) -> Json<openapi::OpenApi> {
    Json(document.as_ref().clone())
}

/// Rejects commands from other sites' pages (CSRF): the owner's browser may reach the coordinator where they cannot.
async fn refuse_other_sites(State(hosts): State<Hosts>, request: Request, next: Next) -> Result<Response, ApiError> {
    if may_pass(&hosts, &request) {
        return Ok(next.run(request).await);
    }
    let message = "commands and workers come from the coordinator's own pages, not from other sites";
    Err(ApiError::new(StatusCode::FORBIDDEN, message))
}

/// Whether a request has no side effects and opens no socket, or comes from an allowed origin.
fn may_pass(hosts: &Hosts, request: &Request) -> bool {
    let is_socket = request.headers().contains_key(header::UPGRADE);
    (request.method().is_safe() || is_own(hosts, request))
        && (!is_socket || is_own_origin(hosts, request, request.headers().get(header::ORIGIN)))
}

/// Whether a request comes from the coordinator's own page, or not from a page at all: clients other than browsers send
/// neither header.
fn is_own(hosts: &Hosts, request: &Request) -> bool {
    let headers = request.headers();
    match (headers.get("sec-fetch-site"), headers.get(header::ORIGIN)) {
        (Some(site), _) => site == "same-origin" || site == "none",
        // Browsers send `Sec-Fetch-Site` only over TLS or to this machine itself.
        (None, origin) => is_own_origin(hosts, request, origin),
    }
}

/// The same by the origin alone, which browsers send when a page opens a WebSocket.
fn is_own_origin(hosts: &Hosts, request: &Request, origin: Option<&HeaderValue>) -> bool {
    let Some(origin) = origin else { return true };
    let asked = asked_host(request.headers(), request.uri().authority()).ok().flatten();
    origin.to_str().is_ok_and(|origin| hosts.is_own(asked, origin))
}

/// The models that the coordinator serves.
#[utoipa::path(get, path = "/api/models", tag = "sessions", responses((status = 200, body = Vec<ModelView>)))]
async fn list_models() -> Json<Vec<ModelView>> {
    Json(models::views())
}

/// The answer of `/api/keepalive`.
#[derive(Serialize, ToSchema)]
struct KeepAlive {
    ok: bool,
}

/// Answers to show that the coordinator is reachable.
#[utoipa::path(get, path = "/api/keepalive", tag = "health", responses((status = 200, body = KeepAlive)))]
async fn keep_alive() -> Json<KeepAlive> {
    Json(KeepAlive { ok: true })
}
