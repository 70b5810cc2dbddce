//! One run: coordinators and workers, until the session is complete and all verdicts are carried out; and what must hold then.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
    sync::Arc,
    time::Duration,
};

use chaarfm_api::{NewInvitation, StartRequest};
use chaarfm_coordinator::{Job, State, Timestamp, VerifyShare};
use chaarfm_domain::{AuditEntry, AuditEvent, SessionId};
use chaarfm_protocol::{PairingCode, SessionState};
use chaarfm_sources::Listed;
use chaarfm_store::{Store, memory::Rows};
use fastrand::Rng;
use tokio::time::sleep;

use super::{
    guest::{Guest, Nature, Record},
    toy::{Toys, Tracks, content_hash},
};
use crate::{
    simulation::{
        clock::{BEGIN, Clock},
        ledger::{Ledger, Trace},
        process::{LIBRARY, Process, Site, Surroundings},
        wire::wire,
    },
    verification::Verifier,
    worker_socket::Visitor,
};

/// Length of a step.
const STEP_MILLIS: RangeInclusive<u64> = 500..=1_500;

/// Most steps until the session is complete.
const MAX_STEPS: usize = 15_000;

/// How long a complete session must stay so: in this time every verdict that has fallen is carried out.
const REST_SECONDS: u64 = 30;

/// How far the clock of a second coordinator may be ahead.
const MAX_AHEAD_MILLIS: u64 = 3_000;

/// How long a coordinator is away in the middle of a run, in seconds.
const AWAY_SECONDS: RangeInclusive<u64> = 1..=20;

/// Entries of the audit record that are read at a time.
const PAGE: u32 = 1_000;

/// What happens to a coordinator in the middle of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Restart {
    Never,
    /// Its owner stops it.
    Stop,
    /// It dies.
    Kill,
}

/// What a run is about.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) share: VerifyShare,
    pub(super) tracks: usize,
    /// Patches of a track.
    pub(super) patches: RangeInclusive<usize>,
    pub(super) broken_percent: u32,
    pub(super) natures: Vec<Nature>,
    /// Those that are not honest have an invitation of their own.
    pub(super) are_apart: bool,
    /// Workers that are not honest come from one address.
    pub(super) share_an_address: bool,
    pub(super) coordinators: usize,
    pub(super) restart: Restart,
    /// Time to recompute some patches of a track.
    pub(super) recompute: Duration,
}

/// What has come of a run.
pub(super) struct Outcome {
    /// All keys of all workers.
    pub(super) records: Vec<Record>,
    /// Keys that are set aside.
    pub(super) set_aside: BTreeMap<String, bool>,
    pub(super) audit: Vec<AuditEntry>,
    /// False vectors.
    pub(super) false_vectors: Vec<FalseVector>,
    /// Number of vectors of broken files.
    pub(super) invented: usize,
    /// Keys whose results are still stored.
    pub(super) makers: BTreeSet<String>,
    /// Jobs that were given up although their files are not broken.
    pub(super) lost: Vec<Job>,
    /// When a coordinator died.
    pub(super) killed: Option<Timestamp>,
    pub(super) analysed: u64,
    pub(super) dropped_honest: u64,
    pub(super) came_again: u64,
    pub(super) refused: u64,
    pub(super) seconds: u64,
    pub(super) trace: Trace,
}

/// A false vector that is stored in the end.
#[derive(Debug)]
pub(super) struct FalseVector {
    /// Key of the worker that made it.
    pub(super) maker: String,
    /// Its distance from the right one, relative to that.
    pub(super) distance: f64,
}

pub(super) struct Run {
    plan: Plan,
    rng: Rng,
    tracks: Arc<Tracks>,
    site: Site,
    session: (PairingCode, SessionId),
    coordinators: Vec<Option<Process>>,
    /// When the one that is away comes back.
    back: Option<(usize, Timestamp)>,
    processes: u64,
    killed: Option<Timestamp>,
    guests: Vec<Guest>,
}

impl Run {
    pub(super) async fn begin(plan: Plan, trace: Trace) -> Self {
        let mut rng = Rng::with_seed(plan.seed);
        let tracks = Arc::new(Tracks::invent(&mut rng, plan.tracks, plan.patches.clone(), plan.broken_percent));
        let surroundings = Surroundings::new(Clock::starting(), Ledger::only_tracing(trace), rng.fork());
        {
            let mut database = surroundings.database();
            (database.slow_one_of, database.max_delay_millis) = (8, 20);
        }
        let library = Listed { files: tracks.files(), pause: Duration::ZERO };
        let mut site = Site::new(surroundings, library, plan.coordinators > 1);
        site.verifier = Box::new({
            let (share, takes, tracks) = (plan.share, plan.recompute, Arc::clone(&tracks));
            move || Verifier::by(share, Toys::new(&tracks, takes))
        });
        let first = Process::start(&site, 1, 0, rng.u64(..));
        let code = first.hub.create_session().await.expect("nothing goes wrong").code;
        let active = first.hub.session(&code).await.expect("it is there");
        let wish =
            NewInvitation { name: "guests".into(), days: None, max_workers: None, max_uses: None, max_bytes: None };
        let second = first.hub.invite(&active, wish).await.expect("nothing goes wrong").code;
        let (library, collection) = (LIBRARY.to_owned(), "music".to_owned());
        let request = StartRequest { library, collection, model: None, every_file: false };
        first.hub.start(&active, request).await.expect("nothing goes wrong");
        let guest = |(number, nature): (usize, &Nature)| {
            let is_honest = *nature == Nature::Honest;
            let code = if is_honest || !plan.are_apart { code } else { second };
            let mut guest = Guest::new(*nature, code, number, number % plan.coordinators, &mut rng);
            if plan.share_an_address && !is_honest {
                guest.address = [10, 9, 9, 9].into();
            }
            guest
        };
        let guests = plan.natures.iter().enumerate().map(guest).collect();
        let coordinators = (1..plan.coordinators).map(|_| None);
        let mut run = Self {
            coordinators: [Some(first)].into_iter().chain(coordinators).collect(),
            session: (code, active.id),
            plan,
            rng,
            tracks,
            site,
            back: None,
            processes: 1,
            killed: None,
            guests,
        };
        (0..run.coordinators.len()).for_each(|index| run.start(index));
        run
    }

    fn now(&self) -> Timestamp {
        self.site.surroundings.clock.now()
    }

    fn start(&mut self, index: usize) {
        if self.coordinators[index].is_none() {
            self.processes += 1;
            let ahead = if index == 0 { 0 } else { self.rng.u64(..=MAX_AHEAD_MILLIS) };
            self.coordinators[index] = Some(Process::start(&self.site, self.processes, ahead, self.rng.u64(..)));
        }
    }

    /// Runs until the session is complete and stays so.
    pub(super) async fn run(mut self) -> Outcome {
        let middle = self.rng.usize(self.plan.tracks / 4..=self.plan.tracks * 3 / 4);
        let mut complete_since = None;
        for _ in 0..MAX_STEPS {
            sleep(Duration::from_millis(self.rng.u64(STEP_MILLIS))).await;
            self.tend_processes().await;
            for index in 0..self.guests.len() {
                self.act(index);
            }
            let rows = self.site.memory.look().await;
            let now = self.now();
            if rows.vectors().count() >= middle && self.back.is_none() {
                self.strike(now);
            }
            if !self.is_complete(&rows) {
                complete_since = None;
            } else if complete_since.get_or_insert(now).plus_seconds(REST_SECONDS) <= now {
                return self.finish(&rows).await;
            }
        }
        let rows = self.site.memory.look().await;
        let open: Vec<_> = rows.jobs().map(|(_, entry)| &entry.row.job).filter(|job| is_open(job.state)).collect();
        panic!("it is never complete: {open:?}");
    }

    fn is_complete(&self, rows: &Rows) -> bool {
        rows.scan_owners().next().is_none()
            && rows.jobs().count() == self.plan.tracks
            && rows.jobs().all(|(_, entry)| !is_open(entry.row.job.state))
            && self.coordinators.iter().all(Option::is_some)
    }

    fn act(&mut self, index: usize) {
        let now = self.now();
        let guest = &mut self.guests[index];
        if guest.wants_in(now) {
            // One whose coordinator is away asks another.
            let count = self.coordinators.len();
            let open = |index: &usize| self.coordinators[*index].as_ref().is_some_and(Process::is_open);
            let coordinator = (0..count).map(|next| (guest.coordinator + next) % count).find(open);
            if let Some(coordinator) = coordinator
                && let Some(process) = &mut self.coordinators[coordinator]
            {
                guest.coordinator = coordinator;
                let (wire, wired) = wire(guest.name(), &self.site.surroundings);
                process.connect(guest.code, Visitor::from(guest.address), wired);
                guest.begin(wire);
            }
        }
        guest.act(&self.tracks, &mut self.rng, now);
    }

    /// A coordinator is stopped or dies, once.
    fn strike(&mut self, now: Timestamp) {
        let index = self.rng.usize(..self.coordinators.len());
        match self.plan.restart {
            Restart::Never => return,
            Restart::Stop => self.coordinators[index].iter_mut().for_each(Process::stop),
            Restart::Kill => {
                self.coordinators[index].take().into_iter().for_each(Process::kill);
                self.killed = Some(now);
            }
        }
        self.back = Some((index, now.plus_seconds(self.rng.u64(AWAY_SECONDS))));
    }

    async fn tend_processes(&mut self) {
        let now = self.now();
        for process in &mut self.coordinators {
            if let Some(stopped) = process.take_if(|process| process.has_stopped(now)) {
                stopped.kill();
            }
            if let Some(process) = process {
                process.expect_sound().await;
            }
        }
        if let Some((index, _)) = self.back.filter(|(_, back)| *back <= now) {
            self.start(index);
        }
    }

    async fn finish(self, rows: &Rows) -> Outcome {
        let hub = &self.coordinators[0].as_ref().expect("all are there").hub;
        let active = hub.session(&self.session.0).await.expect("it is there");
        let view = hub.view(&active).await.expect("nothing goes wrong");
        assert_eq!(view.state, SessionState::Complete);
        let connected =
            self.guests.iter().filter(|guest| guest.nature == Nature::Honest && !guest.wants_in(self.now()));
        assert!(connected.clone().all(|guest| guest.hears_the_end), "a worker has not heard that all is done");
        let store = Store::in_memory(self.site.memory.another());
        let (mut false_vectors, mut invented, mut makers) = (Vec::new(), 0, BTreeSet::new());
        for (maker, vector) in rows.vectors() {
            let file = vector.track.file.parse().expect("files are called by numbers");
            assert_eq!(vector.content_hash, content_hash(file));
            makers.insert(maker.to_owned());
            if self.tracks.is_broken(file) {
                invented += 1;
            } else if !self.tracks.is_right(file, &vector.embedding) {
                let distance = self.tracks.distance(file, &vector.embedding);
                false_vectors.push(FalseVector { maker: maker.to_owned(), distance });
            }
        }
        let mut lost = Vec::new();
        for (_, entry) in rows.jobs() {
            let file: usize = entry.row.track.file.parse().expect("files are called by numbers");
            let vectors = usize::from(entry.row.job.state == State::Done);
            assert_eq!(rows.vectors_of(&content_hash(file)), vectors, "stored exactly once, or not: {entry:?}");
            if entry.row.job.state == State::Failed && !self.tracks.is_broken(file) {
                lost.push(entry.row.job.clone());
            }
        }
        Outcome {
            records: self.guests.iter().flat_map(Guest::records).cloned().collect(),
            set_aside: store.keys_set_aside(self.session.1).await.expect("nothing goes wrong"),
            audit: whole_audit(&store).await,
            false_vectors,
            invented,
            makers,
            lost,
            killed: self.killed,
            analysed: self.guests.iter().map(|guest| guest.analysed).sum(),
            dropped_honest: connected.map(|guest| guest.dropped).sum(),
            came_again: self.guests.iter().map(|guest| guest.came_again).sum(),
            refused: self.guests.iter().map(|guest| guest.refused).sum(),
            seconds: self.now().millis_since(BEGIN) / 1000,
            trace: std::mem::take(&mut self.site.surroundings.ledger().trace),
        }
    }
}

fn is_open(state: State) -> bool {
    matches!(state, State::Queued { .. } | State::Leased { .. })
}

async fn whole_audit(store: &Store) -> Vec<AuditEntry> {
    let (mut all, mut before) = (Vec::new(), None);
    loop {
        let page = store.audit(before, PAGE).await.expect("nothing goes wrong");
        let Some((last, _)) = page.last() else { return all };
        before = Some(*last);
        all.extend(page.into_iter().map(|(_, entry)| entry));
    }
}

impl Outcome {
    /// Whether the audit record tells this about a key.
    pub(super) fn tells(&self, event: AuditEvent, name: &str) -> bool {
        self.audit.iter().any(|entry| entry.event == event && entry.actor == name)
    }
}
