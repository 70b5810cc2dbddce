//! The part of a session that lives in memory and ends with the process: who is connected, what pages show beside what
//! is stored.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use chaarfm_coordinator::{Held, Roster, Timestamp, Worker, WorkerId};
use chaarfm_protocol::{
    JobRef, PairingCode, SessionState, Stage, ToWorker, WorkerKind,
    view::{CurrentView, LogLevel, LogLine, ScanView, WorkerView},
};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::now;
use crate::store::SessionId;

/// Notices that a session keeps.
const MAX_LOG_LINES: usize = 100;

/// Messages that wait for a worker to read them; one that lets more pile up is dropped.
const MAX_OUTGOING_MESSAGES: usize = 32;

/// The rate is that of the tracks stored within this time.
const RATE_WINDOW_MILLIS: u64 = 60_000;

/// Stored tracks that are remembered for the rate.
const MAX_RATE_SAMPLES: usize = 10_000;

/// A lease is not renewed more often than this, however often its worker reports.
const MIN_RENEWAL_MILLIS: u64 = 2_000;

/// A session's live part.
pub(crate) struct Live {
    pub(crate) id: SessionId,
    pub(crate) code: PairingCode,
    inner: Mutex<Inner>,
    changed: watch::Sender<()>,
    /// Held while what is stored and what is in memory change together: a job is claimed and given, a worker comes or
    /// goes with its leases, a scan or the session begins or ends. Two such changes at once would leave halves of each.
    pub(super) in_step: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Inner {
    roster: Roster,
    links: HashMap<WorkerId, mpsc::Sender<ToWorker>>,
    log: VecDeque<LogLine>,
    stored: VecDeque<Timestamp>,
    scan: Option<ActiveScan>,
    announced: Option<SessionState>,
}

struct ActiveScan {
    view: ScanView,
    stop: CancellationToken,
}

/// What a page shows of the live part.
pub(super) struct Snapshot {
    pub(super) workers: Vec<WorkerView>,
    pub(super) log: Vec<LogLine>,
    pub(super) scan: Option<ScanView>,
    pub(super) tracks_per_minute: f32,
}

/// A worker that can take a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Taker {
    pub(super) id: WorkerId,
    pub(super) name: String,
    pub(super) kind: WorkerKind,
    /// The largest file it takes.
    pub(super) max_bytes: u64,
}

/// What a report of progress is to be followed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reported {
    /// The lease is to be renewed.
    Renew,
    /// Nothing: it has been renewed a moment ago.
    Fresh,
    /// The worker is told that it does not hold this.
    NotHeld,
}

impl Live {
    pub(super) fn new(id: SessionId, code: PairingCode) -> Self {
        Self {
            id,
            code,
            inner: Mutex::default(),
            changed: watch::Sender::new(()),
            in_step: tokio::sync::Mutex::default(),
        }
    }

    /// Wakes whenever something that a page shows may have changed.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    pub(super) fn has_changed(&self) {
        self.changed.send_replace(());
    }

    /// Adds a notice.
    pub(super) fn log(&self, level: LogLevel, message: impl Into<String>) {
        let line = LogLine { at_ms: now().0, level, message: message.into() };
        tracing::info!(session = %self.code, "{}", line.message);
        let mut inner = self.lock();
        inner.log.push_front(line);
        inner.log.truncate(MAX_LOG_LINES);
        drop(inner);
        self.has_changed();
    }

    /// What a page shows of the live part, at this moment.
    pub(super) fn snapshot(&self) -> Snapshot {
        let moment = now();
        let inner = self.lock();
        let in_window = |stored: &&Timestamp| moment.millis_since(**stored) < RATE_WINDOW_MILLIS;
        let recent = inner.stored.iter().rev().take_while(in_window).count();
        Snapshot {
            workers: inner.roster.iter().map(worker_view).collect(),
            log: inner.log.iter().cloned().collect(),
            scan: inner.scan.as_ref().map(|scan| scan.view.clone()),
            tracks_per_minute: recent as f32 * 60_000.0 / RATE_WINDOW_MILLIS as f32,
        }
    }

    // Workers.

    /// Takes a worker in, and lets go of its earlier connections. What is to be told to it comes out of the receiver.
    pub(super) fn join(&self, worker: Worker) -> mpsc::Receiver<ToWorker> {
        let (link, outgoing) = mpsc::channel(MAX_OUTGOING_MESSAGES);
        let mut inner = self.lock();
        inner.links.insert(worker.id, link);
        for earlier in inner.roster.join(worker) {
            inner.links.remove(&earlier);
        }
        outgoing
    }

    pub(super) fn leave(&self, id: WorkerId) -> Option<Worker> {
        let mut inner = self.lock();
        inner.links.remove(&id);
        inner.roster.leave(id)
    }

    pub(super) fn worker_count(&self) -> usize {
        self.lock().roster.len()
    }

    pub(crate) fn heard(&self, id: WorkerId) {
        self.lock().roster.heard(id, now());
    }

    /// Has the connections of silent workers ended and returns those workers. Each connection's task notices that nobody
    /// can speak to it any more.
    pub(super) fn drop_silent(&self) -> Vec<WorkerId> {
        let mut inner = self.lock();
        let mut silent = inner.roster.silent(now());
        silent.retain(|id| inner.links.remove(id).is_some());
        silent
    }

    /// The worker to serve next. What a dropped connection were given would be lost.
    pub(super) fn next_taker(&self, above: u64) -> Option<Taker> {
        let inner = self.lock();
        let worker = inner.roster.next_taker(above, |id| inner.links.contains_key(&id))?;
        Some(Taker { id: worker.id, name: worker.name.clone(), kind: worker.kind, max_bytes: worker.max_audio_bytes() })
    }

    /// Gives a job to a worker that has not left.
    pub(super) fn give(&self, id: WorkerId, held: Held, message: ToWorker) {
        let mut inner = self.lock();
        let given = inner.roster.give(id, held);
        debug_assert!(given, "nobody leaves while jobs are handed out");
        inner.send(id, message);
    }

    pub(super) fn take(&self, job: &JobRef) -> Option<WorkerId> {
        self.lock().roster.take(job)
    }

    pub(super) fn report(&self, id: WorkerId, job: &JobRef, stage: Stage, fraction: f32) -> Reported {
        let moment = now();
        let mut inner = self.lock();
        let Some(held) = inner.roster.held_mut(id, job) else { return Reported::NotHeld };
        held.stage = stage;
        held.fraction = if fraction.is_finite() { fraction.clamp(0.0, 1.0) } else { 0.0 };
        if moment.millis_since(held.renewed) < MIN_RENEWAL_MILLIS {
            return Reported::Fresh;
        }
        held.renewed = moment;
        Reported::Renew
    }

    /// Counts a track that was stored.
    pub(super) fn count_done(&self, id: WorkerId) {
        let mut inner = self.lock();
        if let Some(worker) = inner.roster.get_mut(id) {
            worker.done += 1;
        }
        inner.stored.push_back(now());
        if inner.stored.len() > MAX_RATE_SAMPLES {
            inner.stored.pop_front();
        }
    }

    /// Counts a track that the worker failed.
    pub(super) fn count_failed(&self, id: WorkerId) {
        if let Some(worker) = self.lock().roster.get_mut(id) {
            worker.failed += 1;
        }
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

    pub(super) fn begin_scan(&self, library: &str, stop: CancellationToken) {
        let view = ScanView { library: library.to_owned(), files: 0 };
        self.lock().scan = Some(ActiveScan { view, stop });
        self.has_changed();
    }

    pub(super) fn count_scanned(&self, files: u64) {
        if let Some(scan) = &mut self.lock().scan {
            scan.view.files += files;
        }
        self.has_changed();
    }

    /// Calls the scan off, or notes that it is over.
    pub(super) fn stop_scan(&self) {
        if let Some(scan) = self.lock().scan.take() {
            scan.stop.cancel();
        }
        self.has_changed();
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
}

fn worker_view(worker: &Worker) -> WorkerView {
    WorkerView {
        id: worker.id,
        kind: worker.kind,
        device: worker.device.clone(),
        agent: worker.agent.clone(),
        done: worker.done,
        failed: worker.failed,
        current: worker.current().map(|held| CurrentView {
            label: held.label.clone(),
            stage: held.stage,
            fraction: held.fraction,
        }),
    }
}

#[cfg(test)]
mod tests {
    use chaarfm_protocol::{Capacity, Device};

    use super::*;

    fn worker(id: WorkerId, held: &[Held]) -> Worker {
        let device = Device { backend: "flex".into(), name: "CPU".into() };
        let capacity = Capacity { jobs: 1, max_audio_bytes: 100 };
        let mut worker = Worker::new(id, format!("w{id}"), WorkerKind::Native, device, "test".into(), capacity, now());
        worker.held = held.to_vec();
        worker
    }

    #[test]
    fn a_connection_that_was_replaced_gets_nothing_more() {
        let live = Live::new(1, PairingCode::from_random(1));
        let _first = live.join(worker(1, &[]));
        let taker = Taker { id: 1, name: "w1".into(), kind: WorkerKind::Native, max_bytes: 100 };
        assert_eq!(live.next_taker(0), Some(taker));
        let held = Held::new(JobRef { job: 7, lease: "t".into() }, "track".into(), now());
        live.give(1, held.clone(), ToWorker::Ping);
        let _second = live.join(worker(2, &[held]));
        assert_eq!(live.next_taker(0), None, "the first has empty hands, and nobody can speak to it");
    }
}
