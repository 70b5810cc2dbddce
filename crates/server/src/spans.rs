//! The ids that a log line has as fields: the session's number, the worker's connection, the job. The session's code is
//! never logged: it admits workers.
//!
//! Every line is in one span with all known ids; spans are not nested, so that every id appears once. They have the highest
//! level, so that the ids are present at every log level.

use chaarfm_coordinator::WorkerId;
use chaarfm_domain::SessionId;
use chaarfm_protocol::JobId;
use tracing::{Span, error_span};

/// For events of a session.
pub(crate) fn session(session: SessionId) -> Span {
    error_span!(parent: None, "session", session = session.0)
}

/// For events between a session and one of its workers.
pub(crate) fn worker(session: SessionId, worker: WorkerId) -> Span {
    error_span!(parent: None, "worker", session = session.0, worker)
}

/// For events of a job, with its worker if known.
pub(crate) fn job(session: SessionId, worker: Option<WorkerId>, job: JobId) -> Span {
    error_span!(parent: None, "job", session = session.0, worker, job)
}

/// The current span if it already has a session, or a new one for this session.
pub(crate) fn current_or_session(id: SessionId) -> Span {
    let current = Span::current();
    if current.has_field("session") { current } else { session(id) }
}
