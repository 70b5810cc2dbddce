//! The consequences of consecutive failures of a worker: see [`chaarfm_coordinator::Reputation`].

use chaarfm_coordinator::{Fault, Job, SUSPICIOUS_FAILURES, State, Verdict, WorkerId};
use chaarfm_domain::{AuditEvent, JobState, LogLevel, Standing, text};
use chaarfm_protocol::JobId;
use chaarfm_store::StoreError;
use tracing::Instrument;

use super::{ActiveSession, CommandError, Hub, active_session::Blame};
use crate::audit::Event;

/// Hexadecimal digits of the hash of a worker's key.
const KEY_HASH_DIGITS: usize = 32;

/// Maximum number of tracks queued again per transaction.
const MAX_REOPENED: u32 = 64;

impl Hub {
    /// Counts a failure of a worker.
    pub(super) async fn note_failure(
        &self,
        active: &ActiveSession,
        id: WorkerId,
        job: &Job,
        fault: Fault,
    ) -> Result<(), StoreError> {
        active.count_failed(id);
        self.hold_against(active, id, job, fault).await
    }

    /// Notes that a worker has failed a track, or handed it back. After one too many in a row, other workers try these
    /// tracks before it gets any more.
    pub(super) async fn hold_against(
        &self,
        active: &ActiveSession,
        id: WorkerId,
        job: &Job,
        fault: Fault,
    ) -> Result<(), StoreError> {
        let Some(Blame { name, came_into_doubt, in_doubt }) = active.hold_against(id, job, fault) else {
            return Ok(());
        };
        if came_into_doubt {
            let worker = active.call(&name);
            let notice = "tracks in a row; it gets no more until others have tried them";
            let notice = format!("{worker} failed or handed back {SUSPICIOUS_FAILURES} {notice}");
            active.span_of(&name).in_scope(|| active.log(LogLevel::Warning, notice));
        }
        self.request_second_opinions(active, &name, Standing::OnProbation, &in_doubt).await?;
        Ok(())
    }

    /// Decides about the workers on probation where that is possible by now.
    pub(super) async fn judge_suspects(&self) -> Result<(), StoreError> {
        for active in self.active_sessions() {
            self.look_for_judges(&active).await?;
            for (name, tracks) in active.on_probation() {
                self.judge(&active, &name, tracks).instrument(active.span_of(&name)).await?;
            }
            for (name, has_lied) in active.to_make_good() {
                self.make_good(&active, &name, has_lied)
                    .instrument(active.span_of(&name))
                    .await
                    .inspect_err(|_| active.put_off(&name))?;
            }
        }
        Ok(())
    }

    async fn judge(&self, active: &ActiveSession, name: &str, tracks: Vec<JobId>) -> Result<(), StoreError> {
        let mut jobs = Vec::with_capacity(tracks.len());
        for track in tracks {
            jobs.extend(self.store.job(track).await?.map(|row| row.job));
        }
        // Repeated every time: the database may have been down when the worker was put on probation.
        let failed = jobs.iter().filter(|job| job.state == State::Failed && job.holder.as_deref() == Some(name));
        let failed: Vec<JobId> = failed.map(|job| job.id).collect();
        self.request_second_opinions(active, name, Standing::OnProbation, &failed).await?;
        let Some(verdict) = active.judge(name, &jobs) else { return Ok(()) };
        let worker = active.call(name);
        match verdict {
            Verdict::Cleared => active.log(LogLevel::Info, format!("{worker} gets tracks again")),
            Verdict::SetAside => {
                let reason = "it fails track after track, which others can do";
                self.make_verdict_hold(active, name, false, reason).await;
                active.log(LogLevel::Error, format!("{worker} is set aside for this session: others do what it fails"));
            }
        }
        self.wake(active);
        Ok(())
    }

    /// Queues again all jobs that this worker failed last, and retracts its results if it has lied. Works in batches, as
    /// there may be many.
    async fn make_good(&self, active: &ActiveSession, name: &str, has_lied: bool) -> Result<(), StoreError> {
        if has_lied {
            self.retract(active, name).await?;
        }
        let (mut reopened, mut after) = (0, 0);
        loop {
            let some = self.store.ended_by(active.id, name, JobState::Failed, after, MAX_REOPENED).await?;
            let Some(last) = some.last() else { break };
            after = *last;
            reopened += self.request_second_opinions(active, name, Standing::SetAside, &some).await?;
        }
        if reopened > 0 {
            let worker = active.call(name);
            active.log(LogLevel::Info, format!("{reopened} tracks that only {worker} failed are queued again"));
        }
        Ok(())
    }

    /// Sets a worker aside at its owner's request, and queues again everything that it has done in the session.
    pub(crate) async fn discard_worker(&self, active: &ActiveSession, key: &str) -> Result<(), CommandError> {
        let unknown = || CommandError::UnknownWorker(text::cut(key, KEY_HASH_DIGITS));
        let origin = self.store.origin(key).await?.ok_or_else(unknown)?;
        let invitations = self.store.invitations(active.id).await?;
        if !invitations.iter().any(|invitation| invitation.id == origin.invitation) {
            return Err(unknown());
        }
        self.expect_open(active).await?;
        active.set_aside(key, true);
        self.make_verdict_hold(active, key, true, "its owner has it discarded").await;
        let worker = active.call(key);
        active.log(LogLevel::Warning, format!("{worker} is set aside by the owner, and all that it did is done again"));
        Ok(())
    }

    /// Stores that a worker is set aside, so that this holds on other coordinators, after a restart, and for other workers
    /// from the same origin.
    pub(super) async fn make_verdict_hold(&self, active: &ActiveSession, name: &str, has_lied: bool, reason: &str) {
        let event = Event { session: Some(active.id), actor: name, address: "" };
        self.audit.note(self.now(), AuditEvent::SetAside, &event, reason);
        self.bar(active, name).await;
        if let Err(error) = self.store.set_key_aside(name, has_lied).await {
            tracing::warn!("it is not stored yet that a worker is set aside: {error}");
        }
    }

    /// Applies the verdicts of all coordinators: see [`Hub::learn_verdicts`].
    pub(super) async fn share_verdicts(&self) -> Result<(), StoreError> {
        for active in self.active_sessions() {
            self.learn_verdicts(&active).await?;
        }
        Ok(())
    }

    /// Applies the verdicts of all coordinators, and of this one before a restart; and stores those that could not be stored
    /// when they were reached.
    pub(super) async fn learn_verdicts(&self, active: &ActiveSession) -> Result<(), StoreError> {
        let stored = self.store.keys_set_aside(active.id).await?;
        for (name, has_lied) in &stored {
            if active.set_aside(name, *has_lied) {
                self.bar(active, name).await;
                let worker = active.call(name);
                active.log(LogLevel::Warning, format!("{worker} was set aside before, or by another coordinator"));
            }
        }
        for (name, has_lied) in active.all_set_aside() {
            if stored.get(&name).is_none_or(|lied_before| has_lied && !lied_before) {
                self.store.set_key_aside(&name, has_lied).await?;
            }
        }
        active.note_verdicts();
        Ok(())
    }

    /// Deletes the vectors that this worker has made, and queues their tracks again.
    async fn retract(&self, active: &ActiveSession, name: &str) -> Result<(), StoreError> {
        let (mut retracted, mut after) = (0, 0);
        loop {
            let some = self.store.ended_by(active.id, name, JobState::Done, after, MAX_REOPENED).await?;
            let Some(last) = some.last() else { break };
            after = *last;
            retracted += self.store.retract(active.id, &some, name, self.now()).await?;
        }
        if retracted > 0 {
            let event = Event { session: Some(active.id), actor: name, address: "" };
            let detail = format!("{retracted} results are deleted and done again");
            self.audit.note(self.now(), AuditEvent::Retracted, &event, detail);
            let worker = active.call(name);
            active.log(LogLevel::Warning, format!("what {worker} delivered is retracted and done again: {retracted}"));
            self.wake_all(active);
            active.has_changed();
        }
        Ok(())
    }

    /// Queues again the given tracks that this worker failed last.
    async fn request_second_opinions(
        &self,
        active: &ActiveSession,
        name: &str,
        standing: Standing,
        tracks: &[JobId],
    ) -> Result<u64, StoreError> {
        if tracks.is_empty() {
            return Ok(0);
        }
        let now = self.now();
        let queue_again = |job: &mut Job| match standing {
            Standing::SetAside => job.discount_failure(name, now),
            Standing::Good | Standing::OnProbation => job.request_second_opinion(name, now),
        };
        let reopened = self.store.request_second_opinions(active.id, tracks, queue_again).await?;
        if reopened > 0 {
            self.wake_all(active);
            active.has_changed();
        }
        Ok(reopened)
    }
}
