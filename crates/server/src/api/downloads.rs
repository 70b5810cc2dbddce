//! The worker programs that the coordinator offers.

use axum::{
    Json,
    body::Body,
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use chaarfm_api::{DownloadView, ErrorView};
use tower::ServiceExt;
use tower_http::services::ServeFile;

use crate::{
    downloads::{Downloads, checksums},
    error::{ApiError, Path},
};

/// The programs that the coordinator offers, with sizes and hashes; empty when none are configured.
#[utoipa::path(
    get, path = "/api/downloads", tag = "workers",
    responses(
        (status = 200, body = Vec<DownloadView>),
        (status = 503, description = "The folder cannot be read at the moment", body = ErrorView)
    )
)]
pub(super) async fn list(State(downloads): State<Downloads>) -> Result<Json<Vec<DownloadView>>, ApiError> {
    Ok(Json(read(&downloads).await?))
}

/// The hashes of these files, in the format of `sha256sum --check`.
#[utoipa::path(
    get, path = "/downloads/SHA256SUMS", tag = "workers",
    responses(
        (status = 200, body = String),
        (status = 503, description = "The folder cannot be read at the moment", body = ErrorView)
    )
)]
pub(super) async fn sums(State(downloads): State<Downloads>) -> Result<String, ApiError> {
    Ok(checksums(&read(&downloads).await?))
}

/// One of these files, its signature (`.minisig`), or `release.json`, which `chaarfm-worker update` requests.
#[utoipa::path(
    get, path = "/downloads/{name}", tag = "workers", params(("name" = String, Path, description = "Name of the file")),
    responses(
        (status = 200, description = "The file"), (status = 206, description = "The part that was asked for"),
        (status = 404, body = ErrorView), (status = 416, description = "The file has no such part")
    )
)]
pub(super) async fn file(
    State(downloads): State<Downloads>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, ApiError> {
    let nothing = || ApiError::not_found(format!("there is no download called {name}"));
    let (path, kind) = downloads.find(&name).ok_or_else(nothing)?;
    let kind = kind.parse().expect("the media types are well-formed");
    let mut response = ServeFile::new_with_mime(path, &kind).oneshot(request).await.into_response().map(Body::new);
    // The file was deleted after it was found.
    if response.status() == StatusCode::NOT_FOUND {
        return Err(nothing());
    }
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Ok(attached) = HeaderValue::from_str(&format!("attachment; filename=\"{name}\"")) {
        headers.insert(header::CONTENT_DISPOSITION, attached);
    }
    Ok(response)
}

async fn read(downloads: &Downloads) -> Result<Vec<DownloadView>, ApiError> {
    let unreadable = |error| {
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, format!("the folder of downloads cannot be read: {error}"))
    };
    downloads.list().await.map_err(unreadable)
}
