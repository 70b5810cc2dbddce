//! What follows when a worker fails one track after the other: see [`chaarfm_coordinator::Conduct`].

use chaarfm_coordinator::{Fault, Job, SUSPICIOUS_FAILURES, State, Verdict, WorkerId};
use chaarfm_domain::{LogLevel, Standing};
use chaarfm_protocol::JobId;
use chaarfm_store::StoreError;
use tracing::Instrument;

use super::{Hub, Live, live::Blame};

/// Tracks that one transaction queues again.
const MAX_REOPENED: u32 = 64;

impl Hub {
    /// Counts a failure of a worker.
    pub(super) async fn note_failure(
        &self,
        live: &Live,
        id: WorkerId,
        job: &Job,
        fault: Fault,
    ) -> Result<(), StoreError> {
        live.count_failed(id);
        self.hold_against(live, id, job, fault).await
    }

    /// Notes that a worker has failed a track, or handed it back. One too many in a row, and others get the tracks before
    /// it gets any more.
    pub(super) async fn hold_against(
        &self,
        live: &Live,
        id: WorkerId,
        job: &Job,
        fault: Fault,
    ) -> Result<(), StoreError> {
        let Some(Blame { name, came_into_doubt, in_doubt }) = live.hold_against(id, job, fault) else {
            return Ok(());
        };
        if came_into_doubt {
            let worker = live.call(&name);
            let notice = "tracks in a row; it gets no more until others have tried them";
            let notice = format!("{worker} failed or handed back {SUSPICIOUS_FAILURES} {notice}");
            live.span_of(&name).in_scope(|| live.log(LogLevel::Warning, notice));
        }
        self.reopen(live, &name, Standing::OnProbation, &in_doubt).await?;
        Ok(())
    }

    /// Decides about the workers in doubt as far as that is possible by now.
    pub(super) async fn judge_suspects(&self) -> Result<(), StoreError> {
        for live in self.live_sessions() {
            self.look_for_judges(&live).await?;
            for (name, tracks) in live.on_probation() {
                self.judge(&live, &name, tracks).instrument(live.span_of(&name)).await?;
            }
            for name in live.to_make_good() {
                self.make_good(&live, &name)
                    .instrument(live.span_of(&name))
                    .await
                    .inspect_err(|_| live.put_off(&name))?;
            }
        }
        Ok(())
    }

    async fn judge(&self, live: &Live, name: &str, tracks: Vec<JobId>) -> Result<(), StoreError> {
        let mut jobs = Vec::with_capacity(tracks.len());
        for track in tracks {
            jobs.extend(self.store.job(track).await?.map(|row| row.job));
        }
        // Again and again: the database may have been down when the worker came into doubt.
        let failed = jobs.iter().filter(|job| job.state == State::Failed && job.holder.as_deref() == Some(name));
        let failed: Vec<JobId> = failed.map(|job| job.id).collect();
        self.reopen(live, name, Standing::OnProbation, &failed).await?;
        let Some(verdict) = live.judge(name, &jobs) else { return Ok(()) };
        let worker = live.call(name);
        match verdict {
            Verdict::Cleared => live.log(LogLevel::Info, format!("{worker} gets tracks again")),
            Verdict::SetAside => {
                self.bar(live, name).await;
                live.log(LogLevel::Error, format!("{worker} is set aside for this session: others do what it fails"));
            }
        }
        self.wake(live);
        Ok(())
    }

    /// Queues again all that this worker was the last to fail, some at a time: that may be very much.
    async fn make_good(&self, live: &Live, name: &str) -> Result<(), StoreError> {
        let (mut reopened, mut after) = (0, 0);
        loop {
            let some = self.store.failed_of(live.id, name, after, MAX_REOPENED).await?;
            let Some(last) = some.last() else { break };
            after = *last;
            reopened += self.reopen(live, name, Standing::SetAside, &some).await?;
        }
        if reopened > 0 {
            let worker = live.call(name);
            live.log(LogLevel::Info, format!("{reopened} tracks that only {worker} failed are queued again"));
        }
        Ok(())
    }

    /// Queues again those of these tracks that this worker was the last to fail.
    async fn reopen(&self, live: &Live, name: &str, standing: Standing, tracks: &[JobId]) -> Result<u64, StoreError> {
        if tracks.is_empty() {
            return Ok(0);
        }
        let now = self.now();
        let reopen = |job: &mut Job| match standing {
            Standing::SetAside => job.acquit(name, now),
            Standing::Good | Standing::OnProbation => job.ask_others(name, now),
        };
        let reopened = self.store.reopen(live.id, tracks, reopen).await?;
        if reopened > 0 {
            self.wake_all(live);
            live.has_changed();
        }
        Ok(reopened)
    }
}
