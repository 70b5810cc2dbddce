//! A coordinator's process: the real hub with its own clock and random source, on an unreliable database.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use chaarfm_coordinator::{Timestamp, VerifyShare};
use chaarfm_protocol::PairingCode;
use chaarfm_sources::{Libraries, Listed};
use chaarfm_store::{
    Store,
    memory::{Conditions, Memory, Rows, Way},
};
use fastrand::Rng;
use tokio::task::JoinHandle;

use super::{
    clock::Clock,
    ledger::{Ledger, Moment},
    wire::Wired,
};
use crate::{
    advertised_address::AdvertisedAddress,
    hub::{ActiveSession, Environment, Hub},
    verification::Verifier,
    worker_socket::{Visitor, serve},
};

/// The name of the library of all coordinators.
pub(super) const LIBRARY: &str = "library";

/// Time limit for stopping a process; deliberately repeats the value of `lib.rs`.
pub(super) const STOP_SECONDS: u64 = 8;

/// Maximum time until a database failure is noticed.
const MAX_BROKEN_MILLIS: u64 = 3_000;

/// One in this many queries is rolled back, or its answer lost, on an erratic database.
const UNDONE: u32 = 100;
const LOST: u32 = 400;

/// State shared by all processes.
#[derive(Debug, Clone)]
pub(super) struct Surroundings {
    pub(super) clock: Clock,
    pub(super) ledger: Arc<Mutex<Ledger>>,
    database: Arc<Mutex<Database>>,
}

/// The state of the database.
#[derive(Debug)]
pub(super) struct Database {
    rng: Rng,
    pub(super) is_down: bool,
    /// When an answer was last lost, and when a query was last rolled back.
    pub(super) last_broken: Timestamp,
    pub(super) last_undone: Timestamp,
    /// One in this many queries is slow, with this maximum delay.
    pub(super) slow_one_of: u32,
    pub(super) max_delay_millis: u64,
    /// Whether queries are rolled back and answers lost.
    pub(super) is_erratic: bool,
}

impl Surroundings {
    pub(super) fn new(clock: Clock, ledger: Ledger, rng: Rng) -> Self {
        let database = Database {
            rng,
            is_down: false,
            last_broken: Timestamp::ZERO,
            last_undone: Timestamp::ZERO,
            slow_one_of: 1,
            max_delay_millis: 0,
            is_erratic: false,
        };
        Self { clock, ledger: Arc::new(Mutex::new(ledger)), database: Arc::new(Mutex::new(database)) }
    }

    pub(super) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn database(&self) -> MutexGuard<'_, Database> {
        self.database.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The conditions of one process.
#[derive(Debug)]
struct Circumstances {
    surroundings: Surroundings,
    clock: Clock,
    number: u64,
    is_alive: AtomicBool,
    /// Its running database queries.
    asked: Mutex<BTreeMap<&'static str, u32>>,
    /// The other processes.
    others: Arc<Mutex<Vec<Arc<Circumstances>>>>,
}

impl Circumstances {
    fn asks(&self, operation: &str) -> bool {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        self.is_alive.load(Ordering::Relaxed) && asked.get(operation).is_some_and(|count| *count > 0)
    }

    fn count(&self, operation: &'static str, change: i32) {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let count = asked.entry(operation).or_default();
        *count = count.saturating_add_signed(change);
    }
}

impl Conditions for Circumstances {
    fn begins(&self, operation: &'static str) {
        if operation == "claim" {
            let others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
            let races = others.iter().any(|other| other.asks("claim"));
            drop(others);
            self.surroundings.ledger().seen.racing_claims += u64::from(races);
        }
        if operation == "answer" && self.asks("decide") {
            self.surroundings.ledger().seen.results_during_expiry += 1;
        }
        self.count(operation, 1);
    }

    fn way(&self, is_back: bool) -> Way {
        if !self.is_alive.load(Ordering::Relaxed) {
            return Way::Never;
        }
        let mut database = self.surroundings.database();
        if database.is_down {
            database.last_broken = self.surroundings.clock.now();
            return Way::Broken(Duration::from_millis(database.rng.u64(..MAX_BROKEN_MILLIS)));
        }
        if database.is_erratic {
            if !is_back && database.rng.u32(..UNDONE) == 0 {
                database.last_undone = self.surroundings.clock.now();
                self.surroundings.ledger().seen.undone_questions += 1;
                return Way::Conflict;
            }
            if is_back && database.rng.u32(..LOST) == 0 {
                database.last_broken = self.surroundings.clock.now();
                self.surroundings.ledger().seen.lost_answers += 1;
                return Way::Broken(Duration::ZERO);
            }
        }
        let (one_of, max) = (database.slow_one_of, database.max_delay_millis);
        let is_slow = max > 0 && database.rng.u32(..one_of) == 0;
        Way::After(Duration::from_millis(if is_slow { database.rng.u64(1..=max) } else { 0 }))
    }

    fn ends(&self, operation: &'static str) {
        self.count(operation, -1);
    }

    fn committed(&self, before: &Rows, after: &Rows) {
        let moment = Moment { now: self.surroundings.clock.now(), clock: self.clock, process: self.number };
        self.surroundings.ledger().committed(before, after, &moment);
    }
}

pub(super) struct Process {
    pub(super) hub: Arc<Hub>,
    circumstances: Arc<Circumstances>,
    main: JoinHandle<()>,
    connections: Vec<JoinHandle<()>>,
    is_ready: Arc<AtomicBool>,
    /// When it was started.
    pub(super) started: Timestamp,
    /// When it was told to stop.
    pub(super) stopping: Option<Timestamp>,
}

impl fmt::Debug for Process {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Process").field("started", &self.started).field("stopping", &self.stopping).finish()
    }
}

/// The common environment that each process gets when it starts.
pub(super) struct Site {
    pub(super) surroundings: Surroundings,
    pub(super) memory: Memory,
    pub(super) library: Arc<Listed>,
    /// Whether there are several coordinators.
    pub(super) is_shared: bool,
    /// Makes each coordinator's verifier.
    pub(super) verifier: Box<dyn Fn() -> Verifier>,
    alive: Arc<Mutex<Vec<Arc<Circumstances>>>>,
}

impl Site {
    pub(super) fn new(surroundings: Surroundings, library: Listed, is_shared: bool) -> Self {
        let (memory, library) = (Memory::empty(), Arc::new(library));
        let verifier = Box::new(|| Verifier::new(VerifyShare::None));
        Self { surroundings, memory, library, is_shared, verifier, alive: Arc::default() }
    }
}

impl Process {
    /// Starts a coordinator like `lib.rs` does.
    pub(super) fn start(site: &Site, number: u64, ahead_millis: u64, seed: u64) -> Self {
        let clock = site.surroundings.clock.ahead(ahead_millis);
        let others = Arc::clone(&site.alive);
        let circumstances = Arc::new(Circumstances {
            surroundings: site.surroundings.clone(),
            clock,
            number,
            is_alive: AtomicBool::new(true),
            asked: Mutex::default(),
            others,
        });
        site.alive.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&circumstances));
        let conditions: Arc<dyn Conditions> = Arc::<Circumstances>::clone(&circumstances);
        let store = Store::in_memory(site.memory.another().under(conditions, site.is_shared));
        let rng = Mutex::new(Rng::with_seed(seed));
        let random = move || rng.lock().unwrap_or_else(PoisonError::into_inner).u128(..);
        let environment = Environment::new(move || clock.now(), random);
        let libraries = Libraries::listed(LIBRARY, &site.library);
        let advertised = AdvertisedAddress::new(([127, 0, 0, 1], 1).into(), true, None);
        let hub = Hub::within(environment, store, libraries, None, advertised);
        let hub = Arc::new(hub.verifying((site.verifier)()));
        let is_ready = Arc::new(AtomicBool::new(false));
        let main = tokio::spawn({
            let (hub, is_ready) = (Arc::clone(&hub), Arc::clone(&is_ready));
            async move {
                // Only passing errors happen here.
                hub.resume_scans_if_possible().await.expect("the database fails for a while only");
                is_ready.store(true, Ordering::Relaxed);
                hub.run(0).await;
            }
        });
        let started = site.surroundings.clock.now();
        Self { hub, circumstances, main, connections: Vec::new(), is_ready, started, stopping: None }
    }

    /// The time on its clock.
    pub(super) fn time(&self) -> Timestamp {
        self.circumstances.clock.now()
    }

    /// Whether it admits workers.
    pub(super) fn is_open(&self) -> bool {
        self.is_ready.load(Ordering::Relaxed) && self.stopping.is_none()
    }

    pub(super) fn asks(&self, operation: &str) -> bool {
        self.circumstances.asks(operation)
    }

    pub(super) fn active(&self, code: &PairingCode) -> Option<Arc<ActiveSession>> {
        self.hub.active_session(code)
    }

    /// Serves a worker.
    pub(super) fn connect(&mut self, code: PairingCode, visitor: Visitor, wired: Wired) {
        let hub = Arc::clone(&self.hub);
        let tasks = self.hub.tasks.clone();
        let serving = async move { serve(&hub, &code.to_string(), &visitor, wired).await };
        self.connections.push(tokio::spawn(tasks.track_future(serving)));
    }

    /// Stops it as its owner would.
    pub(super) fn stop(&mut self) {
        self.stopping = Some(self.circumstances.surroundings.clock.now());
        self.hub.shutdown.cancel();
        self.hub.tasks.close();
    }

    /// Whether it has finished stopping.
    pub(super) fn has_stopped(&self, now: Timestamp) -> bool {
        let Some(since) = self.stopping else { return false };
        since.plus_seconds(STOP_SECONDS) <= now || (self.hub.tasks.is_empty() && self.main.is_finished())
    }

    /// Panics if a task has ended unexpectedly, because it panicked.
    pub(super) async fn expect_sound(&mut self) {
        if self.stopping.is_none() {
            assert!(!self.main.is_finished(), "a loop of a coordinator has ended");
        }
        for index in (0..self.connections.len()).rev() {
            if self.connections[index].is_finished() {
                self.connections.swap_remove(index).await.expect("a connection's task does not panic");
            }
        }
    }

    /// Ends the process at once: none of its tasks continues.
    pub(super) fn kill(self) {
        self.circumstances.is_alive.store(false, Ordering::Relaxed);
        self.main.abort();
        self.connections.iter().for_each(JoinHandle::abort);
        let mut alive = self.circumstances.others.lock().unwrap_or_else(PoisonError::into_inner);
        alive.retain(|other| !Arc::ptr_eq(other, &self.circumstances));
    }
}
