//! Kills coordinators and workers at any moment of a session, all on one PostgreSQL, and checks that every track is
//! stored once, with the vector of its own content.
//!
//! Real `chaarfm-server` processes share a database behind a load balancer; simulated workers connect to the balancer.
//! For a while, each process lives for a random time, is killed with SIGKILL, and is started again. Then all stay alive
//! until the session is complete. The seed determines how long each process lives, but not what it is doing when it dies.
//!
//! The rules of the queue (`coordinator/job.rs`) have two consequences, which are not errors:
//! - A track that loses three workers is given up, and its owner may retry it. With typical lifetimes this is so rare
//!   that most runs have none; the harness retries like an owner and reports how often.
//! - If the worker and the coordinator of a lease die at the same time, the lease ends only when it expires, after two
//!   minutes or more. The short form of the test has no time for that, so it keeps the deaths of servers and workers
//!   apart.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    fs::{self, OpenOptions},
    sync::Arc,
    time::Duration,
};

use chaarfm_api::SessionView;
use chaarfm_coordinator::MAX_ATTEMPTS;
use chaarfm_domain::JobState;
use chaarfm_protocol::SessionState;
use chaarfm_test_postgres::Cluster;
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    sync::{Mutex, MutexGuard},
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout},
};

use crate::{Balancer, Server, executable, expect_each_once, make_token, simulated_library, simulated_worker};

/// Time for the session to complete once the killing is over: leases expire, abandoned scans are taken over, failed
/// tracks wait for their next attempt.
const SETTLING_SECONDS: u64 = 600;

/// Longest time before a killed process is restarted.
const MAX_DEAD_MILLIS: u64 = 1000;

/// Interval between reports.
const REPORT_SECONDS: u64 = 10;

/// At most one in this many tracks may be given up and retried; more is not bad luck.
const TRACKS_PER_RETRY: usize = 50;

/// Maximum number of times that all failed tracks are retried.
const MAX_RETRIES: usize = 3;

/// Parameters of a run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How long processes are killed.
    pub killing: Duration,
    pub jobs: usize,
    pub workers: usize,
    pub servers: usize,
    /// Average lifetime of a process; the maximum is twice that.
    pub server_life: Duration,
    pub worker_life: Duration,
    /// Minimum time between the deaths of a server and of a worker. While one death waits for this, all others queue
    /// behind it, so that both kinds get their turn.
    pub apart: Duration,
    /// Determines how long each process lives.
    pub seed: u64,
}

/// Result of a run.
#[derive(Debug, Clone)]
pub struct Outcome {
    pub server_kills: u32,
    pub worker_kills: u32,
    pub tracks: usize,
    /// Tracks that were given up after losing three workers, and retried by their owner.
    pub retried: usize,
    /// Time from the start of the killing to the end of the session.
    pub took: Duration,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { server_kills, worker_kills, tracks, retried, took } = self;
        let seconds = took.as_secs_f32();
        write!(f, "{tracks} tracks, each stored once, in {seconds:.0} s; ")?;
        write!(f, "killed: {server_kills} servers and {worker_kills} workers; ")?;
        write!(f, "given up after three lost workers and tried again: {retried}")
    }
}

/// Carries out a plan. Panics unless servers and workers were killed and every track is stored once. `report` receives
/// progress messages.
pub async fn chaos(plan: &Plan, report: impl Fn(&str)) -> Outcome {
    let ground = Arc::new(Ground::prepare(plan).await);
    let mut servers = Vec::new();
    for number in 0..plan.servers {
        servers.push(ground.start_server(number).await);
    }
    let api = ground.balancer.api.clone();
    let session = api.session().await;
    api.ingest(&session).await;
    let workers: Vec<Child> = (0..plan.workers).map(|_| ground.start_worker(&session)).collect();
    api.wait_for(&session, "the first track", |view| view.counts.done > 0).await;

    let began = Instant::now();
    let end = began + plan.killing;
    let mut server_lives = JoinSet::new();
    for (number, server) in servers.into_iter().enumerate() {
        server_lives.spawn(Arc::clone(&ground).keep_killing_server(number, server, end));
    }
    let mut worker_lives = JoinSet::new();
    for (number, worker) in workers.into_iter().enumerate() {
        worker_lives.spawn(Arc::clone(&ground).keep_killing_worker(number, worker, session.clone(), end));
    }
    while Instant::now() < end {
        sleep(Duration::from_secs(REPORT_SECONDS).min(end - Instant::now())).await;
        report(&ground.describe(&session, began).await);
    }
    let (servers, server_kills): (Vec<Server>, Vec<u32>) = server_lives.join_all().await.into_iter().unzip();
    let (workers, worker_kills): (Vec<Child>, Vec<u32>) = worker_lives.join_all().await.into_iter().unzip();

    report("nobody dies any more");
    let retried = ground.settle(&session, began, &report).await;
    let took = began.elapsed();
    ground.expect_all_stored_once(&session).await;
    drop(workers);
    for server in servers {
        server.stop().await;
    }
    ground.expect_no_panic();
    let (server_kills, worker_kills) = (server_kills.iter().sum(), worker_kills.iter().sum());
    let outcome = Outcome { server_kills, worker_kills, tracks: plan.jobs, retried, took };
    assert!(server_kills > 0 && worker_kills > 0, "too short for anything to be seen: {outcome}");
    assert!(retried <= plan.jobs / TRACKS_PER_RETRY, "too many are given up: {outcome}");
    outcome
}

/// The kind of process to kill.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Server,
    Worker,
}

/// State shared by all processes.
struct Ground {
    plan: Plan,
    database: String,
    balancer: Balancer,
    files: BTreeMap<String, Vec<u8>>,
    library: TempDir,
    logs: TempDir,
    /// Last death of a server and of a worker. The lock is held while a process dies.
    deaths: Mutex<[Option<Instant>; 2]>,
    _cluster: Cluster,
}

impl Ground {
    async fn prepare(plan: &Plan) -> Self {
        let (library, logs) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let cluster = Cluster::start();
        let database = cluster.database();
        let mut program = Command::new(executable("chaarfm-server"));
        program.args(["--database-url", &database]);
        Self {
            plan: plan.clone(),
            balancer: Balancer::start(plan.servers, make_token(&program).await).await,
            database,
            files: simulated_library(library.path(), plan.jobs),
            library,
            logs,
            deaths: Mutex::default(),
            _cluster: cluster,
        }
    }

    async fn start_server(&self, number: usize) -> Server {
        let log = self.logs.path().join(format!("server {number}"));
        let log = OpenOptions::new().create(true).append(true).open(log).unwrap();
        let mut command = Command::new(executable("chaarfm-server"));
        command.args(["--database-url", &self.database, "--log", "warn"]).stderr(log);
        let server = Server::spawn(command, 0, self.library.path()).await;
        self.balancer.set(number, server.address());
        server
    }

    /// The workload is sized so that it would finish when the killing ends, if no process were killed.
    fn start_worker(&self, session: &SessionView) -> Child {
        let Plan { killing, jobs, workers, .. } = &self.plan;
        let mean = (killing.as_millis() as usize * workers / jobs).max(2) as u64;
        let work_millis = mean / 2..mean * 3 / 2;
        simulated_worker(&self.balancer.api.url, session, &work_millis).spawn().unwrap()
    }

    /// Kills the server with this number repeatedly; returns the last one and the number of kills.
    async fn keep_killing_server(self: Arc<Self>, number: usize, mut server: Server, end: Instant) -> (Server, u32) {
        let mut chance = self.chance(number);
        let mut kills = 0;
        while chance.outlived(self.plan.server_life, end).await {
            {
                let Some(_death) = self.death(Kind::Server, end).await else { break };
                server.kill().await;
            }
            kills += 1;
            chance.pause().await;
            server = self.start_server(number).await;
        }
        (server, kills)
    }

    /// Kills the worker with this number repeatedly; returns the last one and the number of kills.
    async fn keep_killing_worker(
        self: Arc<Self>,
        number: usize,
        mut worker: Child,
        session: SessionView,
        end: Instant,
    ) -> (Child, u32) {
        let mut chance = self.chance(self.plan.servers + number);
        let mut kills = 0;
        while chance.outlived(self.plan.worker_life, end).await {
            {
                let Some(_death) = self.death(Kind::Worker, end).await else { break };
                assert_eq!(worker.try_wait().unwrap(), None, "the worker ended by itself");
                worker.kill().await.unwrap();
            }
            kills += 1;
            chance.pause().await;
            worker = self.start_worker(&session);
        }
        (worker, kills)
    }

    fn chance(&self, place: usize) -> Chance {
        Chance(fastrand::Rng::with_seed(self.plan.seed.wrapping_add(place as u64)))
    }

    /// Waits until a process of this kind may die; none if the killing has ended by then. No other process dies while the
    /// guard is held.
    async fn death(&self, kind: Kind, end: Instant) -> Option<MutexGuard<'_, [Option<Instant>; 2]>> {
        let (own, other) = match kind {
            Kind::Server => (0, 1),
            Kind::Worker => (1, 0),
        };
        let mut deaths = self.deaths.lock().await;
        if let Some(death) = deaths[other] {
            sleep_until(death + self.plan.apart).await;
        }
        if Instant::now() >= end {
            return None;
        }
        deaths[own] = Some(Instant::now());
        Some(deaths)
    }

    /// Describes the session's progress, if a server answers.
    async fn describe(&self, session: &SessionView, began: Instant) -> String {
        let mut seen = None;
        let look = self.balancer.api.watch(session, |_| true, &mut seen);
        let seconds = began.elapsed().as_secs();
        match timeout(Duration::from_secs(1), look).await {
            Ok(Some(view)) => {
                let counts = view.counts;
                let (done, leased) = (counts.done, counts.leased);
                format!("{seconds} s: {done} of {} stored, {leased} in hand, {} failed", self.plan.jobs, counts.failed)
            }
            Ok(None) | Err(_) => format!("{seconds} s: nobody answers"),
        }
    }

    /// Waits for the end of the session, retries tracks that were given up, and returns their number.
    async fn settle(&self, session: &SessionView, began: Instant, report: &impl Fn(&str)) -> usize {
        let api = &self.balancer.api;
        let mut retried = 0;
        for _ in 0..=MAX_RETRIES {
            let mut seen = None;
            let complete = api.watch(session, |view| view.state == SessionState::Complete, &mut seen);
            let Ok(Some(view)) = timeout(Duration::from_secs(SETTLING_SECONDS), complete).await else {
                panic!("not complete after {SETTLING_SECONDS} s in peace; last seen: {seen:#?}");
            };
            report(&self.describe(session, began).await);
            if view.counts.failed == 0 {
                return retried;
            }
            for job in api.failures(session).await {
                assert_eq!(job.attempts, MAX_ATTEMPTS, "given up before its time: {job:?}");
                retried += 1;
            }
            api.command(session, "jobs/retry").await;
        }
        panic!("tracks fail again and again though nobody is killed: {:#?}", api.failures(session).await);
    }

    async fn expect_all_stored_once(&self, session: &SessionView) {
        let api = &self.balancer.api;
        let counts = api.session().await.counts;
        assert_eq!((counts.done as usize, counts.open(), counts.failed), (self.plan.jobs, 0, 0));
        let done = api.jobs(session, JobState::Done).await;
        let names: BTreeSet<_> = done.iter().map(|job| &job.track.file).collect();
        assert_eq!((done.len(), names.len()), (self.plan.jobs, self.plan.jobs), "one job for each track");
        expect_each_once(&api.tracks().await, &self.files);
    }

    fn expect_no_panic(&self) {
        for number in 0..self.plan.servers {
            let log = fs::read_to_string(self.logs.path().join(format!("server {number}"))).unwrap();
            assert!(!log.contains("panicked"), "{log}");
        }
    }
}

/// Random lifetimes of the processes with one number.
struct Chance(fastrand::Rng);

impl Chance {
    /// Waits for the end of a lifetime. Returns false if it lies after the end of the killing.
    async fn outlived(&mut self, mean: Duration, end: Instant) -> bool {
        let death = Instant::now() + mean.mul_f64(2.0 * self.0.f64());
        if death >= end {
            return false;
        }
        sleep_until(death).await;
        true
    }

    async fn pause(&mut self) {
        sleep(Duration::from_millis(self.0.u64(..MAX_DEAD_MILLIS))).await;
    }
}
