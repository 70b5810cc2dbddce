//! One run: coordinators, workers, what happens to them, and what has to hold whatever happens.

use std::ops::AddAssign;

use chaarfm_coordinator::{
    Answer, Conduct, LEASE_SECONDS, MAX_ATTEMPTS, MAX_LEASES, NotYourLease, RESUME_SECONDS, Roster,
    SUSPICIOUS_FAILURES, State, Timestamp, Worker,
};
use chaarfm_protocol::{
    Capacity, Device, Failure, FailureKind, JobRef, WorkerKind,
    limits::{MAX_JOBS_PER_WORKER, PEER_TIMEOUT_SECONDS, TURN_SECONDS},
};
use fastrand::Rng;

use crate::{
    coordinator::{Coordinator, Said, Store},
    peer::{Connection, Nature, Peer},
};

const MAX_JOBS: usize = 40;
const MAX_COORDINATORS: usize = 3;
const MAX_HONEST: usize = 4;
const MAX_BAD: usize = 2;

/// Clocks differ by this much at most.
const MAX_AHEAD_MILLIS: u64 = 5_000;

/// Steps in which misfortunes happen, how long each is at most, and how many may follow until all is done.
const WILD_STEPS: usize = 250;
const MAX_PAUSE_SECONDS: u64 = 8;
const MAX_CALM_STEPS: usize = 4_000;

/// What a run, or all runs together, have shown.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    stored: u64,
    given_up: u64,
    expired: u64,
    late_answers_that_counted: u64,
    stale_answers_that_did_not: u64,
    reopened: u64,
    set_aside: u64,
    cleared: u64,
}

impl AddAssign for Outcome {
    fn add_assign(&mut self, other: Self) {
        self.stored += other.stored;
        self.given_up += other.given_up;
        self.expired += other.expired;
        self.late_answers_that_counted += other.late_answers_that_counted;
        self.stale_answers_that_did_not += other.stale_answers_that_did_not;
        self.reopened += other.reopened;
        self.set_aside += other.set_aside;
        self.cleared += other.cleared;
    }
}

impl Outcome {
    /// Whether each thing that may happen has happened.
    pub(crate) fn has_everything(&self) -> bool {
        let Self { stored, given_up, expired, reopened, set_aside, cleared, .. } = *self;
        let answers = [self.late_answers_that_counted, self.stale_answers_that_did_not];
        [stored, given_up, expired, reopened, set_aside, cleared].into_iter().chain(answers).all(|count| count > 0)
    }
}

pub(crate) struct World {
    rng: Rng,
    now: Timestamp,
    store: Store,
    coordinators: Vec<Coordinator>,
    peers: Vec<Peer>,
    /// Tracks that cannot be analysed.
    broken: Vec<bool>,
    /// Honest workers and coordinators have no misfortunes: then bad workers must do no harm.
    is_calm: bool,
    names: u64,
    outcome: Outcome,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let count = rng.usize(1..=MAX_JOBS);
        let coordinators = rng.usize(1..=MAX_COORDINATORS);
        let honest = rng.usize(coordinators..=MAX_HONEST);
        let bad = rng.usize(0..=MAX_BAD);
        let broken_percent = [0, 10, 50][rng.usize(..3)];
        let nature = |index| match index {
            index if index < honest => Nature::Honest,
            index if index % 2 == 0 => Nature::BlamesTracks,
            _ => Nature::FailsAll,
        };
        Self {
            now: Timestamp(1_000_000),
            store: Store::new(count),
            coordinators: (0..coordinators).map(|_| Coordinator::new(rng.u64(..=MAX_AHEAD_MILLIS))).collect(),
            peers: (0..honest + bad).map(|index| Peer::new(format!("peer {index}"), nature(index))).collect(),
            broken: (0..count).map(|_| rng.u32(..100) < broken_percent).collect(),
            is_calm: rng.u32(..4) == 0,
            names: 0,
            outcome: Outcome::default(),
            rng,
        }
    }

    /// Lives through it all. Panics when something that must never happen does.
    pub(crate) fn run(mut self) -> Outcome {
        if !self.is_calm {
            for _ in 0..WILD_STEPS {
                for peer in 0..self.peers.len() {
                    self.strike_peer(peer);
                }
                self.strike_coordinators();
                self.step();
            }
        }
        // From here on everybody behaves as well as they can, and the rest of the queue has to come to an end.
        self.coordinators.iter_mut().for_each(|coordinator| coordinator.is_up = true);
        for peer in &mut self.peers {
            (peer.hangs, peer.is_stuck) = (false, false);
        }
        for _ in 0..MAX_CALM_STEPS {
            if self.store.jobs.iter().all(|job| matches!(job.state, State::Done | State::Failed)) {
                return self.finish();
            }
            for peer in 0..self.peers.len() {
                let coordinator = peer % self.coordinators.len();
                self.connect(peer, coordinator);
            }
            self.step();
        }
        panic!("the queue never empties: {:?}", self.store.jobs);
    }

    fn step(&mut self) {
        self.now = self.now.plus_seconds(self.rng.u64(1..=MAX_PAUSE_SECONDS));
        for peer in 0..self.peers.len() {
            self.work(peer);
        }
        for index in 0..self.coordinators.len() {
            if self.coordinators[index].is_up {
                let said = self.coordinators[index].tick(&mut self.store, &mut self.names, self.now);
                said.into_iter().for_each(|said| self.deliver(index, said));
            }
        }
        self.check();
    }

    // What goes wrong.

    fn strike_peer(&mut self, peer: usize) {
        match self.rng.u32(..200) {
            0..4 => self.cut(peer),
            4..6 => self.crash(peer),
            6..9 => self.peers[peer].hangs = true,
            9..12 => self.peers[peer].is_stuck = true,
            12..16 => (self.peers[peer].hangs, self.peers[peer].is_stuck) = (false, false),
            16..18 => self.hand_back(peer),
            18..24 => self.answer_again(peer),
            24..26 => self.forge(peer),
            // Connects anew, also when it is connected: then its coordinators believe in two connections.
            26..28 => self.connect_anew(peer),
            28..100 if self.peers[peer].link().is_none() => self.connect_anew(peer),
            _ => {}
        }
    }

    fn strike_coordinators(&mut self) {
        let index = self.rng.usize(..self.coordinators.len());
        match self.rng.u32(..200) {
            0..2 => self.stop(index),
            2..20 => self.coordinators[index].is_up = true,
            _ => {}
        }
    }

    /// The connection dies, and neither end knows.
    fn cut(&mut self, peer: usize) {
        if let Some(connection) = &mut self.peers[peer].connection {
            connection.is_cut = true;
        }
    }

    /// The worker's process ends; the next one has another name.
    fn crash(&mut self, peer: usize) {
        self.names += 1;
        let name = format!("peer {peer}.{}", self.names);
        self.peers[peer] = Peer::new(name, self.peers[peer].nature);
    }

    /// The coordinator's process ends. Its connections do, and what it had in memory.
    fn stop(&mut self, index: usize) {
        let coordinator = &mut self.coordinators[index];
        (coordinator.roster, coordinator.conduct) = (Roster::default(), Conduct::default());
        coordinator.is_up = false;
        for peer in &mut self.peers {
            peer.connection = peer.connection.filter(|connection| connection.coordinator != index);
        }
    }

    fn hand_back(&mut self, peer: usize) {
        let Some(connection) = self.peers[peer].link() else { return };
        let Some(job) = self.peers[peer].works.first().map(|work| work.job.clone()) else { return };
        self.peers[peer].drop_job(&job);
        self.coordinators[connection.coordinator].release(&mut self.store, &job, self.now);
    }

    /// Answers a job that it has answered before, or was told to drop.
    fn answer_again(&mut self, peer: usize) {
        let Some(connection) = self.peers[peer].link() else { return };
        let Some(job) = self.rng.choice(&self.peers[peer].past).cloned() else { return };
        let before = self.store.job(job.job).clone();
        let is_newest = self.store.newest[job.job as usize].as_ref() == Some(&job);
        let coordinator = &mut self.coordinators[connection.coordinator];
        let answer = coordinator.answer(&mut self.store, connection.id, &job, Ok(()), self.now);
        match answer {
            Ok(Answer::Stored) => {
                assert!(is_newest && !before.answered, "a stale answer counted: {before:?}");
                self.outcome.late_answers_that_counted += 1;
            }
            answer => {
                assert!(matches!(answer, Ok(Answer::Repeated) | Err(NotYourLease)), "{answer:?} for {before:?}");
                assert_eq!(*self.store.job(job.job), before);
                self.outcome.stale_answers_that_did_not += 1;
            }
        }
    }

    /// Says all that can be said under a lease that nobody was given.
    fn forge(&mut self, peer: usize) {
        let now = self.now;
        let job = self.rng.choice(&mut self.store.jobs).unwrap();
        let before = job.clone();
        // A lease of another job is as good as none.
        let lease = self.peers[peer].past.first().filter(|past| past.job != job.id);
        let lease = lease.map_or("forged", |past| past.lease.as_str());
        let failure = Failure { kind: FailureKind::Permanent, message: "forged".into() };
        assert_eq!(job.complete(lease), Err(NotYourLease));
        assert_eq!(job.fail(lease, &failure, now), Err(NotYourLease));
        assert_eq!(job.release(lease), Err(NotYourLease));
        assert_eq!(job.resume(lease, now), Err(NotYourLease));
        assert_eq!(job.renew(lease, now.plus_seconds(60)), Err(NotYourLease));
        assert_eq!(*job, before);
    }

    fn connect_anew(&mut self, peer: usize) {
        let coordinator = self.rng.usize(..self.coordinators.len());
        self.peers[peer].connection = None;
        self.connect(peer, coordinator);
    }

    // What workers do.

    /// Connects, if the worker knows of no connection, and shows what it holds.
    fn connect(&mut self, peer: usize, coordinator: usize) {
        if self.peers[peer].link().is_some() || !self.coordinators[coordinator].is_up {
            return;
        }
        self.names += 1;
        let (id, now, peer) = (self.names, self.now, &mut self.peers[peer]);
        let capacity = Capacity { jobs: MAX_JOBS_PER_WORKER, max_audio_bytes: 1 };
        let device = Device { backend: "flex".into(), name: "CPU".into() };
        let heard = self.coordinators[coordinator].time(now);
        let worker = Worker::new(id, peer.name.clone(), WorkerKind::Native, device, "sim".into(), capacity, heard);
        let holding: Vec<JobRef> = peer.works.iter().map(|work| work.job.clone()).collect();
        // A coordinator that does not know how far a job was takes its first report for progress, also of the job behind;
        // and a lease that had ended, which cost an attempt, begins anew.
        let is_back = peer.last_coordinator == Some(coordinator);
        let goes_on = |job: &JobRef| {
            let mut held = self.coordinators[coordinator].roster.iter().flat_map(|worker| &worker.held);
            let is_leased = self.store.jobs[job.job as usize].is_held_under(&job.lease, Timestamp::ZERO);
            is_back && is_leased && held.any(|held| held.job == *job)
        };
        if !peer.works.iter().all(|work| goes_on(&work.job)) {
            peer.works.iter_mut().for_each(|work| work.moved = now);
        }
        let kept = self.coordinators[coordinator].join(&mut self.store, worker, &holding, now);
        holding.iter().filter(|job| !kept.contains(job)).for_each(|job| peer.drop_job(job));
        peer.connection = Some(Connection { coordinator, id, is_cut: false });
        peer.last_coordinator = Some(coordinator);
    }

    /// Works, and says so.
    fn work(&mut self, index: usize) {
        let now = self.now;
        let finished = self.peers[index].work(&mut self.rng, now);
        let peer = &self.peers[index];
        let Some(connection) = peer.link() else { return };
        self.coordinators[connection.coordinator].heard(connection.id, now);
        let answer = match peer.nature {
            Nature::Honest => finished,
            Nature::BlamesTracks | Nature::FailsAll => peer.works.first().map(|work| work.job.clone()),
        };
        if let Some(job) = answer.filter(|_| !peer.hangs) {
            self.answer(index, connection, &job);
        }
        let peer = &mut self.peers[index];
        let reports: Vec<_> = peer.works.iter().map(|work| (work.job.clone(), work.stage, work.fraction)).collect();
        for (job, stage, fraction) in reports {
            let coordinator = &mut self.coordinators[connection.coordinator];
            if !coordinator.report(&mut self.store, connection.id, (&job, stage, fraction), now) {
                peer.drop_job(&job);
            }
        }
    }

    fn answer(&mut self, peer: usize, connection: Connection, job: &JobRef) {
        let has_bad_luck = !self.is_calm && self.rng.u32(..20) == 0;
        let outcome = match self.peers[peer].nature {
            Nature::Honest if has_bad_luck => Err(FailureKind::Passing),
            Nature::Honest if !self.broken[job.job as usize] => Ok(()),
            Nature::FailsAll => Err(FailureKind::Passing),
            Nature::Honest | Nature::BlamesTracks => Err(FailureKind::Permanent),
        };
        self.peers[peer].drop_job(job);
        let before = self.store.job(job.job).clone();
        let is_newest = self.store.newest[job.job as usize].as_ref() == Some(job);
        let coordinator = &mut self.coordinators[connection.coordinator];
        let answer = coordinator.answer(&mut self.store, connection.id, job, outcome, self.now);
        assert!(answer.is_err() || is_newest, "a stale answer counted: {before:?}");
    }

    fn deliver(&mut self, coordinator: usize, said: Said) {
        let (Said::Job(id, _) | Said::Rejected(id, _) | Said::Gone(id)) = said;
        let is_meant = |peer: &&mut Peer| {
            peer.connection.is_some_and(|connection| (connection.coordinator, connection.id) == (coordinator, id))
        };
        // What is said into a dead connection is lost.
        let Some(peer) = self.peers.iter_mut().find(is_meant) else { return };
        let hears = peer.link().is_some();
        match said {
            Said::Gone(_) => peer.connection = None,
            Said::Rejected(_, job) if hears => peer.drop_job(&job),
            Said::Job(_, job) if hears => {
                if !peer.take(job.clone(), self.now) {
                    self.coordinators[coordinator].release(&mut self.store, &job, self.now);
                }
            }
            Said::Rejected(..) | Said::Job(..) => {}
        }
    }

    // What has to hold.

    fn check(&self) {
        for (job, tries) in self.store.jobs.iter().zip(&self.store.tries) {
            assert!(job.attempts <= MAX_ATTEMPTS && job.leases <= MAX_LEASES, "{job:?}");
            assert_eq!(job.attempts, *tries, "each failed try counts once: {job:?}");
            self.check_holders(job.id);
        }
        for coordinator in self.coordinators.iter().filter(|coordinator| coordinator.is_up) {
            let now = coordinator.time(self.now);
            let expired = self.store.jobs.iter().find(|job| job.has_expired(now));
            assert!(expired.is_none(), "a lease outlives its end: {expired:?}");
            for worker in coordinator.roster.iter() {
                assert!(worker.held.len() <= usize::from(MAX_JOBS_PER_WORKER), "{worker:?}");
                let overdue = worker.held.iter().find(|held| held.is_overdue(now));
                assert!(overdue.is_none(), "a coordinator believes in a lease that is over: {overdue:?}");
            }
        }
        if self.coordinators.iter().any(|coordinator| coordinator.is_up) {
            self.peers.iter().for_each(|peer| self.check_progress(peer));
        }
        self.peers.iter().for_each(|peer| self.check_link(peer));
    }

    /// Nobody takes a job from a worker that is connected and works on it, unless a clock is ahead.
    fn check_link(&self, peer: &Peer) {
        let Some(Connection { coordinator, id, .. }) = peer.link() else { return };
        let coordinator = &self.coordinators[coordinator];
        let now = coordinator.time(self.now);
        for held in coordinator.roster.get(id).iter().flat_map(|worker| &worker.held) {
            let job = &self.store.jobs[held.job.job as usize];
            let is_over = job.answered || job.leases != held.number || held.deadline.0 <= now.0 + MAX_AHEAD_MILLIS;
            assert!(is_over || job.is_held_under(&held.job.lease, now), "{} has lost {job:?}: {held:?}", peer.name);
        }
    }

    /// Of all who believe to be in charge of a job, one is right at most.
    fn check_holders(&self, id: i64) {
        let job = &self.store.jobs[id as usize];
        let workers = self.coordinators.iter().flat_map(|coordinator| coordinator.roster.iter());
        let holds = |worker: &&Worker| {
            let mut held = worker.held.iter();
            held.any(|held| held.job.job == id && job.is_held_under(&held.job.lease, Timestamp::ZERO))
        };
        let mut names: Vec<&str> = workers.filter(holds).map(|worker| worker.name.as_str()).collect();
        names.dedup();
        assert!(names.len() <= 1, "{job:?} is held by {names:?}");
        if let [single] = &self.coordinators[..] {
            let held = single.roster.iter().flat_map(|worker| &worker.held).filter(|held| held.job.job == id);
            let held: Vec<_> = held.collect();
            assert!(held.len() <= 1, "{held:?}");
            assert!(held.iter().all(|held| job.is_held_under(&held.job.lease, Timestamp::ZERO)), "{held:?} of {job:?}");
        }
    }

    /// No job stays with a worker in whose hands it does not move.
    fn check_progress(&self, peer: &Peer) {
        // What moved while the connection was dead is told after it.
        const LIMIT_SECONDS: u64 = LEASE_SECONDS + TURN_SECONDS + PEER_TIMEOUT_SECONDS + 2 * MAX_PAUSE_SECONDS;
        for work in &peer.works {
            let job = &self.store.jobs[work.job.job as usize];
            let resumed = RESUME_SECONDS * u64::from(job.leases);
            let limit = Timestamp(work.moved.plus_seconds(LIMIT_SECONDS + resumed).0 + MAX_AHEAD_MILLIS);
            let is_kept = job.is_held_under(&work.job.lease, Timestamp::ZERO);
            assert!(!is_kept || self.now <= limit, "{} keeps what it does not work on: {job:?}", peer.name);
        }
    }

    /// All jobs are over: as they should be?
    fn finish(mut self) -> Outcome {
        for (job, vectors) in self.store.jobs.iter().zip(&self.store.vectors) {
            assert_eq!(*vectors, u32::from(job.state == State::Done), "stored exactly once, or not at all: {job:?}");
            assert!(job.state == State::Done || job.error.is_some(), "failed for no reason: {job:?}");
        }
        let failed = |job: &&chaarfm_coordinator::Job| job.state == State::Failed && !self.broken[job.id as usize];
        let good_failed: Vec<_> = self.store.jobs.iter().filter(failed).collect();
        let set_aside = || self.coordinators.iter().flat_map(|coordinator| &coordinator.set_aside);
        if self.is_calm {
            let is_honest =
                |name: &String| self.peers.iter().any(|peer| peer.name == *name && peer.nature == Nature::Honest);
            assert!(!set_aside().any(is_honest), "an honest worker is set aside");
            // A worker that has failed fewer in a row than it takes to be suspected is believed.
            let bad = self.peers.iter().filter(|peer| peer.nature != Nature::Honest).count();
            assert!(good_failed.len() <= bad * (SUSPICIOUS_FAILURES - 1), "bad workers did harm: {good_failed:?}");
        }
        self.outcome.stored = self.store.jobs.iter().filter(|job| job.state == State::Done).count() as u64;
        self.outcome.given_up = self.store.jobs.len() as u64 - self.outcome.stored;
        self.outcome.expired = self.store.expired.into();
        self.outcome.reopened = self.store.reopened.into();
        self.outcome.set_aside = set_aside().count() as u64;
        self.outcome.cleared = self.coordinators.iter().map(|coordinator| u64::from(coordinator.cleared)).sum();
        self.outcome
    }
}
