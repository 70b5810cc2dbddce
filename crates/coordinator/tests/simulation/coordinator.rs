//! What `chaarfm-server` does around the decisions, without sockets and database.

use chaarfm_coordinator::{Answer, Conduct, Held, Job, NotYourLease, Roster, Timestamp, Verdict, Worker, WorkerId};
use chaarfm_protocol::{Failure, FailureKind, JobId, JobRef, Stage, view::Standing};

/// The stored jobs, and what has come of them: they survive every restart.
pub(crate) struct Store {
    pub(crate) jobs: Vec<Job>,
    /// Vectors stored for each job.
    pub(crate) vectors: Vec<u32>,
    /// Tries that failed, by the simulation's own count.
    pub(crate) tries: Vec<u32>,
    /// The newest lease of each job, by the simulation's own count.
    pub(crate) newest: Vec<Option<JobRef>>,
    pub(crate) reopened: u32,
    pub(crate) expired: u32,
}

impl Store {
    pub(crate) fn new(count: usize) -> Self {
        let jobs = (0..count as JobId).map(Job::new).collect();
        Self {
            jobs,
            vectors: vec![0; count],
            tries: vec![0; count],
            newest: vec![None; count],
            reopened: 0,
            expired: 0,
        }
    }

    pub(crate) fn job(&mut self, id: JobId) -> &mut Job {
        &mut self.jobs[id as usize]
    }

    /// Queues again what has failed with this worker as the last to try.
    fn reopen_failed_of(&mut self, worker: &str, standing: Standing, now: Timestamp) {
        for (job, tries) in self.jobs.iter_mut().zip(&mut self.tries) {
            let reopened = match standing {
                Standing::Good => continue,
                Standing::OnProbation => job.ask_others(worker, now),
                Standing::SetAside => job.acquit(worker, now),
            };
            if reopened.is_ok() {
                *tries = 0;
                self.reopened += 1;
            }
        }
    }

    /// A try is over without an answer.
    fn count_lost(&mut self, id: JobId, ended: &Result<Answer, NotYourLease>) {
        self.tries[id as usize] += u32::from(ended.is_ok());
    }
}

/// One process: it forgets everything when it restarts.
pub(crate) struct Coordinator {
    /// How far its clock is ahead of the slowest one.
    pub(crate) ahead_millis: u64,
    pub(crate) is_up: bool,
    pub(crate) roster: Roster,
    pub(crate) conduct: Conduct,
    pub(crate) set_aside: Vec<String>,
    pub(crate) cleared: u32,
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
        let (roster, conduct) = (Roster::default(), Conduct::default());
        Self { ahead_millis, is_up: true, roster, conduct, set_aside: Vec::new(), cleared: 0 }
    }

    /// The time by its clock.
    pub(crate) fn time(&self, now: Timestamp) -> Timestamp {
        Timestamp(now.0 + self.ahead_millis)
    }

    /// What it does by itself: end leases, drop the silent, judge, hand out.
    pub(crate) fn tick(&mut self, store: &mut Store, next_name: &mut u64, now: Timestamp) -> Vec<Said> {
        let now = self.time(now);
        let mut said = Vec::new();
        self.end_expired(store, now, &mut said);
        for id in self.roster.silent(now) {
            self.lose(store, id, now);
            said.push(Said::Gone(id));
        }
        self.judge(store, now);
        self.hand_out(store, next_name, now, &mut said);
        said
    }

    fn end_expired(&mut self, store: &mut Store, now: Timestamp, said: &mut Vec<Said>) {
        let mut over = self.roster.overdue(now);
        let expired = store.jobs.iter().filter(|job| job.has_expired(now));
        over.extend(expired.map(|job| JobRef { job: job.id, lease: job.token.clone().unwrap() }));
        for job in over {
            let ended = store.job(job.job).expire(&job.lease, now);
            store.count_lost(job.job, &ended);
            store.expired += u32::from(ended.is_ok());
            if ended.is_err() && !self.roster.is_overdue(&job, now) {
                continue;
            }
            if let Some(id) = self.roster.take(&job, now) {
                self.note_failure(store, id, job.job, now);
                said.push(Said::Rejected(id, job));
            }
        }
    }

    /// A connection is gone, and what was held over it is nobody's.
    pub(crate) fn lose(&mut self, store: &mut Store, id: WorkerId, now: Timestamp) {
        for held in self.roster.leave(id).map(|worker| worker.held).unwrap_or_default() {
            let ended = store.job(held.job.job).lose(&held.job.lease, held.number, "lost", now);
            store.count_lost(held.job.job, &ended);
        }
    }

    fn judge(&mut self, store: &mut Store, now: Timestamp) {
        self.suspect(store, now);
        for (name, tracks) in self.conduct.on_probation() {
            let jobs: Vec<Job> = tracks.iter().map(|id| store.job(*id).clone()).collect();
            match self.conduct.judge(&name, &jobs, &self.roster, now) {
                None => {}
                Some(Verdict::Cleared) => self.cleared += 1,
                Some(Verdict::SetAside) => {
                    store.reopen_failed_of(&name, Standing::SetAside, now);
                    self.set_aside.push(name);
                }
            }
        }
    }

    fn suspect(&mut self, store: &mut Store, now: Timestamp) {
        for name in self.conduct.suspect(&self.roster, now) {
            store.reopen_failed_of(&name, Standing::OnProbation, now);
        }
    }

    fn hand_out(&mut self, store: &mut Store, next_name: &mut u64, now: Timestamp, said: &mut Vec<Said>) {
        let mut served = Vec::new();
        loop {
            let may_be_served =
                |worker: &Worker| !served.contains(&worker.id) && self.conduct.standing(&worker.name) == Standing::Good;
            let Some(worker) = self.roster.in_line(0).find(|worker| may_be_served(worker)) else { return };
            let (id, name) = (worker.id, worker.name.clone());
            *next_name += 1;
            let lease = format!("{next_name}");
            let Some(job) = store.jobs.iter_mut().find(|job| job.may_go_to(&name, now)) else {
                served.push(id);
                continue;
            };
            job.lease(lease, &name, now).unwrap();
            let held = Held::new(job, String::new());
            store.newest[held.job.job as usize] = Some(held.job.clone());
            said.push(Said::Job(id, held.job.clone()));
            assert!(self.roster.give(id, held));
        }
    }

    /// Lets a worker in, and returns the leases that it may keep.
    pub(crate) fn join(
        &mut self,
        store: &mut Store,
        mut worker: Worker,
        holding: &[JobRef],
        now: Timestamp,
    ) -> Vec<JobRef> {
        let now = self.time(now);
        for job in holding {
            if store.job(job.job).resume(&job.lease, now).is_ok() {
                worker.held.push(Held::new(store.job(job.job), String::new()));
            }
        }
        let kept = worker.held.iter().map(|held| held.job.clone()).collect();
        for earlier in self.roster.join(worker) {
            self.lose(store, earlier, now);
        }
        kept
    }

    /// A worker says how far it is; false when it does not hold the job.
    pub(crate) fn report(
        &mut self,
        store: &mut Store,
        id: WorkerId,
        (job, stage, fraction): (&JobRef, Stage, f32),
        now: Timestamp,
    ) -> bool {
        let now = self.time(now);
        let Ok(renewals) = self.roster.report(id, job, stage, fraction, now) else { return false };
        let mut holds = true;
        for renewal in renewals {
            let renewed = store.job(renewal.job.job).renew(&renewal.job.lease, renewal.deadline);
            if renewed.is_err() {
                self.roster.take(&renewal.job, now);
                holds &= renewal.job != *job;
            }
        }
        holds
    }

    /// A worker answers: with a vector, or with why there is none.
    pub(crate) fn answer(
        &mut self,
        store: &mut Store,
        id: WorkerId,
        job: &JobRef,
        outcome: Result<(), FailureKind>,
        now: Timestamp,
    ) -> Result<Answer, NotYourLease> {
        let now = self.time(now);
        let was_held = store.job(job.job).is_held_under(&job.lease, Timestamp::ZERO);
        let answer = match outcome {
            Ok(()) => store.job(job.job).complete(&job.lease),
            Err(kind) => store.job(job.job).fail(&job.lease, &Failure { kind, message: "failed".into() }, now),
        };
        self.roster.take(job, now);
        match answer {
            Ok(Answer::Stored) => {
                store.vectors[job.job as usize] += 1;
                if let Some(worker) = self.roster.get(id) {
                    self.conduct.succeeded(&worker.name);
                }
            }
            Ok(Answer::Requeued | Answer::GivenUp) => {
                store.tries[job.job as usize] += u32::from(was_held && outcome == Err(FailureKind::Passing));
                self.note_failure(store, id, job.job, now);
            }
            Ok(Answer::Repeated) | Err(NotYourLease) => {}
        }
        answer
    }

    pub(crate) fn heard(&mut self, id: WorkerId, now: Timestamp) {
        let now = self.time(now);
        self.roster.heard(id, now);
    }

    pub(crate) fn release(&mut self, store: &mut Store, job: &JobRef, now: Timestamp) {
        self.roster.take(job, self.time(now));
        store.job(job.job).release(&job.lease).ok();
    }

    fn note_failure(&mut self, store: &mut Store, id: WorkerId, job: JobId, now: Timestamp) {
        let Some(name) = self.roster.get(id).map(|worker| worker.name.clone()) else { return };
        self.conduct.failed(&name, store.job(job));
        self.suspect(store, now);
        store.reopen_failed_of(&name, self.conduct.standing(&name), now);
    }
}
