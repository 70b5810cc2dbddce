//! One run: coordinators, workers, the faults, and the invariants that must hold.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
    time::Duration,
};

use chaarfm_api::StartRequest;
use chaarfm_coordinator::{
    Held, Job, LEASE_SECONDS, MAX_ATTEMPTS, MAX_LEASES, RESUME_SECONDS, Reputation, SUSPICIOUS_FAILURES, State,
    Timestamp, Worker, WorkerRegistry,
};
use chaarfm_domain::{Found, Standing};
use chaarfm_protocol::{
    Capacity, Device, Failure, FailureKind, JobId, JobRef, Outcome, PairingCode, Stage, ToServer, ToWorker, Track,
    Trial, VERSION, Vector, WorkerKey, WorkerKind,
    limits::{MAX_JOBS_PER_WORKER, PEER_TIMEOUT_SECONDS, TURN_SECONDS},
};
use chaarfm_sources::Listed;
use chaarfm_store::{memory::Rows, model_spec};
use fastrand::Rng;
use tokio::time::sleep;

use super::{
    clock::{BEGIN, Clock},
    ledger::{Ledger, Seen, Trace},
    peer::{Connection, Nature, Peer, Work},
    process::{LIBRARY, Process, STOP_SECONDS, Site, Surroundings},
    wire::{Gone, wire},
};
use crate::{models, worker_socket::Visitor};

const MAX_JOBS: usize = 24;
const MAX_COORDINATORS: usize = 3;
const MAX_HONEST: usize = 4;
const MAX_BAD: usize = 2;

/// Maximum difference between clocks.
const MAX_AHEAD_MILLIS: u64 = 5_000;

/// Number of steps with faults, maximum length of each, and maximum number of further steps until all jobs are done.
const WILD_STEPS: RangeInclusive<usize> = 20..=90;
const MAX_PAUSE_SECONDS: u64 = 8;
const MAX_CALM_STEPS: usize = 3_000;

/// Maximum gap between events within one step.
const MAX_GAP_MILLIS: u64 = 30;

/// Maximum length of an outage of the database or the storage.
const MAX_OUTAGE_SECONDS: u64 = 200;

/// Maximum number of consecutive storage outages, and maximum time between two. Each but the first may legitimately count
/// against a worker: many more would be enough for probation.
const MAX_OUTAGES: u32 = 3;
const MAX_RESPITE_SECONDS: u64 = 100;

/// No lease is ended for this long after an outage or a start; deliberately repeats the value of `expiry_grace.rs`.
const GRACE_SECONDS: u64 = 75;

/// Maximum time for sending, deciding and storing while the database is up.
const SETTLING_SECONDS: u64 = 20;

/// The conditions for well-behaved participants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Weather {
    /// Every kind of fault, for a while.
    Wild,
    /// No faults: bad workers must do no harm.
    Calm,
    /// The storage goes down repeatedly, and workers fail everything not yet fetched: nobody may be blamed for that.
    Outages,
}

/// A period of unavailability.
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

struct Coordinator {
    /// How far its clock is ahead of the slowest one.
    ahead_millis: u64,
    process: Option<Process>,
}

impl Coordinator {
    /// Its process, if it admits workers.
    fn open(&self) -> Option<&Process> {
        self.process.as_ref().filter(|process| process.is_open())
    }
}

pub(super) struct World {
    rng: Rng,
    site: Site,
    session: PairingCode,
    coordinators: Vec<Coordinator>,
    peers: Vec<Peer>,
    /// Tracks that cannot be analysed.
    broken: Vec<bool>,
    weather: Weather,
    database_outage: Outage,
    storage_outage: Outage,
    /// Remaining storage outages, in that weather, and those that have begun.
    outages_to_come: u32,
    storage_outages: u32,
    names: u64,
    /// When a process or the database last dropped an operation: a lease may then have no holder until it expires.
    trouble: Timestamp,
    /// Standings of workers by process.
    standings: BTreeMap<(usize, String), Standing>,
    doubted: BTreeSet<String>,
    set_aside: BTreeSet<String>,
    /// Apparent violations and when they began: they may be about to resolve.
    unsettled: BTreeMap<String, Timestamp>,
    seen: Seen,
}

/// A valid vector.
fn vector() -> Vector {
    let spec = model_spec(models::default_name()).expect("the default model exists");
    Vector {
        model: spec.name,
        embedding: vec![0.5; spec.embedding_length],
        tags: vec![0.5; spec.tag_count],
        seconds: 200.0,
        patches: 60,
        flags: Vec::new(),
    }
}

fn found(index: usize) -> Found {
    let track = Track { file: format!("{index}"), ..Track::default() };
    Found { track, bytes: 1, version: None, seconds: None, content: Ok(hash(index)) }
}

fn hash(index: usize) -> String {
    format!("content {index}")
}

fn failed(kind: FailureKind, message: &str) -> Outcome {
    Outcome::Failed(Failure { kind, message: message.to_owned() })
}

impl World {
    /// Begins a run.
    pub(super) async fn begin(seed: u64, trace: Trace) -> Self {
        let mut rng = Rng::with_seed(seed);
        let count = rng.usize(1..=MAX_JOBS);
        let coordinators = [1, 1, 1, 2, 2, MAX_COORDINATORS][rng.usize(..6)];
        let honest = rng.usize(coordinators..=MAX_HONEST);
        let bad = rng.usize(0..=MAX_BAD);
        let broken_percent = [0, 10, 50][rng.usize(..3)];
        let weather = [Weather::Wild, Weather::Wild, Weather::Wild, Weather::Wild, Weather::Calm, Weather::Outages];
        let weather = weather[rng.usize(..weather.len())];
        let natures = [Nature::BlamesTracks, Nature::FailsAll, Nature::HandsBack, Nature::Crashes];
        let peers: Vec<Peer> = (0..honest + bad)
            .map(|index| {
                let nature = if index < honest { Nature::Honest } else { natures[rng.usize(..natures.len())] };
                Peer::new(WorkerKey::from_random(index as u128), nature)
            })
            .collect();
        let outages_to_come = if weather == Weather::Outages { rng.u32(1..=MAX_OUTAGES) } else { 0 };
        let ledger = Ledger::new(weather == Weather::Calm, trace);
        let surroundings = Surroundings::new(Clock::starting(), ledger, rng.fork());
        let pause = Duration::from_millis([0, 100, 4_000][rng.usize(..3)]);
        let library = Listed { files: (0..count).map(found).collect(), pause };
        // A single coordinator may have a database that cannot be shared.
        let site = Site::new(surroundings, library, coordinators > 1 || rng.u32(..4) == 0);
        let coordinator = |ahead_millis| Coordinator { ahead_millis, process: None };
        let mut coordinators: Vec<_> = (0..coordinators).map(|_| coordinator(rng.u64(..=MAX_AHEAD_MILLIS))).collect();
        let first = Process::start(&site, 1, coordinators[0].ahead_millis, rng.u64(..));
        let session = first.hub.create_session().await.expect("nothing goes wrong yet").code;
        let active = first.hub.session(&session).await.expect("it is there");
        let request = StartRequest {
            library: LIBRARY.to_owned(),
            collection: "music".to_owned(),
            model: None,
            every_file: false,
        };
        first.hub.start(&active, request).await.expect("nothing goes wrong yet");
        coordinators[0].process = Some(first);
        let mut world = Self {
            site,
            session,
            coordinators,
            peers,
            broken: (0..count).map(|_| rng.u32(..100) < broken_percent).collect(),
            weather,
            database_outage: Outage::default(),
            storage_outage: Outage::default(),
            outages_to_come,
            storage_outages: 0,
            names: 1,
            trouble: Timestamp::ZERO,
            standings: BTreeMap::new(),
            doubted: BTreeSet::new(),
            set_aside: BTreeSet::new(),
            unsettled: BTreeMap::new(),
            seen: Seen::default(),
            rng,
        };
        world.slow_the_database();
        (0..world.coordinators.len()).for_each(|index| world.start(index));
        world
    }

    /// Runs the simulation. Panics on a violation.
    pub(super) async fn run(mut self) -> (Seen, Trace) {
        if self.weather == Weather::Wild {
            for _ in 0..self.rng.usize(WILD_STEPS) {
                for peer in 0..self.peers.len() {
                    self.strike_peer(peer);
                    self.gap().await;
                }
                self.strike_coordinators();
                self.strike_what_they_need();
                self.step().await;
            }
        }
        // From here on everybody behaves as well as possible, and the queue must be completed.
        self.site.surroundings.database().is_erratic = false;
        for peer in &mut self.peers {
            (peer.hangs, peer.is_stuck) = (false, false);
        }
        for _ in 0..MAX_CALM_STEPS {
            let rows = self.site.memory.look().await;
            if self.is_over(&rows) {
                return self.finish(&rows);
            }
            for index in 0..self.coordinators.len() {
                self.start(index);
            }
            for peer in 0..self.peers.len() {
                let coordinator = peer % self.coordinators.len();
                self.connect(peer, coordinator);
            }
            self.step().await;
        }
        let rows = self.site.memory.look().await;
        let scan = rows.scan_owners().next().map(|(_, owner)| owner.unwrap_or("nobody").to_owned());
        panic!(
            "it never ends; scanned by {scan:?}: {:?}",
            rows.jobs().map(|(_, entry)| &entry.row.job).collect::<Vec<_>>()
        );
    }

    fn now(&self) -> Timestamp {
        self.site.surroundings.clock.now()
    }

    fn is_over(&self, rows: &Rows) -> bool {
        let is_over = |job: &Job| matches!(job.state, State::Done | State::Failed);
        rows.scan_owners().next().is_none() && rows.jobs().all(|(_, entry)| is_over(&entry.row.job))
    }

    /// A short random delay or none, so that the events of a step vary in order and overlap with others.
    async fn gap(&mut self) {
        if self.rng.u32(..4) == 0 {
            sleep(Duration::from_millis(self.rng.u64(1..=MAX_GAP_MILLIS))).await;
        }
    }

    async fn step(&mut self) {
        let was_away = self.storage_outage.is_on(self.now());
        // Sometimes many events follow quickly.
        let pause = if self.rng.u32(..4) == 0 {
            self.rng.u64(1..=200)
        } else {
            self.rng.u64(1_000..=MAX_PAUSE_SECONDS * 1_000)
        };
        sleep(Duration::from_millis(pause)).await;
        let now = self.now();
        if self.outages_to_come > 0 && self.storage_outage.until <= now {
            self.outages_to_come -= 1;
            let begin = now.plus_seconds(self.rng.u64(..MAX_RESPITE_SECONDS));
            self.storage_outage = Outage::random(&mut self.rng, begin);
        }
        if self.storage_outage.is_on(now) && !was_away {
            self.seen.storage_outages += 1;
            self.storage_outages += 1;
            self.seen.repeated_storage_outages +=
                u64::from(self.weather == Weather::Outages && self.storage_outages > 1);
        }
        self.tend_database(now);
        for peer in 0..self.peers.len() {
            self.act(peer).await;
            self.gap().await;
        }
        self.tend_processes().await;
        self.check().await;
    }

    fn tend_database(&mut self, now: Timestamp) {
        let is_down = self.database_outage.is_on(now);
        let mut database = self.site.surroundings.database();
        self.seen.database_outages += u64::from(is_down && !database.is_down);
        if is_down || database.is_down {
            database.last_broken = now;
        }
        database.is_down = is_down;
        self.trouble = self.trouble.max(database.last_broken).max(database.last_undone);
    }

    /// Ends processes that were told to stop, and checks that the others are sound.
    async fn tend_processes(&mut self) {
        let now = self.now();
        for index in 0..self.coordinators.len() {
            let process = &mut self.coordinators[index].process;
            if let Some(stopped) = process.take_if(|process| process.has_stopped(now)) {
                stopped.kill();
                self.trouble = now;
            }
            if let Some(process) = process {
                process.expect_sound().await;
            }
        }
    }

    // Faults.

    fn slow_the_database(&mut self) {
        let (one_of, millis, is_erratic) = match self.weather {
            Weather::Calm | Weather::Outages => (8, 20, false),
            Weather::Wild => [(8, 20, false), (2, 400, false), (8, 1_000, false), (8, 20, true)][self.rng.usize(..4)],
        };
        let mut database = self.site.surroundings.database();
        (database.slow_one_of, database.max_delay_millis, database.is_erratic) = (one_of, millis, is_erratic);
    }

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
            // Reconnects even if connected: its coordinators then believe in two connections.
            26..28 => self.connect_anew(peer),
            28..30 => self.leave(peer),
            30..100 if self.peers[peer].link().is_none() => self.connect_anew(peer),
            _ => {}
        }
    }

    fn strike_coordinators(&mut self) {
        let index = self.rng.usize(..self.coordinators.len());
        match self.rng.u32(..200) {
            0..2 => self.kill(index, false),
            2..4 => self.kill(index, true),
            4..6 => self.stop(index),
            6..30 => self.start(index),
            _ => {}
        }
    }

    fn strike_what_they_need(&mut self) {
        let now = self.now();
        match self.rng.u32(..200) {
            0 => self.database_outage = Outage::random(&mut self.rng, now),
            1 => self.storage_outage = Outage::random(&mut self.rng, now),
            _ => {}
        }
    }

    /// The connection dies without either end noticing.
    fn cut(&mut self, peer: usize) {
        if let Some(connection) = &self.peers[peer].connection {
            connection.wire.cut();
        }
    }

    /// The worker's process ends; the next one has another key. Usually its coordinator notices at once.
    fn crash(&mut self, peer: usize) {
        if self.rng.u32(..4) == 0 {
            self.cut(peer);
        }
        self.names += 1;
        let key = WorkerKey::from_random((u128::from(self.names) << 64) + peer as u128);
        self.peers[peer] = Peer::new(key, self.peers[peer].nature);
    }

    /// The worker says goodbye, and drops its jobs.
    fn leave(&mut self, peer: usize) {
        let Some(connection) = self.peers[peer].link() else { return };
        connection.wire.say(ToServer::Bye);
        let peer = &mut self.peers[peer];
        let jobs: Vec<JobRef> = peer.works.iter().map(|work| work.job.clone()).collect();
        jobs.iter().for_each(|job| peer.drop_job(job));
        peer.connection = None;
    }

    /// The coordinator's process dies silently, with its connections and in-memory state; the workers may not notice.
    fn kill(&mut self, index: usize, is_noticed: bool) {
        let Some(process) = self.coordinators[index].process.take() else { return };
        if !is_noticed {
            let of_this = |connection: &&Connection| connection.coordinator == index;
            self.peers.iter().filter_map(|peer| peer.connection.as_ref()).filter(of_this).for_each(|c| c.wire.cut());
        }
        self.seen.stops_during_renewal += u64::from(process.asks("renew_leases"));
        self.seen.crashes += 1;
        process.kill();
        self.standings.retain(|(coordinator, _), _| *coordinator != index);
        self.trouble = self.now();
    }

    /// The coordinator is stopped normally.
    fn stop(&mut self, index: usize) {
        let Some(process) = self.coordinators[index].process.as_mut().filter(|process| process.is_open()) else {
            return;
        };
        self.seen.stops_during_renewal += u64::from(process.asks("renew_leases"));
        self.seen.stops += 1;
        process.stop();
        self.trouble = self.now();
    }

    fn start(&mut self, index: usize) {
        let coordinator = &mut self.coordinators[index];
        if coordinator.process.is_none() {
            self.names += 1;
            let process = Process::start(&self.site, self.names, coordinator.ahead_millis, self.rng.u64(..));
            coordinator.process = Some(process);
            self.standings.retain(|(of, _), _| *of != index);
        }
    }

    fn hand_back(&mut self, peer: usize) {
        let Some(job) = self.peers[peer].works.first().map(|work| work.job.clone()) else { return };
        let Some(connection) = self.peers[peer].link() else { return };
        connection.wire.say(ToServer::Release { job: job.clone() });
        self.peers[peer].drop_job(&job);
    }

    /// Answers a job again that it has answered before or was told to drop, with the same or another answer.
    fn answer_again(&mut self, peer: usize) {
        let Some((job, file)) = self.rng.choice(&self.peers[peer].past).cloned() else { return };
        let late = failed(FailureKind::Passing, "late");
        // Only broken tracks are reported as broken.
        let truth = if self.broken[file] { broken() } else { Outcome::Done(vector()) };
        let outcome = [truth, Outcome::Done(nonsense()), late][self.rng.usize(..3)].clone();
        let Some(connection) = self.peers[peer].link() else { return };
        connection.wire.say(ToServer::Result { job, outcome, content_hash: None });
    }

    /// Sends every kind of message under a lease that nobody was given.
    fn forge(&mut self, peer: usize) {
        let Some((other, _)) = self.rng.choice(&self.peers[peer].past).cloned() else { return };
        // A lease of another job is invalid too.
        let lease = if self.rng.bool() { other.lease } else { "forged".into() };
        let job = JobRef { job: other.job + 1, lease };
        let peer = &mut self.peers[peer];
        if peer.past.iter().any(|(past, _)| *past == job) || peer.works.iter().any(|work| work.job == job) {
            return;
        }
        peer.forged.push(job.clone());
        let Some(connection) = peer.link() else { return };
        let progress = ToServer::Progress { job: job.clone(), stage: Stage::Analysing, fraction: 0.5 };
        connection.wire.say(progress);
        connection.wire.say(ToServer::Release { job: job.clone() });
        let outcome = [broken(), Outcome::Done(vector())][self.rng.usize(..2)].clone();
        connection.wire.say(ToServer::Result { job, outcome, content_hash: None });
    }

    fn connect_anew(&mut self, peer: usize) {
        let coordinator = self.rng.usize(..self.coordinators.len());
        self.peers[peer].connection = None;
        self.connect(peer, coordinator);
    }

    // Workers' actions.

    /// Connects, if the worker knows of no connection. It presents its jobs, some twice by mistake, an invalid lease, or
    /// nothing.
    fn connect(&mut self, peer: usize, coordinator: usize) {
        let now = self.now();
        let Some(process) = self.coordinators[coordinator].process.as_mut().filter(|process| process.is_open()) else {
            return;
        };
        let peer = &mut self.peers[peer];
        if peer.link().is_some() {
            return;
        }
        let mut holding: Vec<JobRef> = peer.works.iter().map(|work| work.job.clone()).collect();
        if self.rng.u32(..8) == 0 {
            holding.extend(holding.first().cloned());
        }
        if self.rng.u32(..8) == 0 {
            holding.extend(peer.forged.last().cloned());
        }
        // Its finished jobs are then answered late.
        if self.weather == Weather::Wild && self.rng.u32(..6) == 0 {
            holding.clear();
        }
        // A coordinator that does not know a job's progress counts its first report as progress, for the job behind it too;
        // and a lease that had ended begins anew.
        let this = (coordinator, process.started);
        let is_back = peer.last == Some(this);
        let active = process.active(&self.session);
        let knows = |job: &JobRef| {
            let is_held = |registry: &WorkerRegistry| registry.iter().any(|worker| worker.holds(job));
            active.as_ref().is_some_and(|active| active.inspect(|registry, _| is_held(registry)))
        };
        if !is_back || !peer.works.iter().all(|work| knows(&work.job)) {
            peer.works.iter_mut().for_each(|work| work.moved = now);
        }
        self.seen.joins_during_claim += u64::from(process.asks("claim"));
        let (wire, wired) = wire(&peer.name, &self.site.surroundings);
        process.connect(self.session, Visitor::default(), wired);
        wire.say(ToServer::Hello {
            protocol: VERSION,
            agent: "simulation".to_owned(),
            kind: WorkerKind::Native,
            device: Device { backend: "flex".into(), name: "CPU".into() },
            trial: Trial::default(),
            capacity: Capacity { jobs: MAX_JOBS_PER_WORKER, max_audio_bytes: 1 },
            key: Some(peer.key.clone()),
            holding,
        });
        peer.begin_anew(Connection { coordinator, wire, is_welcome: false }, this);
    }

    /// Reads all pending messages.
    fn listen(&mut self, index: usize) {
        let now = self.now();
        let peer = &mut self.peers[index];
        while let Some(connection) = peer.connection.as_mut().filter(|connection| !connection.wire.is_cut()) {
            match connection.wire.hear() {
                Ok(None) => return,
                Err(Gone) => peer.connection = None,
                Ok(Some(ToWorker::Welcome { .. })) => connection.is_welcome = true,
                Ok(Some(ToWorker::Refused { message, .. })) => {
                    assert!(message.contains("busy"), "{} is refused: {message}", peer.name);
                    peer.connection = None;
                }
                Ok(Some(ToWorker::Job(job))) => {
                    let file = job.track.file.parse().expect("files are called by numbers");
                    if !peer.take(job.job.clone(), file, now)
                        && let Some(connection) = peer.link()
                    {
                        connection.wire.say(ToServer::Release { job: job.job });
                    }
                }
                Ok(Some(ToWorker::Accepted { job, outcome })) => {
                    assert!(!peer.forged.contains(&job), "{}: {outcome:?} under a forged lease: {job:?}", peer.name);
                    peer.drop_job(&job);
                }
                Ok(Some(ToWorker::Rejected { job, .. })) => {
                    self.seen.refused_answers += u64::from(!peer.works.iter().any(|work| work.job == job));
                    peer.drop_job(&job);
                }
                Ok(Some(_)) => {}
            }
        }
    }

    /// Works, and reports progress.
    async fn act(&mut self, index: usize) {
        self.listen(index);
        let now = self.now();
        if !self.peers[index].hangs {
            self.peers[index].work(&mut self.rng, now);
        }
        let peer = &self.peers[index];
        let Some(connection) = peer.link().filter(|connection| connection.is_welcome) else { return };
        connection.wire.say(ToServer::Pong);
        if !peer.hangs {
            let is_storage_away = self.storage_outage.is_on(now);
            match peer.nature {
                Nature::Crashes if !peer.works.is_empty() => return self.crash(index),
                Nature::HandsBack => self.hand_back(index),
                Nature::Honest | Nature::Crashes => {
                    let is_over = |work: &&Work| work.is_finished || (is_storage_away && work.stage == Stage::Fetching);
                    self.answer_all(index, is_over);
                }
                // All its jobs fail at once.
                Nature::BlamesTracks | Nature::FailsAll => self.answer_all(index, |_| true),
            }
        }
        let peer = &self.peers[index];
        let Some(connection) = peer.link() else { return };
        for Work { job, stage, fraction, .. } in &peer.works {
            connection.wire.say(ToServer::Progress { job: job.clone(), stage: *stage, fraction: *fraction });
        }
    }

    fn answer_all(&mut self, index: usize, is_over: impl Fn(&&Work) -> bool) {
        let now = self.now();
        let over = self.peers[index].works.iter().filter(is_over).filter(|work| work.is_to_be_answered(now));
        let over: Vec<_> = over.map(|work| (work.job.clone(), work.file, work.is_finished)).collect();
        over.into_iter().for_each(|(job, file, is_finished)| self.answer(index, job, file, is_finished));
    }

    fn answer(&mut self, index: usize, job: JobRef, file: usize, is_finished: bool) {
        let now = self.now();
        let has_bad_luck = self.weather == Weather::Wild && self.rng.u32(..20) == 0;
        let nature = self.peers[index].nature;
        let is_truth = matches!(nature, Nature::Honest | Nature::Crashes) && !has_bad_luck && is_finished;
        let outcome = match nature {
            Nature::BlamesTracks => broken(),
            Nature::FailsAll if self.rng.bool() => {
                self.seen.invalid += 1;
                Outcome::Done(nonsense())
            }
            Nature::FailsAll => failed(FailureKind::Passing, ""),
            _ if !is_truth => failed(FailureKind::Passing, "no audio came"),
            _ if self.broken[file] => broken(),
            _ => Outcome::Done(vector()),
        };
        let content_hash = (is_truth && tells_what_it_had(index)).then(|| hash(file));
        let peer = &mut self.peers[index];
        peer.has_answered(&job, now);
        if let Some(connection) = peer.link() {
            connection.wire.say(ToServer::Result { job, outcome, content_hash });
        }
    }

    // Invariants.

    async fn check(&mut self) {
        let rows = self.site.memory.look().await;
        if let Some(violation) = &self.site.surroundings.ledger().violation {
            panic!("{violation}");
        }
        self.check_holders(&rows);
        self.look_at_standings();
        let mut unsettled = Vec::new();
        for coordinator in &self.coordinators {
            if let Some(process) = coordinator.open() {
                self.check_leases(process, &rows, &mut unsettled);
                self.check_counts(process);
            }
        }
        self.check_orphans(&rows, &mut unsettled);
        self.peers.iter().for_each(|peer| self.check_progress(peer, &rows));
        // While the database is down, nothing can be said.
        if !self.site.surroundings.database().is_down {
            self.peers.iter().for_each(|peer| self.check_link(peer, &rows, &mut unsettled));
        }
        self.settle(unsettled);
    }

    /// Apparent violations must resolve soon.
    fn settle(&mut self, unsettled: Vec<String>) {
        let now = self.now();
        let before = std::mem::take(&mut self.unsettled);
        for what in unsettled {
            let since = before.get(&what).copied().unwrap_or(now);
            assert!(now <= since.plus_seconds(SETTLING_SECONDS), "{what}, since {} s", now.millis_since(since) / 1000);
            self.unsettled.insert(what, since);
        }
    }

    /// At most one of the workers and coordinators that believe they hold a job is right.
    fn check_holders(&self, rows: &Rows) {
        let mut holders: BTreeMap<JobId, String> = BTreeMap::new();
        for process in self.coordinators.iter().filter_map(|coordinator| coordinator.process.as_ref()) {
            let Some(active) = process.active(&self.session) else { continue };
            active.inspect(|registry, _| {
                for worker in registry.iter() {
                    let leases: BTreeSet<&str> = worker.held.iter().map(|held| held.job.lease.as_str()).collect();
                    assert_eq!(leases.len(), worker.held.len(), "it has one twice: {worker:?}");
                    assert!(leases.len() <= usize::from(MAX_JOBS_PER_WORKER), "{worker:?}");
                    for held in &worker.held {
                        let row = rows.job(held.job.job).map(|entry| &entry.row.job);
                        if row.is_some_and(|job| job.is_leased_under(&held.job.lease)) {
                            let other = holders.insert(held.job.job, worker.name.clone());
                            assert!(
                                other.as_ref().is_none_or(|other| *other == worker.name),
                                "{row:?} is held by {} and {other:?}",
                                worker.name
                            );
                        }
                    }
                }
            });
        }
    }

    fn look_at_standings(&mut self) {
        for (index, coordinator) in self.coordinators.iter().enumerate() {
            let Some(active) = coordinator.open().and_then(|process| process.active(&self.session)) else { continue };
            let standings = active.inspect(|registry: &WorkerRegistry, reputation: &Reputation| {
                let standing = |worker: &Worker| (worker.name.clone(), reputation.standing(&worker.name));
                registry.iter().map(standing).collect::<Vec<_>>()
            });
            for (name, standing) in standings {
                let before = self.standings.insert((index, name.clone()), standing).unwrap_or(Standing::Good);
                if standing == before {
                    continue;
                }
                let seen = &mut self.seen;
                match standing {
                    Standing::OnProbation => seen.doubted += u64::from(self.doubted.insert(name.clone())),
                    Standing::SetAside => seen.set_aside += u64::from(self.set_aside.insert(name.clone())),
                    Standing::Good => seen.cleared += 1,
                }
                self.site.surroundings.ledger().suspects.insert(name);
            }
        }
    }

    /// No lease outlives its deadline longer than a working coordinator needs to be sure of it, and nobody keeps an ended
    /// one.
    fn check_leases(&self, process: &Process, rows: &Rows, unsettled: &mut Vec<String>) {
        let now = process.time();
        let is_overdue = |deadline| self.noticed_by(process, deadline) <= now;
        for (_, entry) in rows.jobs() {
            let State::Leased { deadline } = entry.row.job.state else { continue };
            assert!(!is_overdue(deadline), "a lease outlives its end: {:?}", entry.row.job);
        }
        let Some(active) = process.active(&self.session) else { return };
        let is_down = self.site.surroundings.database().is_down;
        active.inspect(|registry, _| {
            for held in registry.iter().flat_map(|worker| &worker.held) {
                assert!(!is_overdue(held.deadline), "a coordinator believes in a lease that is over: {held:?}");
                let is_held =
                    rows.job(held.job.job).is_some_and(|entry| entry.row.job.is_leased_under(&held.job.lease));
                if !is_held && !is_down && !self.site.is_shared && self.trouble < self.leased(&held.job) {
                    unsettled
                        .push(format!("a coordinator that is alone believes in a lease that is over: {:?}", held.job));
                }
            }
        });
    }

    fn leased(&self, job: &JobRef) -> Timestamp {
        self.site.surroundings.ledger().record(job.job).leased
    }

    /// The time on this coordinator's clock by which it must have noticed the end of a lease.
    fn noticed_by(&self, process: &Process, end: Timestamp) -> Timestamp {
        let ahead = process.time().millis_since(self.now());
        let able = process.started.max(self.site.surroundings.database().last_broken);
        end.max(Timestamp(able.0 + ahead).plus_seconds(GRACE_SECONDS)).plus_seconds(SETTLING_SECONDS)
    }

    /// No worker has more tracks counted than it was told.
    fn check_counts(&self, process: &Process) {
        let Some(active) = process.active(&self.session) else { return };
        active.inspect(|registry, _| {
            for worker in registry.iter() {
                let told = self.site.surroundings.ledger().told_stored(&worker.name);
                // A counted track is reported in the next moment.
                assert!(worker.done <= told + 1, "{} of {} were counted: {worker:?}", worker.done, told);
            }
        });
    }

    /// Every lease has a holder, unless the holder has died.
    fn check_orphans(&self, rows: &Rows, unsettled: &mut Vec<String>) {
        for (id, entry) in rows.jobs() {
            let job = &entry.row.job;
            let Some(token) = job.token.clone().filter(|_| job.deadline().is_some()) else { continue };
            let lease = JobRef { job: id, lease: token };
            let is_excused = self.leased(&lease) <= self.trouble.plus_seconds(SETTLING_SECONDS);
            let is_held = |process: &Process| {
                let active = process.active(&self.session);
                active.is_some_and(|active| {
                    active.inspect(|registry, _| registry.iter().any(|worker| worker.holds(&lease)))
                })
            };
            let mut processes = self.coordinators.iter().filter_map(|coordinator| coordinator.process.as_ref());
            if !is_excused && !processes.any(is_held) {
                unsettled.push(format!("nobody has {lease:?}, and nobody has taken it back"));
            }
        }
    }

    /// A connected worker that works on a job does not lose it, unless a clock is ahead.
    fn check_link(&self, peer: &Peer, rows: &Rows, unsettled: &mut Vec<String>) {
        let Some(connection) = peer.link() else { return };
        let Some(process) = self.coordinators[connection.coordinator].open() else { return };
        let Some(active) = process.active(&self.session) else { return };
        let now = process.time();
        let is_lost = |held: &&Held| {
            let Some(job) = rows.job(held.job.job).map(|entry| &entry.row.job) else { return true };
            let is_over = job.answered || job.leases != held.number || held.deadline.0 <= now.0 + MAX_AHEAD_MILLIS;
            !is_over && !job.is_leased_under(&held.job.lease)
        };
        active.inspect(|registry, _| {
            for worker in registry.iter().filter(|worker| worker.name == peer.name) {
                let is_own = |held: &&Held| peer.works.iter().any(|work| work.job == held.job);
                let lost = worker.held.iter().filter(is_own).filter(is_lost);
                unsettled.extend(lost.map(|held| format!("{} has lost {:?}", peer.name, held.job)));
            }
        });
    }

    /// No job stays with a worker without progress while a coordinator works.
    fn check_progress(&self, peer: &Peer, rows: &Rows) {
        // Progress made on a dead connection is reported later.
        const LIMIT_SECONDS: u64 = LEASE_SECONDS + TURN_SECONDS + PEER_TIMEOUT_SECONDS + 2 * MAX_PAUSE_SECONDS;
        for work in &peer.works {
            let Some(job) = rows.job(work.job.job).map(|entry| &entry.row.job) else { continue };
            if !job.is_leased_under(&work.job.lease) {
                continue;
            }
            let moved = work.moved.max(self.site.surroundings.ledger().record(job.id).revived);
            let resumed = RESUME_SECONDS * u64::from(job.leases);
            let limit = Timestamp(moved.plus_seconds(LIMIT_SECONDS + resumed).0 + MAX_AHEAD_MILLIS);
            let at_work = self.coordinators.iter().filter_map(Coordinator::open);
            let noticed = at_work.map(|process| (self.noticed_by(process, limit), process.time()));
            let is_over = noticed.into_iter().any(|(noticed, now)| noticed <= now);
            assert!(!is_over, "{} keeps what it does not work on: {job:?}", peer.name);
        }
    }

    /// All jobs are over: checks the outcome.
    fn finish(mut self, rows: &Rows) -> (Seen, Trace) {
        assert_eq!(rows.jobs().count(), self.broken.len(), "not every file has become a job");
        for (_, entry) in rows.jobs() {
            let vectors = usize::from(entry.row.job.state == State::Done);
            assert_eq!(rows.vectors_of(&entry.row.content_hash), vectors, "stored exactly once, or not: {entry:?}");
            self.seen.stored += vectors as u64;
            self.seen.given_up += 1 - vectors as u64;
        }
        let honest: Vec<(usize, &Peer)> =
            self.peers.iter().enumerate().filter(|(_, peer)| peer.nature == Nature::Honest).collect();
        let is_honest = |name: &&String| honest.iter().any(|(_, peer)| peer.name == **name);
        if self.weather != Weather::Wild {
            assert_eq!(self.set_aside.iter().find(is_honest), None, "an honest worker is set aside");
        }
        if self.weather == Weather::Outages && !self.broken.contains(&true) {
            assert_eq!(self.doubted.iter().find(is_honest), None, "an honest worker is in doubt");
        }
        if self.weather == Weather::Outages {
            let tells =
                |name: &&String| honest.iter().any(|(index, peer)| peer.name == **name && tells_what_it_had(*index));
            let doubted = self.doubted.iter().find(tells);
            assert_eq!(doubted, None, "an honest worker is in doubt over what is broken for everybody");
        }
        let mut ledger = self.site.surroundings.ledger();
        let (mut seen, trace) = (ledger.seen, std::mem::take(&mut ledger.trace));
        drop(ledger);
        if self.weather == Weather::Calm {
            self.expect_no_harm(rows, seen.expired);
        }
        seen += self.seen;
        seen.seconds = self.now().millis_since(BEGIN) / 1000;
        (seen, trace)
    }

    /// Checks that bad workers have done little harm.
    fn expect_no_harm(&self, rows: &Rows, expired: u64) {
        assert_eq!(expired, 0, "a lease ran out although its job moved on");
        if self.broken.contains(&true) {
            // Honest workers then fail tracks too, and may be on probation when the bad ones fail.
            return;
        }
        // A worker is trusted as long as it has fewer failures or returns in a row than needed for suspicion.
        let believed = |is_meant: fn(Nature) -> bool| {
            self.peers.iter().filter(|peer| is_meant(peer.nature)).count() * (SUSPICIOUS_FAILURES - 1)
        };
        let jobs = || rows.jobs().map(|(_, entry)| &entry.row.job);
        let circulating = jobs().filter(|job| job.leases == MAX_LEASES).count();
        let hands_back = believed(|nature| nature == Nature::HandsBack);
        assert!(circulating <= hands_back, "{circulating} were handed back again and again");
        // A job that fails or is lost three times before any worker has finished a track is given up: see
        // `WorkerRegistry::proven_up_to`.
        let failed = |job: &&Job| job.state == State::Failed && job.attempts < MAX_ATTEMPTS && job.leases < MAX_LEASES;
        let failed: Vec<_> = jobs().filter(failed).collect();
        assert!(failed.len() <= believed(|nature| nature != Nature::Honest), "bad workers did harm: {failed:?}");
    }
}

/// Older workers do not report the content's hash.
fn tells_what_it_had(peer: usize) -> bool {
    peer.is_multiple_of(2)
}

/// The answer for a track that cannot be analysed.
fn broken() -> Outcome {
    failed(FailureKind::Permanent, "not audio")
}

/// A vector that does not fit the model.
fn nonsense() -> Vector {
    Vector { embedding: vec![f32::NAN], ..vector() }
}

const _: () = assert!(STOP_SECONDS < SETTLING_SECONDS);
