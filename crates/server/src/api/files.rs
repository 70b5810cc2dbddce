//! Files for workers: audio for the holder of a lease, weights for everybody.

use std::ops::RangeInclusive;

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use chaarfm_api::ErrorView;
use chaarfm_protocol::{JobId, LEASE_HEADER};
use chaarfm_sources::Unavailable;
use chaarfm_store::JobRow;
use http_range_header::parse_range_header;

use super::App;
use crate::{
    error::{ApiError, Path},
    models, pages,
    wanted::wanted,
};

/// The bytes of a job's audio file, whole or in part.
#[utoipa::path(
    get, path = "/api/audio/{job}", tag = "workers",
    params(
        ("job" = i64, Path, description = "The job"),
        ("x-chaarfm-lease" = String, Header, description = "Token of the lease under which the job is held now")
    ),
    responses(
        (status = 200, description = "The file"), (status = 206, description = "The part that was asked for"),
        (status = 403, description = "The job is not held under this lease", body = ErrorView),
        (status = 410, description = "The file is gone or has changed", body = ErrorView),
        (status = 416, description = "The file has no such part", body = ErrorView),
        (status = 503, description = "The library or the database does not answer at the moment", body = ErrorView)
    )
)]
pub(super) async fn audio(State(hub): App, Path(job): Path<JobId>, headers: HeaderMap) -> Result<Response, ApiError> {
    let lease = headers.get(LEASE_HEADER).and_then(|lease| lease.to_str().ok()).unwrap_or_default();
    let row = hub.store.job(job).await?.filter(|row| row.job.is_leased_under(lease));
    let row = row.ok_or_else(|| {
        ApiError::new(StatusCode::FORBIDDEN, format!("job {job} is not held under this lease (any more)"))
    })?;
    // Another coordinator may have the library.
    let Some(library) = hub.libraries.find(&row.library) else {
        return Err(out_of_reach(&row, format!("is in the library {}, which this coordinator has not", row.library)));
    };
    let part = asked_part(&headers, row.bytes)?;
    let pieces = library.open(wanted(&row), part.clone()).await.map_err(|reason| match reason {
        // Workers treat this status as final.
        Unavailable::Gone(reason) => {
            hub.note_gone(job);
            ApiError::new(StatusCode::GONE, format!("{} {reason}", row.track.file))
        }
        Unavailable::OutOfReach(reason) => out_of_reach(&row, reason),
    })?;
    let mut response = sent(&row, part, Body::from_stream(pieces));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// The response with the file, or with a part of it.
fn sent(row: &JobRow, part: Option<RangeInclusive<u64>>, body: Body) -> Response {
    let length = part.as_ref().map_or(row.bytes, |part| part.end() - part.start() + 1);
    let kind = mime_guess::from_path(&row.track.file).first_or_octet_stream();
    let headers = [
        (header::CONTENT_TYPE, kind.to_string()),
        (header::CONTENT_LENGTH, length.to_string()),
        (header::ACCEPT_RANGES, "bytes".to_owned()),
    ];
    match part {
        None => (headers, body).into_response(),
        Some(part) => {
            let part = format!("bytes {}-{}/{}", part.start(), part.end(), row.bytes);
            (StatusCode::PARTIAL_CONTENT, headers, [(header::CONTENT_RANGE, part)], body).into_response()
        }
    }
}

/// The part of a file of `bytes` bytes that a request asks for. None for the whole file: also when the range is malformed,
/// or has several parts, as RFC 9110, section 14.2, allows.
fn asked_part(asked: &HeaderMap, bytes: u64) -> Result<Option<RangeInclusive<u64>>, ApiError> {
    let range = asked.get(header::RANGE).and_then(|range| parse_range_header(range.to_str().ok()?).ok());
    let Some(range) = range.filter(|range| range.ranges.len() == 1 && bytes > 0) else { return Ok(None) };
    let valid = range.validate(bytes).ok().and_then(|mut parts| parts.pop());
    let outside = || ApiError::new(StatusCode::RANGE_NOT_SATISFIABLE, format!("the file has {bytes} bytes"));
    valid.map(Some).ok_or_else(outside)
}

/// Error for a file that may be available later, or from another coordinator.
fn out_of_reach(row: &JobRow, reason: String) -> ApiError {
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, format!("{} {reason}", row.track.file))
}

/// A model's weights. The URL contains their hash, so they may be cached forever.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_part_of_a_file_can_be_asked_for() {
        let part = |range: &'static str| {
            asked_part(&HeaderMap::from_iter([(header::RANGE, HeaderValue::from_static(range))]), 10)
        };
        for (range, first, last) in [("bytes=4-7", 4, 7), ("bytes=4-", 4, 9), ("bytes=-3", 7, 9), ("bytes=8-99", 8, 9)]
        {
            assert_eq!(part(range).unwrap(), Some(first..=last), "{range}");
        }
        for range in ["", "bytes", "lines=1-2", "bytes=x-y", "bytes=0-1,3-4"] {
            assert_eq!(part(range).unwrap(), None, "{range}");
        }
        for range in ["bytes=10-", "bytes=10-12", "bytes=7-4"] {
            assert!(part(range).is_err(), "{range}");
        }
        assert_eq!(asked_part(&HeaderMap::new(), 10).unwrap(), None);
        assert_eq!(
            asked_part(&HeaderMap::from_iter([(header::RANGE, HeaderValue::from_static("bytes=0-"))]), 0).unwrap(),
            None
        );
    }
}
