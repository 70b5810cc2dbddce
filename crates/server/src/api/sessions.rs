//! Sessions: creating, controlling and watching them.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Extension, Json,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use chaarfm_api::{ErrorView, JobView, SessionView, StartRequest};
use chaarfm_domain::{JobState, Role};
use chaarfm_protocol::{JobId, PairingCode};
use chaarfm_store::JobRow;
use futures_util::{
    StreamExt,
    stream::{self, Stream},
};
use serde::Deserialize;
use tokio::time::sleep;
use utoipa::IntoParams;

use super::{App, paging::Paging};
use crate::{
    error::{ApiError, Body, Path, Query},
    export::{self, ListFormat},
    hub::{ActiveSession, CommandError, Hub},
    identity::{Access, Identities, Owner},
};

/// A stream that was silent for this long sends a keep-alive. It is an event because browsers hide comments from pages, and
/// a page must detect a connection that died silently. Pages wait three times as long.
const ALIVE_SECONDS: u64 = 10;

/// How often a stream checks that its credential is still valid.
const RECHECK_SECONDS: u64 = 10;

pub(super) type Answer = Result<Json<SessionView>, ApiError>;

/// The session with this code. The code proves nothing: the [`Owner`] proves the caller's right.
pub(super) async fn find(hub: &Hub, _: &Owner, code: &str) -> Result<Arc<ActiveSession>, ApiError> {
    let code: PairingCode = code.parse()?;
    Ok(hub.session(&code).await?)
}

/// Runs a command of a session's owner, and answers with the session's state afterwards. A command that has begun runs to
/// its end even if the client disconnects, which drops the handler.
pub(super) async fn command<F>(
    hub: &Arc<Hub>,
    owner: &Owner,
    code: &str,
    act: impl FnOnce(Arc<Hub>, Arc<ActiveSession>) -> F,
) -> Answer
where
    F: Future<Output = Result<(), CommandError>> + Send + 'static,
{
    let active = find(hub, owner, code).await?;
    let acting = hub.tasks.spawn(act(Arc::clone(hub), Arc::clone(&active)));
    acting.await.map_err(|panic| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, panic.to_string()))??;
    Ok(Json(hub.view(&active).await?))
}

/// The newest session that has not ended, or a new one.
#[utoipa::path(post, path = "/api/sessions/current", tag = "sessions", responses((status = 200, body = SessionView)))]
pub(super) async fn current(_owner: Owner, State(hub): App) -> Answer {
    Ok(Json(hub.current_session().await?))
}

/// Creates a session.
#[utoipa::path(
    post, path = "/api/sessions", tag = "sessions",
    responses((status = 201, body = SessionView), (status = 429, description = "Too many are open", body = ErrorView))
)]
pub(super) async fn create(_owner: Owner, State(hub): App) -> Result<impl IntoResponse, ApiError> {
    Ok((StatusCode::CREATED, Json(hub.create_session().await?)))
}

/// The current state of a session.
#[utoipa::path(
    get, path = "/api/sessions/{code}", tag = "sessions", params(("code" = String, Path, description = "Pairing code")),
    responses((status = 200, body = SessionView), (status = 400, body = ErrorView), (status = 404, body = ErrorView))
)]
pub(super) async fn show(owner: Owner, State(hub): App, Path(code): Path<String>) -> Answer {
    let active = find(&hub, &owner, &code).await?;
    Ok(Json(hub.view(&active).await?))
}

/// Ends a session: its invitations no longer admit anybody, and its workers are disconnected.
#[utoipa::path(
    delete, path = "/api/sessions/{code}", tag = "sessions",
    params(("code" = String, Path, description = "Pairing code")),
    responses((status = 200, body = SessionView), (status = 404, body = ErrorView), (status = 410, body = ErrorView))
)]
pub(super) async fn end(owner: Owner, State(hub): App, Path(code): Path<String>) -> Answer {
    command(&hub, &owner, &code, |hub, active| async move { hub.end(&active).await }).await
}

/// Scans a library in the background and queues its tracks.
#[utoipa::path(
    post, path = "/api/sessions/{code}/start", tag = "sessions",
    params(("code" = String, Path, description = "Pairing code")), request_body = StartRequest,
    responses(
        (status = 202, body = SessionView), (status = 400, body = ErrorView), (status = 404, body = ErrorView),
        (status = 409, description = "A scan is running", body = ErrorView), (status = 410, body = ErrorView)
    )
)]
pub(super) async fn start(
    owner: Owner,
    State(hub): App,
    Path(code): Path<String>,
    Body(request): Body<StartRequest>,
) -> Result<impl IntoResponse, ApiError> {
    let session = command(&hub, &owner, &code, |hub, active| async move { hub.start(&active, request).await }).await?;
    Ok((StatusCode::ACCEPTED, session))
}

/// Pauses the session: hands out no jobs until it is resumed.
#[utoipa::path(
    post, path = "/api/sessions/{code}/pause", tag = "sessions",
    params(("code" = String, Path, description = "Pairing code")),
    responses((status = 200, body = SessionView), (status = 404, body = ErrorView), (status = 410, body = ErrorView))
)]
pub(super) async fn pause(owner: Owner, State(hub): App, Path(code): Path<String>) -> Answer {
    command(&hub, &owner, &code, |hub, active| async move { hub.set_paused(&active, true).await }).await
}

/// Resumes the session.
#[utoipa::path(
    post, path = "/api/sessions/{code}/resume", tag = "sessions",
    params(("code" = String, Path, description = "Pairing code")),
    responses((status = 200, body = SessionView), (status = 404, body = ErrorView), (status = 410, body = ErrorView))
)]
pub(super) async fn resume(owner: Owner, State(hub): App, Path(code): Path<String>) -> Answer {
    command(&hub, &owner, &code, |hub, active| async move { hub.set_paused(&active, false).await }).await
}

/// Empties the queue and cancels a scan; workers finish the jobs they hold.
#[utoipa::path(
    post, path = "/api/sessions/{code}/stop", tag = "sessions",
    params(("code" = String, Path, description = "Pairing code")),
    responses((status = 200, body = SessionView), (status = 404, body = ErrorView), (status = 410, body = ErrorView))
)]
pub(super) async fn stop(owner: Owner, State(hub): App, Path(code): Path<String>) -> Answer {
    command(&hub, &owner, &code, |hub, active| async move { hub.stop(&active).await }).await
}

/// Queues all failed jobs again, at the end of the queue and with fresh attempts. Jobs whose tracks have another open job
/// stay failed, and so do those whose files could not be read: only a scan retries these.
#[utoipa::path(
    post, path = "/api/sessions/{code}/jobs/retry", tag = "sessions",
    params(("code" = String, Path, description = "Pairing code")),
    responses((status = 200, body = SessionView), (status = 404, body = ErrorView), (status = 410, body = ErrorView))
)]
pub(super) async fn retry_all(owner: Owner, State(hub): App, Path(code): Path<String>) -> Answer {
    command(&hub, &owner, &code, |hub, active| async move { hub.retry(&active, None).await }).await
}

/// Queues a failed job again, under a new number, at the end of the queue and with fresh attempts.
#[utoipa::path(
    post, path = "/api/sessions/{code}/jobs/{id}/retry", tag = "sessions",
    params(("code" = String, Path, description = "Pairing code"), ("id" = i64, Path, description = "The job")),
    responses(
        (status = 200, body = SessionView), (status = 404, body = ErrorView),
        (status = 409, description = "It has not failed, another job is at its track, or its file could not be read", body = ErrorView),
        (status = 410, body = ErrorView)
    )
)]
pub(super) async fn retry_one(owner: Owner, State(hub): App, Path((code, job)): Path<(String, JobId)>) -> Answer {
    command(&hub, &owner, &code, |hub, active| async move { hub.retry(&active, Some(job)).await }).await
}

/// Discards a worker: it gets nothing more in this session, and everything that it has delivered is deleted and done again
/// by others.
#[utoipa::path(
    post, path = "/api/sessions/{code}/workers/{key}/discard", tag = "sessions",
    params(
        ("code" = String, Path, description = "Pairing code"),
        ("key" = String, Path, description = "Hash of the worker's key")
    ),
    responses((status = 200, body = SessionView), (status = 404, body = ErrorView), (status = 410, body = ErrorView))
)]
pub(super) async fn discard_worker(owner: Owner, State(hub): App, Path((code, key)): Path<(String, String)>) -> Answer {
    command(&hub, &owner, &code, |hub, active| async move { hub.discard_worker(&active, &key).await }).await
}

/// Jobs to export, and the format.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct JobsExportQuery {
    /// Only jobs in this state.
    state: Option<JobState>,
    /// `csv` or `jsonl`.
    #[param(inline)]
    format: ListFormat,
}

/// A session's jobs as a file, such as the failed ones: each job's file, the number of attempts, the kind of worker, and
/// the reason of the failure.
#[utoipa::path(
    get, path = "/api/sessions/{code}/jobs/export", tag = "sessions",
    params(("code" = String, Path, description = "Pairing code"), JobsExportQuery),
    responses(
        (status = 200, description = "The file"), (status = 400, body = ErrorView), (status = 404, body = ErrorView),
        (status = 503, description = "Too many exports are under way", body = ErrorView)
    )
)]
pub(super) async fn export_jobs(
    owner: Owner,
    State(hub): App,
    Path(code): Path<String>,
    Query(query): Query<JobsExportQuery>,
) -> Result<Response, ApiError> {
    let active = find(&hub, &owner, &code).await?;
    export::export_jobs(&hub.store, active.id, query.state, query.format).await
}

/// Jobs to list.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct JobsQuery {
    /// Only jobs in this state.
    state: Option<JobState>,
}

/// A session's jobs, ordered by number.
#[utoipa::path(
    get, path = "/api/sessions/{code}/jobs", tag = "sessions",
    params(("code" = String, Path, description = "Pairing code"), JobsQuery, Paging),
    responses((status = 200, body = Vec<JobView>), (status = 404, body = ErrorView))
)]
pub(super) async fn jobs(
    owner: Owner,
    State(hub): App,
    Path(code): Path<String>,
    Query(query): Query<JobsQuery>,
    Query(paging): Query<Paging>,
) -> Result<Json<Vec<JobView>>, ApiError> {
    let active = find(&hub, &owner, &code).await?;
    let rows = hub.store.jobs(active.id, query.state, paging.offset, paging.limit()).await?;
    Ok(Json(rows.into_iter().map(job_view).collect()))
}

fn job_view(row: JobRow) -> JobView {
    let JobRow { job, track, holder_kind, .. } = row;
    let (state, attempts) = (JobState::from(job.state), job.attempts);
    JobView { id: job.id, track, state, attempts, worker: holder_kind, error: job.error }
}

/// Sends the session immediately, and again after every change, at most four times a second. After 10 s without a change it
/// sends an empty event named `alive`. The stream ends soon after its credential becomes invalid.
#[utoipa::path(
    get, path = "/api/sessions/{code}/events", tag = "sessions",
    params(("code" = String, Path, description = "Pairing code")),
    responses((status = 200, description = "Server-sent events; the data of each without a name is a SessionView", body = SessionView,
        content_type = "text/event-stream"), (status = 404, body = ErrorView))
)]
pub(super) async fn events(
    owner: Owner,
    State(hub): App,
    Path(code): Path<String>,
    Extension(identities): Extension<Identities>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    let active = find(&hub, &owner, &code).await?;
    let stream = stream::unfold(hub.watch(&active), async |mut views| {
        let view = views.next().await?;
        Some((Ok(Event::default().data(&*view)), views))
    });
    let stream = stream.take_until(owner_gone(identities, headers));
    // Browsers also hide events without data from pages.
    let alive = Event::default().event("alive").data("{}");
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(Duration::from_secs(ALIVE_SECONDS)).event(alive)))
}

/// Resolves when the sender of these headers is no longer the owner. While the database is down, nothing changes.
async fn owner_gone(identities: Identities, headers: HeaderMap) {
    loop {
        sleep(Duration::from_secs(RECHECK_SECONDS)).await;
        match identities.principal(&headers, Access::Owner).await {
            Ok(principal) if principal.role() != Some(Role::Owner) => return,
            Ok(_) | Err(_) => {}
        }
    }
}
