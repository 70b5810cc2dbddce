//! The coordinator's JSON interface as typed functions. Not here: what a page does with the answers.

use std::fmt;

use chaarfm_api::{
    AddedLibraryView, AuditView, CollectionView, DownloadView, ErrorView, JobView, LibraryView, ModelView,
    NewInvitation, NewLibrary, SessionView, StartRequest,
};
use chaarfm_protocol::{JobId, PairingCode};
use gloo_net::http::{Request, RequestBuilder, Response};
use serde::de::DeserializeOwned;
use web_sys::AbortSignal;

/// A request without an answer is abandoned after this long.
const REQUEST_TIMEOUT_SECONDS: u32 = 20;

/// Most failed jobs shown: as many as the coordinator puts into one answer.
pub(crate) const MAX_FAILED_JOBS_SHOWN: usize = 1000;

/// Entries of the audit record shown at most: as many as the coordinator puts into one answer.
pub(crate) const MAX_AUDIT_SHOWN: usize = 1000;

/// Why there is no answer to a request.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum ApiError {
    /// The coordinator refused the request, with a reason.
    #[error("{message}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// The coordinator's message.
        message: String,
    },
    /// The coordinator could not be reached, or the answer was not its own.
    #[error("the coordinator did not answer: {0}")]
    Unreachable(String),
}

impl ApiError {
    /// Whether this browser is not, or no longer, authorised as the owner's.
    pub(crate) fn is_not_let_in(&self) -> bool {
        matches!(self, Self::Refused { status: 401, .. })
    }

    /// Whether the thing asked for does not exist.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status: 404, .. })
    }
}

impl From<gloo_net::Error> for ApiError {
    fn from(error: gloo_net::Error) -> Self {
        match error {
            gloo_net::Error::JsError(error) => Self::Unreachable(error.message),
            other => Self::Unreachable(other.to_string()),
        }
    }
}

/// A command that the owner can give to a session with one press.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Pause,
    Resume,
    Stop,
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Stop => "stop",
        })
    }
}

/// The newest session that has not ended; one is made if there is none.
pub(crate) async fn current_session() -> Result<SessionView, ApiError> {
    ask(post("/api/sessions/current")).await
}

/// Fetches a session.
pub(crate) async fn session(code: PairingCode) -> Result<SessionView, ApiError> {
    ask(get(&format!("/api/sessions/{code}"))).await
}

/// Ends a session and makes a new one.
pub(crate) async fn replace_session(code: PairingCode) -> Result<SessionView, ApiError> {
    let ended = send(delete(&format!("/api/sessions/{code}")).build()).await;
    match ended {
        // A session that no longer exists need not be ended.
        Err(error) if !error.is_not_found() => Err(error),
        _ => ask(post("/api/sessions")).await,
    }
}

/// Makes an invitation to a session.
pub(crate) async fn invite(code: PairingCode, wish: NewInvitation) -> Result<SessionView, ApiError> {
    send(post(&format!("/api/sessions/{code}/invitations")).json(&wish)).await?;
    session(code).await
}

/// Gives an invitation another code.
pub(crate) async fn rotate_invitation(code: PairingCode, id: i64) -> Result<SessionView, ApiError> {
    ask(post(&format!("/api/sessions/{code}/invitations/{id}/rotate"))).await
}

/// Revokes an invitation and disconnects its workers.
pub(crate) async fn revoke_invitation(code: PairingCode, id: i64) -> Result<SessionView, ApiError> {
    ask(delete(&format!("/api/sessions/{code}/invitations/{id}"))).await
}

/// Starts a run over a library.
pub(crate) async fn start(code: PairingCode, request: &StartRequest) -> Result<SessionView, ApiError> {
    let response = send(post(&format!("/api/sessions/{code}/start")).json(request)).await?;
    Ok(response.json().await?)
}

/// Pauses, resumes or stops a session.
pub(crate) async fn order(code: PairingCode, order: Order) -> Result<SessionView, ApiError> {
    ask(post(&format!("/api/sessions/{code}/{order}"))).await
}

/// The first `want` failed jobs of a session.
pub(crate) async fn failed_jobs(code: PairingCode, want: usize) -> Result<Vec<JobView>, ApiError> {
    let limit = want.min(MAX_FAILED_JOBS_SHOWN);
    ask(get(&format!("/api/sessions/{code}/jobs?state=failed&limit={limit}"))).await
}

/// Retries a session's failed jobs, or only the named one.
pub(crate) async fn retry(code: PairingCode, job: Option<JobId>) -> Result<SessionView, ApiError> {
    let jobs = format!("/api/sessions/{code}/jobs");
    let path = job.map_or_else(|| format!("{jobs}/retry"), |job| format!("{jobs}/{job}/retry"));
    ask(post(&path)).await
}

/// Discards everything from the worker with a key of this hash.
pub(crate) async fn discard_worker(code: PairingCode, key: &str) -> Result<SessionView, ApiError> {
    ask(post(&format!("/api/sessions/{code}/workers/{key}/discard"))).await
}

/// Folders that can be run through.
pub(crate) async fn libraries() -> Result<Vec<LibraryView>, ApiError> {
    ask(get("/api/libraries")).await
}

/// Adds a library: the path of a folder on the coordinator's machine, or `s3://BUCKET/PREFIX`.
pub(crate) async fn add_library(location: String) -> Result<AddedLibraryView, ApiError> {
    let response = send(post("/api/libraries").json(&NewLibrary { location })).await?;
    Ok(response.json().await?)
}

/// The models that can be requested.
pub(crate) async fn models() -> Result<Vec<ModelView>, ApiError> {
    ask(get("/api/models")).await
}

/// The collections and their sizes.
pub(crate) async fn collections() -> Result<Vec<CollectionView>, ApiError> {
    ask(get("/api/collections")).await
}

/// The newest `want` entries of the audit record.
pub(crate) async fn audit(want: usize) -> Result<Vec<AuditView>, ApiError> {
    ask(get(&format!("/api/audit?limit={}", want.min(MAX_AUDIT_SHOWN)))).await
}

/// Address of the audit record as a file: `csv` or `jsonl`.
pub(crate) fn audit_export_url(format: &str) -> String {
    format!("/api/audit/export?format={format}")
}

/// Programs for workers that the coordinator offers.
pub(crate) async fn downloads() -> Result<Vec<DownloadView>, ApiError> {
    ask(get("/api/downloads")).await
}

/// Address of a collection's download in a format: `csv`, `jsonl` or `npy`.
pub(crate) fn export_url(collection: &str, format: &str) -> String {
    format!("/api/collections/{collection}/export?format={format}")
}

/// Address of the list of a session's failed jobs in a format: `csv` or `jsonl`.
pub(crate) fn failed_jobs_export_url(code: PairingCode, format: &str) -> String {
    format!("/api/sessions/{code}/jobs/export?state=failed&format={format}")
}

fn get(path: &str) -> RequestBuilder {
    bounded(Request::get(path))
}

fn post(path: &str) -> RequestBuilder {
    bounded(Request::post(path))
}

fn delete(path: &str) -> RequestBuilder {
    bounded(Request::delete(path))
}

fn bounded(request: RequestBuilder) -> RequestBuilder {
    request.abort_signal(Some(&AbortSignal::timeout_with_u32(REQUEST_TIMEOUT_SECONDS * 1000)))
}

async fn ask<T: DeserializeOwned>(request: RequestBuilder) -> Result<T, ApiError> {
    Ok(send(request.build()).await?.json().await?)
}

/// Sends a request, and turns a refusal into an error with the coordinator's message.
async fn send(request: Result<Request, gloo_net::Error>) -> Result<Response, ApiError> {
    let response = request?.send().await?;
    if response.ok() {
        return Ok(response);
    }
    let status = response.status();
    let message = match response.json::<ErrorView>().await {
        Ok(view) => view.error,
        Err(_) => format!("the coordinator answered with HTTP status {status}"),
    };
    Err(ApiError::Refused { status, message })
}
