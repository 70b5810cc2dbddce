//! The stored jobs, which survive every restart, and beside them what the simulation itself knows of each, by its own count.

use std::ops::AddAssign;

use chaarfm_coordinator::{
    Answer, Embedding, Held, Job, MAX_ATTEMPTS, ModelSpec, NotYourLease, State, Timestamp, Worker,
};
use chaarfm_protocol::{Failure, FailureKind, JobId, JobRef, Vector, view::Standing};

/// How long others wait for a job, and how long the worker that had it last: after so many tries of which the last one
/// failed, and of which the last one was lost. Written down once more here.
const SECONDS_AFTER_FAILURES: [[u64; 2]; 3] = [[0, 30], [30, 120], [120, 600]];
const SECONDS_AFTER_LOSSES: [[u64; 2]; 3] = [[0, 0], [0, 30], [30, 120]];
const SECONDS_AFTER_HAND_BACK: [u64; 2] = [0, 30];
const SECONDS_AFTER_DOUBT: [u64; 2] = [0, 600];

pub(crate) struct Store {
    pub(crate) jobs: Vec<Job>,
    pub(crate) records: Vec<Record>,
    /// Nothing can be read or written.
    pub(crate) is_down: bool,
    pub(crate) seen: Seen,
}

/// What the simulation itself knows of a job.
#[derive(Debug, Clone, Default)]
pub(crate) struct Record {
    pub(crate) vectors: u32,
    /// Tries that failed since it was last queued as if nobody had tried it.
    pub(crate) tries: u32,
    /// Leases of any ending.
    pub(crate) leases: u32,
    /// A worker has called it broken, and was believed.
    pub(crate) is_called_broken: bool,
    /// The newest lease, as long as it has not been answered or handed back.
    pub(crate) open: Option<JobRef>,
    /// Who had it last, and from when on others and that one may have it.
    last: String,
    free_at: [Timestamp; 2],
}

impl Record {
    fn wait(&mut self, seconds: [u64; 2], now: Timestamp) {
        // Without a wait it is due by everybody's clock.
        self.free_at = seconds.map(|seconds| if seconds == 0 { Timestamp::ZERO } else { now.plus_seconds(seconds) });
    }

    /// Whether the worker of that name has waited long enough.
    fn is_free_for(&self, worker: &str, now: Timestamp) -> bool {
        self.free_at[0] <= now && (self.last != worker || self.free_at[1] <= now)
    }
}

/// How often what happened to jobs.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Seen {
    pub(crate) renewed: u64,
    pub(crate) lost: u64,
    pub(crate) expired: u64,
    pub(crate) handed_back: u64,
    pub(crate) resumed: u64,
    pub(crate) resumed_after_loss: u64,
    pub(crate) late_results: u64,
    pub(crate) late_failures: u64,
    pub(crate) answers_that_did_not_count: u64,
    pub(crate) invalid: u64,
    pub(crate) reopened: u64,
    pub(crate) last_tries: u64,
}

impl AddAssign for Seen {
    fn add_assign(&mut self, other: Self) {
        self.renewed += other.renewed;
        self.lost += other.lost;
        self.expired += other.expired;
        self.handed_back += other.handed_back;
        self.resumed += other.resumed;
        self.resumed_after_loss += other.resumed_after_loss;
        self.late_results += other.late_results;
        self.late_failures += other.late_failures;
        self.answers_that_did_not_count += other.answers_that_did_not_count;
        self.invalid += other.invalid;
        self.reopened += other.reopened;
        self.last_tries += other.last_tries;
    }
}

impl Seen {
    pub(crate) fn has_everything(&self) -> bool {
        let Self { lost, expired, handed_back, resumed, resumed_after_loss, late_results, late_failures, .. } = *self;
        let Self { renewed, answers_that_did_not_count, invalid, reopened, last_tries, .. } = *self;
        let ends = [lost, expired, handed_back, resumed, resumed_after_loss, reopened, last_tries];
        let answers = [renewed, late_results, late_failures, answers_that_did_not_count, invalid];
        ends.into_iter().chain(answers).all(|count| count > 0)
    }
}

/// What a worker answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Word {
    Vector,
    /// A vector that is none of the model's.
    Nonsense,
    Failed(FailureKind, &'static str),
    /// The worker has had the very file, and no decoder opens it.
    Undecodable,
}

impl Store {
    pub(crate) fn new(count: usize) -> Self {
        Self {
            jobs: (0..count as JobId).map(Job::new).collect(),
            records: vec![Record::default(); count],
            is_down: false,
            seen: Seen::default(),
        }
    }

    pub(crate) fn job(&mut self, id: JobId) -> &mut Job {
        &mut self.jobs[id as usize]
    }

    pub(crate) fn record(&mut self, id: JobId) -> &mut Record {
        &mut self.records[id as usize]
    }

    /// Leases the first job that the worker may have.
    pub(crate) fn claim(
        &mut self,
        lease: String,
        worker: &Worker,
        takes_last_tries: bool,
        now: Timestamp,
    ) -> Option<Held> {
        let name = &worker.name;
        let job = self.jobs.iter_mut().find(|job| job.may_go_to(name, takes_last_tries, now))?;
        let record = &mut self.records[job.id as usize];
        assert!(record.is_free_for(name, now), "{name} gets it too early: {job:?}, {record:?}");
        assert!(record.tries < MAX_ATTEMPTS, "it has had all its tries: {job:?}");
        job.lease(lease, name, now).unwrap();
        let held = Held::given(job, String::new(), now);
        (record.open, record.last) = (Some(held.job.clone()), name.clone());
        record.leases += 1;
        self.seen.last_tries += u64::from(record.tries == MAX_ATTEMPTS - 1);
        Some(held)
    }

    pub(crate) fn resume(&mut self, job: &JobRef, now: Timestamp) -> Result<Held, NotYourLease> {
        let was_lost = matches!(self.job(job.job).state, State::Queued { .. });
        self.job(job.job).resume(&job.lease, now)?;
        let record = self.record(job.job);
        assert_eq!(record.open.as_ref(), Some(job), "resumed under a lease that is over");
        record.leases += 1;
        record.tries = record.tries.saturating_sub(u32::from(was_lost));
        self.seen.resumed += 1;
        self.seen.resumed_after_loss += u64::from(was_lost);
        Ok(Held::brought_along(self.job(job.job), String::new()))
    }

    pub(crate) fn lose(&mut self, held: &Held, now: Timestamp) {
        if self.job(held.job.job).lose(&held.job.lease, held.number, "lost", now).is_ok() {
            self.note_lost(held.job.job, now);
            self.seen.lost += 1;
        }
    }

    pub(crate) fn expire(&mut self, job: &JobRef, now: Timestamp) -> Result<Answer, NotYourLease> {
        let ended = self.job(job.job).expire(&job.lease, now);
        if ended.is_ok() {
            self.note_lost(job.job, now);
            self.seen.expired += 1;
        }
        ended
    }

    fn note_lost(&mut self, id: JobId, now: Timestamp) {
        let record = self.record(id);
        record.tries += 1;
        if let Some(seconds) = SECONDS_AFTER_LOSSES.get(record.tries as usize) {
            record.wait(*seconds, now);
        }
    }

    pub(crate) fn release(&mut self, job: &JobRef, now: Timestamp) -> Result<Answer, NotYourLease> {
        let released = self.job(job.job).release(&job.lease, now)?;
        let record = self.record(job.job);
        record.open = None;
        record.wait(SECONDS_AFTER_HAND_BACK, now);
        self.seen.handed_back += 1;
        Ok(released)
    }

    /// Takes an answer. Whether it counts is known beforehand.
    pub(crate) fn answer(&mut self, job: &JobRef, word: Word, now: Timestamp) -> Result<Answer, NotYourLease> {
        let before = self.job(job.job).clone();
        let is_open = self.record(job.job).open.as_ref() == Some(job);
        let counts = is_open && matches!(before.state, State::Queued { .. } | State::Leased { .. });
        let (kind, message) = match word {
            Word::Vector => {
                let answer = self.job(job.job).complete(&job.lease);
                self.expect(counts, &before, answer);
                if answer == Ok(Answer::Stored) {
                    self.record(job.job).vectors += 1;
                    self.seen.late_results += u64::from(before.deadline().is_none());
                }
                return answer;
            }
            Word::Nonsense => (FailureKind::Passing, nonsense()),
            Word::Failed(kind, message) => (kind, message.to_owned()),
            Word::Undecodable => (FailureKind::Permanent, "not audio".to_owned()),
        };
        let answer = self.job(job.job).fail(&job.lease, &Failure { kind, message }, now);
        self.expect(counts, &before, answer);
        if !counts {
            return answer;
        }
        assert!(matches!(answer, Ok(Answer::Requeued | Answer::GivenUp)), "{answer:?} for {before:?}");
        self.seen.invalid += u64::from(word == Word::Nonsense);
        self.seen.late_failures += u64::from(before.deadline().is_none());
        let record = self.record(job.job);
        match kind {
            FailureKind::Permanent => record.is_called_broken = true,
            // What comes late was counted when its lease ended.
            FailureKind::Passing => record.tries += u32::from(before.deadline().is_some()),
        }
        if let Some(seconds) = SECONDS_AFTER_FAILURES.get(record.tries as usize) {
            record.wait(*seconds, now);
        }
        answer
    }

    /// What does not count changes nothing, and what counts does so once.
    fn expect(&mut self, counts: bool, before: &Job, answer: Result<Answer, NotYourLease>) {
        let has_counted = !matches!(answer, Ok(Answer::Repeated) | Err(NotYourLease));
        assert_eq!(has_counted, counts, "{answer:?} for {before:?}");
        if counts {
            self.record(before.id).open = None;
        } else {
            assert_eq!(self.job(before.id), before);
            self.seen.answers_that_did_not_count += 1;
        }
    }

    /// Queues again those of these jobs that have failed with this worker as the last to try.
    pub(crate) fn reopen(&mut self, ids: &[JobId], worker: &str, standing: Standing, now: Timestamp) {
        for id in ids {
            let reopened = match standing {
                Standing::SetAside => self.job(*id).acquit(worker, now),
                Standing::Good | Standing::OnProbation => self.job(*id).ask_others(worker, now),
            };
            if reopened.is_ok() {
                let record = self.record(*id);
                assert_eq!(record.last, worker, "its own failure stands");
                (record.tries, record.is_called_broken) = (0, false);
                record.wait(SECONDS_AFTER_DOUBT, now);
                self.seen.reopened += 1;
            }
        }
    }
}

/// What is wrong with a vector that is none of the model's.
fn nonsense() -> String {
    let spec = ModelSpec { name: "m".into(), embedding_length: 2, tag_count: 1 };
    let embedding = vec![0.0, f32::NAN];
    let vector = Vector { model: "m".into(), embedding, tags: vec![0.0], seconds: 1.0, patches: 1, flags: Vec::new() };
    Embedding::check(&spec, vector).unwrap_err().to_string()
}
