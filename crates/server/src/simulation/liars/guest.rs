//! A worker that is honest or not, as it sees itself: its key, its connection and its jobs.

use std::{
    net::{IpAddr, Ipv4Addr},
    ops::RangeInclusive,
};

use chaarfm_coordinator::Timestamp;
use chaarfm_protocol::{
    AcceptedAs, Capacity, Device, Failure, FailureKind, JobRef, Outcome, PairingCode, RejectionReason, SessionState,
    Stage, ToServer, ToWorker, Trial, VERSION, WorkerKey, WorkerKind, limits::MAX_JOBS_PER_WORKER,
};
use fastrand::Rng;

use super::toy::{Lie, Tracks, content_hash};
use crate::{
    identity::hash_of,
    simulation::wire::{Gone, Wire},
};

/// How long a track takes, in seconds.
const TRACK_SECONDS: RangeInclusive<u64> = 8..=40;

/// How often progress is reported.
const REPORT_SECONDS: u64 = 5;

/// How long a worker waits before it connects again, in seconds.
const RECONNECT_SECONDS: RangeInclusive<u64> = 1..=10;

/// How long one that was not let in waits, in seconds.
const REFUSED_SECONDS: u64 = 300;

/// A churner leaves in one of this many steps in which it has a job.
const CHURN: u32 = 20;

/// The number that all colluders derive their false patches from.
const COLLUSION: u64 = 7;

/// How a worker behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nature {
    /// It does what it should.
    Honest,
    /// Of every track this percentage of the patches is false, at least one, and the vector is their mean.
    Inventor { percent: usize },
    /// It sends right patches, of which some are far too loud.
    Amplifier,
    /// All its patches are false, in the same way as those of the others of its kind.
    Colluder,
    /// It says that tracks cannot be analysed: all, or one in so many.
    Blamer { kind: FailureKind, has_file: bool, one_in: u32 },
    /// It takes jobs, and vanishes or hands them back; what it does is right. Usually it comes back with another key.
    Churner,
}

impl Nature {
    /// Whether some of its vectors are false.
    pub(super) fn lies(self) -> bool {
        matches!(self, Self::Inventor { .. } | Self::Amplifier | Self::Colluder)
    }
}

/// What has become of a key.
#[derive(Debug, Clone)]
pub(super) struct Record {
    pub(super) nature: Nature,
    /// Its worker's name at the coordinators.
    pub(super) name: String,
    /// Results that were stored: right and false ones.
    stored_right: u64,
    pub(super) stored_false: u64,
    /// When a result of it was found to be false.
    pub(super) caught: Option<Timestamp>,
}

/// A job held by a worker.
#[derive(Debug)]
struct Task {
    job: JobRef,
    file: usize,
    /// When it begins and is finished.
    span: Option<(Timestamp, Timestamp)>,
    is_lie: bool,
    was_analysed: bool,
    /// It was answered on the present connection.
    is_sent: bool,
}

#[derive(Debug)]
pub(super) struct Guest {
    pub(super) nature: Nature,
    pub(super) code: PairingCode,
    pub(super) address: IpAddr,
    pub(super) record: Record,
    /// Those of its earlier keys.
    pub(super) past: Vec<Record>,
    key: WorkerKey,
    /// The coordinator that it is connected to, or connects to next.
    pub(super) coordinator: usize,
    wire: Option<Wire>,
    is_welcome: bool,
    not_before: Timestamp,
    reported: Timestamp,
    tasks: Vec<Task>,
    /// Tracks that it has analysed.
    pub(super) analysed: u64,
    /// It has heard that the session is complete.
    pub(super) hears_the_end: bool,
    /// Connections that the coordinator has ended without a reason that the worker knows of.
    pub(super) dropped: u64,
    /// How often it came in with a new key after an earlier one was caught, and how often it was not let in.
    pub(super) came_again: u64,
    pub(super) refused: u64,
}

impl Guest {
    pub(super) fn new(nature: Nature, code: PairingCode, number: usize, coordinator: usize, rng: &mut Rng) -> Self {
        let key = WorkerKey::from_random(rng.u128(..));
        let [high, low] = (number as u16).to_be_bytes();
        Self {
            nature,
            code,
            address: Ipv4Addr::new(10, 0, high, low).into(),
            record: Record::new(nature, &key),
            past: Vec::new(),
            key,
            coordinator,
            wire: None,
            is_welcome: false,
            not_before: Timestamp::ZERO,
            reported: Timestamp::ZERO,
            tasks: Vec::new(),
            analysed: 0,
            hears_the_end: false,
            dropped: 0,
            came_again: 0,
            refused: 0,
        }
    }

    /// Whether it wants to connect now.
    pub(super) fn wants_in(&self, now: Timestamp) -> bool {
        self.wire.is_none() && self.not_before <= now
    }

    pub(super) fn name(&self) -> &str {
        &self.record.name
    }

    /// Says hello on a new connection.
    pub(super) fn begin(&mut self, wire: Wire) {
        self.tasks.iter_mut().for_each(|task| task.is_sent = false);
        wire.say(ToServer::Hello {
            protocol: VERSION,
            agent: "simulation".to_owned(),
            kind: WorkerKind::Native,
            device: Device { backend: "flex".into(), name: "CPU".into() },
            trial: Trial::default(),
            capacity: Capacity { jobs: MAX_JOBS_PER_WORKER, max_audio_bytes: 1 },
            key: Some(self.key.clone()),
            holding: self.tasks.iter().map(|task| task.job.clone()).collect(),
        });
        (self.wire, self.is_welcome) = (Some(wire), false);
    }

    /// Ends its connection; it comes back later.
    pub(super) fn hang_up(&mut self, rng: &mut Rng, now: Timestamp) {
        (self.wire, self.is_welcome) = (None, false);
        self.not_before = now.plus_seconds(rng.u64(RECONNECT_SECONDS));
    }

    /// Takes another key, and drops what it has under the present one.
    fn change_key(&mut self, rng: &mut Rng) {
        self.key = WorkerKey::from_random(rng.u128(..));
        let fresh = Record::new(self.nature, &self.key);
        self.past.push(std::mem::replace(&mut self.record, fresh));
        self.tasks.clear();
    }

    /// Reads what has come, works, and answers.
    pub(super) fn act(&mut self, tracks: &Tracks, rng: &mut Rng, now: Timestamp) {
        self.listen(rng, now);
        if !self.is_welcome {
            return;
        }
        if self.nature.lies() && self.record.caught.is_some() {
            self.say(ToServer::Bye);
            self.hang_up(rng, now);
            self.change_key(rng);
            return;
        }
        if self.nature == Nature::Churner && !self.tasks.is_empty() && rng.u32(..CHURN) == 0 {
            return self.churn(rng, now);
        }
        self.work(rng, now);
        self.answer(tracks, rng, now);
    }

    fn say(&self, message: ToServer) {
        if let Some(wire) = &self.wire {
            wire.say(message);
        }
    }

    fn listen(&mut self, rng: &mut Rng, now: Timestamp) {
        loop {
            let Some(wire) = &mut self.wire else { return };
            let message = match wire.hear() {
                Ok(None) => return,
                Err(Gone) => {
                    self.dropped += 1;
                    return self.hang_up(rng, now);
                }
                Ok(Some(message)) => message,
            };
            match message {
                ToWorker::Welcome { .. } => {
                    self.is_welcome = true;
                    self.came_again += u64::from(self.past.iter().any(|past| past.caught.is_some()));
                }
                ToWorker::Refused { message, .. } => {
                    assert!(
                        self.nature != Nature::Honest || message.contains("busy"),
                        "an honest worker is refused: {message}"
                    );
                    self.hang_up(rng, now);
                    if !message.contains("busy") {
                        self.refused += 1;
                        self.not_before = now.plus_seconds(REFUSED_SECONDS);
                    }
                }
                ToWorker::Job(job) => {
                    let file = job.track.file.parse().expect("files are called by numbers");
                    let (is_lie, was_analysed) = (false, false);
                    self.tasks.push(Task { job: job.job, file, span: None, is_lie, was_analysed, is_sent: false });
                }
                ToWorker::Accepted { job, outcome } => {
                    if outcome == AcceptedAs::Stored {
                        let is_lie = self.tasks.iter().any(|task| task.job == job && task.is_lie);
                        *if is_lie { &mut self.record.stored_false } else { &mut self.record.stored_right } += 1;
                    }
                    self.tasks.retain(|task| task.job != job);
                }
                ToWorker::Rejected { job, reason, message } => {
                    if reason == RejectionReason::InvalidVector && !message.contains("not proven") {
                        self.record.caught.get_or_insert(now);
                    }
                    self.tasks.retain(|task| task.job != job);
                }
                ToWorker::State { state } => self.hears_the_end = state == SessionState::Complete,
                ToWorker::Goodbye => return self.hang_up(rng, now),
                ToWorker::Ping => self.say(ToServer::Pong),
                ToWorker::Pong | ToWorker::Unknown => {}
            }
        }
    }

    /// Works on its first unfinished job.
    fn work(&mut self, rng: &mut Rng, now: Timestamp) {
        let is_open = |task: &&mut Task| task.span.is_none_or(|(_, end)| end > now);
        let Some(task) = self.tasks.iter_mut().find(is_open) else { return };
        let (begin, end) = *task.span.get_or_insert_with(|| (now, now.plus_seconds(rng.u64(TRACK_SECONDS))));
        let fraction = now.millis_since(begin) as f32 / end.millis_since(begin) as f32;
        let progress = ToServer::Progress { job: task.job.clone(), stage: Stage::Analysing, fraction };
        if self.reported.plus_seconds(REPORT_SECONDS) <= now {
            self.reported = now;
            self.say(progress);
        }
    }

    fn answer(&mut self, tracks: &Tracks, rng: &mut Rng, now: Timestamp) {
        let is_due = |task: &Task| !task.is_sent && task.span.is_some_and(|(_, end)| end <= now);
        let Some(index) = self.tasks.iter().position(is_due) else { return };
        let (job, file) = (self.tasks[index].job.clone(), self.tasks[index].file);
        let (outcome, has_file) = match self.failure(tracks, file, rng) {
            Some((failure, has_file)) => (Outcome::Failed(failure), has_file),
            None => {
                let lies = self.lies(tracks.patches(file), file, rng);
                let analysis = tracks.analyse(file, &lies);
                let length = analysis.vector.embedding.len() as u16;
                let (job, first, embeddings) = (job.clone(), 0, analysis.patches);
                self.say(ToServer::Patches { job, first, length, embeddings });
                self.tasks[index].is_lie = !tracks.is_right(file, &analysis.vector.embedding);
                (Outcome::Done(analysis.vector), true)
            }
        };
        let content_hash = has_file.then(|| content_hash(file));
        self.say(ToServer::Result { job, outcome, content_hash });
        let task = &mut self.tasks[index];
        self.analysed += u64::from(!task.was_analysed);
        (task.is_sent, task.was_analysed) = (true, true);
    }

    /// The failure that it reports, if it does, and whether it says which file it had.
    fn failure(&self, tracks: &Tracks, file: usize, rng: &mut Rng) -> Option<(Failure, bool)> {
        let broken = |kind| Failure { kind, message: "it is no audio".to_owned() };
        match self.nature {
            Nature::Blamer { kind, has_file, one_in } if rng.u32(..one_in) == 0 => Some((broken(kind), has_file)),
            nature if tracks.is_broken(file) && !nature.lies() => Some((broken(FailureKind::Permanent), true)),
            _ => None,
        }
    }

    /// The false patches of a result.
    fn lies(&self, patches: usize, file: usize, rng: &mut Rng) -> Vec<(usize, Lie)> {
        match self.nature {
            Nature::Inventor { percent } => {
                let count = (patches * percent).div_ceil(100).max(1);
                let mut places: Vec<usize> = (0..patches).collect();
                rng.shuffle(&mut places);
                places.truncate(count);
                places.into_iter().map(|place| (place, Lie::Another(rng.u64(..)))).collect()
            }
            Nature::Amplifier => (0..patches).step_by(2).map(|place| (place, Lie::Louder(100))).collect(),
            Nature::Colluder => {
                let seed = COLLUSION + ((file as u64) << 8);
                (0..patches).map(|place| (place, Lie::Another(seed))).collect()
            }
            Nature::Honest | Nature::Blamer { .. } | Nature::Churner => Vec::new(),
        }
    }

    /// Leaves its jobs, with or without a word.
    fn churn(&mut self, rng: &mut Rng, now: Timestamp) {
        match rng.u32(..4) {
            0 => {
                self.tasks.drain(..).for_each(|task| {
                    if let Some(wire) = &self.wire {
                        wire.say(ToServer::Release { job: task.job });
                    }
                });
                return;
            }
            1 => self.say(ToServer::Bye),
            // Nobody notices for a while.
            2 => self.wire.as_ref().into_iter().for_each(Wire::cut),
            _ => {}
        }
        self.hang_up(rng, now);
        self.tasks.clear();
        if rng.bool() {
            self.change_key(rng);
        }
    }

    /// The records of all its keys.
    pub(super) fn records(&self) -> impl Iterator<Item = &Record> {
        self.past.iter().chain([&self.record])
    }
}

impl Record {
    fn new(nature: Nature, key: &WorkerKey) -> Self {
        Self { nature, name: hash_of(key), stored_right: 0, stored_false: 0, caught: None }
    }

    pub(super) fn stored_results(&self) -> u64 {
        self.stored_right + self.stored_false
    }
}
