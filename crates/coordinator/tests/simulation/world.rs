//! One run: coordinators, workers, what happens to them, and what has to hold whatever happens.

use std::{collections::BTreeSet, ops::AddAssign};

use chaarfm_coordinator::{
    Job, LEASE_SECONDS, MAX_ATTEMPTS, MAX_LEASES, NotYourLease, RESUME_SECONDS, SUSPICIOUS_FAILURES, State, Timestamp,
    Worker,
};
use chaarfm_protocol::{
    Capacity, Device, Failure, FailureKind, JobRef, Stage, WorkerKind,
    limits::{MAX_JOBS_PER_WORKER, PEER_TIMEOUT_SECONDS, TURN_SECONDS},
};
use fastrand::Rng;

use crate::{
    coordinator::{Coordinator, Elsewhere, Said},
    peer::{Connection, Nature, Peer, Work},
    store::{Seen, Store, Word},
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

/// Longest time for which the database, or the storage, is away.
const MAX_OUTAGE_SECONDS: u64 = 200;

/// Outages of the storage one after the other, and the longest time between two of them. Each but the first may rightly be
/// held against a worker: with many more of them that would be a row.
const MAX_OUTAGES: u32 = 3;
const MAX_RESPITE_SECONDS: u64 = 100;

/// For so long after an outage, or a start, no lease is ended: as it stands in `patience.rs`, written down once more.
const GRACE_SECONDS: u64 = 75;

/// What a run, or all runs together, have shown.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    stored: u64,
    given_up: u64,
    outages: u64,
    repeated_outages: u64,
    doubted: u64,
    set_aside: u64,
    cleared: u64,
    jobs: Seen,
}

impl AddAssign for Outcome {
    fn add_assign(&mut self, other: Self) {
        self.stored += other.stored;
        self.given_up += other.given_up;
        self.outages += other.outages;
        self.repeated_outages += other.repeated_outages;
        self.doubted += other.doubted;
        self.set_aside += other.set_aside;
        self.cleared += other.cleared;
        self.jobs += other.jobs;
    }
}

impl Outcome {
    /// Whether each thing that may happen has happened.
    pub(crate) fn has_everything(&self) -> bool {
        let Self { stored, given_up, outages, repeated_outages, doubted, set_aside, cleared, jobs } = self;
        [stored, given_up, outages, repeated_outages, doubted, set_aside, cleared].into_iter().all(|count| *count > 0)
            && jobs.has_everything()
    }
}

/// What befalls those who do nothing wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Weather {
    /// All that can go wrong, for a while.
    Wild,
    /// Nothing: then bad workers must do no harm.
    Calm,
    /// The storage comes and goes, and everybody fails what is not fetched yet: then nobody may be blamed for it.
    Outages,
}

/// A time for which something is away.
#[derive(Debug, Clone, Copy, Default)]
struct Outage {
    from: Timestamp,
    until: Timestamp,
}

impl Outage {
    fn random(rng: &mut Rng, from: Timestamp) -> Self {
        Self { from, until: from.plus_seconds(rng.u64(1..=MAX_OUTAGE_SECONDS)) }
    }

    fn is_on(self, now: Timestamp) -> bool {
        self.from <= now && now < self.until
    }
}

pub(crate) struct World {
    rng: Rng,
    now: Timestamp,
    store: Store,
    coordinators: Vec<Coordinator>,
    /// What each has last told the others.
    told: Vec<Elsewhere>,
    peers: Vec<Peer>,
    /// Tracks that cannot be analysed.
    broken: Vec<bool>,
    weather: Weather,
    database_outage: Outage,
    storage_outage: Outage,
    /// Outages of the storage that are still to come, if it is that weather, and those that have begun.
    outages_to_come: u32,
    storage_outages: u32,
    /// Since when the database has been there.
    database_up_since: Timestamp,
    names: u64,
    outcome: Outcome,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let now = Timestamp(1_000_000);
        let count = rng.usize(1..=MAX_JOBS);
        let coordinators = rng.usize(1..=MAX_COORDINATORS);
        let honest = rng.usize(coordinators..=MAX_HONEST);
        let bad = rng.usize(0..=MAX_BAD);
        let broken_percent = [0, 10, 50][rng.usize(..3)];
        let weather = [Weather::Wild, Weather::Wild, Weather::Wild, Weather::Wild, Weather::Calm, Weather::Outages];
        let weather = weather[rng.usize(..weather.len())];
        let natures = [Nature::BlamesTracks, Nature::FailsAll, Nature::HandsBack, Nature::Crashes];
        let peers: Vec<Peer> = (0..honest + bad)
            .map(|index| {
                let nature = if index < honest { Nature::Honest } else { natures[rng.usize(..natures.len())] };
                Peer::new(format!("peer {index}"), nature)
            })
            .collect();
        let outages_to_come = if weather == Weather::Outages { rng.u32(1..=MAX_OUTAGES) } else { 0 };
        Self {
            now,
            store: Store::new(count),
            told: Vec::new(),
            coordinators: (0..coordinators).map(|_| Coordinator::new(rng.u64(..=MAX_AHEAD_MILLIS))).collect(),
            peers,
            broken: (0..count).map(|_| rng.u32(..100) < broken_percent).collect(),
            weather,
            database_outage: Outage::default(),
            storage_outage: Outage::default(),
            outages_to_come,
            storage_outages: 0,
            database_up_since: now,
            names: 0,
            outcome: Outcome::default(),
            rng,
        }
    }

    /// Lives through it all. Panics when something that must never happen does.
    pub(crate) fn run(mut self) -> Outcome {
        if self.weather == Weather::Wild {
            for _ in 0..WILD_STEPS {
                for peer in 0..self.peers.len() {
                    self.strike_peer(peer);
                }
                self.strike_coordinators();
                self.strike_what_they_need();
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
        let was_away = self.storage_outage.is_on(self.now);
        self.now = self.now.plus_seconds(self.rng.u64(1..=MAX_PAUSE_SECONDS));
        if self.outages_to_come > 0 && self.storage_outage.until <= self.now {
            self.outages_to_come -= 1;
            let begin = self.now.plus_seconds(self.rng.u64(..MAX_RESPITE_SECONDS));
            self.storage_outage = Outage::random(&mut self.rng, begin);
        }
        if self.weather == Weather::Outages && self.storage_outage.is_on(self.now) && !was_away {
            self.storage_outages += 1;
            self.outcome.repeated_outages += u64::from(self.storage_outages > 1);
        }
        let was_down = self.store.is_down;
        self.store.is_down = self.database_outage.is_on(self.now);
        if self.store.is_down || was_down {
            self.database_up_since = self.now;
        }
        self.outcome.outages += u64::from(self.store.is_down && !was_down);
        for peer in 0..self.peers.len() {
            self.work(peer);
        }
        for index in 0..self.coordinators.len() {
            if self.coordinators[index].is_up {
                let said = self.coordinators[index].renew(&mut self.store, self.now);
                said.into_iter().for_each(|said| self.deliver(index, said));
            }
        }
        for index in 0..self.coordinators.len() {
            if self.coordinators[index].is_up {
                let elsewhere = self.elsewhere(index);
                let said = self.coordinators[index].tick(&mut self.store, elsewhere, &mut self.names, self.now);
                said.into_iter().for_each(|said| self.deliver(index, said));
            }
        }
        if self.rng.bool() {
            self.told = self.coordinators.iter().map(Coordinator::tell).collect();
        }
        self.check();
    }

    /// What a coordinator has heard from the others, some of it late.
    fn elsewhere(&self, index: usize) -> Elsewhere {
        let others = self.told.iter().enumerate().filter(|(other, _)| *other != index).map(|(_, told)| *told);
        others.fold(Elsewhere::default(), |all, told| Elsewhere {
            has_company: all.has_company || told.has_company,
            done_since: all.done_since.max(told.done_since),
        })
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

    fn strike_what_they_need(&mut self) {
        match self.rng.u32(..200) {
            0 => self.database_outage = Outage::random(&mut self.rng, self.now),
            1 => self.storage_outage = Outage::random(&mut self.rng, self.now),
            _ => {}
        }
    }

    /// The connection dies, and neither end knows.
    fn cut(&mut self, peer: usize) {
        if let Some(connection) = &mut self.peers[peer].connection {
            connection.is_cut = true;
        }
    }

    /// The worker's process ends; the next one has another name. Mostly its coordinator hears of it at once.
    fn crash(&mut self, peer: usize) {
        let link = self.peers[peer].link().filter(|_| self.rng.u32(..4) > 0);
        if let Some(Connection { coordinator, id, .. }) = link {
            let coordinator = &mut self.coordinators[coordinator];
            let now = coordinator.time(self.now);
            coordinator.lose(&mut self.store, id, now);
        }
        self.names += 1;
        let name = format!("peer {peer}.{}", self.names);
        self.peers[peer] = Peer::new(name, self.peers[peer].nature);
    }

    /// The coordinator's process ends. Its connections do, and what it had in memory.
    fn stop(&mut self, index: usize) {
        self.coordinators[index].stop();
        for peer in &mut self.peers {
            peer.connection = peer.connection.filter(|connection| connection.coordinator != index);
        }
    }

    fn hand_back(&mut self, peer: usize) {
        let Some(connection) = self.peers[peer].link() else { return };
        let Some(job) = self.peers[peer].works.first().map(|work| work.job.clone()) else { return };
        self.peers[peer].drop_job(&job);
        self.coordinators[connection.coordinator].release(&mut self.store, connection.id, &job, self.now);
    }

    /// Answers a job that it has answered before, or was told to drop: with the same, or with something else.
    fn answer_again(&mut self, peer: usize) {
        let Some(connection) = self.peers[peer].link() else { return };
        let Some(job) = self.rng.choice(&self.peers[peer].past).cloned() else { return };
        let words = [Word::Vector, Word::Nonsense, Word::Failed(FailureKind::Passing, "late"), BROKEN];
        // That a track is broken is said of those that are.
        let words = if self.broken[job.job as usize] { &words[1..] } else { &words[..3] };
        let word = words[self.rng.usize(..words.len())];
        self.coordinators[connection.coordinator].answer(&mut self.store, connection.id, &job, word, self.now);
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
        assert_eq!(job.release(lease, now), Err(NotYourLease));
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

    /// Connects, if the worker knows of no connection, and shows what it holds, by mistake some of it twice.
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
        let mut holding: Vec<JobRef> = peer.works.iter().map(|work| work.job.clone()).collect();
        if self.rng.u32(..8) == 0 {
            holding.extend(holding.first().cloned());
        }
        // A coordinator that does not know how far a job was takes its first report for progress, also of the job behind;
        // and a lease that had ended begins anew.
        let is_back = peer.last_coordinator == Some(coordinator);
        let goes_on = |job: &JobRef| {
            let mut held = self.coordinators[coordinator].roster.iter().flat_map(|worker| &worker.held);
            let is_leased = self.store.jobs[job.job as usize].is_leased_under(&job.lease);
            is_back && is_leased && held.any(|held| held.job == *job)
        };
        let all_go_on = peer.works.iter().all(|work| goes_on(&work.job));
        let Some(kept) = self.coordinators[coordinator].join(&mut self.store, worker, &holding, now) else { return };
        if !all_go_on {
            peer.works.iter_mut().for_each(|work| work.moved = now);
        }
        holding.iter().filter(|job| !kept.contains(job)).for_each(|job| peer.drop_job(job));
        peer.connection = Some(Connection { coordinator, id, is_cut: false });
        peer.last_coordinator = Some(coordinator);
    }

    /// Works, and says so.
    fn work(&mut self, index: usize) {
        let now = self.now;
        if !self.peers[index].hangs {
            self.peers[index].work(&mut self.rng, now);
        }
        let peer = &self.peers[index];
        let Some(connection) = peer.link() else { return };
        self.coordinators[connection.coordinator].heard(connection.id, now);
        if !peer.hangs {
            let is_storage_away = self.storage_outage.is_on(now);
            match peer.nature {
                Nature::Crashes if !peer.works.is_empty() => return self.crash(index),
                Nature::HandsBack => self.hand_back(index),
                Nature::Honest | Nature::Crashes => {
                    let is_over = |work: &&Work| work.is_finished || (is_storage_away && work.stage == Stage::Fetching);
                    let over: Vec<JobRef> = peer.works.iter().filter(is_over).map(|work| work.job.clone()).collect();
                    over.iter().for_each(|job| self.answer(index, connection, job));
                }
                // All that it has fails at once.
                Nature::BlamesTracks | Nature::FailsAll => {
                    let all: Vec<JobRef> = peer.works.iter().map(|work| work.job.clone()).collect();
                    all.iter().for_each(|job| self.answer(index, connection, job));
                }
            }
        }
        let peer = &mut self.peers[index];
        let reports: Vec<_> = peer.works.iter().map(|work| (work.job.clone(), work.stage, work.fraction)).collect();
        for (job, stage, fraction) in reports {
            let coordinator = &mut self.coordinators[connection.coordinator];
            if !coordinator.report(connection.id, (&job, stage, fraction), now) {
                peer.drop_job(&job);
            }
        }
    }

    fn answer(&mut self, peer: usize, connection: Connection, job: &JobRef) {
        let has_bad_luck = self.weather == Weather::Wild && self.rng.u32(..20) == 0;
        let is_finished = self.peers[peer].finished().contains(job);
        let word = match self.peers[peer].nature {
            Nature::BlamesTracks => BROKEN,
            Nature::FailsAll if self.rng.bool() => Word::Nonsense,
            Nature::FailsAll => Word::Failed(FailureKind::Passing, ""),
            _ if has_bad_luck || !is_finished => Word::Failed(FailureKind::Passing, "no audio came"),
            _ if self.broken[job.job as usize] && tells_what_it_had(peer) => Word::Undecodable,
            _ if self.broken[job.job as usize] => BROKEN,
            _ => Word::Vector,
        };
        let coordinator = &mut self.coordinators[connection.coordinator];
        if coordinator.answer(&mut self.store, connection.id, job, word, self.now).is_some() {
            self.peers[peer].drop_job(job);
        }
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
                    self.coordinators[coordinator].release(&mut self.store, id, &job, self.now);
                }
            }
            Said::Rejected(..) | Said::Job(..) => {}
        }
    }

    // What has to hold.

    fn check(&self) {
        for (job, record) in self.store.jobs.iter().zip(&self.store.records) {
            assert!(job.attempts <= MAX_ATTEMPTS && job.leases <= MAX_LEASES, "{job:?}");
            assert_eq!((job.attempts, job.leases), (record.tries, record.leases), "each counts once: {job:?}");
            self.check_holders(job.id);
            if job.state == State::Failed {
                let is_due = record.is_called_broken || record.tries == MAX_ATTEMPTS || record.leases == MAX_LEASES;
                assert!(is_due, "given up before its time: {job:?}, {record:?}");
                assert!(job.error.as_ref().is_some_and(|error| !error.trim().is_empty()), "for no reason: {job:?}");
            }
        }
        for coordinator in self.coordinators.iter().filter(|coordinator| coordinator.is_up) {
            self.check_leases(coordinator);
            for worker in coordinator.roster.iter() {
                let leases: BTreeSet<&str> = worker.held.iter().map(|held| held.job.lease.as_str()).collect();
                assert_eq!(leases.len(), worker.held.len(), "it has one twice: {worker:?}");
                assert!(leases.len() <= usize::from(MAX_JOBS_PER_WORKER), "{worker:?}");
            }
        }
        if self.coordinators.iter().any(|coordinator| coordinator.is_up) {
            self.peers.iter().for_each(|peer| self.check_progress(peer));
        }
        // While the database is down nobody can know.
        if !self.store.is_down {
            self.peers.iter().for_each(|peer| self.check_link(peer));
        }
    }

    /// No lease outlives its end for longer than it takes a coordinator that is at work to be sure of it.
    fn check_leases(&self, coordinator: &Coordinator) {
        let now = coordinator.time(self.now);
        let is_overdue = |deadline| self.noticed_by(coordinator, deadline).is_some_and(|noticed| noticed <= now);
        for job in &self.store.jobs {
            let State::Leased { deadline } = job.state else { continue };
            assert!(!is_overdue(deadline), "a lease outlives its end: {job:?}");
        }
        for held in coordinator.roster.iter().flat_map(|worker| &worker.held) {
            assert!(!is_overdue(held.deadline), "a coordinator believes in a lease that is over: {held:?}");
        }
    }

    /// When this coordinator will have noticed, by its clock, that a lease came to an end at that moment.
    fn noticed_by(&self, coordinator: &Coordinator, end: Timestamp) -> Option<Timestamp> {
        let able = coordinator.time(coordinator.at_work_since?.max(self.database_up_since));
        Some(end.max(able.plus_seconds(GRACE_SECONDS + MAX_PAUSE_SECONDS)))
    }

    /// Nobody takes a job from a worker that is connected and works on it, unless a clock is ahead.
    fn check_link(&self, peer: &Peer) {
        let Some(Connection { coordinator, id, .. }) = peer.link() else { return };
        let coordinator = &self.coordinators[coordinator];
        let now = coordinator.time(self.now);
        for held in coordinator.roster.get(id).iter().flat_map(|worker| &worker.held) {
            let job = &self.store.jobs[held.job.job as usize];
            let is_over = job.answered || job.leases != held.number || held.deadline.0 <= now.0 + MAX_AHEAD_MILLIS;
            assert!(is_over || job.is_leased_under(&held.job.lease), "{} has lost {job:?}: {held:?}", peer.name);
        }
    }

    /// Of all who believe to be in charge of a job, one is right at most.
    fn check_holders(&self, id: i64) {
        let job = &self.store.jobs[id as usize];
        let workers = self.coordinators.iter().flat_map(|coordinator| coordinator.roster.iter());
        let holds = |worker: &&Worker| {
            let mut held = worker.held.iter();
            held.any(|held| held.job.job == id && job.is_leased_under(&held.job.lease))
        };
        let mut names: Vec<&str> = workers.filter(holds).map(|worker| worker.name.as_str()).collect();
        names.dedup();
        assert!(names.len() <= 1, "{job:?} is held by {names:?}");
        if let [single] = &self.coordinators[..] {
            let held = single.roster.iter().flat_map(|worker| &worker.held).filter(|held| held.job.job == id);
            let held: Vec<_> = held.collect();
            assert!(held.len() <= 1, "{held:?}");
            assert!(held.iter().all(|held| job.is_leased_under(&held.job.lease)), "{held:?} of {job:?}");
        }
    }

    /// No job stays with a worker in whose hands it does not move, while a coordinator is at work.
    fn check_progress(&self, peer: &Peer) {
        // What moved while the connection was dead is told after it.
        const LIMIT_SECONDS: u64 = LEASE_SECONDS + TURN_SECONDS + PEER_TIMEOUT_SECONDS + 2 * MAX_PAUSE_SECONDS;
        for work in &peer.works {
            let job = &self.store.jobs[work.job.job as usize];
            let resumed = RESUME_SECONDS * u64::from(job.leases);
            let limit = Timestamp(work.moved.plus_seconds(LIMIT_SECONDS).0 + MAX_AHEAD_MILLIS);
            let at_work = self.coordinators.iter().filter(|coordinator| coordinator.is_up);
            let noticed = at_work.filter_map(|coordinator| self.noticed_by(coordinator, limit)).min();
            let is_over = noticed.is_some_and(|noticed| noticed.plus_seconds(resumed) <= self.now);
            let is_kept = job.is_leased_under(&work.job.lease);
            assert!(!is_kept || !is_over, "{} keeps what it does not work on: {job:?}", peer.name);
        }
    }

    /// All jobs are over: as they should be?
    fn finish(mut self) -> Outcome {
        for (job, record) in self.store.jobs.iter().zip(&self.store.records) {
            assert_eq!(record.vectors, u32::from(job.state == State::Done), "stored exactly once, or not: {job:?}");
        }
        let names = |names: fn(&Coordinator) -> &Vec<String>| self.coordinators.iter().flat_map(names);
        let (doubted, set_aside) = (names(|c| &c.doubted), names(|c| &c.set_aside));
        let is_honest =
            |name: &&String| self.peers.iter().any(|peer| peer.name == **name && peer.nature == Nature::Honest);
        if self.weather != Weather::Wild {
            assert_eq!(set_aside.clone().find(is_honest), None, "an honest worker is set aside");
        }
        if self.weather == Weather::Outages && !self.broken.contains(&true) {
            assert_eq!(doubted.clone().find(is_honest), None, "an honest worker is in doubt");
        }
        if self.weather == Weather::Outages {
            let tells = |name: &&String| {
                let honest = self.peers.iter().enumerate().filter(|(_, peer)| peer.nature == Nature::Honest);
                honest.clone().any(|(index, peer)| peer.name == **name && tells_what_it_had(index))
            };
            assert_eq!(
                doubted.clone().find(tells),
                None,
                "an honest worker is in doubt over what is broken for everybody"
            );
        }
        if self.weather == Weather::Calm {
            self.expect_no_harm();
        }
        self.outcome.stored = self.store.jobs.iter().filter(|job| job.state == State::Done).count() as u64;
        self.outcome.given_up = self.store.jobs.len() as u64 - self.outcome.stored;
        self.outcome.doubted = doubted.count() as u64;
        self.outcome.set_aside = set_aside.count() as u64;
        self.outcome.cleared = self.coordinators.iter().map(|coordinator| coordinator.cleared).sum();
        self.outcome.jobs = self.store.seen;
        self.outcome
    }

    /// Bad workers have done no harm to speak of.
    fn expect_no_harm(&self) {
        assert_eq!(self.store.seen.expired, 0, "a lease ran out although its job moved on");
        if self.broken.contains(&true) {
            // Then the honest fail tracks as well, and may be in doubt themselves when the bad ones do.
            return;
        }
        // A worker that has failed, or handed back, fewer in a row than it takes to be suspected is believed.
        let believed = |is_meant: fn(Nature) -> bool| {
            self.peers.iter().filter(|peer| is_meant(peer.nature)).count() * (SUSPICIOUS_FAILURES - 1)
        };
        let circulating = self.store.jobs.iter().filter(|job| job.leases == MAX_LEASES).count();
        let hands_back = believed(|nature| nature == Nature::HandsBack);
        assert!(circulating <= hands_back, "{circulating} were handed back again and again");
        // What fails or is lost three times before anybody there has finished anything is given up; see
        // [`Coordinator::hand_out`].
        let failed = |job: &&Job| job.state == State::Failed && job.attempts < MAX_ATTEMPTS && job.leases < MAX_LEASES;
        let failed: Vec<_> = self.store.jobs.iter().filter(failed).collect();
        assert!(failed.len() <= believed(|nature| nature != Nature::Honest), "bad workers did harm: {failed:?}");
    }
}

/// Older workers do not say which content they have had.
fn tells_what_it_had(peer: usize) -> bool {
    peer.is_multiple_of(2)
}

/// What is said of a track that cannot be analysed.
const BROKEN: Word = Word::Failed(FailureKind::Permanent, "not audio");
