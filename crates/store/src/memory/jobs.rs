//! Jobs: questions about them, and new attempts at failed ones.

use std::sync::Arc;

use chaarfm_coordinator::{Job, State, Timestamp};
use chaarfm_domain::{JobId, JobRef, JobState, PairingCode, SessionId, limits::MAX_WAITING_COUNTED};

use super::{
    Memory,
    rows::{Entry, Rows},
};
use crate::{
    error::Stored,
    jobs::{JobRow, MAX_EXPIRED_PER_SWEEP, QueueStatus, Retried, Takers},
};

impl Memory {
    pub(crate) async fn has_waiting(
        &self,
        session: SessionId,
        max_bytes: u64,
        max_attempts: i64,
        now: Timestamp,
    ) -> Stored<bool> {
        let rows = self.read().await;
        let waits = |entry: &Entry| {
            let State::Queued { not_before, .. } = entry.row.job.state else { return false };
            not_before <= now && entry.row.bytes <= max_bytes && i64::from(entry.row.job.attempts) <= max_attempts
        };
        Ok(rows.is_running(session) && rows.queued(session).any(waits))
    }

    pub(crate) async fn queue_status(
        &self,
        session: SessionId,
        takers: &Takers,
        now: Timestamp,
    ) -> Stored<QueueStatus> {
        let rows = self.read().await;
        let mut queue_status = QueueStatus::default();
        for JobRow { job, bytes, .. } in rows.queued(session).take(MAX_WAITING_COUNTED as usize).map(|entry| &entry.row)
        {
            let State::Queued { not_before, not_again_before } = job.state else { continue };
            let is_for_greatest = *bytes > takers.max_bytes_of_others && job.holder.as_ref() == Some(&takers.greatest);
            let due = if is_for_greatest { not_before.max(not_again_before) } else { not_before };
            if *bytes > takers.max_bytes {
                queue_status.too_large += 1;
            } else if due > now {
                queue_status.resting += 1;
                queue_status.next_try = Some(queue_status.next_try.map_or(due, |next| next.min(due)));
            } else {
                queue_status.ready += 1;
            }
        }
        Ok(queue_status)
    }

    pub(crate) async fn ended_by(
        &self,
        session: SessionId,
        holder: &str,
        state: JobState,
        after: JobId,
        limit: u32,
    ) -> Stored<Vec<JobId>> {
        let rows = self.read().await;
        let is_meant = |entry: &&Arc<Entry>| {
            let job = &entry.row.job;
            entry.session == session && JobState::from(job.state) == state && job.holder.as_deref() == Some(holder)
        };
        let ended = rows.jobs.range(after + 1..).map(|(_, entry)| entry).filter(is_meant);
        Ok(ended.take(limit as usize).map(|entry| entry.row.job.id).collect())
    }

    pub(crate) async fn retry_failed(&self, session: SessionId, job: Option<JobId>) -> Stored<Retried> {
        let retry = |rows: &mut Rows| {
            let mut sum = Retried::default();
            if rows.sessions.get(&session).is_none_or(|session| session.row.flags.ended) {
                return sum;
            }
            let is_meant = |entry: &&Arc<Entry>| {
                let row = &entry.row;
                let is_asked_for = job.is_none_or(|job| job == row.job.id);
                entry.session == session
                    && row.job.state == State::Failed
                    && !row.content_hash.is_empty()
                    && is_asked_for
            };
            let failed: Vec<_> = rows.jobs.values().filter(is_meant).cloned().collect();
            for entry in failed {
                let row = &entry.row;
                let is_known = rows.has_vector(&row.collection, &row.model, &row.content_hash);
                if !is_known {
                    match rows.open_job_like(row) {
                        None => {
                            rows.last_job += 1;
                            let mut again = Entry::clone(&entry);
                            again.row.job = Job::new(rows.last_job);
                            again.row.holder_kind = None;
                            rows.put(again);
                            sum.queued += 1;
                        }
                        Some(open) if open.session == session && open.is_for_the_file_of(&entry) => sum.known += 1,
                        // The other job may still fail or be dropped.
                        Some(_) => continue,
                    }
                }
                sum.known += u64::from(is_known);
                rows.drop_jobs(session, |other| other.row.job.id == entry.row.job.id);
            }
            sum
        };
        Ok(self.write(retry).await)
    }

    pub(crate) async fn expired(&self, now: Timestamp) -> Stored<Vec<(PairingCode, JobRef)>> {
        let rows = self.read().await;
        let expired = rows.jobs.values().filter(|entry| entry.row.job.has_expired(now));
        let mut expired: Vec<_> = expired.map(|entry| (entry.row.job.deadline(), entry)).collect();
        expired.sort_by_key(|(deadline, _)| *deadline);
        expired.truncate(MAX_EXPIRED_PER_SWEEP as usize);
        let job = |entry: &Entry| {
            let lease = entry.row.job.token.clone().unwrap_or_default();
            Some((rows.sessions.get(&entry.session)?.row.code, JobRef { job: entry.row.job.id, lease }))
        };
        Ok(expired.into_iter().filter_map(|(_, entry)| job(entry)).collect())
    }

    pub(crate) async fn job(&self, id: JobId) -> Stored<Option<JobRow>> {
        Ok(self.read().await.job(id).map(|entry| entry.row.clone()))
    }

    pub(crate) async fn jobs(
        &self,
        session: SessionId,
        state: Option<JobState>,
        offset: u64,
        limit: u32,
    ) -> Stored<Vec<JobRow>> {
        let rows = self.read().await;
        let is_meant = |entry: &&Arc<Entry>| {
            entry.session == session && state.is_none_or(|state| JobState::from(entry.row.job.state) == state)
        };
        let some = rows.jobs.values().filter(is_meant).skip(offset as usize).take(limit as usize);
        Ok(some.map(|entry| entry.row.clone()).collect())
    }
}
