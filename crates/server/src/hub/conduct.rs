//! What follows when a worker fails one track after the other: see [`chaarfm_coordinator::Conduct`].

use chaarfm_coordinator::{Job, SUSPICIOUS_FAILURES, Verdict, WorkerId};
use chaarfm_protocol::{
    JobId,
    view::{LogLevel, Standing},
};
use tracing::Instrument;

use super::{Hub, Live, now};
use crate::store::StoreError;

impl Hub {
    /// Counts a failure of a worker. One too many in a row, and others get the tracks before it gets any more.
    pub(super) async fn note_failure(&self, live: &Live, id: WorkerId, job: &Job) -> Result<(), StoreError> {
        let Some((name, standing)) = live.count_failed(id, job) else { return Ok(()) };
        if standing != Standing::Good {
            // It had this one in its hands when it came into doubt.
            self.reopen_failed_of(live, &name, standing).await?;
        }
        self.suspect(live).await
    }

    /// Decides about the workers in doubt as far as that is possible by now.
    pub(super) async fn judge_suspects(&self) -> Result<(), StoreError> {
        for live in self.live_sessions() {
            self.suspect(&live).await?;
            for (name, tracks) in live.on_probation() {
                // Again and again: the database may have been down when the worker came into doubt.
                self.reopen_failed_of(&live, &name, Standing::OnProbation).await?;
                self.judge(&live, &name, tracks).instrument(live.span_of(&name)).await?;
            }
        }
        Ok(())
    }

    async fn suspect(&self, live: &Live) -> Result<(), StoreError> {
        for name in live.suspect() {
            let worker = live.call(&name);
            let notice = "tracks in a row; it gets no more until others have tried them";
            let notice = format!("{worker} failed {SUSPICIOUS_FAILURES} {notice}");
            live.span_of(&name).in_scope(|| live.log(LogLevel::Warning, notice));
            self.reopen_failed_of(live, &name, Standing::OnProbation).await?;
        }
        Ok(())
    }

    async fn judge(&self, live: &Live, name: &str, tracks: Vec<JobId>) -> Result<(), StoreError> {
        let mut jobs = Vec::with_capacity(tracks.len());
        for track in tracks {
            jobs.extend(self.store.job(track).await?.map(|row| row.job));
        }
        let Some(verdict) = live.judge(name, &jobs) else { return Ok(()) };
        let worker = live.call(name);
        match verdict {
            Verdict::Cleared => live.log(LogLevel::Info, format!("{worker} gets tracks again")),
            Verdict::SetAside => {
                live.log(LogLevel::Error, format!("{worker} is set aside for this session: others do what it fails"));
                let reopened = self.reopen_failed_of(live, name, Standing::SetAside).await?;
                if reopened > 0 {
                    live.log(LogLevel::Info, format!("{reopened} tracks that only {worker} failed are queued again"));
                }
            }
        }
        self.wake(live);
        Ok(())
    }

    /// Queues again what this worker was the last to fail.
    async fn reopen_failed_of(&self, live: &Live, name: &str, standing: Standing) -> Result<u64, StoreError> {
        let now = now();
        let reopen = |job: &mut Job| match standing {
            Standing::SetAside => job.acquit(name, now),
            Standing::Good | Standing::OnProbation => job.ask_others(name, now),
        };
        let reopened = self.store.reopen_failed_of(live.id, name, reopen).await?;
        if reopened > 0 {
            self.wake_all(live);
            live.has_changed();
        }
        Ok(reopened)
    }
}
