//! What `chaarfm-server` does around the decisions, without sockets and database.

use std::{collections::BTreeMap, mem};

use chaarfm_coordinator::{
    Answer, Conduct, Fault, Job, LAST_TRY, NotYourLease, Patience, Renewal, Roster, Timestamp, Verdict, Worker,
    WorkerId,
};
use chaarfm_protocol::{FailureKind, JobId, JobRef, Stage, limits::MAX_JOBS_PER_WORKER, view::Standing};

use crate::store::{Store, Word};

/// One process: it forgets everything when it restarts.
pub(crate) struct Coordinator {
    /// How far its clock is ahead of the slowest one.
    pub(crate) ahead_millis: u64,
    pub(crate) is_up: bool,
    /// Since when it has been at work without a break.
    pub(crate) at_work_since: Option<Timestamp>,
    pub(crate) roster: Roster,
    conduct: Conduct,
    patience: Patience,
    /// Leases that are to last longer, and are not written down yet.
    renewals: BTreeMap<JobId, Renewal>,
    /// Tracks that each connected worker has finished, by the simulation's own count.
    done: BTreeMap<WorkerId, u32>,
    /// Who was ever put on probation, and who was set aside.
    pub(crate) doubted: Vec<String>,
    pub(crate) set_aside: Vec<String>,
    pub(crate) cleared: u64,
}

/// What a coordinator tells the others.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Elsewhere {
    pub(crate) has_company: bool,
    pub(crate) done_since: Timestamp,
}

/// What a coordinator says to its workers in a tick.
pub(crate) enum Said {
    Job(WorkerId, JobRef),
    Rejected(WorkerId, JobRef),
    /// Nobody listens to that connection any more.
    Gone(WorkerId),
}

impl Coordinator {
    pub(crate) fn new(ahead_millis: u64) -> Self {
        Self {
            ahead_millis,
            is_up: true,
            at_work_since: None,
            roster: Roster::default(),
            conduct: Conduct::default(),
            patience: Patience::default(),
            renewals: BTreeMap::new(),
            done: BTreeMap::new(),
            doubted: Vec::new(),
            set_aside: Vec::new(),
            cleared: 0,
        }
    }

    /// The process ends, and what it had in memory is gone.
    pub(crate) fn stop(&mut self) {
        let (doubted, set_aside) = (mem::take(&mut self.doubted), mem::take(&mut self.set_aside));
        let cleared = self.cleared;
        *self = Self { is_up: false, doubted, set_aside, cleared, ..Self::new(self.ahead_millis) };
    }

    /// The time by its clock.
    pub(crate) fn time(&self, now: Timestamp) -> Timestamp {
        Timestamp(now.0 + self.ahead_millis)
    }

    /// What it does by itself: drop the silent, end leases, judge, hand out.
    pub(crate) fn tick(
        &mut self,
        store: &mut Store,
        elsewhere: Elsewhere,
        next_name: &mut u64,
        now: Timestamp,
    ) -> Vec<Said> {
        self.at_work_since.get_or_insert(now);
        let now = self.time(now);
        let mut said = Vec::new();
        for id in self.roster.silent(now) {
            self.lose(store, id, now);
            said.push(Said::Gone(id));
        }
        if store.is_down {
            self.patience.note_outage(now);
            return said;
        }
        self.end_expired(store, now, &mut said);
        self.conduct.note_elsewhere(elsewhere.has_company, elsewhere.done_since, now);
        self.judge(store, now);
        self.hand_out(store, next_name, now, &mut said);
        said
    }

    /// What the others are told.
    pub(crate) fn tell(&self) -> Elsewhere {
        let is_given_tracks = |worker: &Worker| self.conduct.standing(&worker.name) == Standing::Good;
        Elsewhere { has_company: self.roster.iter().any(is_given_tracks), done_since: self.conduct.done_since() }
    }

    /// Writes down which leases are to last longer.
    pub(crate) fn renew(&mut self, store: &mut Store, now: Timestamp) -> Vec<Said> {
        let (now, mut said) = (self.time(now), Vec::new());
        if self.note_outage(store, now) {
            return said;
        }
        for Renewal { job, deadline } in mem::take(&mut self.renewals).into_values() {
            let before = store.job(job.job).deadline();
            let renewed = store.job(job.job).renew(&job.lease, deadline);
            assert!(before <= store.job(job.job).deadline(), "a lease was cut short");
            store.seen.renewed += u64::from(renewed.is_ok());
            if let Some((id, _)) = renewed.err().and_then(|_| self.roster.take(&job, now)) {
                said.push(Said::Rejected(id, job));
            }
        }
        said
    }

    fn end_expired(&mut self, store: &mut Store, now: Timestamp, said: &mut Vec<Said>) {
        if !self.patience.may_end_leases(now) {
            return;
        }
        let mut over = self.roster.overdue(now);
        let expired = store.jobs.iter().filter(|job| job.has_expired(now));
        over.extend(expired.map(|job| JobRef { job: job.id, lease: job.token.clone().unwrap() }));
        for job in over {
            let ended = store.expire(&job, now);
            if ended.is_err() && !self.roster.is_overdue(&job, now) {
                continue;
            }
            if let Some((id, held)) = self.roster.take(&job, now) {
                if ended.is_ok() {
                    self.note_failure(store, id, job.job, Fault::Storage { given: held.given }, now);
                }
                said.push(Said::Rejected(id, job));
            }
        }
    }

    /// A connection is gone, and what was held over it is nobody's; while the database is down that cannot be noted, and
    /// the leases run out by themselves.
    pub(crate) fn lose(&mut self, store: &mut Store, id: WorkerId, now: Timestamp) {
        self.done.remove(&id);
        for held in self.roster.leave(id).map(|worker| worker.held).unwrap_or_default() {
            if !store.is_down {
                store.lose(&held, now);
            }
        }
    }

    fn judge(&mut self, store: &mut Store, now: Timestamp) {
        for (name, tracks) in self.conduct.on_probation() {
            assert!(tracks.len() <= 5, "{tracks:?}");
            store.reopen(&tracks, &name, Standing::OnProbation, now);
            let jobs: Vec<Job> = tracks.iter().map(|id| store.job(*id).clone()).collect();
            match self.conduct.judge(&name, &jobs, &self.roster, now) {
                None => {}
                Some(Verdict::Cleared) => self.cleared += 1,
                Some(Verdict::SetAside) => self.set_aside.push(name),
            }
        }
        for name in self.conduct.to_make_good() {
            let all: Vec<JobId> = store.jobs.iter().map(|job| job.id).collect();
            store.reopen(&all, &name, Standing::SetAside, now);
        }
    }

    fn hand_out(&mut self, store: &mut Store, next_name: &mut u64, now: Timestamp, said: &mut Vec<Said>) {
        let mut served = Vec::new();
        loop {
            let is_good = |worker: &Worker| self.conduct.standing(&worker.name) == Standing::Good;
            let may_be_served = |worker: &Worker| !served.contains(&worker.id) && is_good(worker);
            let Some(worker) = self.roster.in_line(0).find(|worker| may_be_served(worker)) else { return };
            let id = worker.id;
            *next_name += 1;
            let takes_last_tries = worker.takes_last_tries(self.roster.proven_up_to(is_good));
            let Some(held) = store.claim(format!("{next_name}"), worker, takes_last_tries, now) else {
                served.push(id);
                continue;
            };
            if store.record(held.job.job).tries == LAST_TRY && !self.done.contains_key(&id) {
                let other = self.roster.iter().find(|other| is_good(other) && self.done.contains_key(&other.id));
                assert!(other.is_none(), "{worker:?} gets a last try, and {other:?} is there");
            }
            said.push(Said::Job(id, held.job.clone()));
            assert!(self.roster.give(id, held));
        }
    }

    /// Lets a worker in, and returns the leases that it may keep. None when that is not possible now.
    pub(crate) fn join(
        &mut self,
        store: &mut Store,
        mut worker: Worker,
        holding: &[JobRef],
        now: Timestamp,
    ) -> Option<Vec<JobRef>> {
        let now = self.time(now);
        if self.note_outage(store, now) {
            return None;
        }
        for job in holding.iter().take(usize::from(MAX_JOBS_PER_WORKER)) {
            if worker.holds(job) {
                continue;
            }
            worker.held.extend(store.resume(job, now));
        }
        let kept = worker.held.iter().map(|held| held.job.clone()).collect();
        for earlier in self.roster.join(worker) {
            self.lose(store, earlier, now);
        }
        Some(kept)
    }

    /// A worker says how far it is; false when it does not hold the job.
    pub(crate) fn report(
        &mut self,
        id: WorkerId,
        (job, stage, fraction): (&JobRef, Stage, f32),
        now: Timestamp,
    ) -> bool {
        let Ok(renewals) = self.roster.report(id, job, stage, fraction, self.time(now)) else { return false };
        self.renewals.extend(renewals.into_iter().map(|renewal| (renewal.job.job, renewal)));
        true
    }

    /// A worker answers. None when that cannot be noted now: it has to come again.
    pub(crate) fn answer(
        &mut self,
        store: &mut Store,
        id: WorkerId,
        job: &JobRef,
        word: Word,
        now: Timestamp,
    ) -> Option<Result<Answer, NotYourLease>> {
        let now = self.time(now);
        if self.note_outage(store, now) {
            return None;
        }
        let answer = store.answer(job, word, now);
        let given = self.roster.take(job, now).and_then(|(_, held)| held.given);
        match answer {
            Ok(Answer::Stored) => {
                if let Some(worker) = self.roster.count_done(id) {
                    self.conduct.succeeded(&worker.name, given, now);
                    *self.done.entry(id).or_default() += 1;
                }
            }
            Ok(Answer::Requeued | Answer::GivenUp) => {
                let fault = match word {
                    Word::Failed(FailureKind::Passing, _) => Fault::Storage { given },
                    Word::Undecodable => Fault::Track,
                    Word::Failed(FailureKind::Permanent, _) | Word::Nonsense | Word::Vector => Fault::TrackOrWorker,
                };
                self.note_failure(store, id, job.job, fault, now);
            }
            Ok(Answer::Repeated) | Err(NotYourLease) => {}
        }
        Some(answer)
    }

    pub(crate) fn heard(&mut self, id: WorkerId, now: Timestamp) {
        let now = self.time(now);
        self.roster.heard(id, now);
    }

    /// A worker hands a job back. While the database is down that cannot be noted, and the lease runs out by itself.
    pub(crate) fn release(&mut self, store: &mut Store, id: WorkerId, job: &JobRef, now: Timestamp) {
        let now = self.time(now);
        self.roster.take(job, now);
        if !self.note_outage(store, now) && store.release(job, now).is_ok() {
            self.note_failure(store, id, job.job, Fault::TrackOrWorker, now);
        }
    }

    /// Whether the database is down, which it notes then.
    fn note_outage(&mut self, store: &Store, now: Timestamp) -> bool {
        if store.is_down {
            self.patience.note_outage(now);
        }
        store.is_down
    }

    fn note_failure(&mut self, store: &mut Store, id: WorkerId, job: JobId, fault: Fault, now: Timestamp) {
        let Some(name) = self.roster.get(id).map(|worker| worker.name.clone()) else { return };
        let came_into_doubt = self.conduct.failed(&name, store.job(job), fault, &self.roster, now);
        let tracks = match self.conduct.standing(&name) {
            _ if came_into_doubt => self.conduct.tracks_in_doubt(&name),
            // It had this one in its hands when it came into doubt.
            Standing::OnProbation => vec![job],
            Standing::Good | Standing::SetAside => return,
        };
        store.reopen(&tracks, &name, Standing::OnProbation, now);
        if came_into_doubt {
            self.doubted.push(name);
        }
    }
}
