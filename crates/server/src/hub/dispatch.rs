//! Hands out what waits to those who have room, and ends what has run out. One task does it for all sessions, so that
//! no two hand out at once.

use std::time::Duration;

use chaarfm_coordinator::{Held, NotYourLease, Timestamp};
use chaarfm_protocol::{AudioRef, Job, JobRef, SessionState, ToWorker, limits::PEER_TIMEOUT_SECONDS, view::LogLevel};
use tokio::time::MissedTickBehavior;

use super::{
    CommandError, Hub, Live, now,
    workers::{label_and_error, note_return, rejection},
};
use crate::{
    models,
    store::{Holder, JobRow, StoreError},
};

/// Leases that have run out, silent workers and retries that have come due are looked for this often.
const SWEEP_INTERVAL_SECONDS: u64 = 1;

impl Hub {
    /// Runs until the coordinator stops.
    pub(crate) async fn run_dispatch(&self) {
        let mut sweep = tokio::time::interval(Duration::from_secs(SWEEP_INTERVAL_SECONDS));
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = self.shutdown.cancelled() => return,
                () = self.wake.notified() => {}
                _ = sweep.tick() => {
                    self.drop_silent();
                    self.end_expired().await.unwrap_or_else(|error| self.report(&error));
                    self.judge_suspects().await.unwrap_or_else(|error| self.report(&error.into()));
                }
            }
            for live in self.live_sessions() {
                self.hand_out(&live).await.unwrap_or_else(|error| self.report(&error.into()));
            }
        }
    }

    async fn hand_out(&self, live: &Live) -> Result<(), StoreError> {
        self.announce_state(live).await?;
        // Who takes files up to a certain size was found to have nothing to do; only larger takers are asked then.
        let mut served_up_to = 0;
        loop {
            let _in_step = live.in_step.lock().await;
            if self.shutdown.is_cancelled() {
                return Ok(());
            }
            let Some(taker) = live.next_taker(served_up_to) else { return Ok(()) };
            let lease = format!("{:032x}", rand::random::<u128>());
            let holder = Holder { name: &taker.name, kind: taker.kind };
            let Some(row) = self.store.claim(live.id, taker.max_bytes, lease.clone(), holder, now()).await? else {
                served_up_to = taker.max_bytes;
                continue;
            };
            let held = JobRef { job: row.job.id, lease };
            let Some(message) = job_message(held.clone(), &row) else {
                self.give_up_without_model(live, &held, &row).await?;
                continue;
            };
            // Whoever gets a job knows by then that the session runs.
            live.announce(SessionState::Running);
            live.give(taker.id, Held::new(&row.job, row.track.label()), message);
            live.has_changed();
        }
    }

    /// Waits until what is being handed out in this moment has been said to whom it is for. When the coordinator stops,
    /// nothing more is handed out after that.
    pub(crate) async fn handed_out(&self, live: &Live) {
        drop(live.in_step.lock().await);
    }

    /// Jobs may be left from a version of this program that had another model.
    async fn give_up_without_model(&self, live: &Live, held: &JobRef, row: &JobRow) -> Result<(), StoreError> {
        let failure = models::missing(&row.model);
        let failed = self.store.decide(live.id, held.job, |job| job.fail(&held.lease, &failure, now())).await?;
        if let Ok((row, answer)) = failed {
            note_return(live, answer, LogLevel::Error, &label_and_error(&row));
        }
        Ok(())
    }

    async fn announce_state(&self, live: &Live) -> Result<(), StoreError> {
        let _in_step = live.in_step.lock().await;
        let Some(row) = self.store.session(&live.code).await? else { return Ok(()) };
        if row.flags.ended {
            // On another coordinator; otherwise it would not be among the live ones.
            self.retire(live);
            return Ok(());
        }
        let state = row.flags.state(&row.counts);
        if live.announce(state) && state == SessionState::Complete {
            let counts = row.counts;
            live.log(LogLevel::Info, format!("all tracks are through: {} done, {} failed", counts.done, counts.failed));
        }
        Ok(())
    }

    fn drop_silent(&self) {
        for live in self.live_sessions() {
            for id in live.drop_silent() {
                live.log(LogLevel::Warning, format!("worker {id} has said nothing for {PEER_TIMEOUT_SECONDS} s"));
            }
        }
    }

    /// The next sweep tries again.
    fn report(&self, error: &CommandError) {
        tracing::error!("jobs could not be handed out: {error}");
        if let CommandError::Store(error) = error {
            self.note_outage(error);
        }
    }

    /// Takes back the jobs that do not move on: those of workers here, and those that nobody is left to report on.
    async fn end_expired(&self) -> Result<(), CommandError> {
        let now = now();
        // Asked in any case: it shows whether the database can be used.
        let expired = self.store.expired(now).await?;
        if !self.patience().may_end_leases(now) {
            return Ok(());
        }
        for live in self.live_sessions() {
            for job in live.overdue(now) {
                self.end_lease(&live, job, now).await?;
            }
        }
        for (code, job) in expired {
            let live = self.session(&code).await?;
            self.end_lease(&live, job, now).await?;
        }
        Ok(())
    }

    /// Ends a lease that has run out, unless it has been renewed in the meantime, and tells its worker. On a database that
    /// is shared, another coordinator may have ended it first.
    async fn end_lease(&self, live: &Live, job: JobRef, now: Timestamp) -> Result<(), StoreError> {
        let _in_step = live.in_step.lock().await;
        let ended = self.store.decide(live.id, job.job, |row| row.expire(&job.lease, now)).await?;
        if ended.is_err() && !live.is_overdue(&job, now) {
            return Ok(());
        }
        let holder = live.take(&job);
        if let Some(id) = holder {
            live.send(id, rejection(job, &NotYourLease.into()));
        }
        if let Ok((row, answer)) = ended {
            note_return(live, answer, LogLevel::Warning, &format!("took back {}", label_and_error(&row)));
            if let Some(id) = holder {
                self.note_failure(live, id, &row.job).await?;
            }
        }
        Ok(())
    }
}

fn job_message(job: JobRef, row: &JobRow) -> Option<ToWorker> {
    let model = models::reference(&row.model)?;
    let audio = AudioRef { url: format!("/api/audio/{}?lease={}", job.job, job.lease), bytes: row.bytes };
    Some(ToWorker::Job(Job { job, model, track: row.track.clone(), audio }))
}
