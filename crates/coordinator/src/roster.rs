//! The workers of a session that are connected to this coordinator: what each can take and what it holds.
//!
//! Knows nothing of what is stored: a lease lives in its [`crate::Job`]; the roster remembers who works on it, to choose
//! whom to give the next one and to show it to people.

use std::collections::BTreeMap;

use chaarfm_protocol::{
    Capacity, Device, JobRef, Stage, WorkerKind,
    limits::{MAX_AUDIO_BYTES, MAX_JOBS_PER_WORKER, PEER_TIMEOUT_SECONDS},
};

use crate::Timestamp;

/// A connection's number; a worker that reconnects gets another one.
pub type WorkerId = u64;

/// A connected worker.
#[derive(Debug, Clone, PartialEq)]
pub struct Worker {
    /// Its number.
    pub id: WorkerId,
    /// What it calls itself on all its connections.
    pub name: String,
    /// Native executable or browser tab.
    pub kind: WorkerKind,
    /// What it computes on.
    pub device: Device,
    /// Program and version.
    pub agent: String,
    /// Tracks stored since it connected.
    pub done: u64,
    /// Tracks it failed since it connected.
    pub failed: u64,
    /// What it holds, in the order in which it got it.
    pub held: Vec<Held>,
    capacity: Capacity,
    heard: Timestamp,
    served: u64,
}

/// A job in a worker's hands.
#[derive(Debug, Clone, PartialEq)]
pub struct Held {
    /// The job and its lease.
    pub job: JobRef,
    /// How people call the track.
    pub label: String,
    /// What is being done with it.
    pub stage: Stage,
    /// Share of the stage that is done, 0 to 1.
    pub fraction: f32,
    /// When its lease was given or last renewed.
    pub renewed: Timestamp,
}

impl Held {
    /// A job that has just been given out.
    #[must_use]
    pub fn new(job: JobRef, label: String, now: Timestamp) -> Self {
        Self { job, label, stage: Stage::Fetching, fraction: 0.0, renewed: now }
    }
}

impl Worker {
    /// A worker that has just said hello.
    #[must_use]
    pub fn new(
        id: WorkerId,
        name: String,
        kind: WorkerKind,
        device: Device,
        agent: String,
        capacity: Capacity,
        now: Timestamp,
    ) -> Self {
        Self { id, name, kind, device, agent, done: 0, failed: 0, held: Vec::new(), capacity, heard: now, served: 0 }
    }

    /// Largest audio file to give it, in bytes.
    #[must_use]
    pub fn max_audio_bytes(&self) -> u64 {
        self.capacity.max_audio_bytes.min(MAX_AUDIO_BYTES)
    }

    /// The job it is furthest with: the one in analysis, else the one it got first.
    #[must_use]
    pub fn current(&self) -> Option<&Held> {
        self.held.iter().find(|held| held.stage == Stage::Analysing).or(self.held.first())
    }

    fn has_room(&self) -> bool {
        self.held.len() < usize::from(self.capacity.jobs.min(MAX_JOBS_PER_WORKER))
    }
}

/// The connected workers of one session.
#[derive(Debug, Clone, Default)]
pub struct Roster {
    workers: BTreeMap<WorkerId, Worker>,
    served: u64,
}

impl Roster {
    /// Takes a worker in. What it holds already is handed to it, also out of the hands of another connection: that one
    /// can only be its own earlier one, which has not been found dead yet. Returns those earlier connections.
    pub fn join(&mut self, worker: Worker) -> Vec<WorkerId> {
        let mut earlier = Vec::new();
        for held in &worker.held {
            earlier.extend(self.take(&held.job).filter(|id| !earlier.contains(id)));
        }
        self.workers.insert(worker.id, worker);
        earlier
    }

    /// Lets a worker go and returns it with what it held.
    pub fn leave(&mut self, id: WorkerId) -> Option<Worker> {
        self.workers.remove(&id)
    }

    /// Notes that the worker has said something.
    pub fn heard(&mut self, id: WorkerId, now: Timestamp) {
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.heard = now;
        }
    }

    /// Workers that have said nothing for [`PEER_TIMEOUT_SECONDS`].
    #[must_use]
    pub fn silent(&self, now: Timestamp) -> Vec<WorkerId> {
        let is_silent = |worker: &&Worker| worker.heard.plus_seconds(PEER_TIMEOUT_SECONDS) <= now;
        self.workers.values().filter(is_silent).map(|worker| worker.id).collect()
    }

    /// The worker to serve next, of those that can be reached and take files larger than `above` bytes: one that holds
    /// nothing before one that only wants to prefetch, and among equals the one whose turn is longest ago.
    #[must_use]
    pub fn next_taker(&self, above: u64, is_reachable: impl Fn(WorkerId) -> bool) -> Option<&Worker> {
        let may_take = |worker: &&Worker| worker.has_room() && worker.max_audio_bytes() > above;
        let takers = self.workers.values().filter(may_take).filter(|worker| is_reachable(worker.id));
        takers.min_by_key(|worker| (worker.held.len(), worker.served))
    }

    /// Notes what a worker got. False when it has left in the meantime.
    #[must_use]
    pub fn give(&mut self, id: WorkerId, held: Held) -> bool {
        let Some(worker) = self.workers.get_mut(&id) else { return false };
        self.served += 1;
        worker.served = self.served;
        worker.held.push(held);
        true
    }

    /// Notes that a job is nobody's any more, and returns whose it was.
    pub fn take(&mut self, job: &JobRef) -> Option<WorkerId> {
        let worker = self.workers.values_mut().find(|worker| worker.held.iter().any(|held| held.job == *job))?;
        worker.held.retain(|held| held.job != *job);
        Some(worker.id)
    }

    /// A job in this worker's hands, to note how far it is.
    pub fn held_mut(&mut self, id: WorkerId, job: &JobRef) -> Option<&mut Held> {
        self.workers.get_mut(&id)?.held.iter_mut().find(|held| held.job == *job)
    }

    /// One worker.
    #[must_use]
    pub fn get(&self, id: WorkerId) -> Option<&Worker> {
        self.workers.get(&id)
    }

    /// One worker, to count what it did.
    pub fn get_mut(&mut self, id: WorkerId) -> Option<&mut Worker> {
        self.workers.get_mut(&id)
    }

    /// The workers, in the order in which they came.
    pub fn iter(&self) -> impl Iterator<Item = &Worker> {
        self.workers.values()
    }

    /// How many workers there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.workers.len()
    }

    /// Whether nobody is there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.workers.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Timestamp = Timestamp(1_000_000);

    fn worker(id: WorkerId, jobs: u8, max_audio_bytes: u64) -> Worker {
        let device = Device { backend: "flex".into(), name: "CPU".into() };
        Worker::new(
            id,
            format!("w{id}"),
            WorkerKind::Native,
            device,
            "test".into(),
            Capacity { jobs, max_audio_bytes },
            T0,
        )
    }

    fn held(job: i64) -> Held {
        Held::new(JobRef { job, lease: format!("t{job}") }, "track".into(), T0)
    }

    /// Gives out jobs until nobody takes one, and returns who got them.
    fn give_all(roster: &mut Roster) -> Vec<WorkerId> {
        let mut got = Vec::new();
        while let Some(id) = roster.next_taker(0, |_| true).map(|worker| worker.id) {
            got.push(id);
            assert!(roster.give(id, held(got.len() as i64)));
        }
        got
    }

    #[test]
    fn empty_hands_come_before_prefetching_and_turns_go_round() {
        let mut roster = Roster::default();
        roster.join(worker(1, 2, 100));
        roster.join(worker(2, 200, 100));
        roster.join(worker(3, 1, 100));
        roster.join(worker(4, 0, 100));
        assert_eq!(give_all(&mut roster), [1, 2, 3, 1, 2], "at most MAX_JOBS_PER_WORKER each, whatever they claim");
        assert_eq!(roster.take(&held(3).job), Some(3));
        assert_eq!(roster.take(&held(1).job), Some(1));
        assert_eq!(roster.next_taker(0, |_| true).map(|worker| worker.id), Some(3));
        assert_eq!(roster.next_taker(0, |id| id != 3).map(|worker| worker.id), Some(1));
        assert_eq!(roster.take(&held(1).job), None);
    }

    #[test]
    fn large_files_go_only_to_those_who_take_them() {
        let mut roster = Roster::default();
        roster.join(worker(1, 2, 100));
        roster.join(worker(2, 2, u64::MAX));
        assert_eq!(roster.next_taker(100, |_| true).map(|worker| worker.id), Some(2));
        assert!(roster.next_taker(MAX_AUDIO_BYTES, |_| true).is_none(), "whatever they claim");
    }

    #[test]
    fn silence_is_noticed() {
        let mut roster = Roster::default();
        roster.join(worker(1, 2, 100));
        roster.join(worker(2, 2, 100));
        let later = T0.plus_seconds(PEER_TIMEOUT_SECONDS);
        roster.heard(2, T0.plus_seconds(1));
        assert!(roster.silent(Timestamp(later.0 - 1)).is_empty());
        assert_eq!(roster.silent(later), vec![1]);
    }

    #[test]
    fn a_worker_that_returns_takes_over_from_its_dead_connection() {
        let mut roster = Roster::default();
        roster.join(worker(1, 2, 100));
        give_all(&mut roster);
        let mut returned = worker(2, 2, 100);
        returned.held = vec![held(1), held(2)];
        assert_eq!(roster.join(returned), [1]);
        assert!(roster.leave(1).unwrap().held.is_empty(), "so that its loss takes nothing away");
        assert_eq!(roster.get(2).unwrap().held.len(), 2);
        assert!(!roster.give(1, held(3)));
    }

    #[test]
    fn the_job_in_analysis_is_the_current_one() {
        let mut roster = Roster::default();
        roster.join(worker(1, 2, 100));
        give_all(&mut roster);
        assert_eq!(roster.get(1).unwrap().current().unwrap().job, held(1).job);
        roster.held_mut(1, &held(2).job).unwrap().stage = Stage::Analysing;
        assert_eq!(roster.get(1).unwrap().current().unwrap().job, held(2).job);
        assert!(roster.held_mut(2, &held(2).job).is_none());
    }
}
