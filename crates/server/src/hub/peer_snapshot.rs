//! What pages show of a session beside the stored data: connected workers, their current jobs, the newest notices. Each
//! coordinator writes its own snapshot to the database, and pages show all of them merged. A snapshot that was not renewed
//! for a while is ignored: its coordinator has died.
//!
//! No job depends on snapshots; verdicts about workers depend on them only for whether workers elsewhere complete tracks. A
//! single coordinator stores no snapshot.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use chaarfm_api::{LogLine, ScanView, WorkerView};
use chaarfm_coordinator::{Timestamp, WorkerId};
use chaarfm_domain::{InvitationId, SessionId, Standing};
use chaarfm_store::{Store, StoreError, Takers};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, MissedTickBehavior};

use super::{ActiveSession, Hub, notices::Room};

/// Maximum number of workers shown per session; the others are only counted.
const MAX_WORKERS_SHOWN: usize = 100;

/// Minimum time between snapshots of one coordinator, however much happens.
const PUBLISH_INTERVAL_SECONDS: u64 = 1;

/// A snapshot that was not renewed for this long is ignored.
const TTL_SECONDS: u64 = 30;

/// How often an unchanged snapshot is renewed.
const RENEWAL_INTERVAL_SECONDS: u64 = TTL_SECONDS / 3;

/// The other snapshots are read again after this long even without a notification, which may have been lost.
const MAX_AGE_SECONDS: u64 = 3;

/// A notice that all coordinators log at about the same moment, such as the end of a session, is shown once.
const SAME_NOTICE_MILLIS: u64 = 5_000;

/// One coordinator's snapshot of a session, or the merged snapshots of all.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct PeerSnapshot {
    /// Number of workers.
    pub(super) worker_count: u64,
    /// Capacities of the workers that are given jobs. None when there are none, or from an older program.
    pub(super) takers: Option<Takers>,
    /// Latest lease time among all tracks completed there.
    pub(super) done_since: Timestamp,
    /// At most [`MAX_WORKERS_SHOWN`], by number.
    pub(super) workers: Vec<WorkerView>,
    /// The newest first; limited per level as by [`Room`].
    pub(super) log: Vec<LogLine>,
    pub(super) scan: Option<ScanView>,
    pub(super) tracks_per_minute: f32,
    /// Number of workers per invitation.
    pub(super) invited: BTreeMap<InvitationId, u64>,
}

/// A worker's priority for being shown.
pub(super) type Place = (u8, WorkerId);

/// Workers that get no tracks because of their failures come first, then those at work, then the others; among equals,
/// those that connected first, so that the selection stays stable.
pub(super) fn place(standing: Standing, is_at_work: bool, id: WorkerId) -> Place {
    match (standing, is_at_work) {
        (Standing::OnProbation | Standing::SetAside, _) => (0, id),
        (Standing::Good, true) => (1, id),
        (Standing::Good, false) => (2, id),
    }
}

/// The numbers of the workers to show, in order.
pub(super) fn choose(mut places: Vec<Place>) -> Vec<WorkerId> {
    if places.len() > MAX_WORKERS_SHOWN {
        places.select_nth_unstable(MAX_WORKERS_SHOWN);
        places.truncate(MAX_WORKERS_SHOWN);
    }
    let mut chosen: Vec<_> = places.into_iter().map(|(_, id)| id).collect();
    chosen.sort_unstable();
    chosen
}

/// Merges the snapshots of all coordinators. `own` is that of the coordinator serving the page.
fn merge(own: PeerSnapshot, others: &[PeerSnapshot]) -> PeerSnapshot {
    if others.is_empty() {
        return own;
    }
    let log = merge_logs(&own, others);
    let mut all = own;
    for other in others {
        all.takers = join_takers(&all, other);
        all.worker_count = all.worker_count.saturating_add(other.worker_count);
        all.workers.extend_from_slice(&other.workers);
        // Two coordinators show a scan only for a moment, while one takes it over from the other.
        all.scan = all.scan.or_else(|| other.scan.clone());
        all.tracks_per_minute += other.tracks_per_minute;
        for (invitation, count) in &other.invited {
            *all.invited.entry(*invitation).or_default() += count;
        }
    }
    let place_of = |worker: &WorkerView| place(worker.standing, worker.current.is_some(), worker.id);
    let chosen = choose(all.workers.iter().map(place_of).collect());
    all.workers.retain(|worker| chosen.binary_search(&worker.id).is_ok());
    all.workers.sort_unstable_by_key(|worker| worker.id);
    all.log = log;
    all
}

fn join_takers(all: &PeerSnapshot, other: &PeerSnapshot) -> Option<Takers> {
    match (all.worker_count, other.worker_count) {
        (_, 0) => all.takers.clone(),
        (0, _) => other.takers.clone(),
        _ => {
            let mut takers = all.takers.clone()?;
            takers.join(other.takers.as_ref()?);
            Some(takers)
        }
    }
}

fn merge_logs(own: &PeerSnapshot, others: &[PeerSnapshot]) -> Vec<LogLine> {
    let parts = std::iter::once(own).chain(others).enumerate();
    let mut lines: Vec<_> =
        parts.flat_map(|(part, peer_snapshot)| peer_snapshot.log.iter().map(move |line| (part, line))).collect();
    // The sort is stable: notices of one coordinator in the same millisecond keep their order.
    lines.sort_by_key(|(_, line)| Reverse(line.at_ms));
    let mut merged: Vec<(usize, &LogLine)> = Vec::new();
    let mut room = Room::default();
    for (part, line) in lines {
        let is_same_moment = |later: &LogLine| later.at_ms.saturating_sub(line.at_ms) < SAME_NOTICE_MILLIS;
        let mut said_then = merged.iter().rev().take_while(|(_, later)| is_same_moment(later));
        let is_same = |later: &LogLine| (later.level, &later.message) == (line.level, &line.message);
        if !said_then.any(|(other, later)| *other != part && is_same(later)) && room.take(line.level) {
            merged.push((part, line));
        }
    }
    merged.into_iter().map(|(_, line)| line.clone()).collect()
}

// Snapshots of other coordinators.

/// The other coordinators' snapshots of a session, as last read. All pages of this coordinator share one reading.
#[derive(Default)]
pub(super) struct Elsewhere {
    /// Something has changed since the last reading began.
    is_stale: AtomicBool,
    last: tokio::sync::Mutex<Reading>,
}

#[derive(Default)]
struct Reading {
    parts: Arc<[PeerSnapshot]>,
    at: Option<Instant>,
}

impl Elsewhere {
    /// Notes that another coordinator has announced a change.
    pub(super) fn mark_stale(&self) {
        self.is_stale.store(true, Ordering::Release);
    }

    pub(super) async fn parts(
        &self,
        store: &Store,
        session: SessionId,
        now: Timestamp,
    ) -> Result<Arc<[PeerSnapshot]>, StoreError> {
        let mut last = self.last.lock().await;
        let is_recent = last.at.is_some_and(|at| at.elapsed() < Duration::from_secs(MAX_AGE_SECONDS));
        // Reset the flag before reading: a change announced during the reading requires another one.
        if self.is_stale.swap(false, Ordering::AcqRel) || !is_recent {
            last.at = None;
            let views = store.presence_of_others(session, now).await?;
            last.parts = views.iter().filter_map(|view| read(view)).collect();
            last.at = Some(Instant::now());
        }
        Ok(Arc::clone(&last.parts))
    }
}

/// Parses a published snapshot. Missing and extra fields of older or newer programs do not matter; a malformed snapshot is
/// not shown.
fn read(view: &str) -> Option<PeerSnapshot> {
    serde_json::from_str(view)
        .inspect_err(|error| tracing::debug!("what another coordinator shows cannot be read: {error}"))
        .ok()
}

// Snapshots of this coordinator.

/// The last snapshot that this coordinator has published per session, and when.
#[derive(Default)]
struct Published {
    parts: BTreeMap<SessionId, (PeerSnapshot, Timestamp)>,
    swept: Timestamp,
}

/// The snapshots to write.
struct Changes {
    publish: BTreeMap<SessionId, PeerSnapshot>,
    withdraw: Vec<SessionId>,
}

impl Published {
    /// The snapshots that have changed or are due for renewal, and the sessions that have nothing left to show.
    fn changes(&self, mut current: BTreeMap<SessionId, PeerSnapshot>, now: Timestamp) -> Changes {
        current.retain(|_, peer_snapshot| *peer_snapshot != PeerSnapshot::default());
        let withdraw = self.parts.keys().filter(|session| !current.contains_key(session)).copied().collect();
        current.retain(|session, peer_snapshot| {
            let unchanged = self.parts.get(session).filter(|(before, _)| before == peer_snapshot);
            unchanged.is_none_or(|(_, at)| at.plus_seconds(RENEWAL_INTERVAL_SECONDS) <= now)
        });
        Changes { publish: current, withdraw }
    }

    fn sessions(&self) -> Vec<SessionId> {
        self.parts.keys().copied().collect()
    }
}

impl Hub {
    /// The merged snapshot of the session from all coordinators.
    pub(super) async fn peer_snapshot(&self, active: &ActiveSession) -> Result<PeerSnapshot, StoreError> {
        let own = active.peer_snapshot();
        let others = active.elsewhere.parts(&self.store, active.id, self.now()).await?;
        Ok(merge(own, &others))
    }

    /// Reads about other coordinators' workers, to judge workers here; only if a worker here has failed something.
    pub(super) async fn look_for_judges(&self, active: &ActiveSession) -> Result<(), StoreError> {
        if self.store.is_shared() && !active.is_spotless() {
            let others = active.elsewhere.parts(&self.store, active.id, self.now()).await?;
            let is_given_tracks = |part: &PeerSnapshot| part.takers.as_ref().is_some_and(|takers| takers.max_bytes > 0);
            let done_since = others.iter().map(|part| part.done_since).max().unwrap_or_default();
            active.note_elsewhere(others.iter().any(is_given_tracks), done_since);
        }
        Ok(())
    }

    /// Publishes snapshots for the other coordinators until this one stops.
    pub(super) async fn run_peer_snapshots(&self) {
        if !self.store.is_shared() {
            return;
        }
        let mut published = Published::default();
        let mut tick = tokio::time::interval(Duration::from_secs(PUBLISH_INTERVAL_SECONDS));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while self.shutdown.run_until_cancelled(tick.tick()).await.is_some() {
            if let Err(error) = self.publish(&mut published).await {
                tracing::debug!("what goes on here could not be shown to the other coordinators: {error}");
            }
        }
        if let Err(error) = self.store.withdraw_presence(&published.sessions()).await {
            tracing::debug!("what went on here will be shown for up to {TTL_SECONDS} s more: {error}");
        }
    }

    async fn publish(&self, published: &mut Published) -> Result<(), StoreError> {
        let now = self.now();
        let current = self.active_sessions().iter().map(|active| (active.id, active.peer_snapshot())).collect();
        let Changes { publish, withdraw } = published.changes(current, now);
        if !withdraw.is_empty() {
            self.store.withdraw_presence(&withdraw).await?;
            published.parts.retain(|session, _| !withdraw.contains(session));
        }
        if !publish.is_empty() {
            let views: Vec<_> = publish.iter().map(|(session, part)| (*session, written(part))).collect();
            self.store.publish_presence(&views, now.plus_seconds(TTL_SECONDS)).await?;
            published.parts.extend(publish.into_iter().map(|(session, part)| (session, (part, now))));
        }
        if published.swept.plus_seconds(TTL_SECONDS) <= now {
            self.store.sweep_presence(now).await?;
            published.swept = now;
        }
        Ok(())
    }
}

fn written(peer_snapshot: &PeerSnapshot) -> String {
    serde_json::to_string(peer_snapshot).expect("views are always JSON")
}

#[cfg(test)]
mod tests {
    use chaarfm_api::CurrentView;
    use chaarfm_domain::LogLevel;
    use chaarfm_protocol::{Device, Stage, Trial, WorkerKind};

    use super::{super::notices::MAX_LINES_PER_LEVEL, *};

    const T0: Timestamp = Timestamp(1_000_000);

    fn worker(id: WorkerId, standing: Standing, is_at_work: bool) -> WorkerView {
        let current = CurrentView { label: "track".into(), stage: Stage::Analysing, fraction: 0.5 };
        WorkerView {
            key: String::new(),
            id,
            kind: WorkerKind::Browser,
            device: Device { backend: "flex".into(), name: "CPU".into() },
            trial: Trial::default(),
            agent: "test".into(),
            done: 1,
            failed: 0,
            standing,
            current: is_at_work.then_some(current),
        }
    }

    fn workers(ids: impl IntoIterator<Item = WorkerId>) -> PeerSnapshot {
        let workers: Vec<_> = ids.into_iter().map(|id| worker(id, Standing::Good, true)).collect();
        PeerSnapshot { worker_count: workers.len() as u64, workers, tracks_per_minute: 1.5, ..PeerSnapshot::default() }
    }

    fn notices(notices: &[(u64, &str)]) -> PeerSnapshot {
        let line = |&(at_ms, message): &(u64, &str)| LogLine { at_ms, level: LogLevel::Info, message: message.into() };
        PeerSnapshot { log: notices.iter().map(line).collect(), ..PeerSnapshot::default() }
    }

    fn ids(peer_snapshot: &PeerSnapshot) -> Vec<WorkerId> {
        peer_snapshot.workers.iter().map(|worker| worker.id).collect()
    }

    #[test]
    fn the_workers_of_all_stand_in_one_row_and_the_rates_add_up() {
        let scan = Some(ScanView { library: "music".into(), files: 7 });
        let others = [workers([1, 5]), PeerSnapshot { scan: scan.clone(), ..workers([2]) }];
        let all = merge(workers([3, 4]), &others);
        assert_eq!((ids(&all), all.worker_count), (vec![1, 2, 3, 4, 5], 5));
        assert_eq!((all.tracks_per_minute, all.scan), (4.5, scan));
        let own = workers([3, 4]);
        assert_eq!(merge(own.clone(), &[]), own, "alone it is what it is");
    }

    #[test]
    fn what_the_workers_of_all_take_is_known_when_every_coordinator_tells() {
        let takers = |greatest: &str, max_bytes, max_bytes_of_others| {
            Some(Takers { greatest: greatest.into(), max_bytes, max_bytes_of_others })
        };
        let (silent, nobody) = (workers([1]), PeerSnapshot::default());
        let small = PeerSnapshot { takers: takers("a", 10, 0), ..workers([2]) };
        let large = PeerSnapshot { takers: takers("b", 30, 20), ..workers([3, 4]) };
        let joined = |own: &PeerSnapshot, others: &[&PeerSnapshot]| {
            let others: Vec<_> = others.iter().map(|&other| other.clone()).collect();
            merge(own.clone(), &others).takers
        };
        assert_eq!(joined(&small, &[&large]), takers("b", 30, 20));
        assert_eq!(joined(&large, &[&small]), takers("b", 30, 20));
        assert_eq!(joined(&nobody, &[&nobody, &small, &nobody]), takers("a", 10, 0));
        assert_eq!((joined(&small, &[&silent]), joined(&silent, &[&small])), (None, None));
    }

    #[test]
    fn of_very_many_those_in_doubt_are_shown_and_those_at_work() {
        let mut crowd = workers(1..=150);
        let idle = crowd.workers.iter_mut().take(80);
        idle.for_each(|worker| worker.current = None);
        crowd.workers[60].standing = Standing::SetAside;
        let mut doubtful = workers([200]);
        doubtful.workers[0].standing = Standing::OnProbation;
        doubtful.worker_count = 7_000;
        let all = merge(crowd, &[doubtful]);
        let expected: Vec<_> = (1..=28).chain([61]).chain(81..=150).chain([200]).collect();
        assert_eq!((ids(&all), all.worker_count), (expected, 7_150));
    }

    #[test]
    fn notices_are_in_the_order_of_time_and_no_more_than_a_page_shows() {
        let all = merge(notices(&[(9, "e"), (3, "b"), (3, "a")]), &[notices(&[(5, "d"), (4, "c")]), notices(&[])]);
        let messages: Vec<_> = all.log.iter().map(|line| line.message.as_str()).collect();
        assert_eq!(messages, ["e", "d", "c", "b", "a"]);
        let many = notices(&[(2, "many"); MAX_LINES_PER_LEVEL]);
        let mut older = notices(&[(1, "few")]);
        older.log[0].level = LogLevel::Warning;
        let all = merge(many.clone(), &[many, older, notices(&[(3, "new")])]);
        assert_eq!(all.log.len(), MAX_LINES_PER_LEVEL + 1);
        assert_eq!(all.log.last().unwrap().message, "few", "no level takes the room of another");
    }

    #[test]
    fn what_every_coordinator_notices_is_one_notice() {
        let late = SAME_NOTICE_MILLIS + 1;
        let own = notices(&[(late, "through"), (2, "stored"), (1, "stored")]);
        let all = merge(own, &[notices(&[(late - 1, "through"), (1, "through")]), notices(&[(late - 2, "through")])]);
        let lines: Vec<_> = all.log.iter().map(|line| (line.at_ms, line.message.as_str())).collect();
        let expected = [(late, "through"), (2, "stored"), (1, "stored"), (1, "through")];
        assert_eq!(lines, expected, "what one says twice it means twice");
    }

    #[test]
    fn a_part_is_published_when_it_changes_or_grows_old_and_withdrawn_when_it_is_empty() {
        let mut published = Published::default();
        let mut step = |parts: &[(i64, PeerSnapshot)], now: Timestamp| {
            let parts = parts.iter().map(|(session, part)| (SessionId(*session), part.clone()));
            let Changes { publish, withdraw } = published.changes(parts.collect(), now);
            published.parts.retain(|session, _| !withdraw.contains(session));
            let sessions: Vec<_> = publish.keys().map(|session| session.0).collect();
            published.parts.extend(publish.into_iter().map(|(session, part)| (session, (part, now))));
            (sessions, withdraw.into_iter().map(|session| session.0).collect::<Vec<_>>())
        };
        let (a, b) = (workers([1]), workers([2, 3]));
        let nothing = (vec![], vec![]);
        assert_eq!(step(&[(1, PeerSnapshot::default())], T0), nothing);
        assert_eq!(step(&[(1, a.clone()), (2, b.clone())], T0), (vec![1, 2], vec![]));
        let soon = T0.plus_seconds(1);
        assert_eq!(step(&[(1, a.clone()), (2, b.clone())], soon), nothing);
        assert_eq!(step(&[(1, b.clone()), (2, b.clone())], soon), (vec![1], vec![]));
        let later = T0.plus_seconds(RENEWAL_INTERVAL_SECONDS);
        assert_eq!(step(&[(1, b.clone()), (2, b.clone())], later), (vec![2], vec![]));
        assert_eq!(step(&[(2, PeerSnapshot::default())], later), (vec![], vec![1, 2]));
        assert_eq!(step(&[], later), nothing);
    }

    #[test]
    fn parts_of_other_versions_are_read_as_far_as_they_can_be() {
        let part = PeerSnapshot { log: notices(&[(1, "x\0")]).log, ..workers([1]) };
        assert_eq!(read(&written(&part)), Some(part));
        let older = read(r#"{"worker_count": 3, "mood": "good"}"#).unwrap();
        assert_eq!((older.worker_count, older.workers), (3, vec![]));
        assert_eq!(read("[]{"), None);
    }
}
