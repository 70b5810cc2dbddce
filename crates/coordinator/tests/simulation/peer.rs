//! A worker's own view: what it believes to be connected to and to hold, and how far it is.

use chaarfm_coordinator::{Timestamp, WorkerId};
use chaarfm_protocol::{JobRef, Stage, limits::MAX_JOBS_PER_WORKER};
use fastrand::Rng;

/// Answers and dropped jobs that a worker may come back to later.
const REMEMBERED: usize = 8;

/// One of so many tracks is a long one, of which each stage takes so many times as long: longer than a lease.
const LONG_TRACKS: i64 = 7;
const LONG_FACTOR: f32 = 8.0;

/// What a worker does to its tracks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Nature {
    /// Analyses them, as far as they can be analysed.
    Honest,
    /// Calls each one broken.
    BlamesTracks,
    /// Fails each one for a passing reason, or sends vectors that are none.
    FailsAll,
    /// Hands each one back.
    HandsBack,
    /// Crashes with each one; the next process has another name.
    Crashes,
}

pub(crate) struct Peer {
    pub(crate) name: String,
    pub(crate) nature: Nature,
    pub(crate) connection: Option<Connection>,
    pub(crate) last_coordinator: Option<usize>,
    pub(crate) works: Vec<Work>,
    /// Leases it has answered or was told to drop.
    pub(crate) past: Vec<JobRef>,
    /// Connected, and nothing moves any more.
    pub(crate) hangs: bool,
    /// What is being fetched does not arrive, and it does not notice.
    pub(crate) is_stuck: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Connection {
    pub(crate) coordinator: usize,
    pub(crate) id: WorkerId,
    /// It is dead, and the coordinator has not noticed yet.
    pub(crate) is_cut: bool,
}

/// A job in the worker's hands.
pub(crate) struct Work {
    pub(crate) job: JobRef,
    pub(crate) stage: Stage,
    pub(crate) fraction: f32,
    /// When it, or the job that it waits for, really moved on.
    pub(crate) moved: Timestamp,
    /// It has an answer, which has not been taken yet.
    pub(crate) is_finished: bool,
}

impl Peer {
    pub(crate) fn new(name: String, nature: Nature) -> Self {
        Self {
            name,
            nature,
            connection: None,
            last_coordinator: None,
            works: Vec::new(),
            past: Vec::new(),
            hangs: false,
            is_stuck: false,
        }
    }

    /// The connection, if a message can pass.
    pub(crate) fn link(&self) -> Option<Connection> {
        self.connection.filter(|connection| !connection.is_cut)
    }

    /// Takes a job; false when there is no room for it.
    pub(crate) fn take(&mut self, job: JobRef, now: Timestamp) -> bool {
        self.works.retain(|work| work.job.job != job.job);
        let has_room = self.works.len() < usize::from(MAX_JOBS_PER_WORKER);
        if has_room {
            self.works.push(Work { job, stage: Stage::Fetching, fraction: 0.0, moved: now, is_finished: false });
        }
        has_room
    }

    /// Has nothing to do with the job any more.
    pub(crate) fn drop_job(&mut self, job: &JobRef) {
        let before = self.works.len();
        self.works.retain(|work| work.job != *job);
        if self.works.len() < before {
            self.past.push(job.clone());
            if self.past.len() > REMEMBERED {
                self.past.remove(0);
            }
        }
    }

    /// Works for a while: fetches one file, analyses one.
    pub(crate) fn work(&mut self, rng: &mut Rng, now: Timestamp) {
        if !self.is_stuck && self.advance(Stage::Fetching, rng, now) {
            self.enter(Stage::Fetching, Stage::Waiting, now);
        }
        if self.advance(Stage::Analysing, rng, now)
            && let Some(index) = self.first(Stage::Analysing)
        {
            self.works[index].is_finished = true;
        }
        if self.first(Stage::Analysing).is_none() {
            self.enter(Stage::Waiting, Stage::Analysing, now);
        }
    }

    /// The jobs that it has an answer to.
    pub(crate) fn finished(&self) -> Vec<JobRef> {
        self.works.iter().filter(|work| work.is_finished).map(|work| work.job.clone()).collect()
    }

    fn first(&self, stage: Stage) -> Option<usize> {
        self.works.iter().position(|work| work.stage == stage && !work.is_finished)
    }

    /// Moves the job in that stage on; true when the stage is over.
    fn advance(&mut self, stage: Stage, rng: &mut Rng, now: Timestamp) -> bool {
        let Some(index) = self.first(stage) else { return false };
        if rng.u32(..4) == 0 {
            return false;
        }
        let is_long = self.works[index].job.job % LONG_TRACKS == 0;
        self.works[index].fraction += rng.f32() * if is_long { 0.6 / LONG_FACTOR } else { 0.6 };
        for (other, work) in self.works.iter_mut().enumerate() {
            let waits = match stage {
                Stage::Fetching => work.stage == Stage::Fetching,
                _ => work.stage == Stage::Waiting,
            };
            if other == index || waits {
                work.moved = now;
            }
        }
        self.works[index].fraction >= 1.0
    }

    fn enter(&mut self, from: Stage, to: Stage, now: Timestamp) {
        if let Some(index) = self.first(from) {
            let work = &mut self.works[index];
            (work.stage, work.fraction, work.moved) = (to, 0.0, now);
        }
    }
}
