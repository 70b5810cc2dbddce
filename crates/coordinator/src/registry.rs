//! The workers of a session that are connected to this coordinator: their capacities and the jobs they hold.
//!
//! Stored state is not here: a lease lives in its [`crate::Job`]. The registry remembers which worker holds each job, to
//! choose the next worker and to display it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chaarfm_domain::{Device, Evidence, InvitationId, JobRef, Stage, Trial, WorkerKind};
use chaarfm_protocol::{
    Capacity, Halves,
    limits::{MAX_AUDIO_BYTES, MAX_JOBS_PER_WORKER, PEER_TIMEOUT_SECONDS},
};

use crate::{Held, NotYourLease, Renewal, Timestamp};

/// A connection's number; a worker that reconnects gets another one.
pub type WorkerId = u64;

/// A connected worker.
#[derive(Debug, Clone, PartialEq)]
pub struct Worker {
    /// Its number.
    pub id: WorkerId,
    /// Hash of its key, the same on all its connections.
    pub name: String,
    /// Number of the invitation that admitted it.
    pub invitation: InvitationId,
    /// Native executable or browser tab.
    pub kind: WorkerKind,
    /// The device it computes on.
    pub device: Device,
    /// How it chose that device.
    pub trial: Trial,
    /// Program and version.
    pub agent: String,
    /// Tracks stored since it connected.
    pub done: u64,
    /// Tracks it failed since it connected.
    pub failed: u64,
    /// Jobs it holds, in the order it received them.
    pub held: Vec<Held>,
    capacity: Capacity,
    heard: Timestamp,
    /// When it last became free to take a job.
    room_since: Timestamp,
    served: u64,
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
        Self {
            id,
            name,
            invitation: 0,
            kind,
            device,
            trial: Trial::default(),
            agent,
            done: 0,
            failed: 0,
            held: Vec::new(),
            capacity,
            heard: now,
            room_since: now,
            served: 0,
        }
    }

    /// Largest audio file it accepts, in bytes.
    #[must_use]
    pub fn max_audio_bytes(&self) -> u64 {
        self.capacity.max_audio_bytes.min(MAX_AUDIO_BYTES)
    }

    /// Whether it accepts jobs at all; some workers only watch.
    #[must_use]
    pub fn takes_jobs(&self) -> bool {
        self.capacity.jobs > 0
    }

    /// Whether it may be given a job's last try: workers that have finished a track and accept files at least as large come
    /// first. See [`WorkerRegistry::proven_up_to`].
    #[must_use]
    pub fn takes_last_tries(&self, proven_up_to: u64) -> bool {
        self.done > 0 || proven_up_to < self.max_audio_bytes()
    }

    /// Whether it holds this job, under this lease.
    #[must_use]
    pub fn holds(&self, job: &JobRef) -> bool {
        self.held.iter().any(|held| held.job == *job)
    }

    /// Its most advanced job: the one in analysis, otherwise the oldest.
    #[must_use]
    pub fn current(&self) -> Option<&Held> {
        self.held.iter().find(|held| held.stage == Stage::Analysing).or(self.held.first())
    }

    /// When it became free to take another job; none while it has no room.
    #[must_use]
    pub fn room_since(&self) -> Option<Timestamp> {
        self.has_room().then_some(self.room_since)
    }

    fn has_room(&self) -> bool {
        self.held.len() < usize::from(self.capacity.jobs.min(MAX_JOBS_PER_WORKER))
    }

    fn place_in_line(&self) -> Option<Place> {
        self.has_room().then_some((self.held.len(), self.served, self.id))
    }
}

/// Position in the queue of workers with room: idle workers come before those that only prefetch; among equals, the worker
/// served longest ago comes first.
type Place = (usize, u64, WorkerId);

/// The connected workers of one session. No per-job operation iterates over all of them.
#[derive(Debug, Clone, Default)]
pub struct WorkerRegistry {
    workers: BTreeMap<WorkerId, Worker>,
    /// The worker that holds each job.
    holders: HashMap<JobRef, WorkerId>,
    /// Workers with room.
    line: BTreeSet<Place>,
    served: u64,
}

impl WorkerRegistry {
    /// Adds a worker. Jobs that it resumes are taken from the connection that holds them, which can only be the same
    /// worker's earlier one, not yet detected as dead. Returns those earlier connections.
    pub fn join(&mut self, mut worker: Worker) -> Vec<WorkerId> {
        let mut earlier = Vec::new();
        for held in &mut worker.held {
            if let Some((id, before)) = self.take(&held.job, worker.heard) {
                held.goes_on_from(&before);
                if !earlier.contains(&id) {
                    earlier.push(id);
                }
            }
            self.holders.insert(held.job.clone(), worker.id);
        }
        self.line.extend(worker.place_in_line());
        self.workers.insert(worker.id, worker);
        earlier
    }

    /// Removes a worker and returns it with the jobs it held.
    pub fn leave(&mut self, id: WorkerId) -> Option<Worker> {
        let worker = self.workers.remove(&id)?;
        if let Some(place) = worker.place_in_line() {
            self.line.remove(&place);
        }
        for held in &worker.held {
            self.holders.remove(&held.job);
        }
        Some(worker)
    }

    /// Changes a worker and updates its place in line.
    fn change<T>(&mut self, id: WorkerId, change: impl FnOnce(&mut Worker) -> T) -> Option<T> {
        let worker = self.workers.get_mut(&id)?;
        let before = worker.place_in_line();
        let outcome = change(worker);
        let after = worker.place_in_line();
        if before != after {
            if let Some(place) = before {
                self.line.remove(&place);
            }
            self.line.extend(after);
        }
        Some(outcome)
    }

    /// Notes that the worker has sent a message.
    pub fn heard(&mut self, id: WorkerId, now: Timestamp) {
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.heard = now;
        }
    }

    /// Workers that have sent nothing for [`PEER_TIMEOUT_SECONDS`].
    #[must_use]
    pub fn silent(&self, now: Timestamp) -> Vec<WorkerId> {
        let is_silent = |worker: &&Worker| worker.heard.plus_seconds(PEER_TIMEOUT_SECONDS) <= now;
        self.workers.values().filter(is_silent).map(|worker| worker.id).collect()
    }

    /// The workers with room for files larger than `above` bytes, in serving order: idle workers before those that only
    /// prefetch; among equals, the worker served longest ago comes first.
    pub fn in_line(&self, above: u64) -> impl Iterator<Item = &Worker> {
        let workers = self.line.iter().filter_map(|(.., id)| self.workers.get(id));
        workers.filter(move |worker| worker.max_audio_bytes() > above)
    }

    /// The largest file accepted by any worker that has finished a track since it connected and is given jobs; 0 when there
    /// is no such worker.
    #[must_use]
    pub fn proven_up_to(&self, is_given_jobs: impl Fn(&Worker) -> bool) -> u64 {
        let proven =
            self.workers.values().filter(|worker| worker.done > 0 && worker.takes_jobs() && is_given_jobs(worker));
        proven.map(Worker::max_audio_bytes).max().unwrap_or(0)
    }

    /// Records a job given to a worker. False when the worker has disconnected in the meantime.
    #[must_use]
    pub fn give(&mut self, id: WorkerId, held: Held) -> bool {
        let (job, turn) = (held.job.clone(), self.served + 1);
        let given = self.change(id, |worker| {
            worker.served = turn;
            worker.held.push(held);
        });
        if given.is_some() {
            self.served = turn;
            self.holders.insert(job, id);
        }
        given.is_some()
    }

    /// Removes a job from its holder, and returns that worker with the job's progress.
    pub fn take(&mut self, job: &JobRef, now: Timestamp) -> Option<(WorkerId, Held)> {
        let id = self.holders.remove(job)?;
        let held = self.change(id, |worker| {
            let index = worker.held.iter().position(|held| held.job == *job)?;
            if !worker.has_room() {
                worker.room_since = now;
            }
            Some(worker.held.remove(index))
        });
        Some((id, held??))
    }

    /// Records a progress report, and returns the leases to renew: the job's own, and those of jobs waiting behind it; none
    /// without progress. Returns an error when the worker does not hold the job.
    pub fn report(
        &mut self,
        id: WorkerId,
        job: &JobRef,
        stage: Stage,
        fraction: f32,
        now: Timestamp,
    ) -> Result<Vec<Renewal>, NotYourLease> {
        let worker = self.workers.get_mut(&id).ok_or(NotYourLease)?;
        let held = worker.held.iter_mut().find(|held| held.job == *job).ok_or(NotYourLease)?;
        if !held.advance(stage, fraction, now) {
            return Ok(Vec::new());
        }
        let own = |held: &Held| held.job == *job;
        let moved = worker.held.iter_mut().filter(|held| own(held) || held.waits_behind(stage));
        Ok(moved.filter_map(|held| held.renew(!own(held), now)).collect())
    }

    /// Adds patch embeddings to the evidence of a job that the worker holds; patch 0 starts anew. `below` is as for
    /// [`Evidence::add`]. Invalid embeddings discard all evidence collected so far: then nothing supports the vector.
    pub fn add_evidence(
        &mut self,
        id: WorkerId,
        job: &JobRef,
        first: u32,
        length: u16,
        embeddings: &Halves,
        below: impl FnMut(u32) -> u32,
    ) {
        let held = self.workers.get_mut(&id).and_then(|worker| worker.held.iter_mut().find(|held| held.job == *job));
        let Some(held) = held else { return };
        let evidence = if first == 0 { Evidence::new(length).ok() } else { held.evidence.take() };
        held.evidence =
            evidence.and_then(|mut evidence| evidence.add(first, &embeddings.0, below).map(|()| evidence).ok());
    }

    /// Takes the evidence collected for a job.
    #[must_use]
    pub fn take_evidence(&mut self, id: WorkerId, job: &JobRef) -> Option<Evidence> {
        let worker = self.workers.get_mut(&id)?;
        worker.held.iter_mut().find(|held| held.job == *job)?.evidence.take()
    }

    /// Whether a worker here holds this job under an expired lease.
    #[must_use]
    pub fn is_overdue(&self, job: &JobRef, now: Timestamp) -> bool {
        let holder = self.holders.get(job).and_then(|id| self.workers.get(id));
        holder.is_some_and(|worker| worker.held.iter().any(|held| held.job == *job && held.is_overdue(now)))
    }

    /// The jobs with expired leases.
    #[must_use]
    pub fn overdue(&self, now: Timestamp) -> Vec<JobRef> {
        let held = self.workers.values().flat_map(|worker| &worker.held);
        held.filter(|held| held.is_overdue(now)).map(|held| held.job.clone()).collect()
    }

    /// The worker with this number.
    #[must_use]
    pub fn get(&self, id: WorkerId) -> Option<&Worker> {
        self.workers.get(&id)
    }

    /// Counts a stored track of a worker.
    pub fn count_done(&mut self, id: WorkerId) {
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.done += 1;
        }
    }

    /// Counts a failed track of a worker.
    pub fn count_failed(&mut self, id: WorkerId) {
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.failed += 1;
        }
    }

    /// The workers, in the order they connected.
    pub fn iter(&self) -> impl Iterator<Item = &Worker> {
        self.workers.values()
    }

    /// Number of workers.
    #[must_use]
    pub fn len(&self) -> usize {
        self.workers.len()
    }

    /// Whether no worker is connected.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.workers.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Job, LEASE_SECONDS};

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
        let mut leased = Job::new(job);
        leased.lease(format!("t{job}"), "w", T0).unwrap();
        Held::given(&leased, "track".into(), 1, T0)
    }

    fn next(registry: &WorkerRegistry, above: u64) -> Option<WorkerId> {
        registry.in_line(above).next().map(|worker| worker.id)
    }

    /// Gives out jobs until no worker has room, and returns the workers in order.
    fn give_all(registry: &mut WorkerRegistry) -> Vec<WorkerId> {
        let mut got = Vec::new();
        while let Some(id) = next(registry, 0) {
            got.push(id);
            assert!(registry.give(id, held(got.len() as i64)));
        }
        got
    }

    #[test]
    fn empty_hands_come_before_prefetching_and_turns_go_round() {
        let mut registry = WorkerRegistry::default();
        registry.join(worker(1, 2, 100));
        registry.join(worker(2, 200, 100));
        registry.join(worker(3, 1, 100));
        registry.join(worker(4, 0, 100));
        assert_eq!(give_all(&mut registry), [1, 2, 3, 1, 2], "at most MAX_JOBS_PER_WORKER each, whatever they claim");
        assert_eq!(registry.take(&held(3).job, T0).unwrap().0, 3);
        assert_eq!(registry.take(&held(1).job, T0.plus_seconds(5)).unwrap().0, 1);
        let line: Vec<_> = registry.in_line(0).map(|worker| (worker.id, worker.room_since())).collect();
        assert_eq!(
            line,
            [(3, Some(T0)), (1, Some(T0.plus_seconds(5)))],
            "one has empty hands, the other had none free"
        );
        assert_eq!(registry.take(&held(1).job, T0), None);
        assert_eq!(registry.get(2).unwrap().room_since(), None);
        registry.leave(3).unwrap();
        assert_eq!(next(&registry, 0), Some(1));
    }

    #[test]
    fn large_files_go_only_to_those_who_take_them() {
        let mut registry = WorkerRegistry::default();
        registry.join(worker(1, 2, 100));
        registry.join(worker(2, 2, u64::MAX));
        assert_eq!(next(&registry, 100), Some(2));
        assert_eq!(next(&registry, MAX_AUDIO_BYTES), None, "whatever they claim");
    }

    #[test]
    fn last_tries_go_to_those_who_have_finished_something_if_there_are_any() {
        let mut registry = WorkerRegistry::default();
        for (id, jobs, max_audio_bytes) in [(1, 2, 100), (2, 2, 50), (3, 2, 200), (4, 0, 1000)] {
            registry.join(worker(id, jobs, max_audio_bytes));
        }
        let takers = |registry: &WorkerRegistry| {
            let proven_up_to = registry.proven_up_to(|worker| worker.id != 2);
            let takers = registry.iter().filter(|worker| worker.takes_last_tries(proven_up_to));
            takers.map(|worker| worker.id).collect::<Vec<_>>()
        };
        assert_eq!(takers(&registry), [1, 2, 3, 4], "somebody has to");
        registry.count_done(4);
        registry.count_done(2);
        assert_eq!(takers(&registry), [1, 2, 3, 4], "the one takes no jobs, the other is given none");
        registry.count_done(1);
        assert_eq!(takers(&registry), [1, 2, 3, 4], "of the largest files, the third might be the only one");
        registry.count_done(3);
        registry.join(worker(5, 2, 200));
        assert_eq!(takers(&registry), [1, 2, 3, 4]);
    }

    #[test]
    fn silence_is_noticed() {
        let mut registry = WorkerRegistry::default();
        registry.join(worker(1, 2, 100));
        registry.join(worker(2, 2, 100));
        let later = T0.plus_seconds(PEER_TIMEOUT_SECONDS);
        registry.heard(2, T0.plus_seconds(1));
        assert!(registry.silent(Timestamp(later.0 - 1)).is_empty());
        assert_eq!(registry.silent(later), vec![1]);
    }

    #[test]
    fn a_worker_that_returns_takes_over_from_its_dead_connection() {
        let mut registry = WorkerRegistry::default();
        registry.join(worker(1, 2, 100));
        give_all(&mut registry);
        let mut returned = worker(2, 2, 100);
        returned.held = vec![held(1), held(2)];
        assert_eq!(registry.join(returned), [1]);
        assert!(registry.leave(1).unwrap().held.is_empty(), "so that its loss takes nothing away");
        assert_eq!(registry.get(2).unwrap().held.len(), 2);
        assert!(!registry.give(1, held(3)));
    }

    #[test]
    fn the_job_in_analysis_is_the_current_one() {
        let mut registry = WorkerRegistry::default();
        registry.join(worker(1, 2, 100));
        give_all(&mut registry);
        assert_eq!(registry.get(1).unwrap().current().unwrap().job, held(1).job);
        registry.report(1, &held(2).job, Stage::Analysing, 0.0, T0).unwrap();
        assert_eq!(registry.get(1).unwrap().current().unwrap().job, held(2).job);
        assert_eq!(registry.report(2, &held(2).job, Stage::Analysing, 0.0, T0), Err(NotYourLease));
    }

    /// The jobs whose leases a report renews.
    fn renewed(registry: &mut WorkerRegistry, job: i64, stage: Stage, fraction: f32, now: Timestamp) -> Vec<i64> {
        let renewals = registry.report(1, &held(job).job, stage, fraction, now).unwrap();
        renewals.iter().map(|renewal| renewal.job.job).collect()
    }

    #[test]
    fn a_job_that_moves_on_keeps_the_one_behind_it_alive() {
        let mut registry = WorkerRegistry::default();
        registry.join(worker(1, 2, 100));
        give_all(&mut registry);
        let at = |seconds| T0.plus_seconds(seconds);
        assert_eq!(renewed(&mut registry, 1, Stage::Fetching, 0.5, at(50)), [1, 2], "files are fetched one by one");
        assert_eq!(renewed(&mut registry, 1, Stage::Fetching, 0.5, at(100)), Vec::<i64>::new());
        assert_eq!(renewed(&mut registry, 1, Stage::Analysing, 0.0, at(150)), [1]);
        assert_eq!(renewed(&mut registry, 2, Stage::Fetching, 0.5, at(150)), [2]);
        assert_eq!(renewed(&mut registry, 2, Stage::Waiting, 0.0, at(200)), [2]);
        assert_eq!(renewed(&mut registry, 1, Stage::Analysing, 0.1, at(250)), [1, 2]);
        assert_eq!(renewed(&mut registry, 2, Stage::Waiting, 0.0, at(300)), Vec::<i64>::new());

        let stalled = at(250).plus_seconds(LEASE_SECONDS);
        assert!(registry.overdue(Timestamp(stalled.0 - 1)).is_empty());
        assert_eq!(registry.overdue(stalled), [held(1).job], "the one behind it gets a turn first");
        assert!(registry.is_overdue(&held(1).job, stalled) && !registry.is_overdue(&held(2).job, stalled));
    }

    #[test]
    fn to_connect_anew_is_no_progress() {
        let mut registry = WorkerRegistry::default();
        registry.join(worker(1, 1, 100));
        give_all(&mut registry);
        registry.report(1, &held(1).job, Stage::Analysing, 0.5, T0).unwrap();
        let mut returned = worker(2, 1, 100);
        returned.held = vec![held(1)];
        registry.join(returned);
        assert_eq!(registry.report(2, &held(1).job, Stage::Analysing, 0.5, T0.plus_seconds(9)), Ok(Vec::new()));
    }
}
