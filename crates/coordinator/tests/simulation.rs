//! A coordinator and its workers under a fake clock, with everything going wrong that can: workers vanish with and
//! without a word, forget what they hold, answer late, twice or under somebody else's lease, and the coordinator
//! restarts. Whatever happens, each job ends exactly once, and only ever one worker holds it.

use std::panic;

use chaarfm_coordinator::{
    Answer, Held, Job, MAX_ATTEMPTS, MAX_LEASES, NotYourLease, Roster, State, Timestamp, Worker, WorkerId,
};
use chaarfm_protocol::{Capacity, Device, Failure, FailureKind, JobRef, WorkerKind, limits::MAX_JOBS_PER_WORKER};
use fastrand::Rng;

const SEEDS: u64 = 400;
const JOBS: i64 = 60;
const WORKERS: usize = 4;
const WILD_STEPS: usize = 400;
const MAX_CALM_STEPS: usize = 2_000;

#[test]
fn every_job_ends_exactly_once() {
    for seed in 0..SEEDS {
        if let Err(cause) = panic::catch_unwind(|| Simulation::new(seed).run()) {
            eprintln!("this was seed {seed}: replay it with Simulation::new({seed}).run()");
            panic::resume_unwind(cause);
        }
    }
}

/// A worker's own view: which connection it believes to have, and what it believes to hold.
#[derive(Default)]
struct Peer {
    connection: Option<WorkerId>,
    /// The coordinator has not noticed yet that the connection is dead.
    cut: bool,
    held: Vec<JobRef>,
    answered: Vec<JobRef>,
}

struct Simulation {
    rng: Rng,
    now: Timestamp,
    /// What the database holds: it survives a restart.
    jobs: Vec<Job>,
    roster: Roster,
    peers: Vec<Peer>,
    names: u64,
    endings: Vec<u32>,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        Self {
            rng: Rng::with_seed(seed),
            now: Timestamp(1_000_000),
            jobs: (0..JOBS).map(Job::new).collect(),
            roster: Roster::default(),
            peers: (0..WORKERS).map(|_| Peer::default()).collect(),
            names: 0,
            endings: vec![0; JOBS as usize],
        }
    }

    fn run(mut self) {
        for _ in 0..WILD_STEPS {
            let peer = self.rng.usize(..WORKERS);
            match self.rng.u32(..100) {
                0..20 => self.connect(peer),
                20..30 => self.cut(peer),
                30..34 => self.crash(peer),
                34..36 => self.restart(),
                36..40 => self.hand_back(peer),
                40..60 => self.answer(peer),
                60..65 => self.repeat(peer),
                65..70 => self.forge(),
                70..80 => self.notice_cut(peer),
                _ => self.report_progress(peer),
            }
            let pause = self.rng.u64(..12);
            self.tick(pause);
        }
        // From here on everybody behaves, and the rest of the queue has to come to an end.
        for _ in 0..MAX_CALM_STEPS {
            if self.jobs.iter().all(|job| matches!(job.state, State::Done | State::Failed)) {
                assert!(self.endings.iter().all(|endings| *endings == 1), "{:?}", self.endings);
                return;
            }
            for peer in 0..WORKERS {
                self.connect(peer);
                self.report_progress(peer);
                self.answer(peer);
            }
            self.tick(3);
        }
        panic!("the queue never empties: {:?}", self.jobs);
    }

    fn name(&mut self) -> u64 {
        self.names += 1;
        self.names
    }

    /// What the coordinator does by itself: end leases, drop the silent, hand out, and never break its own rules.
    fn tick(&mut self, seconds: u64) {
        self.now = self.now.plus_seconds(seconds);
        let now = self.now;
        for index in 0..self.jobs.len() {
            if self.jobs[index].has_expired(now) {
                let lease = self.jobs[index].token.clone().expect("a leased job has a token");
                self.roster.take(&JobRef { job: index as i64, lease: lease.clone() });
                let ending = self.jobs[index].expire(&lease, now);
                self.note(index, ending);
            }
        }
        for id in self.roster.silent(now) {
            self.lose_connection(id);
        }
        while let Some(id) = self.roster.next_taker(0, |_| true).map(|worker| worker.id) {
            let lease = format!("lease {}", self.name());
            let Some(job) =
                self.jobs.iter_mut().find_map(|job| job.lease(lease.clone(), "anybody", now).ok().map(|()| job.id))
            else {
                break;
            };
            let given = JobRef { job, lease };
            assert!(self.roster.give(id, Held::new(given.clone(), String::new(), now)));
            // A message into a cut connection is lost.
            if let Some(peer) = self.peers.iter_mut().find(|peer| peer.connection == Some(id) && !peer.cut) {
                peer.held.push(given);
            }
        }
        self.check();
    }

    fn check(&self) {
        for job in &self.jobs {
            assert!(job.attempts <= MAX_ATTEMPTS && job.leases <= MAX_LEASES, "{job:?}");
            let holders = self.roster.iter().filter(|worker| worker.held.iter().any(|held| held.job.job == job.id));
            assert!(holders.count() <= 1, "{job:?} is held twice");
        }
        for worker in self.roster.iter() {
            assert!(worker.held.len() <= usize::from(MAX_JOBS_PER_WORKER), "{worker:?}");
            for held in &worker.held {
                let job = &self.jobs[held.job.job as usize];
                assert!(job.is_held_under(&held.job.lease, self.now), "{worker:?} holds {job:?}");
            }
        }
    }

    fn note(&mut self, index: usize, answer: Result<Answer, NotYourLease>) {
        self.endings[index] += u32::from(matches!(answer, Ok(Answer::Stored | Answer::GivenUp)));
    }

    /// The worker connects anew, whatever has become of its last connection, and shows what it holds.
    fn connect(&mut self, peer: usize) {
        if self.peers[peer].connection.is_some() && !self.peers[peer].cut {
            return;
        }
        let id = self.name();
        let capacity = Capacity { jobs: 2, max_audio_bytes: 1 };
        let device = Device { backend: "flex".into(), name: "CPU".into() };
        let mut worker =
            Worker::new(id, format!("peer {peer}"), WorkerKind::Native, device, "sim".into(), capacity, self.now);
        let (jobs, now) = (&mut self.jobs, self.now);
        self.peers[peer].held.truncate(usize::from(MAX_JOBS_PER_WORKER));
        self.peers[peer].held.retain(|held| jobs[held.job as usize].resume(&held.lease, now).is_ok());
        worker.held = self.peers[peer].held.iter().map(|held| Held::new(held.clone(), String::new(), now)).collect();
        for earlier in self.roster.join(worker) {
            self.lose_connection(earlier);
        }
        self.peers[peer].connection = Some(id);
        self.peers[peer].cut = false;
    }

    /// The connection dies; neither the worker's memory nor the coordinator's knows yet.
    fn cut(&mut self, peer: usize) {
        self.peers[peer].cut = self.peers[peer].connection.is_some();
    }

    fn notice_cut(&mut self, peer: usize) {
        if let (Some(id), true) = (self.peers[peer].connection, self.peers[peer].cut) {
            self.lose_connection(id);
        }
    }

    fn lose_connection(&mut self, id: WorkerId) {
        if let Some(peer) = self.peers.iter_mut().find(|peer| peer.connection == Some(id)) {
            peer.connection = None;
            peer.cut = false;
        }
        for held in self.roster.leave(id).map(|worker| worker.held).unwrap_or_default() {
            let ending = self.jobs[held.job.job as usize].lose(&held.job.lease, "lost");
            self.note(held.job.job as usize, ending);
        }
    }

    fn crash(&mut self, peer: usize) {
        self.cut(peer);
        self.peers[peer].held.clear();
    }

    fn restart(&mut self) {
        self.roster = Roster::default();
        for peer in &mut self.peers {
            peer.connection = None;
            peer.cut = false;
        }
    }

    fn hand_back(&mut self, peer: usize) {
        let Some(held) = self.pick_held(peer) else { return };
        self.peers[peer].held.retain(|other| *other != held);
        self.roster.take(&held);
        let ending = self.jobs[held.job as usize].release(&held.lease);
        self.note(held.job as usize, ending);
    }

    fn answer(&mut self, peer: usize) {
        let Some(held) = self.pick_held(peer) else { return };
        self.peers[peer].held.retain(|other| *other != held);
        self.peers[peer].answered.push(held.clone());
        let kind = match self.rng.u32(..10) {
            0 => Some(FailureKind::Permanent),
            1 | 2 => Some(FailureKind::Passing),
            _ => None,
        };
        self.roster.take(&held);
        let job = &mut self.jobs[held.job as usize];
        let answer = match kind {
            None => job.complete(&held.lease),
            Some(kind) => job.fail(&held.lease, &Failure { kind, message: "failed".into() }, self.now),
        };
        self.note(held.job as usize, answer);
    }

    /// The worker did not hear that its answer had arrived, and gives it again: nothing may come of it.
    fn repeat(&mut self, peer: usize) {
        if self.peers[peer].cut || self.peers[peer].answered.is_empty() {
            return;
        }
        let index = self.rng.usize(..self.peers[peer].answered.len());
        let again = self.peers[peer].answered[index].clone();
        let before = self.jobs[again.job as usize].clone();
        let answer = self.jobs[again.job as usize].complete(&again.lease);
        assert!(matches!(answer, Ok(Answer::Repeated) | Err(NotYourLease)), "{answer:?} for {before:?}");
        let job = &mut self.jobs[again.job as usize];
        assert_eq!(job.renew(&again.lease, self.now), Err(NotYourLease));
        assert_eq!(job.resume(&again.lease, self.now), Err(NotYourLease));
        assert_eq!(job.release(&again.lease), Err(NotYourLease));
        assert_eq!(*job, before);
    }

    /// The worker answers under a lease it was never given.
    fn forge(&mut self) {
        let job = self.rng.choice(&mut self.jobs).expect("there are jobs");
        let before = job.clone();
        let failure = Failure { kind: FailureKind::Permanent, message: "forged".into() };
        assert_eq!(job.complete("forged"), Err(NotYourLease));
        assert_eq!(job.fail("forged", &failure, self.now), Err(NotYourLease));
        assert_eq!(job.release("forged"), Err(NotYourLease));
        assert_eq!(job.resume("forged", self.now), Err(NotYourLease));
        assert_eq!(*job, before);
    }

    fn report_progress(&mut self, peer: usize) {
        if let (Some(id), false) = (self.peers[peer].connection, self.peers[peer].cut) {
            self.roster.heard(id, self.now);
            let (jobs, now) = (&mut self.jobs, self.now);
            self.peers[peer].held.retain(|held| jobs[held.job as usize].renew(&held.lease, now).is_ok());
        }
    }

    fn pick_held(&mut self, peer: usize) -> Option<JobRef> {
        self.peers[peer].connection.filter(|_| !self.peers[peer].cut)?;
        self.rng.choice(&self.peers[peer].held).cloned()
    }
}
