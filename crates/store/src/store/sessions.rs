//! The sessions in the store.

use chaarfm_coordinator::Timestamp;
use chaarfm_domain::{PairingCode, SessionId};

use super::{Store, ask};
use crate::{
    error::Stored,
    sessions::{NewSession, SessionRow},
};

impl Store {
    /// The newest session that has not ended; if there is none, one is created from `fresh`.
    pub async fn current_session(&self, fresh: NewSession<'_>) -> Stored<SessionRow> {
        ask!(self, engine => engine.current_session(fresh))
    }

    /// Creates a session; none if `max_open` sessions are open already.
    pub async fn create_session(&self, fresh: NewSession<'_>, max_open: u32) -> Stored<Option<SessionRow>> {
        ask!(self, engine => engine.create_session(fresh, max_open))
    }

    /// The session with this code.
    pub async fn session(&self, code: &PairingCode) -> Stored<Option<SessionRow>> {
        ask!(self, engine => engine.session(code))
    }

    /// Every session that has not ended.
    pub async fn open_sessions(&self) -> Stored<Vec<SessionRow>> {
        ask!(self, engine => engine.open_sessions())
    }

    /// Pauses or resumes the session.
    pub async fn set_paused(&self, id: SessionId, paused: bool) -> Stored<()> {
        ask!(self, engine => engine.set_paused(id, paused))
    }

    /// Drops the queued jobs, and cancels a running scan. Workers keep the jobs they hold. An engine that drops the jobs in
    /// several transactions pauses the session meanwhile; on failure the session stays paused.
    pub async fn clear_queue(&self, id: SessionId) -> Stored<u64> {
        ask!(self, MAX_LONG_ANSWER_SECONDS, engine => engine.clear_queue(id))
    }

    /// Ends the session and drops its unfinished jobs, as other sessions may want the same tracks. An engine that does so
    /// in several transactions pauses the session meanwhile; on failure the session stays paused.
    pub async fn end_session(&self, id: SessionId, now: Timestamp) -> Stored<()> {
        ask!(self, MAX_LONG_ANSWER_SECONDS, engine => engine.end_session(id, now))
    }

    /// Deletes some jobs of a session that had ended by `ended_before`, and the session itself when it has no jobs left.
    /// False if there is nothing to delete. Several coordinators may call this at once. The newest session stays, so that
    /// its number is never reused.
    pub async fn prune(&self, ended_before: Timestamp, now: Timestamp) -> Stored<bool> {
        ask!(self, engine => engine.prune(ended_before, now))
    }
}
