//! Limits on concurrent work that all clients share: incoming bodies and long answers.

use std::{pin::pin, sync::Arc, time::Duration};

use axum::{
    body::{Body, HttpBody, to_bytes},
    extract::{Request, State},
    http::StatusCode,
    middleware::Next,
    response::Response,
};
use tokio::{sync::Semaphore, time::timeout};

use super::held::Held;
use crate::error::ApiError;

/// Largest request body.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// Time limit for a whole request body.
const BODY_SECONDS: u64 = 10;

/// A body that arrives within this time counts as immediate.
const PROMPT_BODY_MILLIS: u64 = 500;

/// Maximum number of request bodies that are arriving more slowly.
const MAX_BODIES: usize = 256;

/// Maximum number of simultaneous exports of tracks or jobs. Each reads the database as fast as its client reads.
const MAX_EXPORTS: usize = 8;

/// Maximum number of event streams: one for each open page.
const MAX_EVENT_STREAMS: usize = 500;

/// A limit on the number of simultaneous requests of a kind.
#[derive(Debug, Clone)]
pub(crate) struct Share {
    free: Arc<Semaphore>,
    most: usize,
    what: &'static str,
}

impl Share {
    fn of(most: usize, what: &'static str) -> Self {
        Self { free: Arc::new(Semaphore::new(most)), most, what }
    }

    pub(crate) fn of_bodies() -> Self {
        Self::of(MAX_BODIES, "requests on their way in")
    }

    pub(crate) fn of_exports() -> Self {
        Self::of(MAX_EXPORTS, "exports")
    }

    pub(crate) fn of_events() -> Self {
        Self::of(MAX_EVENT_STREAMS, "streams of events")
    }

    fn full(&self) -> ApiError {
        let Self { most, what, .. } = self;
        ApiError::new(StatusCode::TOO_MANY_REQUESTS, format!("there are {most} {what} already, as many as at a time"))
    }
}

/// Answers if the share has room; the place is held until the answer is complete.
pub(crate) async fn take_share(State(share): State<Share>, request: Request, next: Next) -> Result<Response, ApiError> {
    let room = Arc::clone(&share.free).try_acquire_owned().map_err(|_| share.full())?;
    Ok(next.run(request).await.map(|body| Body::new(Held::new(body, room))))
}

/// Passes a request on once its whole body has arrived. An immediate body takes no place, so that stalled bodies do not
/// block other requests.
pub(crate) async fn whole_body(State(share): State<Share>, request: Request, next: Next) -> Result<Response, ApiError> {
    if request.body().is_end_stream() {
        return Ok(next.run(request).await);
    }
    let (head, body) = request.into_parts();
    if body.size_hint().lower() > MAX_BODY_BYTES as u64 {
        return Err(too_long());
    }
    let mut gathering = pin!(to_bytes(body, MAX_BODY_BYTES));
    let gathered = match timeout(Duration::from_millis(PROMPT_BODY_MILLIS), gathering.as_mut()).await {
        Ok(gathered) => gathered,
        Err(_) => {
            let _room = share.free.try_acquire().map_err(|_| share.full())?;
            timeout(Duration::from_secs(BODY_SECONDS), gathering).await.map_err(|_| {
                let message = format!("the body of the request did not arrive within {BODY_SECONDS} s");
                ApiError::new(StatusCode::REQUEST_TIMEOUT, message)
            })?
        }
    };
    // If the connection broke, nobody receives this error.
    let body = gathered.map_err(|_| too_long())?;
    Ok(next.run(Request::from_parts(head, Body::from(body))).await)
}

fn too_long() -> ApiError {
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the body of a request has {MAX_BODY_BYTES} bytes at most"))
}

#[cfg(test)]
mod tests {
    use axum::{Router, middleware::from_fn_with_state, routing::get};
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn an_answer_has_its_share_until_it_is_through() {
        let layer = from_fn_with_state(Share::of(2, "answers"), take_share);
        let router = Router::new().route("/", get(async || "a long answer")).layer(layer);
        let ask = async || router.clone().oneshot(Request::new(Body::empty())).await.unwrap();
        let [first, second] = [ask().await, ask().await];
        assert_eq!((first.status(), second.status()), (StatusCode::OK, StatusCode::OK));
        assert_eq!(ask().await.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(to_bytes(first.into_body(), 100).await.unwrap(), "a long answer");
        assert_eq!(ask().await.status(), StatusCode::OK);
        drop(second);
        assert_eq!(ask().await.status(), StatusCode::OK);
    }
}
