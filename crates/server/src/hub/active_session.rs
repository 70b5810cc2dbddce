//! The in-memory state of a session, lost when the process ends: connected workers, and what pages show beside the stored
//! data.

use std::{
    cell::LazyCell,
    collections::{BTreeMap, BTreeSet, HashSet, VecDeque},
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chaarfm_api::{CurrentView, LogLine, ScanView, WorkerView};
use chaarfm_coordinator::{
    CheckRecord, Fault, Held, Job, NotYourLease, Renewal, Reputation, Timestamp, Verdict, Worker, WorkerId,
    WorkerRegistry,
};
use chaarfm_domain::{Evidence, InvitationId, LogLevel, SessionId, Standing, text};
use chaarfm_protocol::{Halves, JobId, JobRef, PairingCode, SessionState, Stage, ToWorker, WorkerKind};
use chaarfm_store::{Claim, Origin, Takers};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::Span;

use super::{
    environment::Environment,
    feed::Feed,
    notices::Notices,
    peer_snapshot::{self, Elsewhere, PeerSnapshot},
};
use crate::spans;

/// Maximum number of notices about missing libraries and models.
const MAX_LACKING: usize = 16;

/// Maximum number of workers whose check records are kept: more than a session admits.
const MAX_CHECKED: usize = 20_000;

/// Maximum number of queued messages per worker; a worker that exceeds it is disconnected.
const MAX_OUTGOING_MESSAGES: usize = 32;

/// Maximum number of barred origins per session; the oldest one makes room.
const MAX_BARRED: usize = 10_000;

/// How long an origin stays barred after one of its workers was set aside. It is limited because others share the address.
const BARRED_SECONDS: u64 = 3_600;

/// The rate is the number of tracks stored within this time.
const RATE_WINDOW_SECONDS: u64 = 60;

/// The in-memory state of a session: its connected workers and their links.
pub(crate) struct ActiveSession {
    pub(crate) id: SessionId,
    pub(crate) code: PairingCode,
    inner: Mutex<Inner>,
    changed: watch::Sender<()>,
    /// Held while stored and in-memory state change together: a job is claimed and given, a worker connects or disconnects
    /// with its leases, a scan or the session begins or ends. Concurrent changes would leave an inconsistent state.
    pub(super) transition: tokio::sync::Mutex<()>,
    /// The session's snapshots from the other coordinators.
    pub(super) elsewhere: Elsewhere,
    /// The views sent to pages.
    pub(super) feed: Feed,
    environment: Environment,
}

#[derive(Default)]
struct Inner {
    registry: WorkerRegistry,
    reputation: Reputation,
    links: BTreeMap<WorkerId, mpsc::Sender<ToWorker>>,
    /// Lease renewals that are not stored yet.
    renewals: BTreeMap<JobId, Renewal>,
    notices: Notices,
    /// Tracks stored per second, for recent seconds with any.
    stored: VecDeque<(u64, u32)>,
    scan: Option<ActiveScan>,
    announced: Option<SessionState>,
    /// Check records by the worker's name.
    checked: BTreeMap<String, CheckRecord>,
    /// When the queue was last seen empty.
    nothing_waited: Timestamp,
    /// Notices about missing libraries and models that were already given.
    lacking: BTreeSet<String>,
    /// The stored verdicts have been read.
    knows_verdicts: bool,
    /// Origins of workers that were set aside.
    barred: BTreeMap<Origin, Timestamp>,
}

struct ActiveScan {
    number: i64,
    view: ScanView,
    stop: CancellationToken,
}

/// A worker that can accept a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Taker {
    pub(super) id: WorkerId,
    pub(super) name: String,
    pub(super) invitation: InvitationId,
    pub(super) kind: WorkerKind,
    /// The largest file it accepts.
    pub(super) max_bytes: u64,
    /// Whether it may get a job's last try.
    pub(super) takes_last_tries: bool,
    /// When it became free to take a job.
    pub(super) room_since: Timestamp,
}

/// The consequences of a failure for a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Blame {
    pub(super) name: String,
    /// This failure put it on probation.
    pub(super) came_into_doubt: bool,
    /// Tracks that other workers must try, if they were given up.
    pub(super) in_doubt: Vec<JobId>,
}

impl Taker {
    /// Its claim for the store, under a new lease derived from an unpredictable number.
    pub(super) fn claim(&self, secret: u128) -> Claim<'_> {
        let lease = format!("{secret:032x}");
        let Self { invitation, kind, max_bytes, takes_last_tries, .. } = *self;
        Claim { lease, worker: &self.name, invitation, kind, max_bytes, takes_last_tries }
    }
}

impl ActiveSession {
    pub(super) fn new(id: SessionId, code: PairingCode, environment: Environment) -> Self {
        Self {
            id,
            code,
            inner: Mutex::default(),
            changed: watch::Sender::new(()),
            transition: tokio::sync::Mutex::default(),
            elsewhere: Elsewhere::default(),
            feed: Feed::default(),
            environment,
        }
    }

    /// Signals whenever something shown on pages may have changed.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    pub(super) fn has_changed(&self) {
        self.changed.send_replace(());
    }

    /// Adds a notice, and logs it.
    pub(super) fn log(&self, level: LogLevel, message: impl AsRef<str>) {
        // The message may quote file names and texts from workers.
        let line = LogLine { at_ms: self.now().0, level, message: text::one_line(message.as_ref()) };
        spans::current_or_session(self.id).in_scope(|| match level {
            // A track that is given up is not an error of the coordinator.
            LogLevel::Error | LogLevel::Warning => tracing::warn!("{}", line.message),
            LogLevel::Info | LogLevel::Success => tracing::info!("{}", line.message),
        });
        let mut inner = self.lock();
        inner.notices.add(line);
        drop(inner);
        self.has_changed();
    }

    /// A snapshot of the session for pages and other coordinators.
    pub(super) fn peer_snapshot(&self) -> PeerSnapshot {
        let moment = self.now();
        let inner = self.lock();
        let oldest = seconds(moment).saturating_sub(RATE_WINDOW_SECONDS);
        let recent = inner.stored.iter().filter(|(second, _)| *second > oldest);
        let recent: u32 = recent.map(|(_, tracks)| tracks).sum();
        let shown = peer_snapshot::choose(inner.registry.iter().map(|worker| inner.place_of(worker)).collect());
        PeerSnapshot {
            worker_count: inner.registry.len() as u64,
            takers: (!inner.registry.is_empty()).then(|| inner.takers()),
            done_since: inner.reputation.done_since(),
            workers: shown.into_iter().filter_map(|id| inner.registry.get(id)).map(|w| inner.view_of(w)).collect(),
            log: inner.notices.lines(),
            scan: inner.scan.as_ref().map(|scan| scan.view.clone()),
            tracks_per_minute: recent as f32 * 60.0 / RATE_WINDOW_SECONDS as f32,
            invited: inner.invited(),
        }
    }

    // Workers.

    /// Adds a worker, and drops its earlier connections. The receiver yields messages to the worker.
    pub(super) fn join(&self, worker: Worker) -> mpsc::Receiver<ToWorker> {
        let (link, outgoing) = mpsc::channel(MAX_OUTGOING_MESSAGES);
        let mut inner = self.lock();
        inner.links.insert(worker.id, link);
        for earlier in inner.registry.join(worker) {
            inner.links.remove(&earlier);
        }
        outgoing
    }

    pub(super) fn leave(&self, id: WorkerId) -> Option<Worker> {
        let mut inner = self.lock();
        inner.links.remove(&id);
        let left = inner.registry.leave(id)?;
        // If stored later, they could extend a lease beyond its known deadline after the worker has resumed it.
        left.held.iter().for_each(|held| drop(inner.renewals.remove(&held.job.job)));
        Some(left)
    }

    /// Number of connected workers of an invitation, without the one with this key.
    pub(super) fn count_others_of(&self, invitation: InvitationId, key: &str) -> u64 {
        let inner = self.lock();
        let others = inner.registry.iter().filter(|worker| worker.invitation == invitation && worker.name != key);
        others.count() as u64
    }

    /// Tells the workers of an invitation why they must disconnect.
    pub(super) fn dismiss(&self, invitation: InvitationId, why: &ToWorker) {
        let mut inner = self.lock();
        let theirs = inner.registry.iter().filter(|worker| worker.invitation == invitation);
        let ids: Vec<_> = theirs.map(|worker| worker.id).collect();
        for id in ids {
            inner.send(id, why.clone());
        }
    }

    /// Number of connections of the worker with this key.
    pub(super) fn count_of(&self, key: &str) -> usize {
        self.lock().registry.iter().filter(|worker| worker.name == key).count()
    }

    /// Bars new workers from this origin for [`BARRED_SECONDS`].
    pub(super) fn bar(&self, origin: Origin) {
        if origin.address.is_empty() {
            return;
        }
        let (until, mut inner) = (self.now().plus_seconds(BARRED_SECONDS), self.lock());
        inner.barred.insert(origin, until);
        if inner.barred.len() > MAX_BARRED
            && let Some(oldest) = inner.barred.iter().min_by_key(|(_, until)| **until).map(|(origin, _)| origin.clone())
        {
            inner.barred.remove(&oldest);
        }
    }

    pub(super) fn is_barred(&self, origin: &Origin) -> bool {
        self.lock().barred.get(origin).is_some_and(|until| *until > self.now())
    }

    pub(super) fn worker_count(&self) -> usize {
        self.lock().registry.len()
    }

    pub(crate) fn heard(&self, id: WorkerId) {
        self.lock().registry.heard(id, self.now());
    }

    /// Whether the worker holds a job, so that a result may be on its way.
    pub(crate) fn holds_something(&self, id: WorkerId) -> bool {
        self.lock().registry.get(id).is_some_and(|worker| !worker.held.is_empty())
    }

    /// Disconnects silent workers and returns them. Each connection's task ends when its message queue is closed.
    pub(super) fn drop_silent(&self) -> Vec<WorkerId> {
        let mut inner = self.lock();
        let mut silent = inner.registry.silent(self.now());
        silent.retain(|id| inner.links.remove(id).is_some());
        silent
    }

    /// The next workers to serve, at most `count`, that accept files larger than `above` bytes.
    pub(super) fn next_takers(&self, count: usize, above: u64, passed_over: &HashSet<WorkerId>) -> Vec<Taker> {
        let inner = self.lock();
        let may_be_served = |worker: &&Worker| !passed_over.contains(&worker.id) && inner.may_be_served(worker);
        // Computed only if needed, for a worker without a finished track, because it iterates over all workers.
        let proven_up_to = LazyCell::new(|| inner.registry.proven_up_to(|worker| inner.may_be_served(worker)));
        let taker = |worker: &Worker| {
            Some(Taker {
                id: worker.id,
                name: worker.name.clone(),
                invitation: worker.invitation,
                kind: worker.kind,
                max_bytes: worker.max_audio_bytes(),
                takes_last_tries: worker.done > 0 || worker.takes_last_tries(*proven_up_to),
                room_since: worker.room_since()?,
            })
        };
        inner.registry.in_line(above).filter(may_be_served).filter_map(taker).take(count).collect()
    }

    /// Gives a job to a worker, unless it has disconnected.
    pub(super) fn give(&self, id: WorkerId, held: Held, message: ToWorker) {
        spans::job(self.id, Some(id), held.job.job).in_scope(|| tracing::debug!("handed out"));
        let mut inner = self.lock();
        let given = inner.registry.give(id, held);
        debug_assert!(given, "nobody leaves while jobs are handed out");
        inner.send(id, message);
    }

    /// Reports once that something is missing to hand out jobs.
    pub(super) fn note_lacking(&self, notice: String) {
        let mut inner = self.lock();
        if inner.lacking.len() < MAX_LACKING && inner.lacking.insert(notice.clone()) {
            drop(inner);
            self.log(LogLevel::Error, notice);
        }
    }

    /// Notes that the queue is empty now.
    pub(super) fn nothing_waits(&self) {
        self.lock().nothing_waited = self.now();
    }

    /// Upper bound of the time for which both the job and the taker's room for it have existed: the job's arrival is
    /// unknown, only when the queue was last empty.
    pub(super) fn waited(&self, taker: &Taker) -> Duration {
        let since = taker.room_since.max(self.lock().nothing_waited);
        Duration::from_millis(self.now().millis_since(since))
    }

    pub(super) fn take(&self, job: &JobRef) -> Option<(WorkerId, Held)> {
        self.lock().registry.take(job, self.now())
    }

    /// Records a progress report, and the lease renewals that follow from it. The leases of a worker that is set aside are not
    /// renewed any more.
    pub(super) fn report(&self, id: WorkerId, job: &JobRef, stage: Stage, fraction: f32) -> Result<(), NotYourLease> {
        let mut inner = self.lock();
        let worker = inner.registry.get(id).ok_or(NotYourLease)?;
        if inner.reputation.standing(&worker.name) == Standing::SetAside {
            return if worker.holds(job) { Ok(()) } else { Err(NotYourLease) };
        }
        let renewals = inner.registry.report(id, job, stage, fraction, self.now())?;
        inner.renewals.extend(renewals.into_iter().map(|renewal| (renewal.job.job, renewal)));
        drop(inner);
        self.has_changed();
        Ok(())
    }

    /// Takes the pending lease renewals, ordered by job.
    pub(super) fn take_renewals(&self) -> Vec<Renewal> {
        mem::take(&mut self.lock().renewals).into_values().collect()
    }

    /// Keeps renewals that could not be stored, unless there are newer ones.
    pub(super) fn put_back_renewals(&self, renewals: &[Renewal]) {
        let mut inner = self.lock();
        for renewal in renewals {
            inner.renewals.entry(renewal.job.job).or_insert_with(|| renewal.clone());
        }
    }

    pub(super) fn is_overdue(&self, job: &JobRef, now: Timestamp) -> bool {
        self.lock().registry.is_overdue(job, now)
    }

    pub(super) fn overdue(&self, now: Timestamp) -> Vec<JobRef> {
        self.lock().registry.overdue(now)
    }

    /// Counts a stored track of the worker with this name; `given` is when it received the track, if known. The connection
    /// may be gone by now.
    pub(super) fn count_done(&self, id: WorkerId, name: &str, given: Option<Timestamp>) {
        let mut guard = self.lock();
        let inner = &mut *guard;
        inner.registry.count_done(id);
        inner.reputation.succeeded(name, given, self.now());
        let second = seconds(self.now());
        match inner.stored.back_mut() {
            Some((newest, tracks)) if *newest == second => *tracks += 1,
            _ => inner.stored.push_back((second, 1)),
        }
        if inner.stored.len() > RATE_WINDOW_SECONDS as usize {
            inner.stored.pop_front();
        }
    }

    /// Counts a failed track of the worker.
    pub(super) fn count_failed(&self, id: WorkerId) {
        self.lock().registry.count_failed(id);
    }

    /// Adds patch embeddings to a job that the worker holds.
    pub(super) fn add_evidence(&self, id: WorkerId, job: &JobRef, first: u32, length: u16, embeddings: &Halves) {
        let below = |n| self.environment.random_below(n);
        self.lock().registry.add_evidence(id, job, first, length, embeddings, below);
    }

    pub(super) fn take_evidence(&self, id: WorkerId, job: &JobRef) -> Option<Evidence> {
        self.lock().registry.take_evidence(id, job)
    }

    /// The worker's check record.
    pub(super) fn check_record(&self, id: WorkerId) -> CheckRecord {
        let inner = self.lock();
        let name = inner.registry.get(id).map(|worker| &worker.name);
        name.and_then(|name| inner.checked.get(name)).copied().unwrap_or_default()
    }

    /// Notes that a recomputed result of the worker matched.
    pub(super) fn confirm(&self, id: WorkerId) {
        self.change_check_record(id, CheckRecord::confirm);
    }

    /// Notes that a result of the worker was not supported by its patches.
    pub(super) fn doubt(&self, id: WorkerId) {
        self.change_check_record(id, CheckRecord::doubt);
    }

    fn change_check_record(&self, id: WorkerId, change: impl FnOnce(&mut CheckRecord)) {
        let mut guard = self.lock();
        let inner = &mut *guard;
        let Some(worker) = inner.registry.get(id) else { return };
        if inner.checked.len() >= MAX_CHECKED && !inner.checked.contains_key(&worker.name) {
            // A forgotten worker is treated as new again.
            inner.checked.retain(|name, _| inner.registry.iter().any(|worker| worker.name == *name));
        }
        change(inner.checked.entry(worker.name.clone()).or_default());
    }

    /// Gives the worker of this name nothing more, also when it has left.
    /// Returns false when that has been decided before.
    pub(super) fn set_aside(&self, name: &str, has_lied: bool) -> bool {
        let is_new = self.lock().reputation.set_aside(name, has_lied);
        if is_new {
            self.has_changed();
        }
        is_new
    }

    /// Whether the verdicts of other coordinators, and of this one before it was restarted, are known.
    pub(super) fn knows_verdicts(&self) -> bool {
        self.lock().knows_verdicts
    }

    pub(super) fn note_verdicts(&self) {
        self.lock().knows_verdicts = true;
    }

    /// All workers that are set aside, and whether each has lied.
    pub(super) fn all_set_aside(&self) -> BTreeMap<String, bool> {
        self.lock().reputation.all_set_aside()
    }

    /// Counts a failed or returned track against the worker. None when it is not connected.
    pub(super) fn hold_against(&self, id: WorkerId, job: &Job, fault: Fault) -> Option<Blame> {
        let mut guard = self.lock();
        let inner = &mut *guard;
        let name = inner.registry.get(id)?.name.clone();
        let came_into_doubt = inner.reputation.failed(&name, job, fault, &inner.registry, self.now());
        let standing = if fault == Fault::Track { Standing::Good } else { inner.reputation.standing(&name) };
        let in_doubt = match standing {
            _ if came_into_doubt => inner.reputation.tracks_in_doubt(&name),
            // It already held this track when it was put on probation.
            Standing::OnProbation => vec![job.id],
            // Its later failures are queued again with all the others.
            Standing::Good | Standing::SetAside => Vec::new(),
        };
        Some(Blame { name, came_into_doubt, in_doubt })
    }

    pub(super) fn is_spotless(&self) -> bool {
        self.lock().reputation.is_spotless()
    }

    pub(super) fn note_elsewhere(&self, has_company: bool, done_since: Timestamp) {
        self.lock().reputation.note_elsewhere(has_company, done_since, self.now());
    }

    pub(super) fn on_probation(&self) -> Vec<(String, Vec<JobId>)> {
        self.lock().reputation.on_probation()
    }

    /// Decides about a worker on probation, if its tracks allow a verdict by now.
    pub(super) fn judge(&self, name: &str, tracks: &[Job]) -> Option<Verdict> {
        let mut guard = self.lock();
        let inner = &mut *guard;
        inner.reputation.judge(name, tracks, &inner.registry, self.now())
    }

    /// Workers whose failures must be queued again now, and whether their results must be retracted too.
    pub(super) fn to_make_good(&self) -> Vec<(String, bool)> {
        self.lock().reputation.to_make_good()
    }

    /// Marks that as still to be done, because it failed.
    pub(super) fn put_off(&self, name: &str) {
        self.lock().reputation.put_off(name);
    }

    /// The span of the newest connection of the worker with this name.
    pub(super) fn span_of(&self, name: &str) -> Span {
        let inner = self.lock();
        let connection = inner.registry.iter().filter(|worker| worker.name == name).last();
        connection.map_or_else(|| spans::session(self.id), |worker| spans::worker(self.id, worker.id))
    }

    /// A label for the worker with this name, usually "worker 7".
    pub(super) fn call(&self, name: &str) -> String {
        let inner = self.lock();
        let connection = inner.registry.iter().filter(|worker| worker.name == name).last();
        connection.map_or_else(|| "a worker that is gone".to_owned(), |worker| format!("worker {}", worker.id))
    }

    pub(super) fn send(&self, id: WorkerId, message: ToWorker) {
        self.lock().send(id, message);
    }

    pub(super) fn broadcast(&self, message: &ToWorker) {
        let mut inner = self.lock();
        let ids: Vec<_> = inner.links.keys().copied().collect();
        for id in ids {
            inner.send(id, message.clone());
        }
    }

    /// Sends the session's state to the workers. Returns true if the state has changed.
    pub(super) fn announce(&self, state: SessionState) -> bool {
        let before = self.lock().announced.replace(state);
        if before == Some(state) {
            return false;
        }
        self.broadcast(&ToWorker::State { state });
        self.has_changed();
        before.is_some()
    }

    // Scans.

    pub(super) fn begin_scan(&self, number: i64, library: &str, stop: CancellationToken) {
        let view = ScanView { library: library.to_owned(), files: 0 };
        self.lock().scan = Some(ActiveScan { number, view, stop });
        self.has_changed();
    }

    pub(super) fn is_scanning(&self, number: i64) -> bool {
        self.lock().scan.as_ref().is_some_and(|scan| scan.number == number)
    }

    pub(super) fn count_scanned(&self, files: u64) {
        if let Some(scan) = &mut self.lock().scan {
            scan.view.files += files;
        }
        self.has_changed();
    }

    /// Notes the end of a scan. Another one may have begun meanwhile.
    pub(super) fn end_scan(&self, number: i64) {
        self.lock().scan.take_if(|scan| scan.number == number);
        self.has_changed();
    }

    /// Cancels the scan.
    pub(super) fn stop_scan(&self) {
        if let Some(scan) = self.lock().scan.take() {
            scan.stop.cancel();
        }
        self.has_changed();
    }

    /// The connected workers and their reputation.
    #[cfg(test)]
    pub(crate) fn inspect<T>(&self, look: impl FnOnce(&WorkerRegistry, &Reputation) -> T) -> T {
        let inner = self.lock();
        look(&inner.registry, &inner.reputation)
    }

    fn now(&self) -> Timestamp {
        self.environment.now()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Queues a message for a worker; a worker whose queue is full is disconnected.
    fn send(&mut self, id: WorkerId, message: ToWorker) {
        if self.links.get(&id).is_some_and(|link| link.try_send(message).is_err()) {
            self.links.remove(&id);
        }
    }

    /// Whether the worker may be given jobs. A job given to a dropped connection would be lost.
    fn may_be_served(&self, worker: &Worker) -> bool {
        self.links.contains_key(&worker.id) && self.reputation.standing(&worker.name) == Standing::Good
    }

    fn takers(&self) -> Takers {
        let mut takers = Takers::default();
        for worker in self.registry.iter().filter(|worker| worker.takes_jobs() && self.may_be_served(worker)) {
            takers.add(&worker.name, worker.max_audio_bytes());
        }
        takers
    }

    fn invited(&self) -> BTreeMap<InvitationId, u64> {
        let mut invited = BTreeMap::new();
        for worker in self.registry.iter() {
            *invited.entry(worker.invitation).or_default() += 1;
        }
        invited
    }

    fn place_of(&self, worker: &Worker) -> peer_snapshot::Place {
        peer_snapshot::place(self.reputation.standing(&worker.name), worker.current().is_some(), worker.id)
    }

    fn view_of(&self, worker: &Worker) -> WorkerView {
        WorkerView {
            key: worker.name.clone(),
            id: worker.id,
            kind: worker.kind,
            device: worker.device.clone(),
            trial: worker.trial.clone(),
            agent: worker.agent.clone(),
            done: worker.done,
            failed: worker.failed,
            standing: self.reputation.standing(&worker.name),
            current: worker.current().map(|held| CurrentView {
                label: held.label.clone(),
                stage: held.stage,
                fraction: held.fraction,
            }),
        }
    }
}

fn seconds(moment: Timestamp) -> u64 {
    moment.0 / 1000
}

#[cfg(test)]
mod tests {
    use chaarfm_protocol::{Capacity, Device};

    use super::*;

    fn active() -> ActiveSession {
        ActiveSession::new(SessionId(1), PairingCode::from_random(1), Environment::system())
    }

    fn now() -> Timestamp {
        Environment::system().now()
    }

    fn worker(id: WorkerId, held: &[Held]) -> Worker {
        let device = Device { backend: "flex".into(), name: "CPU".into() };
        let capacity = Capacity { jobs: 1, max_audio_bytes: 100 };
        let mut worker = Worker::new(id, format!("w{id}"), WorkerKind::Native, device, "test".into(), capacity, now());
        worker.held = held.to_vec();
        worker
    }

    #[test]
    fn of_thousands_of_workers_a_hundred_are_shown() {
        const WORKERS: u64 = 10_000;
        let active = active();
        let mut job = Job::new(7);
        job.lease("t".into(), "w", now()).unwrap();
        let busy = [Held::given(&job, "track".into(), 1, now())];
        for id in 1..WORKERS {
            active.join(worker(id, &[]));
        }
        active.join(worker(WORKERS, &busy));
        let peer_snapshot = active.peer_snapshot();
        assert_eq!((peer_snapshot.worker_count, peer_snapshot.workers.len()), (WORKERS, 100));
        assert_eq!(peer_snapshot.workers[98].id, 99, "of those without work the first");
        let last = &peer_snapshot.workers[99];
        assert_eq!((last.id, last.current.as_ref().map(|current| current.label.as_str())), (WORKERS, Some("track")));
    }

    #[test]
    fn last_tries_are_for_those_who_have_finished_something() {
        let active = active();
        let takes_last_tries = || {
            let takers = active.next_takers(9, 0, &HashSet::new());
            takers.iter().map(|taker| (taker.id, taker.takes_last_tries)).collect::<Vec<_>>()
        };
        let _links = [1, 2].map(|id| active.join(worker(id, &[])));
        assert_eq!(takes_last_tries(), [(1, true), (2, true)], "somebody has to");
        active.count_done(1, "w1", None);
        assert_eq!(takes_last_tries(), [(1, true), (2, false)]);
        active.leave(1);
        assert_eq!(takes_last_tries(), [(2, true)]);
    }

    #[test]
    fn what_the_workers_take_is_known_while_they_can_be_spoken_to() {
        let active = active();
        assert_eq!(active.peer_snapshot(), PeerSnapshot::default(), "there is nothing to show");
        let links = [active.join(worker(1, &[])), active.join(worker(2, &[]))];
        let takers = |greatest: &str, max_bytes, max_bytes_of_others| {
            Some(Takers { greatest: greatest.into(), max_bytes, max_bytes_of_others })
        };
        assert_eq!(active.peer_snapshot().takers, takers("w1", 100, 100));
        let device = Device { backend: "flex".into(), name: "CPU".into() };
        let looks_on = Capacity { jobs: 0, max_audio_bytes: 1000 };
        let _link =
            active.join(Worker::new(3, "w3".into(), WorkerKind::Native, device, "test".into(), looks_on, now()));
        drop(links);
        active.broadcast(&ToWorker::Ping);
        assert_eq!(active.peer_snapshot().takers, takers("", 0, 0));
    }

    #[test]
    fn a_connection_that_was_replaced_gets_nothing_more() {
        let active = active();
        let _first = active.join(worker(1, &[]));
        let next = || active.next_takers(9, 0, &HashSet::new()).iter().map(|taker| taker.id).collect::<Vec<_>>();
        assert_eq!(next(), [1]);
        assert_eq!(active.next_takers(9, 0, &HashSet::from([1])), []);
        assert_eq!(active.next_takers(9, 100, &HashSet::new()), []);
        let mut job = Job::new(7);
        job.lease("t".into(), "w1", now()).unwrap();
        let held = Held::given(&job, "track".into(), 1, now());
        active.give(1, held.clone(), ToWorker::Ping);
        let _second = active.join(worker(2, &[held]));
        assert_eq!(next(), [0; 0], "the first has empty hands, and nobody can speak to it");
    }
}
