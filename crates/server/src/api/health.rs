//! Endpoints for the operator's infrastructure: liveness, readiness and metrics.

use std::time::Duration;

use axum::{
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::IntoResponse,
};
use chaarfm_api::ErrorView;
use tokio::time::timeout;

use super::App;
use crate::{error::ApiError, hub::Hub, metrics};

/// Time limit for the database. Prometheus hangs up after 10 s, and most metrics do not need the database.
const STORE_LIMIT_SECONDS: u64 = 3;

/// Answers "ok" while the process works, even when the database is down: a restart would not fix the database, and would
/// disconnect all workers.
#[utoipa::path(
    get, path = "/healthz", tag = "health",
    responses(
        (status = 200, body = String),
        (status = 503, description = "It has to be started anew", body = ErrorView)
    )
)]
pub(super) async fn alive(State(hub): App) -> Result<&'static str, ApiError> {
    expect_alive(&hub)?;
    Ok("ok")
}

/// Answers "ready" if the database responds and the coordinator accepts traffic.
#[utoipa::path(
    get, path = "/readyz", tag = "health",
    responses(
        (status = 200, body = String),
        (status = 503, description = "It stops, has no database or has to be started anew", body = ErrorView)
    )
)]
pub(super) async fn ready(State(hub): App) -> Result<&'static str, ApiError> {
    if hub.shutdown.is_cancelled() {
        return Err(unavailable("the coordinator stops"));
    }
    expect_alive(&hub)?;
    match timeout(Duration::from_secs(STORE_LIMIT_SECONDS), hub.store.ping()).await {
        Ok(Ok(())) => Ok("ready"),
        Ok(Err(error)) => Err(unavailable(error.to_string())),
        Err(_) => Err(unavailable(format!("the database has not answered for {STORE_LIMIT_SECONDS} s"))),
    }
}

/// This coordinator's metrics, in the OpenMetrics text format, which Prometheus reads. For operators: a public reverse
/// proxy should not forward this path.
#[utoipa::path(
    get, path = "/metrics", tag = "health",
    responses((status = 200, body = String, content_type = "application/openmetrics-text"))
)]
pub(super) async fn metrics(State(hub): App) -> impl IntoResponse {
    let asked = timeout(Duration::from_secs(STORE_LIMIT_SECONDS), hub.store.open_sessions()).await;
    // The store counts the error itself, and the other metrics are still useful.
    let open = asked.ok().and_then(Result::ok);
    let kind = HeaderValue::from_static(metrics::CONTENT_TYPE);
    ([(header::CONTENT_TYPE, kind)], hub.metrics.text(open.as_deref()))
}

fn expect_alive(hub: &Hub) -> Result<(), ApiError> {
    if hub.has_failed() {
        return Err(unavailable("what hands out jobs has broken off"));
    }
    Ok(())
}

fn unavailable(reason: impl Into<String>) -> ApiError {
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, reason)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::body::to_bytes;
    use chaarfm_sources::Libraries;
    use chaarfm_store::Store;

    use super::*;
    use crate::{Database, advertised_address::AdvertisedAddress};

    async fn hub(folder: &tempfile::TempDir) -> Arc<Hub> {
        let database = Database::Sqlite(folder.path().join("test.sqlite3"));
        let advertised = AdvertisedAddress::new(([127, 0, 0, 1], 0).into(), true, None);
        Arc::new(Hub::new(Store::open(&database).await.unwrap(), Libraries::default(), None, advertised))
    }

    async fn reason(answer: Result<&'static str, ApiError>) -> String {
        let response = answer.unwrap_err().into_response();
        assert_eq!(response.status(), 503);
        assert!(response.headers().contains_key(header::RETRY_AFTER));
        String::from_utf8(to_bytes(response.into_body(), 1000).await.unwrap().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn a_coordinator_that_stops_is_alive_and_not_ready() {
        let folder = tempfile::tempdir().unwrap();
        let hub = hub(&folder).await;
        assert_eq!(ready(State(Arc::clone(&hub))).await.unwrap(), "ready");
        hub.shutdown.cancel();
        assert!(reason(ready(State(Arc::clone(&hub))).await).await.contains("stops"));
        assert_eq!(alive(State(hub)).await.unwrap(), "ok");
    }

    #[tokio::test]
    async fn a_coordinator_that_hands_out_nothing_any_more_is_neither() {
        let folder = tempfile::tempdir().unwrap();
        let hub = hub(&folder).await;
        let mut task = tokio::spawn(std::future::pending::<()>());
        hub.watch_loops(&task);
        assert_eq!(alive(State(Arc::clone(&hub))).await.unwrap(), "ok");
        task.abort();
        assert!((&mut task).await.unwrap_err().is_cancelled());
        assert!(reason(alive(State(Arc::clone(&hub))).await).await.contains("broken off"));
        assert!(reason(ready(State(hub)).await).await.contains("broken off"));
    }

    #[tokio::test]
    async fn a_database_that_does_not_answer_is_told_by_all_but_the_sign_of_life() {
        let folder = tempfile::tempdir().unwrap();
        let hub = hub(&folder).await;
        hub.store.close().await;
        assert!(reason(ready(State(Arc::clone(&hub))).await).await.contains("cannot be used at the moment"));
        assert_eq!(alive(State(Arc::clone(&hub))).await.unwrap(), "ok");
        let response = metrics(State(hub)).await.into_response();
        assert_eq!(response.status(), 200);
        let text = String::from_utf8(to_bytes(response.into_body(), 100_000).await.unwrap().to_vec()).unwrap();
        assert!(text.contains("chaarfm_store_up 0\n") && text.contains("kind=\"unavailable\"} 2\n"), "{text}");
    }
}
