//! The part of a session that lives in memory and ends with the process: who is connected, what pages show beside what
//! is stored.

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

/// Libraries and models that are said to be lacking.
const MAX_LACKING: usize = 16;

/// Workers whose checks are remembered: more than a session takes in.
const MAX_CHECKED: usize = 20_000;

/// Messages that wait for a worker to read them; one that lets more pile up is dropped.
const MAX_OUTGOING_MESSAGES: usize = 32;

/// Places from which nobody new joins a session; the one that has been such for longest makes room.
const MAX_BARRED: usize = 10_000;

/// For how long nobody new joins from where a worker was set aside: others live behind the same address.
const BARRED_SECONDS: u64 = 3_600;

/// The rate is that of the tracks stored within this time.
const RATE_WINDOW_SECONDS: u64 = 60;

/// The part of a session that is in memory: its connected workers and their links.
pub(crate) struct ActiveSession {
    pub(crate) id: SessionId,
    pub(crate) code: PairingCode,
    inner: Mutex<Inner>,
    changed: watch::Sender<()>,
    /// Held while what is stored and what is in memory change together: a job is claimed and given, a worker comes or
    /// goes with its leases, a scan or the session begins or ends. Two such changes at once would leave halves of each.
    pub(super) transition: tokio::sync::Mutex<()>,
    /// What the other coordinators show of the session.
    pub(super) elsewhere: Elsewhere,
    /// What pages see of it.
    pub(super) feed: Feed,
    environment: Environment,
}

#[derive(Default)]
struct Inner {
    registry: WorkerRegistry,
    reputation: Reputation,
    links: BTreeMap<WorkerId, mpsc::Sender<ToWorker>>,
    /// Leases that are to last longer, and are not written down yet.
    renewals: BTreeMap<JobId, Renewal>,
    notices: Notices,
    /// Tracks stored in each of the latest seconds in which there were any.
    stored: VecDeque<(u64, u32)>,
    scan: Option<ActiveScan>,
    announced: Option<SessionState>,
    /// What checks have shown, by the worker's name.
    checked: BTreeMap<String, CheckRecord>,
    /// When there was last nothing to hand out.
    nothing_waited: Timestamp,
    /// What was said to be lacking.
    lacking: BTreeSet<String>,
    /// From where workers have joined that were set aside.
    barred: BTreeMap<Origin, Timestamp>,
}

struct ActiveScan {
    number: i64,
    view: ScanView,
    stop: CancellationToken,
}

/// A worker that can take a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Taker {
    pub(super) id: WorkerId,
    pub(super) name: String,
    pub(super) invitation: InvitationId,
    pub(super) kind: WorkerKind,
    /// The largest file it takes.
    pub(super) max_bytes: u64,
    /// Whether it is given the last try of a job.
    pub(super) takes_last_tries: bool,
    /// Since when it has had room.
    pub(super) room_since: Timestamp,
}

/// What a failure means to a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Blame {
    pub(super) name: String,
    /// It is on probation since this very failure.
    pub(super) came_into_doubt: bool,
    /// Tracks that others are to try, as far as they have failed for good.
    pub(super) in_doubt: Vec<JobId>,
}

impl Taker {
    /// What it asks the store for, under a fresh lease made of a number that nobody can guess.
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

    /// Wakes whenever something that a page shows may have changed.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    pub(super) fn has_changed(&self) {
        self.changed.send_replace(());
    }

    /// Adds a notice, which is a line of the log as well.
    pub(super) fn log(&self, level: LogLevel, message: impl AsRef<str>) {
        // It may quote names of files and what workers say.
        let line = LogLine { at_ms: self.now().0, level, message: text::one_line(message.as_ref()) };
        spans::current_or_session(self.id).in_scope(|| match level {
            // A track that is given up is no error of the coordinator's.
            LogLevel::Error | LogLevel::Warning => tracing::warn!("{}", line.message),
            LogLevel::Info | LogLevel::Success => tracing::info!("{}", line.message),
        });
        let mut inner = self.lock();
        inner.notices.add(line);
        drop(inner);
        self.has_changed();
    }

    /// A snapshot of it for pages and other coordinators.
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

    /// Takes a worker in, and lets go of its earlier connections. What is to be told to it comes out of the receiver.
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
        // Written down after it has come back, they would let a lease last longer than it is known to.
        left.held.iter().for_each(|held| drop(inner.renewals.remove(&held.job.job)));
        Some(left)
    }

    /// The connected workers of an invitation, without the one with this key.
    pub(super) fn count_others_of(&self, invitation: InvitationId, key: &str) -> u64 {
        let inner = self.lock();
        let others = inner.registry.iter().filter(|worker| worker.invitation == invitation && worker.name != key);
        others.count() as u64
    }

    /// Tells the workers of an invitation why they have to go.
    pub(super) fn dismiss(&self, invitation: InvitationId, why: &ToWorker) {
        let mut inner = self.lock();
        let theirs = inner.registry.iter().filter(|worker| worker.invitation == invitation);
        let ids: Vec<_> = theirs.map(|worker| worker.id).collect();
        for id in ids {
            inner.send(id, why.clone());
        }
    }

    /// The connections of the worker with this key.
    pub(super) fn count_of(&self, key: &str) -> usize {
        self.lock().registry.iter().filter(|worker| worker.name == key).count()
    }

    /// For [`BARRED_SECONDS`] nobody new joins from there.
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

    /// Whether the worker has a job in its hands, so that a result of it may be on its way.
    pub(crate) fn holds_something(&self, id: WorkerId) -> bool {
        self.lock().registry.get(id).is_some_and(|worker| !worker.held.is_empty())
    }

    /// Has the connections of silent workers ended and returns those workers. Each connection's task notices that nobody
    /// can speak to it any more.
    pub(super) fn drop_silent(&self) -> Vec<WorkerId> {
        let mut inner = self.lock();
        let mut silent = inner.registry.silent(self.now());
        silent.retain(|id| inner.links.remove(id).is_some());
        silent
    }

    /// The workers to serve next, at most `count`, of those that take files larger than `above` bytes.
    pub(super) fn next_takers(&self, count: usize, above: u64, passed_over: &HashSet<WorkerId>) -> Vec<Taker> {
        let inner = self.lock();
        let may_be_served = |worker: &&Worker| !passed_over.contains(&worker.id) && inner.may_be_served(worker);
        // Looked up only when somebody is there who has finished nothing yet: it means to look at all workers.
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

    /// Gives a job to a worker that has not left.
    pub(super) fn give(&self, id: WorkerId, held: Held, message: ToWorker) {
        spans::job(self.id, Some(id), held.job.job).in_scope(|| tracing::debug!("handed out"));
        let mut inner = self.lock();
        let given = inner.registry.give(id, held);
        debug_assert!(given, "nobody leaves while jobs are handed out");
        inner.send(id, message);
    }

    /// Says, once, that something is lacking for jobs to be handed out.
    pub(super) fn note_lacking(&self, notice: String) {
        let mut inner = self.lock();
        if inner.lacking.len() < MAX_LACKING && inner.lacking.insert(notice.clone()) {
            drop(inner);
            self.log(LogLevel::Error, notice);
        }
    }

    /// Notes that there is nothing to hand out at this moment.
    pub(super) fn nothing_waits(&self) {
        self.lock().nothing_waited = self.now();
    }

    /// How long a job and the taker's room for it have been there by now, at most: when the job came is not known, only
    /// when there was none.
    pub(super) fn waited(&self, taker: &Taker) -> Duration {
        let since = taker.room_since.max(self.lock().nothing_waited);
        Duration::from_millis(self.now().millis_since(since))
    }

    pub(super) fn take(&self, job: &JobRef) -> Option<(WorkerId, Held)> {
        self.lock().registry.take(job, self.now())
    }

    /// Notes how far a job is, and which leases are to be renewed for that.
    pub(super) fn report(&self, id: WorkerId, job: &JobRef, stage: Stage, fraction: f32) -> Result<(), NotYourLease> {
        let mut inner = self.lock();
        let renewals = inner.registry.report(id, job, stage, fraction, self.now())?;
        inner.renewals.extend(renewals.into_iter().map(|renewal| (renewal.job.job, renewal)));
        drop(inner);
        self.has_changed();
        Ok(())
    }

    /// The leases to renew, by the jobs' numbers.
    pub(super) fn take_renewals(&self) -> Vec<Renewal> {
        mem::take(&mut self.lock().renewals).into_values().collect()
    }

    /// Keeps what could not be written down, unless there is something newer.
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

    /// Counts a track that was stored, of the worker of this name, which was given it at that moment, if it is known. The
    /// connection may be gone by now.
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

    /// Counts a track that the worker failed.
    pub(super) fn count_failed(&self, id: WorkerId) {
        self.lock().registry.count_failed(id);
    }

    /// Notes embeddings of patches of a job that the worker holds.
    pub(super) fn add_evidence(&self, id: WorkerId, job: &JobRef, first: u32, length: u16, embeddings: &Halves) {
        let below = |n| self.environment.random_below(n);
        self.lock().registry.add_evidence(id, job, first, length, embeddings, below);
    }

    pub(super) fn take_evidence(&self, id: WorkerId, job: &JobRef) -> Option<Evidence> {
        self.lock().registry.take_evidence(id, job)
    }

    /// What checks have shown of the worker.
    pub(super) fn check_record(&self, id: WorkerId) -> CheckRecord {
        let inner = self.lock();
        let name = inner.registry.get(id).map(|worker| &worker.name);
        name.and_then(|name| inner.checked.get(name)).copied().unwrap_or_default()
    }

    /// Notes that a result of the worker came out the same.
    pub(super) fn confirm(&self, id: WorkerId) {
        self.change_check_record(id, CheckRecord::confirm);
    }

    /// Notes that a result of the worker was not proven.
    pub(super) fn doubt(&self, id: WorkerId) {
        self.change_check_record(id, CheckRecord::doubt);
    }

    fn change_check_record(&self, id: WorkerId, change: impl FnOnce(&mut CheckRecord)) {
        let mut guard = self.lock();
        let inner = &mut *guard;
        let Some(worker) = inner.registry.get(id) else { return };
        if inner.checked.len() >= MAX_CHECKED && !inner.checked.contains_key(&worker.name) {
            // A forgotten worker counts as a newcomer again.
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

    /// All workers that are set aside, and whether each has lied.
    pub(super) fn all_set_aside(&self) -> BTreeMap<String, bool> {
        self.lock().reputation.all_set_aside()
    }

    /// Holds a track against the worker, which it failed or handed back. None when it has left.
    pub(super) fn hold_against(&self, id: WorkerId, job: &Job, fault: Fault) -> Option<Blame> {
        let mut guard = self.lock();
        let inner = &mut *guard;
        let name = inner.registry.get(id)?.name.clone();
        let came_into_doubt = inner.reputation.failed(&name, job, fault, &inner.registry, self.now());
        let standing = if fault == Fault::Track { Standing::Good } else { inner.reputation.standing(&name) };
        let in_doubt = match standing {
            _ if came_into_doubt => inner.reputation.tracks_in_doubt(&name),
            // It had this one in its hands when it came into doubt.
            Standing::OnProbation => vec![job.id],
            // What it fails after that is made good with all the rest.
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

    /// Decides about a worker on probation, if it can be told by now what its tracks are.
    pub(super) fn judge(&self, name: &str, tracks: &[Job]) -> Option<Verdict> {
        let mut guard = self.lock();
        let inner = &mut *guard;
        inner.reputation.judge(name, tracks, &inner.registry, self.now())
    }

    /// The workers whose failures are to be queued again now, and whether their results as well.
    pub(super) fn to_make_good(&self) -> Vec<(String, bool)> {
        self.lock().reputation.to_make_good()
    }

    /// That could not be done.
    pub(super) fn put_off(&self, name: &str) {
        self.lock().reputation.put_off(name);
    }

    /// The span of the newest connection of the worker of that name.
    pub(super) fn span_of(&self, name: &str) -> Span {
        let inner = self.lock();
        let connection = inner.registry.iter().filter(|worker| worker.name == name).last();
        connection.map_or_else(|| spans::session(self.id), |worker| spans::worker(self.id, worker.id))
    }

    /// What people call the workers of that name: "worker 7" as a rule.
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

    /// Tells the workers where the session stands. True when that is news.
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

    /// Notes that a scan is over. Another one may have begun meanwhile.
    pub(super) fn end_scan(&self, number: i64) {
        self.lock().scan.take_if(|scan| scan.number == number);
        self.has_changed();
    }

    /// Calls the scan off.
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
    /// Puts a message into the worker's queue; a worker that lets it run full is dropped.
    fn send(&mut self, id: WorkerId, message: ToWorker) {
        if self.links.get(&id).is_some_and(|link| link.try_send(message).is_err()) {
            self.links.remove(&id);
        }
    }

    /// Whether the worker is given jobs. What a dropped connection were given would be lost.
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
        let busy = [Held::given(&job, "track".into(), now())];
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
        let held = Held::given(&job, "track".into(), now());
        active.give(1, held.clone(), ToWorker::Ping);
        let _second = active.join(worker(2, &[held]));
        assert_eq!(next(), [0; 0], "the first has empty hands, and nobody can speak to it");
    }
}
