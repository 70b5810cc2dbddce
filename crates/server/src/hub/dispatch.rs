//! Hands out queued jobs to workers with room, and ends expired leases. Only one dispatch turn per session runs at a time,
//! but sessions do not wait for each other. Expired leases are handled separately, however much there is to hand out.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    mem,
    sync::{Arc, PoisonError},
    time::Duration,
};

use chaarfm_coordinator::{Fault, Held, NotYourLease, Timestamp, WorkerId};
use chaarfm_domain::LogLevel;
use chaarfm_protocol::{AudioRef, Job, JobRef, PairingCode, SessionState, ToWorker, limits::PEER_TIMEOUT_SECONDS};
use chaarfm_store::{Claim, Claimed, JobRow, StoreError};
use futures_util::{StreamExt, future::join_all, stream::FuturesUnordered};
use tokio::time::{MissedTickBehavior, sleep, timeout};
use tracing::Instrument;

use super::{
    ActiveSession, CommandError, Hub,
    workers::{MAX_WORKERS_PER_SESSION, label_and_error, note_return, rejection},
};
use crate::{metrics::LeaseEnd, models, spans};

/// How often to look for expired leases, silent workers and due retries.
const SWEEP_INTERVAL_SECONDS: u64 = 1;

/// How long a sweep waits for a session that is busy with a slow change, such as a joining worker.
const MAX_SWEEP_WAIT_MILLIS: u64 = 100;

/// Minimum duration of a session's turn: under load, one turn then hands out many jobs, which saves database work.
const MIN_TURN_MILLIS: u64 = 10;

/// Maximum number of jobs handed out per transaction.
const MAX_CLAIMS: usize = 64;

/// Number of turns after which a pass restarts if something has changed meanwhile. By then each of the
/// [`MAX_WORKERS_PER_SESSION`] has been considered.
const MAX_TURNS: usize = MAX_WORKERS_PER_SESSION / MAX_CLAIMS + 1;

/// State of handing out a session's jobs over several turns.
#[derive(Debug, Default)]
struct Pass {
    /// Turns so far.
    turns: usize,
    /// Something has changed since the pass began, which may help workers that got no job.
    became_dirty: bool,
    /// No queued job fits workers that accept files up to this many bytes.
    served_up_to: u64,
    /// Workers that may not have any queued job.
    passed_over: HashSet<WorkerId>,
}

impl Pass {
    /// The next pass, if one is needed. While there are workers left to consider, the pass continues despite changes:
    /// otherwise it would never reach the workers at the end of the line.
    fn next(mut self, has_more: bool, became_dirty: bool) -> Option<Self> {
        self.became_dirty |= became_dirty;
        match (has_more, self.became_dirty) {
            (true, true) if self.turns >= MAX_TURNS => Some(Self::default()),
            (true, _) => Some(self),
            (false, true) => Some(Self::default()),
            (false, false) => None,
        }
    }
}

impl Hub {
    /// Dispatches until the coordinator stops.
    pub(super) async fn run_dispatch(&self) {
        // Sessions with a running turn, and whether they have changed since it began.
        let mut in_turn: HashMap<PairingCode, bool> = HashMap::new();
        let mut turns = FuturesUnordered::new();
        loop {
            let mut passes = Vec::new();
            tokio::select! {
                // Poll in this order: turns end rarely, changes happen all the time.
                biased;
                () = self.shutdown.cancelled() => break,
                Some((code, pass, has_more)) = turns.next() => {
                    let became_dirty = in_turn.remove(&code).unwrap_or_default();
                    passes.extend(Pass::next(pass, has_more, became_dirty).map(|pass| (code, pass)));
                }
                () = self.became_dirty.notified() => {
                    for code in self.dirty() {
                        match in_turn.get_mut(&code) {
                            Some(became_dirty) => *became_dirty = true,
                            None => passes.push((code, Pass::default())),
                        }
                    }
                }
            }
            for (code, pass) in passes {
                if let Some(active) = self.sessions().get(&code).cloned() {
                    in_turn.insert(code, false);
                    turns.push(self.take_turn(active, pass));
                }
            }
        }
        // Deliver all claimed jobs before stopping.
        while turns.next().await.is_some() {}
    }

    /// Ends expired leases until the coordinator stops, and schedules dispatching in case a change was missed.
    pub(super) async fn run_sweeps(&self) {
        let mut sweep = tokio::time::interval(Duration::from_secs(SWEEP_INTERVAL_SECONDS));
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while self.shutdown.run_until_cancelled(sweep.tick()).await.is_some() {
            self.drop_silent();
            self.end_expired().await.unwrap_or_else(|error| self.report(&error));
            self.share_verdicts().await.unwrap_or_else(|error| self.report(&error.into()));
            self.judge_suspects().await.unwrap_or_else(|error| self.report(&error.into()));
            self.dismiss_uninvited().await.unwrap_or_else(|error| self.report(&error.into()));
            self.active_sessions().iter().for_each(|active| self.wake(active));
        }
    }

    fn dirty(&self) -> BTreeSet<PairingCode> {
        mem::take(&mut *self.dirty.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Hands out some of a session's jobs. Returns true when workers are left to serve.
    async fn take_turn(&self, active: Arc<ActiveSession>, mut pass: Pass) -> (PairingCode, Pass, bool) {
        let turn = async {
            // Boxed to keep the turn's future small, because it is moved.
            if pass.turns == 0 {
                Box::pin(self.announce_state(&active)).await?;
            }
            pass.turns += 1;
            Box::pin(self.hand_out_some(&active, &mut pass)).await
        };
        let (has_more, ()) = tokio::join!(turn, sleep(Duration::from_millis(MIN_TURN_MILLIS)));
        // The next sweep retries.
        let has_more = has_more.unwrap_or_else(|error| {
            self.report(&error.into());
            false
        });
        (active.code, pass, has_more)
    }

    /// Hands out the jobs of one transaction. Returns false when no workers are left to serve.
    async fn hand_out_some(&self, active: &ActiveSession, pass: &mut Pass) -> Result<bool, StoreError> {
        let _transition = active.transition.lock().await;
        if self.shutdown.is_cancelled() {
            return Ok(false);
        }
        let takers = active.next_takers(MAX_CLAIMS, pass.served_up_to, &pass.passed_over);
        let Some(largest) = takers.iter().map(|taker| taker.max_bytes).max() else { return Ok(false) };
        let claims: Vec<_> = takers.iter().map(|taker| taker.claim(self.environment.random())).collect();
        let max_attempts = claims.iter().map(Claim::max_attempts).max().unwrap_or_default();
        if !self.store.has_waiting(active.id, largest, max_attempts, self.now()).await? {
            if takers.iter().any(|taker| taker.takes_last_tries) {
                active.nothing_waits();
                pass.served_up_to = largest;
            } else {
                pass.passed_over.extend(takers.iter().map(|taker| taker.id));
            }
            return Ok(true);
        }
        let Claimed { rows, unserved } =
            self.store.claim(active.id, &claims, |row| self.lacks(row).is_none(), self.now()).await?;
        // Concurrently, because each may have to wait for a signature.
        let messages = join_all(claims.iter().zip(&rows).map(async |(claim, row)| {
            let row = row.as_ref()?;
            let job = JobRef { job: row.job.id, lease: claim.lease.clone() };
            Some(self.job_message(job, row).await)
        }));
        for ((taker, row), message) in takers.iter().zip(&rows).zip(messages.await) {
            let (Some(row), Some(message)) = (row, message) else {
                pass.passed_over.insert(taker.id);
                continue;
            };
            // A worker must learn that the session is running before it gets a job.
            active.announce(SessionState::Running);
            active.give(taker.id, Held::given(&row.job, row.track.label(), row.bytes, self.now()), message);
            self.metrics.dispatched(active.waited(taker));
        }
        active.has_changed();
        if let Some(what) = unserved.and_then(|row| self.lacks(&row)) {
            active.note_lacking(format!(
                "this coordinator has no {what}: what waits for it is left to others that have it"
            ));
            return Ok(false);
        }
        Ok(true)
    }

    /// What this coordinator lacks for a job. Other coordinators on the same database may have it, or the owner may
    /// configure it and restart.
    fn lacks(&self, row: &JobRow) -> Option<String> {
        if !models::exists(&row.model) {
            return Some(format!("model called {}", row.model));
        }
        let has_library = self.libraries.find(&row.library).is_some();
        (!has_library).then(|| format!("library called {}", row.library))
    }

    /// Waits until the current hand-out has been delivered. When the coordinator is stopping, nothing is handed out after
    /// that.
    pub(crate) async fn handed_out(&self, active: &ActiveSession) {
        drop(active.transition.lock().await);
    }

    /// The message for a job whose library and model are available here.
    async fn job_message(&self, job: JobRef, row: &JobRow) -> ToWorker {
        let model = models::reference(&row.model).expect("a job whose model is not here is not claimed");
        let direct = match self.libraries.find(&row.library) {
            Some(library) => library.resolve(&row.track.file).await.map(String::from),
            None => None,
        };
        let audio = AudioRef { url: format!("/api/audio/{}", job.job), direct, bytes: row.bytes };
        ToWorker::Job(Job { job, model, track: row.track.clone(), audio })
    }

    async fn announce_state(&self, active: &ActiveSession) -> Result<(), StoreError> {
        let _transition = active.transition.lock().await;
        let Some(row) = self.store.session(&active.code).await? else { return Ok(()) };
        if row.flags.ended {
            // It ended on another coordinator; otherwise it would not be active here.
            self.retire(active);
            return Ok(());
        }
        let state = row.flags.state(&row.counts);
        if active.announce(state) && state == SessionState::Complete {
            let counts = row.counts;
            active
                .log(LogLevel::Info, format!("all tracks are through: {} done, {} failed", counts.done, counts.failed));
        }
        Ok(())
    }

    fn drop_silent(&self) {
        for active in self.active_sessions() {
            for id in active.drop_silent() {
                let notice = format!("worker {id} has said nothing for {PEER_TIMEOUT_SECONDS} s");
                spans::worker(active.id, id).in_scope(|| active.log(LogLevel::Warning, notice));
            }
        }
    }

    fn report(&self, error: &CommandError) {
        tracing::error!("jobs could not be handed out: {error}");
        if let CommandError::Store(error) = error {
            self.note_outage(error);
        }
    }

    /// Takes back stalled jobs: those of workers here, and those without a connected worker.
    async fn end_expired(&self) -> Result<(), CommandError> {
        let now = self.now();
        // Always query: this shows whether the database works.
        let expired = self.store.expired(now).await?;
        if !self.expiry_grace().may_end_leases(now) {
            return Ok(());
        }
        let mut busy = HashSet::new();
        let here = self.active_sessions();
        let overdue = here.iter().flat_map(|active| active.overdue(now).into_iter().map(|job| (active.code, job)));
        for (code, job) in overdue.chain(expired) {
            if busy.contains(&code) {
                continue;
            }
            let active = self.session(&code).await?;
            let span = spans::job(active.id, None, job.job);
            if !self.end_lease(&active, job, now).instrument(span).await? {
                busy.insert(code);
            }
        }
        Ok(())
    }

    /// Ends an expired lease, unless it was renewed in the meantime, and notifies its worker. On a shared database, another
    /// coordinator may have ended it first. Returns false if the session is busy for too long: a later sweep retries, so
    /// that other sessions do not wait.
    async fn end_lease(&self, active: &ActiveSession, job: JobRef, now: Timestamp) -> Result<bool, StoreError> {
        let limit = Duration::from_millis(MAX_SWEEP_WAIT_MILLIS);
        let Ok(_transition) = timeout(limit, active.transition.lock()).await else { return Ok(false) };
        let ended = self.store.decide(active.id, job.job, |row| row.expire(&job.lease, now)).await?;
        if ended.is_err() && !active.is_overdue(&job, now) {
            return Ok(true);
        }
        let holder = active.take(&job);
        if let Some((id, _)) = holder {
            active.send(id, rejection(job, &NotYourLease.into()));
        }
        if let Ok((row, answer)) = ended {
            self.metrics.lease_ended(LeaseEnd::Expired);
            note_return(active, answer, LogLevel::Warning, &format!("took back {}", label_and_error(&row)));
            if let Some((id, Held { given, .. })) = holder {
                self.note_failure(active, id, &row.job, Fault::Storage { given }).await?;
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pass after one that passed over a worker: whether it continues or starts anew.
    fn follows(turns: usize, has_more: bool, became_dirty: bool) -> Option<&'static str> {
        let pass = Pass { turns, passed_over: HashSet::from([1]), ..Pass::default() };
        let next = pass.next(has_more, became_dirty)?;
        Some(if next.passed_over.is_empty() { "anew" } else { "goes on" })
    }

    #[test]
    fn a_pass_gets_to_the_end_of_the_line_whatever_happens_meanwhile() {
        assert_eq!(follows(1, true, false), Some("goes on"));
        assert_eq!(follows(1, true, true), Some("goes on"));
        assert_eq!(follows(1, false, true), Some("anew"), "for those who came away with nothing");
        assert_eq!(follows(1, false, false), None);
        assert_eq!(follows(MAX_TURNS, true, true), Some("anew"), "by now all have been asked");
        assert_eq!(follows(MAX_TURNS, true, false), Some("goes on"));
        let dirty = Pass::default().next(true, true).unwrap();
        assert_eq!(dirty.next(false, false).map(|pass| pass.became_dirty), Some(false), "it is remembered, once");
    }
}
