//! What workers fetch: audio for the holder of a lease, weights for everybody.

use std::io;

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use chaarfm_protocol::{JobId, view::ErrorView};
use serde::Deserialize;
use tokio::fs::File;
use tower::ServiceExt;
use tower_http::services::ServeFile;
use utoipa::IntoParams;

use super::{
    App,
    error::{ApiError, Path, Query},
};
use crate::{hub, models, pages};

/// The proof that the audio may be fetched.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct AudioQuery {
    /// Token of the lease under which the job is held now.
    lease: String,
}

/// The bytes of a job's audio file, whole or in part.
#[utoipa::path(
    get, path = "/api/audio/{job}", tag = "workers", params(("job" = i64, Path, description = "The job"), AudioQuery),
    responses(
        (status = 200, description = "The file"), (status = 206, description = "The part that was asked for"),
        (status = 403, description = "The job is not held under this lease", body = ErrorView),
        (status = 410, description = "The file is gone or has changed", body = ErrorView)
    )
)]
pub(super) async fn audio(
    State(hub): App,
    Path(job): Path<JobId>,
    Query(query): Query<AudioQuery>,
    request: Request,
) -> Result<Response, ApiError> {
    let row = hub.store.job(job).await?.filter(|row| row.job.is_held_under(&query.lease, hub::now()));
    let row = row.ok_or_else(|| {
        ApiError::new(StatusCode::FORBIDDEN, format!("job {job} is not held under this lease (any more)"))
    })?;
    let gone = |reason: String| ApiError::new(StatusCode::GONE, format!("{} {reason}", row.track.file));
    let path = hub.libraries.find(&row.library).and_then(|library| library.path_of(&row.track.file));
    let path = path.ok_or_else(|| gone(format!("was in the library {}, which is not there now", row.library)))?;
    // Opened, and not only looked at, so that one that may not be read is told in the same way.
    let metadata = async { File::open(&path).await?.metadata().await };
    let metadata = metadata.await.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => gone("is not there any more".into()),
        _ => gone(format!("cannot be read: {error}")),
    })?;
    if metadata.len() != row.bytes {
        let (then, now) = (row.bytes, metadata.len());
        return Err(gone(format!("has changed: it had {then} bytes when it was found and has {now} now")));
    }
    let mut response = ServeFile::new(path).oneshot(request).await.into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response.map(Body::new))
}

/// A model's weights. The address contains their hash, so they may be kept for ever.
#[utoipa::path(
    get, path = "/models/{sha256}/{file}", tag = "workers",
    params(("sha256" = String, Path, description = "Of the file"), ("file" = String, Path, description = "Its name")),
    responses((status = 200, description = "The file"), (status = 404, body = ErrorView))
)]
pub(super) async fn weights(Path((sha256, file)): Path<(String, String)>) -> Result<impl IntoResponse, ApiError> {
    let bytes = models::weights(&sha256, &file);
    let bytes = bytes.ok_or_else(|| ApiError::not_found(format!("there are no weights called {sha256}/{file}")))?;
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")),
        (header::CACHE_CONTROL, pages::IMMUTABLE),
    ];
    Ok((headers, bytes))
}
