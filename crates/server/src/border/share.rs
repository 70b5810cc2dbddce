//! What there is of something for all together: bodies on their way in, answers that take long.

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

/// Largest body of a request.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// Longest wait for the whole body of a request.
const BODY_SECONDS: u64 = 10;

/// A body that is there within this time is there at once.
const PROMPT_BODY_MILLIS: u64 = 500;

/// Requests whose bodies are longer on their way in at a time.
const MAX_BODIES: usize = 256;

/// Files of tracks or jobs that are sent at a time. Each reads the database as fast as its taker reads.
const MAX_EXPORTS: usize = 8;

/// Streams of events at a time: one an open page.
const MAX_EVENT_STREAMS: usize = 500;

/// So many of a kind at a time.
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

/// Answers if there is room, which is taken until the answer is through.
pub(crate) async fn take_share(State(share): State<Share>, request: Request, next: Next) -> Result<Response, ApiError> {
    let room = Arc::clone(&share.free).try_acquire_owned().map_err(|_| share.full())?;
    Ok(next.run(request).await.map(|body| Body::new(Held::new(body, room))))
}

/// Lets a request through when its body is there, whole. One that is there at once takes nothing of the share, so that those
/// that do not arrive keep no others out.
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
    // When it broke off, nobody is there to hear this.
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
