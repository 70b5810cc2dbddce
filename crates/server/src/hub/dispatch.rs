//! Hands out what waits to those who have room, and ends what has run out. Each session has one turn at a time, so that no
//! two hand out at once, and none waits for another's. What has run out is looked for beside that, however much there is to
//! hand out.

use std::{
    collections::{HashMap, HashSet},
    mem,
    sync::{Arc, PoisonError},
    time::Duration,
};

use chaarfm_coordinator::{Held, NotYourLease, Timestamp, WorkerId};
use chaarfm_protocol::{
    AudioRef, FailureKind, Job, JobRef, PairingCode, SessionState, ToWorker, limits::PEER_TIMEOUT_SECONDS,
    view::LogLevel,
};
use futures_util::{StreamExt, future::join_all, stream::FuturesUnordered};
use tokio::time::{MissedTickBehavior, sleep};
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
    store::{Claim, JobRow, StoreError},
};

/// Leases that have run out, silent workers and retries that have come due are looked for this often.
const SWEEP_INTERVAL_SECONDS: u64 = 1;

/// A session's turn takes this long at least: when much goes on, many jobs are handed out in one, which takes less of the
/// database.
const MIN_TURN_MILLIS: u64 = 10;

/// Jobs that one transaction hands out.
const MAX_CLAIMS: usize = 64;

/// What is known while a session's jobs are handed out, turn by turn.
#[derive(Debug, Default)]
struct Pass {
    /// This is not its first turn.
    has_begun: bool,
    /// Nothing waits for those who take files up to this many bytes.
    served_up_to: u64,
    /// Workers that may have none of what waits.
    passed_over: HashSet<WorkerId>,
}

impl Hub {
    /// Hands out until the coordinator stops.
    pub(crate) async fn run_dispatch(&self) {
        let mut passes: HashMap<PairingCode, Pass> = HashMap::new();
        let mut in_turn = HashSet::new();
        let mut turns = FuturesUnordered::new();
        loop {
            tokio::select! {
                () = self.shutdown.cancelled() => break,
                // What has happened may be for those who came away with nothing.
                () = self.has_stirred.notified() => {
                    passes.extend(self.stirred().into_iter().map(|code| (code, Pass::default())));
                }
                Some((code, unfinished)) = turns.next() => {
                    in_turn.remove(&code);
                    if let Some(pass) = unfinished {
                        passes.entry(code).or_insert(pass);
                    }
                }
            }
            let begin: Vec<_> = passes.extract_if(|code, _| !in_turn.contains(code)).collect();
            for (code, pass) in begin {
                if let Some(live) = self.sessions().get(&code).cloned() {
                    in_turn.insert(code);
                    turns.push(self.take_turn(live, pass));
                }
            }
        }
        // What has been claimed is said to whom it is for.
        while turns.next().await.is_some() {}
    }

    /// Ends what has run out until the coordinator stops, and has everything looked at again that may have been missed.
    pub(crate) async fn run_sweeps(&self) {
        let mut sweep = tokio::time::interval(Duration::from_secs(SWEEP_INTERVAL_SECONDS));
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while self.shutdown.run_until_cancelled(sweep.tick()).await.is_some() {
            self.drop_silent();
            self.end_expired().await.unwrap_or_else(|error| self.report(&error));
            self.judge_suspects().await.unwrap_or_else(|error| self.report(&error.into()));
            self.live_sessions().iter().for_each(|live| self.wake(live));
        }
    }

    fn stirred(&self) -> HashSet<PairingCode> {
        mem::take(&mut *self.stirred.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Hands out some of a session's jobs. The pass it returns is to go on.
    async fn take_turn(&self, live: Arc<Live>, mut pass: Pass) -> (PairingCode, Option<Pass>) {
        let turn = async {
            if !mem::replace(&mut pass.has_begun, true) {
                self.announce_state(&live).await?;
            }
            self.hand_out_some(&live, &mut pass).await
        };
        let (has_more, ()) = tokio::join!(turn, sleep(Duration::from_millis(MIN_TURN_MILLIS)));
        // The next sweep tries again.
        let has_more = has_more.unwrap_or_else(|error| {
            self.report(&error.into());
            false
        });
        (live.code, has_more.then_some(pass))
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
        let held = |claim: &Claim<'_>, row: &JobRow| JobRef { job: row.job.id, lease: claim.lease.clone() };
        // All at once: each may have to wait for a signature.
        let messages = join_all(claims.iter().zip(&rows).map(async |(claim, row)| {
            let row = row.as_ref()?;
            self.job_message(held(claim, row), row).await
        }));
        for (((taker, claim), row), message) in takers.iter().zip(&claims).zip(&rows).zip(messages.await) {
            let Some(row) = row else {
                pass.passed_over.insert(taker.id);
                continue;
            };
            let Some(message) = message else {
                let held = held(claim, row);
                self.give_up_without_model(live, &held, row).await.unwrap_or_else(|error| self.report(&error.into()));
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

    /// Jobs may be left from a version of this program that had another model, or be meant for a newer coordinator on the
    /// same database, which has it.
    async fn give_up_without_model(&self, live: &Live, held: &JobRef, row: &JobRow) -> Result<(), StoreError> {
        let mut failure = models::missing(&row.model);
        if self.store.is_shared() {
            failure.kind = FailureKind::Passing;
        }
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
