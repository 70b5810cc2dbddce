//! Sessions.

use std::{collections::BTreeSet, sync::Arc};

use chaarfm_coordinator::{State, Timestamp};
use chaarfm_domain::{JobId, PairingCode, SessionId};

use super::{
    Memory,
    rows::{Rows, Session, is_open},
};
use crate::{
    error::Stored,
    sessions::{MAX_PRUNED_JOBS, NewSession, SessionRow},
};

impl Memory {
    pub(crate) async fn current_session(&self, fresh: NewSession<'_>) -> Stored<SessionRow> {
        Ok(self.write(|rows| rows.newest_session().unwrap_or_else(|| rows.insert_session(fresh))).await)
    }

    pub(crate) async fn create_session(&self, fresh: NewSession<'_>, max_open: u32) -> Stored<Option<SessionRow>> {
        let create = |rows: &mut Rows| {
            let open = rows.sessions.values().filter(|session| !session.row.flags.ended).count();
            (open < max_open as usize).then(|| rows.insert_session(fresh))
        };
        Ok(self.write(create).await)
    }

    pub(crate) async fn session(&self, code: &PairingCode) -> Stored<Option<SessionRow>> {
        let rows = self.read().await;
        let id = rows.sessions.values().find(|session| session.row.code == *code).map(|session| session.row.id);
        Ok(id.and_then(|id| rows.session(id)))
    }

    pub(crate) async fn open_sessions(&self) -> Stored<Vec<SessionRow>> {
        let rows = self.read().await;
        Ok(rows.sessions.keys().filter_map(|id| rows.session(*id)).filter(|row| !row.flags.ended).collect())
    }

    pub(crate) async fn set_paused(&self, id: SessionId, paused: bool) -> Stored<()> {
        self.write(|rows| rows.change_session(id).map(|session| session.row.flags.paused = paused)).await;
        Ok(())
    }

    pub(crate) async fn clear_queue(&self, id: SessionId) -> Stored<u64> {
        let clear = |rows: &mut Rows| {
            if let Some(session) = rows.change_session(id) {
                (session.row.flags.scanning, session.row.flags.paused) = (false, false);
            }
            rows.drop_jobs(id, |entry| matches!(entry.row.job.state, State::Queued { .. }))
        };
        Ok(self.write(clear).await)
    }

    pub(crate) async fn end_session(&self, id: SessionId, now: Timestamp) -> Stored<()> {
        let end = |rows: &mut Rows| {
            if let Some(session) = rows.change_session(id) {
                (session.row.flags.scanning, session.row.flags.ended, session.ended) = (false, true, Some(now));
            }
            rows.drop_jobs(id, |entry| is_open(&entry.row));
        };
        self.write(end).await;
        Ok(())
    }

    pub(crate) async fn prune(&self, ended_before: Timestamp, _now: Timestamp) -> Stored<bool> {
        let prune = |rows: &mut Rows| {
            let newest = rows.sessions.keys().last().copied();
            let is_due = |session: &&Session| {
                session.ended.is_some_and(|ended| ended <= ended_before)
                    && (Some(session.row.id) != newest
                        || rows.jobs.values().any(|entry| entry.session == session.row.id))
            };
            let due = rows.sessions.values().filter(is_due).min_by_key(|session| session.ended);
            let Some(id) = due.map(|session| session.row.id) else { return false };
            let jobs = rows.jobs.iter().filter(|(_, entry)| entry.session == id).map(|(number, _)| *number);
            let some: BTreeSet<JobId> = jobs.take(MAX_PRUNED_JOBS as usize).collect();
            rows.drop_jobs(id, |entry| some.contains(&entry.row.job.id));
            if some.len() < MAX_PRUNED_JOBS as usize {
                Arc::make_mut(&mut rows.guests).forget(id);
                if Some(id) != newest {
                    Arc::make_mut(&mut rows.sessions).remove(&id);
                }
            }
            true
        };
        Ok(self.write(prune).await)
    }
}
