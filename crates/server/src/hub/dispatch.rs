//! Hands out what waits to those who have room, and ends what has run out. One task does it for all sessions, so that
//! no two hand out at once.

use std::{
    collections::HashSet,
    mem,
    sync::{Arc, PoisonError},
    time::Duration,
};

use chaarfm_coordinator::{Held, NotYourLease, Timestamp, WorkerId};
use chaarfm_protocol::{AudioRef, Job, JobRef, SessionState, ToWorker, limits::PEER_TIMEOUT_SECONDS, view::LogLevel};
use futures_util::future::join_all;
use tokio::time::{Instant, MissedTickBehavior, sleep_until};
use tracing::Instrument;

use super::{
    CommandError, Hub, Live,
    live::Taker,
    now,
    workers::{label_and_error, note_return, rejection},
};
use crate::{
    metrics::LeaseEnd,
    models, spans,
    store::{JobRow, StoreError},
};

/// Leases that have run out, silent workers and retries that have come due are looked for this often.
const SWEEP_INTERVAL_SECONDS: u64 = 1;

/// Jobs are handed out at most this often: when much goes on, many at a time, which takes less of the database.
const MIN_PASS_INTERVAL_MILLIS: u64 = 10;

/// Jobs that one transaction hands out.
const MAX_CLAIMS: usize = 64;

/// Who needs not be asked again while jobs are handed out.
#[derive(Debug, Default)]
struct Pass {
    /// Nothing waits for those who take files up to this many bytes.
    served_up_to: u64,
    /// Workers that may have none of what waits.
    passed_over: HashSet<WorkerId>,
}

impl Hub {
    /// Runs until the coordinator stops.
    pub(crate) async fn run_dispatch(&self) {
        let mut sweep = tokio::time::interval(Duration::from_secs(SWEEP_INTERVAL_SECONDS));
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut not_before = Instant::now();
        loop {
            let sessions = tokio::select! {
                biased;
                () = self.shutdown.cancelled() => return,
                // First, or a session in which something happens all the time would keep it from its turn.
                _ = sweep.tick() => {
                    self.drop_silent();
                    self.end_expired().await.unwrap_or_else(|error| self.report(&error));
                    self.judge_suspects().await.unwrap_or_else(|error| self.report(&error.into()));
                    self.live_sessions()
                }
                () = self.stir(not_before) => self.stirred_sessions(),
            };
            not_before = Instant::now() + Duration::from_millis(MIN_PASS_INTERVAL_MILLIS);
            // All at once, so that a large session does not keep the others waiting.
            let hand_out =
                async |live: &Live| self.hand_out(live).await.unwrap_or_else(|error| self.report(&error.into()));
            join_all(sessions.iter().map(|live| hand_out(live))).await;
        }
    }

    /// Waits until something has happened. What is forgotten when this is dropped, the sweep finds.
    async fn stir(&self, not_before: Instant) {
        self.has_stirred.notified().await;
        sleep_until(not_before).await;
    }

    fn stirred_sessions(&self) -> Vec<Arc<Live>> {
        let stirred = mem::take(&mut *self.stirred.lock().unwrap_or_else(PoisonError::into_inner));
        let sessions = self.sessions();
        stirred.iter().filter_map(|code| sessions.get(code).cloned()).collect()
    }

    async fn hand_out(&self, live: &Live) -> Result<(), StoreError> {
        self.announce_state(live).await?;
        let mut pass = Pass::default();
        while self.hand_out_some(live, &mut pass).await? {}
        Ok(())
    }

    /// Hands out what one transaction takes. False when there is nobody left to serve.
    async fn hand_out_some(&self, live: &Live, pass: &mut Pass) -> Result<bool, StoreError> {
        let _in_step = live.in_step.lock().await;
        if self.shutdown.is_cancelled() {
            return Ok(false);
        }
        let takers = live.next_takers(MAX_CLAIMS, pass.served_up_to, &pass.passed_over);
        let Some(largest) = takers.iter().map(|taker| taker.max_bytes).max() else { return Ok(false) };
        if !self.store.has_waiting(live.id, largest, now()).await? {
            live.nothing_waits();
            pass.served_up_to = largest;
            return Ok(true);
        }
        let claims: Vec<_> = takers.iter().map(Taker::claim).collect();
        let rows = self.store.claim(live.id, &claims, now()).await?;
        for ((taker, claim), row) in takers.iter().zip(&claims).zip(rows) {
            let Some(row) = row else {
                pass.passed_over.insert(taker.id);
                continue;
            };
            let held = JobRef { job: row.job.id, lease: claim.lease.clone() };
            let Some(message) = self.job_message(held.clone(), &row).await else {
                self.give_up_without_model(live, &held, &row).await.unwrap_or_else(|error| self.report(&error.into()));
                continue;
            };
            // Whoever gets a job knows by then that the session runs.
            live.announce(SessionState::Running);
            live.give(taker.id, Held::new(&row.job, row.track.label()), message);
            self.metrics.dispatched(live.waited(taker));
        }
        live.has_changed();
        Ok(true)
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

    async fn job_message(&self, job: JobRef, row: &JobRow) -> Option<ToWorker> {
        let model = models::reference(&row.model)?;
        let direct = match self.libraries.find(&row.library) {
            Some(library) => library.direct_address(&row.track.file).await.map(String::from),
            None => None,
        };
        let audio = AudioRef { url: format!("/api/audio/{}?lease={}", job.job, job.lease), direct, bytes: row.bytes };
        Some(ToWorker::Job(Job { job, model, track: row.track.clone(), audio }))
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
                let notice = format!("worker {id} has said nothing for {PEER_TIMEOUT_SECONDS} s");
                spans::worker(live.id, id).in_scope(|| live.log(LogLevel::Warning, notice));
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
                let span = spans::job(live.id, None, job.job);
                self.end_lease(&live, job, now).instrument(span).await?;
            }
        }
        for (code, job) in expired {
            let live = self.session(&code).await?;
            let span = spans::job(live.id, None, job.job);
            self.end_lease(&live, job, now).instrument(span).await?;
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
            self.metrics.lease_ended(LeaseEnd::Expired);
            note_return(live, answer, LogLevel::Warning, &format!("took back {}", label_and_error(&row)));
            if let Some(id) = holder {
                self.note_failure(live, id, &row.job).await?;
            }
        }
        Ok(())
    }
}
