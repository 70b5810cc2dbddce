//! The HTTP interface: which address leads where, what is refused before that, and how errors are told.

mod collections;
mod downloads;
mod error;
mod files;
mod health;
mod libraries;
mod paging;
mod sessions;

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Request, State},
    http::{HeaderName, HeaderValue, StatusCode, header},
    middleware::{Next, from_fn},
    response::Response,
    routing::get,
};
use chaarfm_protocol::view::ModelView;
use serde::Serialize;
use tower_http::set_header::SetResponseHeaderLayer;
use url::Url;
use utoipa::{OpenApi, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

pub(crate) use error::ApiError;

use crate::{downloads::Downloads, hub::Hub, models, pages, worker_socket};

type App = State<Arc<Hub>>;

/// Largest body of a request.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// What every answer says about how a browser is to treat it. The last two let the pages measure time finely and use
/// threads.
const SECURITY_HEADERS: [(HeaderName, HeaderValue); 5] = [
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("frame-ancestors 'none'")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
    (HeaderName::from_static("cross-origin-embedder-policy"), HeaderValue::from_static("require-corp")),
];

#[derive(OpenApi)]
#[openapi(info(title = "ChaarFM coordinator", description = "Sessions, their jobs and the vectors they produce."))]
struct Document;

/// Every address of the coordinator.
pub(crate) fn router(hub: Arc<Hub>, downloads: Downloads) -> Router {
    let downloads = OpenApiRouter::new()
        .routes(routes!(downloads::list))
        .routes(routes!(downloads::sums))
        .routes(routes!(downloads::file))
        .with_state(downloads);
    let (api, document) = OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(sessions::current))
        .routes(routes!(sessions::create))
        .routes(routes!(sessions::show, sessions::end))
        .routes(routes!(sessions::start))
        .routes(routes!(sessions::pause))
        .routes(routes!(sessions::resume))
        .routes(routes!(sessions::stop))
        .routes(routes!(sessions::jobs))
        .routes(routes!(sessions::export_jobs))
        .routes(routes!(sessions::retry_all))
        .routes(routes!(sessions::retry_one))
        .routes(routes!(sessions::events))
        .routes(routes!(worker_socket::worker_socket))
        .routes(routes!(libraries::list, libraries::add))
        .routes(routes!(list_models))
        .routes(routes!(files::audio))
        .routes(routes!(files::weights))
        .routes(routes!(collections::list))
        .routes(routes!(collections::tracks))
        .routes(routes!(collections::export))
        .routes(routes!(keep_alive))
        .routes(routes!(health::alive))
        .routes(routes!(health::ready))
        .routes(routes!(health::metrics))
        .merge(downloads)
        .split_for_parts();
    let document = Arc::new(document);
    let mut router = api
        .route("/api/openapi.json", get(async move || Json(document.as_ref().clone())))
        .method_not_allowed_fallback(async || ApiError::wrong_method())
        .fallback(pages::page)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(from_fn(refuse_other_sites));
    for (name, value) in SECURITY_HEADERS {
        router = router.layer(SetResponseHeaderLayer::overriding(name, value));
    }
    router.with_state(hub)
}

/// Pages of other sites do not command the coordinator by way of its owner's browser, which may reach it where they cannot.
async fn refuse_other_sites(request: Request, next: Next) -> Result<Response, ApiError> {
    if request.method().is_safe() || is_own(&request) {
        return Ok(next.run(request).await);
    }
    Err(ApiError::new(StatusCode::FORBIDDEN, "commands come from the coordinator's own pages, not from other sites"))
}

/// Whether a request comes from a page of the coordinator's, or from no page at all: whoever is no browser says nothing of
/// pages.
fn is_own(request: &Request) -> bool {
    let headers = request.headers();
    match (headers.get("sec-fetch-site"), headers.get(header::ORIGIN)) {
        (Some(site), _) => site == "same-origin" || site == "none",
        // Browsers say the former only where nobody can listen: to this machine itself, or with TLS.
        (None, Some(origin)) => origin.to_str().is_ok_and(|origin| is_asked_as(request, origin)),
        (None, None) => true,
    }
}

/// Whether the request is for the very host and port that its page is from. The page may have come with TLS, which a proxy
/// has taken off. One that has no origin to tell says `null`, which is no address.
fn is_asked_as(request: &Request, origin: &str) -> bool {
    // HTTP/2 has it in the address.
    let host = match request.uri().authority() {
        Some(authority) => Some(authority.as_str()),
        None => request.headers().get(header::HOST).and_then(|host| host.to_str().ok()),
    };
    let (Some(host), Ok(page)) = (host, Url::parse(origin)) else { return false };
    Url::parse(&format!("{}://{host}", page.scheme())).is_ok_and(|asked| asked.origin() == page.origin())
}

/// The models the coordinator serves.
#[utoipa::path(get, path = "/api/models", tag = "sessions", responses((status = 200, body = Vec<ModelView>)))]
async fn list_models() -> Json<Vec<ModelView>> {
    Json(models::views())
}

/// A sign of life.
#[derive(Serialize, ToSchema)]
struct KeepAlive {
    ok: bool,
}

/// Answers, to show that the coordinator can be reached.
#[utoipa::path(get, path = "/api/keepalive", tag = "health", responses((status = 200, body = KeepAlive)))]
async fn keep_alive() -> Json<KeepAlive> {
    Json(KeepAlive { ok: true })
}
