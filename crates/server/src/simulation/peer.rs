//! A worker's own view: its assumed connection and jobs, and their progress.

use chaarfm_coordinator::Timestamp;
use chaarfm_protocol::{JobRef, Stage, WorkerKey, limits::MAX_JOBS_PER_WORKER};
use fastrand::Rng;

use super::wire::Wire;
use crate::identity::hash_of;

/// Number of answered and dropped jobs that a worker may return to later.
const REMEMBERED: usize = 8;

/// One in this many tracks is long: each of its stages takes this many times as long, longer than a lease.
const LONG_TRACKS: usize = 11;
const LONG_FACTOR: f32 = 12.0;

/// An unconfirmed answer is repeated after this long.
const ANSWER_AGAIN_SECONDS: u64 = 15;

/// A worker's behaviour with tracks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nature {
    /// Analyses them if possible.
    Honest,
    /// Reports every track as broken.
    BlamesTracks,
    /// Fails every track with a passing failure or an invalid vector.
    FailsAll,
    /// Hands every track back.
    HandsBack,
    /// Crashes with every track; the next process has another key.
    Crashes,
}

#[derive(Debug)]
pub(super) struct Peer {
    /// Its identity.
    pub(super) key: WorkerKey,
    /// Its name at the coordinators.
    pub(super) name: String,
    pub(super) nature: Nature,
    pub(super) connection: Option<Connection>,
    /// The coordinator process that it was last connected to.
    pub(super) last: Option<(usize, Timestamp)>,
    pub(super) works: Vec<Work>,
    /// Leases that it has answered or was told to drop, and their files.
    pub(super) past: Vec<(JobRef, usize)>,
    /// Leases that it invented, or copied from other workers.
    pub(super) forged: Vec<JobRef>,
    /// Connected, but making no progress.
    pub(super) hangs: bool,
    /// Its download has stalled, without the worker noticing.
    pub(super) is_stuck: bool,
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) coordinator: usize,
    pub(super) wire: Wire,
    pub(super) is_welcome: bool,
}

/// A job held by the worker.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) job: JobRef,
    /// The library's file.
    pub(super) file: usize,
    pub(super) stage: Stage,
    pub(super) fraction: f32,
    /// When the job, or the job it waits behind, last really made progress.
    pub(super) moved: Timestamp,
    /// It has an answer that was not accepted yet.
    pub(super) is_finished: bool,
    /// When it was last answered on the present connection.
    answered: Option<Timestamp>,
}

impl Work {
    /// Whether to send its answer now, for the first time or again.
    pub(super) fn is_to_be_answered(&self, now: Timestamp) -> bool {
        self.answered.is_none_or(|answered| answered.plus_seconds(ANSWER_AGAIN_SECONDS) <= now)
    }
}

impl Peer {
    pub(super) fn new(key: WorkerKey, nature: Nature) -> Self {
        Self {
            name: hash_of(&key),
            key,
            nature,
            connection: None,
            last: None,
            works: Vec::new(),
            past: Vec::new(),
            forged: Vec::new(),
            hangs: false,
            is_stuck: false,
        }
    }

    /// The connection, if messages can pass.
    pub(super) fn link(&self) -> Option<&Connection> {
        self.connection.as_ref().filter(|connection| !connection.wire.is_cut())
    }

    /// Starts a new connection, on which all answers are sent again.
    pub(super) fn begin_anew(&mut self, connection: Connection, process: (usize, Timestamp)) {
        self.connection = Some(connection);
        self.last = Some(process);
        self.works.iter_mut().for_each(|work| work.answered = None);
    }

    /// Takes a job; false when there is no room for it.
    pub(super) fn take(&mut self, job: JobRef, file: usize, now: Timestamp) -> bool {
        self.works.retain(|work| work.job.job != job.job);
        let has_room = self.works.len() < usize::from(MAX_JOBS_PER_WORKER);
        if has_room {
            let (stage, fraction) = (Stage::Fetching, 0.0);
            self.works.push(Work { job, file, stage, fraction, moved: now, is_finished: false, answered: None });
        }
        has_room
    }

    pub(super) fn has_answered(&mut self, job: &JobRef, now: Timestamp) {
        if let Some(work) = self.works.iter_mut().find(|work| work.job == *job) {
            work.answered = Some(now);
        }
    }

    /// Forgets the job.
    pub(super) fn drop_job(&mut self, job: &JobRef) {
        let Some(index) = self.works.iter().position(|work| work.job == *job) else { return };
        let work = self.works.remove(index);
        self.past.push((work.job, work.file));
        if self.past.len() > REMEMBERED {
            self.past.remove(0);
        }
    }

    /// Works for a while: fetches one file and analyses one.
    pub(super) fn work(&mut self, rng: &mut Rng, now: Timestamp) {
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

    fn first(&self, stage: Stage) -> Option<usize> {
        self.works.iter().position(|work| work.stage == stage && !work.is_finished)
    }

    /// Advances the job in that stage; true when the stage is finished.
    fn advance(&mut self, stage: Stage, rng: &mut Rng, now: Timestamp) -> bool {
        let Some(index) = self.first(stage) else { return false };
        if rng.u32(..4) == 0 {
            return false;
        }
        let is_long = self.works[index].file.is_multiple_of(LONG_TRACKS);
        self.works[index].fraction += rng.f32() * if is_long { 0.9 / LONG_FACTOR } else { 0.9 };
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
