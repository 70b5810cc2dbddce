//! The ids that a line of the log has as fields: the session's number, the worker's connection, the job. A session's code
//! is in no line: it admits workers.
//!
//! A line is within one span, which has all ids that are known; spans are not nested, so that every id has one place. They
//! are of the highest level, so that the ids are there however little is logged.

use chaarfm_coordinator::WorkerId;
use chaarfm_domain::SessionId;
use chaarfm_protocol::JobId;
use tracing::{Span, error_span};

/// What goes on in a session.
pub(crate) fn session(session: SessionId) -> Span {
    error_span!(parent: None, "session", session = session.0)
}

/// What goes on between a session and one of its workers.
pub(crate) fn worker(session: SessionId, worker: WorkerId) -> Span {
    error_span!(parent: None, "worker", session = session.0, worker)
}

/// What becomes of a job, and in whose hands if that is known.
pub(crate) fn job(session: SessionId, worker: Option<WorkerId>, job: JobId) -> Span {
    error_span!(parent: None, "job", session = session.0, worker, job)
}

/// The span that a line about a session is in already, or one for it.
pub(crate) fn current_or_session(id: SessionId) -> Span {
    let current = Span::current();
    if current.has_field("session") { current } else { session(id) }
}
