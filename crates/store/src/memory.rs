//! The store in memory, for tests: it does what the databases do, takes no time of its own, and has several processes on the
//! same rows. What befalls those who ask a database is up to [`Conditions`].
//!
//! Leaves out what only files and servers have: exports, imports and snapshots.

mod audit;
mod invitations;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    future::pending,
    io, mem,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use chaarfm_coordinator::{State, Timestamp, WorkerId};
use chaarfm_domain::{
    Embedding, Found, InvitationId, JobId, JobRef, JobState, LeftOutFiles, PairingCode, SessionId,
    limits::MAX_WAITING_COUNTED,
};
use tokio::{
    sync::{Mutex, MutexGuard, OwnedMutexGuard, broadcast},
    time::sleep,
};

use crate::{
    changes::{Jobs, Work},
    duplicates::MAX_LENGTH_DIFFERENCE,
    error::{StoreError, Stored},
    jobs::{Claim, JobRow, MAX_EXPIRED_PER_SWEEP, QueueStatus, Retried, Takers},
    peers::News,
    scans::{Enqueued, Filed, NoScan, SCAN_TTL_SECONDS, Scan, ScanOrder},
    sessions::{MAX_PRUNED_JOBS, NewSession, SessionRow},
    vectors::{CollectionRow, Maker, VectorRow},
};
use invitations::Guests;

/// News that wait for a process to hear them; one that lets more pile up has missed some.
const MAX_NEWS: usize = 64;

/// What befalls those who ask the database, and who sees what becomes of the rows.
pub trait Conditions: fmt::Debug + Send + Sync {
    /// A question is about to be asked.
    fn begins(&self, _operation: &'static str) {}

    /// On the way to the database, or on the way back.
    fn way(&self, is_back: bool) -> Way;

    /// The answer is there, or nobody waits for it any more.
    fn ends(&self, _operation: &'static str) {}

    /// A transaction of this process has been committed.
    fn committed(&self, before: &Rows, after: &Rows);
}

/// How a question, or the answer to it, gets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// It does, after this time.
    After(Duration),
    /// It does not, which is known after this time.
    Broken(Duration),
    /// Something else has got in its way: the same may succeed at once.
    Conflict,
    /// The process that asked is no more.
    Never,
}

/// Nothing befalls anybody.
#[derive(Debug)]
struct Calm;

impl Conditions for Calm {
    fn way(&self, _is_back: bool) -> Way {
        Way::After(Duration::ZERO)
    }

    fn committed(&self, _before: &Rows, _after: &Rows) {}
}

/// A process's way to the rows.
#[derive(Debug, Clone)]
pub struct Memory {
    rows: Arc<Mutex<Rows>>,
    beside: Arc<Beside>,
    owner: String,
    is_shared: bool,
    conditions: Arc<dyn Conditions>,
}

/// A question that is being asked.
struct Asking<'a> {
    conditions: &'a dyn Conditions,
    operation: &'static str,
}

impl<'a> Asking<'a> {
    fn new(conditions: &'a dyn Conditions, operation: &'static str) -> Self {
        conditions.begins(operation);
        Self { conditions, operation }
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.conditions.ends(self.operation);
    }
}

/// What is no part of transactions.
#[derive(Debug)]
struct Beside {
    workers: AtomicU64,
    processes: AtomicU64,
    /// By session and process: until when it is shown, and what.
    presence: std::sync::Mutex<BTreeMap<(SessionId, String), (Timestamp, String)>>,
    news: broadcast::Sender<(String, News)>,
}

/// All that is stored. A copy costs little: it shares what does not change.
#[derive(Debug, Clone, Default)]
pub struct Rows {
    sessions: Arc<BTreeMap<SessionId, Session>>,
    jobs: Arc<BTreeMap<JobId, Arc<Entry>>>,
    vectors: Arc<Vec<Arc<Kept>>>,
    last_session: i64,
    guests: Arc<Guests>,
    audit: Arc<audit::Audit>,
    last_job: JobId,
}

#[derive(Debug, Clone)]
struct Session {
    /// Its jobs are counted only when it is asked for.
    row: SessionRow,
    ended: Option<Timestamp>,
    scan: Scan,
    scan_owner: Option<String>,
    scan_deadline: Timestamp,
}

/// A job.
#[derive(Debug, Clone)]
pub struct Entry {
    /// As it is stored.
    pub row: JobRow,
    session: SessionId,
    scan: i64,
    seconds: Option<f64>,
}

/// A vector.
#[derive(Debug)]
struct Kept {
    collection: String,
    track_key: Option<String>,
    /// Key of the worker that made it.
    worker: String,
    row: VectorRow,
}

impl Rows {
    /// Every job, by number.
    pub fn jobs(&self) -> impl Iterator<Item = (JobId, &Arc<Entry>)> {
        self.jobs.iter().map(|(id, entry)| (*id, entry))
    }

    /// The jobs that are not as they were: as they were, if there were, and as they are, if they still are.
    pub fn changes<'a>(&'a self, before: &'a Self) -> Vec<(Option<&'a Entry>, Option<&'a Entry>)> {
        if Arc::ptr_eq(&self.jobs, &before.jobs) {
            return Vec::new();
        }
        let is_same = |id: &JobId, entry: &Arc<Entry>| before.jobs.get(id).is_some_and(|was| Arc::ptr_eq(was, entry));
        let changed = self.jobs.iter().filter(|(id, entry)| !is_same(id, entry));
        let changed = changed.map(|(id, entry)| (before.job(*id), Some(&**entry)));
        let gone =
            before.jobs.iter().filter(|(id, _)| !self.jobs.contains_key(id)).map(|(_, entry)| (Some(&**entry), None));
        changed.chain(gone).collect()
    }

    /// Whose the scans are that go on.
    pub fn scan_owners(&self) -> impl Iterator<Item = (SessionId, Option<&str>)> {
        let scanning = self.sessions.values().filter(|session| session.row.flags.scanning);
        scanning.map(|session| (session.row.id, session.scan_owner.as_deref()))
    }

    /// The job of that number.
    pub fn job(&self, id: JobId) -> Option<&Entry> {
        self.jobs.get(&id).map(Arc::as_ref)
    }

    /// Vectors of a content, in all collections.
    pub fn vectors_of(&self, content_hash: &str) -> usize {
        self.vectors.iter().filter(|kept| kept.row.content_hash == content_hash).count()
    }

    fn session(&self, id: SessionId) -> Option<SessionRow> {
        let mut row = self.sessions.get(&id)?.row.clone();
        for entry in self.jobs.values().filter(|entry| entry.session == id) {
            let count = match JobState::from(entry.row.job.state) {
                JobState::Queued => &mut row.counts.queued,
                JobState::Leased => &mut row.counts.leased,
                JobState::Done => &mut row.counts.done,
                JobState::Failed => &mut row.counts.failed,
            };
            *count += 1;
        }
        Some(row)
    }

    fn change_session(&mut self, id: SessionId) -> Option<&mut Session> {
        Arc::make_mut(&mut self.sessions).get_mut(&id)
    }

    /// The newest session that has not ended.
    fn newest_session(&self) -> Option<SessionRow> {
        let newest = self.sessions.values().rev().find(|session| !session.row.flags.ended)?;
        self.session(newest.row.id)
    }

    fn insert_session(&mut self, fresh: NewSession<'_>) -> SessionRow {
        self.last_session += 1;
        let row = fresh.row(SessionId(self.last_session));
        let scan = Scan {
            session: row.id,
            code: row.code,
            library: String::new(),
            collection: row.collection.clone(),
            model: row.model.clone(),
            number: 0,
            every_file: false,
        };
        let session = Session { row: row.clone(), ended: None, scan, scan_owner: None, scan_deadline: Timestamp::ZERO };
        Arc::make_mut(&mut self.sessions).insert(row.id, session);
        Arc::make_mut(&mut self.guests).invite(fresh.invitation(row.id));
        row
    }

    fn is_running(&self, id: SessionId) -> bool {
        self.sessions.get(&id).is_some_and(|session| !session.row.flags.paused && !session.row.flags.ended)
    }

    fn put(&mut self, entry: Entry) {
        Arc::make_mut(&mut self.jobs).insert(entry.row.job.id, Arc::new(entry));
    }

    /// Drops some of a session's jobs, and returns how many.
    fn drop_jobs(&mut self, session: SessionId, is_meant: impl Fn(&Entry) -> bool) -> u64 {
        let before = self.jobs.len();
        Arc::make_mut(&mut self.jobs).retain(|_, entry| entry.session != session || !is_meant(entry));
        (before - self.jobs.len()) as u64
    }

    /// All that waits has failed.
    #[cfg(test)]
    pub(super) fn fail_queued(&mut self) {
        for entry in Arc::make_mut(&mut self.jobs).values_mut() {
            if matches!(entry.row.job.state, State::Queued { .. }) {
                Arc::make_mut(entry).row.job.state = State::Failed;
            }
        }
    }

    fn queued(&self, session: SessionId) -> impl Iterator<Item = &Entry> {
        let jobs = self.jobs.values().map(Arc::as_ref);
        jobs.filter(move |entry| entry.session == session && matches!(entry.row.job.state, State::Queued { .. }))
    }

    /// Another job than this one that is to make the same vector.
    fn open_job_like(&self, row: &JobRow) -> Option<&Entry> {
        let is_like = |other: &&Arc<Entry>| {
            let other = &other.row;
            other.job.id != row.job.id && is_open(other) && is_of(other, &row.collection, &row.model, &row.content_hash)
        };
        self.jobs.values().find(is_like).map(Arc::as_ref)
    }

    fn has_vector(&self, collection: &str, model: &str, content_hash: &str) -> bool {
        self.vectors.iter().any(|kept| kept.is_of(collection, model, content_hash))
    }

    /// False when the collection has the same content already.
    fn insert_vector(&mut self, mut kept: Kept) -> bool {
        if self.has_vector(&kept.collection, &kept.row.model, &kept.row.content_hash) {
            return false;
        }
        kept.row.id = self.vectors.last().map_or(1, |last| last.row.id + 1);
        Arc::make_mut(&mut self.vectors).push(Arc::new(kept));
        true
    }

    /// The session of a scan, as long as the scan is this process's.
    fn scanning(&mut self, scan: &Scan, owner: &str) -> Option<&mut Session> {
        let session = self.change_session(scan.session)?;
        let is_this = session.scan.number == scan.number && session.scan_owner.as_deref() == Some(owner);
        is_this.then_some(session)
    }

    /// False when the scan has been called off or taken over.
    fn renew_scan(&mut self, scan: &Scan, owner: &str, now: Timestamp) -> bool {
        let session = self.scanning(scan, owner).filter(|session| session.row.flags.scanning);
        session.map(|session| session.scan_deadline = now.plus_seconds(SCAN_TTL_SECONDS)).is_some()
    }
}

impl Kept {
    fn is_of(&self, collection: &str, model: &str, content_hash: &str) -> bool {
        self.collection == collection && self.row.model == model && self.row.content_hash == content_hash
    }
}

fn is_open(row: &JobRow) -> bool {
    matches!(row.job.state, State::Queued { .. } | State::Leased { .. })
}

fn is_of(row: &JobRow, collection: &str, model: &str, content_hash: &str) -> bool {
    row.collection == collection && row.model == model && row.content_hash == content_hash
}

impl Memory {
    /// Nothing is stored yet.
    pub fn empty() -> Self {
        let beside = Beside {
            workers: AtomicU64::new(0),
            processes: AtomicU64::new(0),
            presence: std::sync::Mutex::default(),
            news: broadcast::Sender::new(MAX_NEWS),
        };
        Self {
            rows: Arc::default(),
            beside: Arc::new(beside),
            owner: "0".to_owned(),
            is_shared: true,
            conditions: Arc::new(Calm),
        }
    }

    /// Another process's way to the same rows.
    pub fn another(&self) -> Self {
        let number = self.beside.processes.fetch_add(1, Ordering::Relaxed) + 1;
        Self { owner: number.to_string(), ..self.clone() }
    }

    /// The same under other conditions, and where there is one process only at a time, as that.
    pub fn under(self, conditions: Arc<dyn Conditions>, is_shared: bool) -> Self {
        Self { conditions, is_shared, ..self }
    }

    /// All that is stored at this moment.
    pub async fn look(&self) -> Rows {
        self.rows.lock().await.clone()
    }

    /// Has a question go its way, and the answer come back.
    pub(super) async fn ask<T>(&self, operation: &'static str, asked: impl Future<Output = Stored<T>>) -> Stored<T> {
        let _asking = Asking::new(&*self.conditions, operation);
        self.go(false).await?;
        let answer = asked.await;
        self.go(true).await?;
        answer
    }

    async fn go(&self, is_back: bool) -> Stored<()> {
        match self.conditions.way(is_back) {
            Way::After(Duration::ZERO) => Ok(()),
            Way::After(after) => {
                sleep(after).await;
                Ok(())
            }
            Way::Broken(after) => {
                sleep(after).await;
                Err(StoreError::Unavailable(io::Error::from(io::ErrorKind::ConnectionReset).into()))
            }
            Way::Conflict => Err(StoreError::Conflict(sqlx::Error::WorkerCrashed)),
            Way::Never => pending().await,
        }
    }

    async fn read(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().await
    }

    /// One statement.
    pub(super) async fn write<T>(&self, change: impl FnOnce(&mut Rows) -> T) -> T {
        let mut rows = self.rows.lock().await;
        let before = rows.clone();
        let outcome = change(&mut rows);
        self.conditions.committed(&before, &rows);
        outcome
    }

    pub(super) fn is_shared(&self) -> bool {
        self.is_shared
    }

    pub(super) async fn ping(&self) -> Stored<()> {
        Ok(())
    }

    pub(super) async fn next_worker(&self) -> Stored<WorkerId> {
        Ok(self.beside.workers.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

// What coordinators tell each other.

/// What other processes tell.
pub struct Listener {
    owner: String,
    news: broadcast::Receiver<(String, News)>,
}

impl Listener {
    pub(super) async fn next(&mut self) -> Option<News> {
        loop {
            match self.news.recv().await {
                Ok((teller, _)) if teller == self.owner => {}
                Ok((_, news)) => return Some(news),
                Err(broadcast::error::RecvError::Lagged(_)) => return None,
                Err(broadcast::error::RecvError::Closed) => pending().await,
            }
        }
    }
}

impl Memory {
    pub(super) fn listener(&self) -> Listener {
        Listener { owner: self.owner.clone(), news: self.beside.news.subscribe() }
    }

    fn tell(&self, news: News) {
        // Nobody may listen.
        let _ = self.beside.news.send((self.owner.clone(), news));
    }

    fn presence(&self) -> std::sync::MutexGuard<'_, BTreeMap<(SessionId, String), (Timestamp, String)>> {
        self.beside.presence.lock().expect("nothing panics while it is held")
    }

    pub(super) async fn notify(&self, sessions: &[SessionId]) -> Stored<()> {
        sessions.iter().for_each(|session| self.tell(News::Work(*session)));
        Ok(())
    }

    pub(super) async fn publish_presence(&self, views: &[(SessionId, String)], until: Timestamp) -> Stored<()> {
        for (session, view) in views {
            self.presence().insert((*session, self.owner.clone()), (until, view.clone()));
            self.tell(News::Presence(*session));
        }
        Ok(())
    }

    pub(super) async fn withdraw_presence(&self, sessions: &[SessionId]) -> Stored<()> {
        for session in sessions {
            if self.presence().remove(&(*session, self.owner.clone())).is_some() {
                self.tell(News::Presence(*session));
            }
        }
        Ok(())
    }

    pub(super) async fn presence_of_others(&self, session: SessionId, now: Timestamp) -> Stored<Vec<String>> {
        let presence = self.presence();
        let others =
            presence.iter().filter(|((of, owner), (until, _))| *of == session && *owner != self.owner && *until > now);
        Ok(others.map(|(_, (_, view))| view.clone()).collect())
    }

    pub(super) async fn sweep_presence(&self, now: Timestamp) -> Stored<()> {
        self.presence().retain(|_, (until, _)| *until > now);
        Ok(())
    }
}

// Sessions.

impl Memory {
    pub(super) async fn current_session(&self, fresh: NewSession<'_>) -> Stored<SessionRow> {
        Ok(self.write(|rows| rows.newest_session().unwrap_or_else(|| rows.insert_session(fresh))).await)
    }

    pub(super) async fn create_session(&self, fresh: NewSession<'_>, max_open: u32) -> Stored<Option<SessionRow>> {
        let create = |rows: &mut Rows| {
            let open = rows.sessions.values().filter(|session| !session.row.flags.ended).count();
            (open < max_open as usize).then(|| rows.insert_session(fresh))
        };
        Ok(self.write(create).await)
    }

    pub(super) async fn session(&self, code: &PairingCode) -> Stored<Option<SessionRow>> {
        let rows = self.read().await;
        let id = rows.sessions.values().find(|session| session.row.code == *code).map(|session| session.row.id);
        Ok(id.and_then(|id| rows.session(id)))
    }

    pub(super) async fn open_sessions(&self) -> Stored<Vec<SessionRow>> {
        let rows = self.read().await;
        Ok(rows.sessions.keys().filter_map(|id| rows.session(*id)).filter(|row| !row.flags.ended).collect())
    }

    pub(super) async fn set_paused(&self, id: SessionId, paused: bool) -> Stored<()> {
        self.write(|rows| rows.change_session(id).map(|session| session.row.flags.paused = paused)).await;
        Ok(())
    }

    pub(super) async fn clear_queue(&self, id: SessionId) -> Stored<u64> {
        let clear = |rows: &mut Rows| {
            if let Some(session) = rows.change_session(id) {
                (session.row.flags.scanning, session.row.flags.paused) = (false, false);
            }
            rows.drop_jobs(id, |entry| matches!(entry.row.job.state, State::Queued { .. }))
        };
        Ok(self.write(clear).await)
    }

    pub(super) async fn end_session(&self, id: SessionId, now: Timestamp) -> Stored<()> {
        let end = |rows: &mut Rows| {
            if let Some(session) = rows.change_session(id) {
                (session.row.flags.scanning, session.row.flags.ended, session.ended) = (false, true, Some(now));
            }
            rows.drop_jobs(id, |entry| is_open(&entry.row));
        };
        self.write(end).await;
        Ok(())
    }

    pub(super) async fn prune(&self, ended_before: Timestamp, _now: Timestamp) -> Stored<bool> {
        let prune = |rows: &mut Rows| {
            let newest = rows.sessions.keys().last().copied();
            let is_due = |session: &&Session| {
                session.ended.is_some_and(|ended| ended <= ended_before)
                    && (Some(session.row.id) != newest
                        || rows.jobs.values().any(|entry| entry.session == session.row.id))
            };
            let due = rows.sessions.values().filter(is_due).min_by_key(|session| session.ended);
            let Some(id) = due.map(|session| session.row.id) else { return false };
            let jobs = rows.jobs.iter().filter(|(_, entry)| entry.session == id).map(|(number, _)| *number);
            let some: BTreeSet<JobId> = jobs.take(MAX_PRUNED_JOBS as usize).collect();
            rows.drop_jobs(id, |entry| some.contains(&entry.row.job.id));
            if some.len() < MAX_PRUNED_JOBS as usize {
                Arc::make_mut(&mut rows.guests).forget(id);
                if Some(id) != newest {
                    Arc::make_mut(&mut rows.sessions).remove(&id);
                }
            }
            true
        };
        Ok(self.write(prune).await)
    }
}

// Scans.

impl Memory {
    pub(super) async fn begin_scan(
        &self,
        id: SessionId,
        order: ScanOrder<'_>,
        now: Timestamp,
    ) -> Stored<Result<Scan, NoScan>> {
        let begin = |rows: &mut Rows| {
            let session = rows.change_session(id).filter(|session| !session.row.flags.ended);
            let session = session.ok_or(NoScan::SessionEnded)?;
            if session.row.flags.scanning {
                return Err(NoScan::AlreadyScanning);
            }
            let row = &mut session.row;
            (row.flags.scanning, row.flags.paused) = (true, false);
            (row.counts.skipped, row.counts.alike, row.left_out) = (0, 0, Vec::new());
            order.collection.clone_into(&mut row.collection);
            order.model.clone_into(&mut row.model);
            session.scan = Scan {
                library: order.library.to_owned(),
                collection: order.collection.to_owned(),
                model: order.model.to_owned(),
                number: session.scan.number + 1,
                every_file: order.every_file,
                ..session.scan
            };
            session.scan_owner = Some(self.owner.clone());
            session.scan_deadline = now.plus_seconds(SCAN_TTL_SECONDS);
            Ok(session.scan.clone())
        };
        Ok(self.write(begin).await)
    }

    /// Where there is only one process, whoever owned a scan before it is dead.
    fn is_abandoned(&self, session: &Session, now: Timestamp) -> bool {
        let is_of_the_past = !self.is_shared && session.scan_owner.as_ref() != Some(&self.owner);
        session.row.flags.scanning && (is_of_the_past || session.scan_deadline <= now)
    }

    pub(super) async fn abandoned_scans(&self, now: Timestamp) -> Stored<Vec<Scan>> {
        let rows = self.read().await;
        let abandoned = rows.sessions.values().filter(|session| self.is_abandoned(session, now));
        Ok(abandoned.map(|session| session.scan.clone()).collect())
    }

    pub(super) async fn take_over_scan(&self, scan: &Scan, now: Timestamp) -> Stored<bool> {
        let take_over = |rows: &mut Rows| {
            let Some(session) = rows.change_session(scan.session) else { return false };
            if session.scan.number != scan.number || !self.is_abandoned(session, now) {
                return false;
            }
            (session.row.counts.skipped, session.row.counts.alike) = (0, 0);
            session.scan_owner = Some(self.owner.clone());
            session.scan_deadline = now.plus_seconds(SCAN_TTL_SECONDS);
            true
        };
        Ok(self.write(take_over).await)
    }

    pub(super) async fn renew_scan(&self, scan: &Scan, now: Timestamp) -> Stored<bool> {
        Ok(self.write(|rows| rows.renew_scan(scan, &self.owner, now)).await)
    }

    pub(super) async fn abandon_scan(&self, scan: &Scan) -> Stored<()> {
        let abandon = |rows: &mut Rows| {
            if let Some(session) = rows.scanning(scan, &self.owner) {
                (session.scan_owner, session.scan_deadline) = (None, Timestamp::ZERO);
            }
        };
        self.write(abandon).await;
        Ok(())
    }

    pub(super) async fn finish_scan(&self, scan: &Scan, left_out: &[LeftOutFiles]) -> Stored<()> {
        let finish = |rows: &mut Rows| {
            if let Some(session) = rows.scanning(scan, &self.owner) {
                session.row.flags.scanning = false;
                session.row.left_out = left_out.to_vec();
            }
        };
        self.write(finish).await;
        Ok(())
    }

    pub(super) async fn enqueue(&self, scan: &Scan, files: &[Found], now: Timestamp) -> Stored<Option<Enqueued>> {
        let mut tx = self.begin().await?;
        if !tx.rows.renew_scan(scan, &self.owner, now) {
            return Ok(None);
        }
        let mut sum = Enqueued::default();
        for file in files {
            sum.count(tx.enqueue(scan, file, now).await?);
        }
        if let Some(session) = tx.rows.change_session(scan.session) {
            session.row.counts.skipped += sum.skipped;
            session.row.counts.alike += sum.alike;
        }
        tx.commit().await?;
        Ok(Some(sum))
    }
}

// Jobs.

impl Memory {
    pub(super) async fn has_waiting(
        &self,
        session: SessionId,
        max_bytes: u64,
        max_attempts: i64,
        now: Timestamp,
    ) -> Stored<bool> {
        let rows = self.read().await;
        let waits = |entry: &Entry| {
            let State::Queued { not_before, .. } = entry.row.job.state else { return false };
            not_before <= now && entry.row.bytes <= max_bytes && i64::from(entry.row.job.attempts) <= max_attempts
        };
        Ok(rows.is_running(session) && rows.queued(session).any(waits))
    }

    pub(super) async fn queue_status(
        &self,
        session: SessionId,
        takers: &Takers,
        now: Timestamp,
    ) -> Stored<QueueStatus> {
        let rows = self.read().await;
        let mut queue_status = QueueStatus::default();
        for JobRow { job, bytes, .. } in rows.queued(session).take(MAX_WAITING_COUNTED as usize).map(|entry| &entry.row)
        {
            let State::Queued { not_before, not_again_before } = job.state else { continue };
            let is_for_greatest = *bytes > takers.max_bytes_of_others && job.holder.as_ref() == Some(&takers.greatest);
            let due = if is_for_greatest { not_before.max(not_again_before) } else { not_before };
            if *bytes > takers.max_bytes {
                queue_status.too_large += 1;
            } else if due > now {
                queue_status.resting += 1;
                queue_status.next_try = Some(queue_status.next_try.map_or(due, |next| next.min(due)));
            } else {
                queue_status.ready += 1;
            }
        }
        Ok(queue_status)
    }

    pub(super) async fn ended_by(
        &self,
        session: SessionId,
        holder: &str,
        state: JobState,
        after: JobId,
        limit: u32,
    ) -> Stored<Vec<JobId>> {
        let rows = self.read().await;
        let is_meant = |entry: &&Arc<Entry>| {
            let job = &entry.row.job;
            entry.session == session && JobState::from(job.state) == state && job.holder.as_deref() == Some(holder)
        };
        let ended = rows.jobs.range(after + 1..).map(|(_, entry)| entry).filter(is_meant);
        Ok(ended.take(limit as usize).map(|entry| entry.row.job.id).collect())
    }

    pub(super) async fn retry_failed(&self, session: SessionId, job: Option<JobId>) -> Stored<Retried> {
        let retry = |rows: &mut Rows| {
            let mut sum = Retried::default();
            if rows.sessions.get(&session).is_none_or(|session| session.row.flags.ended) {
                return sum;
            }
            let is_meant = |entry: &&Arc<Entry>| {
                let row = &entry.row;
                let is_asked_for = job.is_none_or(|job| job == row.job.id);
                entry.session == session
                    && row.job.state == State::Failed
                    && !row.content_hash.is_empty()
                    && is_asked_for
            };
            let failed: Vec<_> = rows.jobs.values().filter(is_meant).cloned().collect();
            for entry in failed {
                let row = &entry.row;
                let is_known = rows.has_vector(&row.collection, &row.model, &row.content_hash);
                if !is_known {
                    match rows.open_job_like(row) {
                        None => {
                            rows.last_job += 1;
                            let mut again = Entry::clone(&entry);
                            again.row.job = chaarfm_coordinator::Job::new(rows.last_job);
                            again.row.holder_kind = None;
                            rows.put(again);
                            sum.queued += 1;
                        }
                        Some(open) if open.session == session && open.is_for_the_file_of(&entry) => sum.known += 1,
                        // Nobody knows how that one ends.
                        Some(_) => continue,
                    }
                }
                sum.known += u64::from(is_known);
                rows.drop_jobs(session, |other| other.row.job.id == entry.row.job.id);
            }
            sum
        };
        Ok(self.write(retry).await)
    }

    pub(super) async fn expired(&self, now: Timestamp) -> Stored<Vec<(PairingCode, JobRef)>> {
        let rows = self.read().await;
        let expired = rows.jobs.values().filter(|entry| entry.row.job.has_expired(now));
        let mut expired: Vec<_> = expired.map(|entry| (entry.row.job.deadline(), entry)).collect();
        expired.sort_by_key(|(deadline, _)| *deadline);
        expired.truncate(MAX_EXPIRED_PER_SWEEP as usize);
        let job = |entry: &Entry| {
            let lease = entry.row.job.token.clone().unwrap_or_default();
            Some((rows.sessions.get(&entry.session)?.row.code, JobRef { job: entry.row.job.id, lease }))
        };
        Ok(expired.into_iter().filter_map(|(_, entry)| job(entry)).collect())
    }

    pub(super) async fn job(&self, id: JobId) -> Stored<Option<JobRow>> {
        Ok(self.read().await.job(id).map(|entry| entry.row.clone()))
    }

    pub(super) async fn jobs(
        &self,
        session: SessionId,
        state: Option<JobState>,
        offset: u64,
        limit: u32,
    ) -> Stored<Vec<JobRow>> {
        let rows = self.read().await;
        let is_meant = |entry: &&Arc<Entry>| {
            entry.session == session && state.is_none_or(|state| JobState::from(entry.row.job.state) == state)
        };
        let some = rows.jobs.values().filter(is_meant).skip(offset as usize).take(limit as usize);
        Ok(some.map(|entry| entry.row.clone()).collect())
    }
}

impl Entry {
    fn is_for_the_file_of(&self, other: &Self) -> bool {
        (&self.row.library, &self.row.track.file) == (&other.row.library, &other.row.track.file)
    }
}

// What changes jobs.

/// A transaction: a copy of all rows, which takes their place when it is committed. Nobody else writes meanwhile.
pub(super) struct Transaction {
    rows: Rows,
    kept: OwnedMutexGuard<Rows>,
    conditions: Arc<dyn Conditions>,
}

impl Jobs for Memory {
    type Work = Transaction;

    async fn begin(&self) -> Stored<Self::Work> {
        let kept = Arc::clone(&self.rows).lock_owned().await;
        Ok(Transaction { rows: kept.clone(), kept, conditions: Arc::clone(&self.conditions) })
    }
}

impl Work for Transaction {
    async fn commit(mut self) -> sqlx::Result<()> {
        let before = mem::replace(&mut *self.kept, self.rows);
        self.conditions.committed(&before, &self.kept);
        Ok(())
    }

    async fn keep_open(&mut self, session: SessionId) -> sqlx::Result<bool> {
        Ok(self.rows.sessions.get(&session).is_some_and(|session| !session.row.flags.ended))
    }

    async fn first_waiting(
        &mut self,
        session: SessionId,
        claim: &Claim<'_>,
        now: Timestamp,
    ) -> sqlx::Result<Option<JobRow>> {
        let is_meant = |entry: &&Entry| {
            let row = &entry.row;
            row.bytes <= claim.max_bytes && row.job.may_go_to(claim.worker, claim.takes_last_tries, now)
        };
        let is_running = self.rows.is_running(session);
        Ok(self.rows.queued(session).find(is_meant).filter(|_| is_running).map(|entry| entry.row.clone()))
    }

    async fn load(&mut self, session: SessionId, id: JobId) -> sqlx::Result<Option<JobRow>> {
        let entry = self.rows.job(id).filter(|entry| entry.session == session);
        Ok(entry.map(|entry| entry.row.clone()))
    }

    async fn save(&mut self, row: &JobRow) -> sqlx::Result<()> {
        if let Some(entry) = self.rows.job(row.job.id) {
            let entry = Entry { row: row.clone(), ..*entry };
            self.rows.put(entry);
        }
        Ok(())
    }

    async fn save_if_free(&mut self, row: &JobRow) -> sqlx::Result<bool> {
        let is_free = self.rows.open_job_like(row).is_none();
        if is_free {
            self.save(row).await?;
        }
        Ok(is_free)
    }

    async fn allowance(&mut self, invitation: InvitationId) -> sqlx::Result<Option<u64>> {
        Ok(self.rows.guests.allowance(invitation))
    }

    async fn count_bytes(&mut self, invitation: InvitationId, bytes: u64) -> sqlx::Result<()> {
        Arc::make_mut(&mut self.rows.guests).count_bytes(invitation, bytes);
        Ok(())
    }

    async fn insert_vector(
        &mut self,
        row: &JobRow,
        embedding: &Embedding,
        maker: &Maker,
        now: Timestamp,
    ) -> sqlx::Result<bool> {
        let stored = VectorRow {
            id: 0,
            track: row.track.clone(),
            seconds: embedding.seconds(),
            content_hash: row.content_hash.clone(),
            model: embedding.model().to_owned(),
            kind: maker.kind,
            device: maker.device.clone(),
            flags: embedding.flags().to_vec(),
            stored: now,
            embedding: embedding.numbers().to_vec(),
            tags: embedding.tags().to_vec(),
        };
        let (collection, track_key) = (row.collection.clone(), row.track_key.clone());
        Ok(self.rows.insert_vector(Kept { collection, track_key, worker: maker.key.clone(), row: stored }))
    }

    async fn delete_vectors(&mut self, row: &JobRow, worker: &str) -> sqlx::Result<bool> {
        let vectors = Arc::make_mut(&mut self.rows.vectors);
        let before = vectors.len();
        vectors.retain(|kept| {
            kept.row.model != row.model || kept.row.content_hash != row.content_hash || kept.worker != worker
        });
        Ok(vectors.len() < before)
    }

    async fn find_known(
        &mut self,
        scan: &Scan,
        file: &Found,
        hash: &str,
        key: Option<&str>,
    ) -> sqlx::Result<Option<Filed>> {
        let Scan { collection, model, .. } = scan;
        let jobs = || self.rows.jobs.values();
        let own = || jobs().filter(|entry| entry.session == scan.session && entry.row.content_hash == hash);
        let is_seen = |entry: &Arc<Entry>| {
            let row = &entry.row;
            entry.scan == scan.number && row.library == scan.library && row.track.file == file.track.file
        };
        if own().any(is_seen) {
            return Ok(Some(Filed::Seen));
        }
        let is_this = |entry: &Arc<Entry>| {
            let is_tried = entry.row.job.state != State::Failed || entry.scan == scan.number;
            is_of(&entry.row, collection, model, hash) && is_tried
        };
        if own().any(is_this) || self.rows.has_vector(collection, model, hash) {
            return Ok(Some(Filed::Known));
        }
        let (Some(key), Some(seconds)) = (key, file.seconds) else { return Ok(None) };
        let is_as_long = |other: f64| (other - seconds).abs() <= MAX_LENGTH_DIFFERENCE;
        let is_alike = |entry: &Arc<Entry>| {
            let row = &entry.row;
            (&row.collection, &row.model, row.track_key.as_deref()) == (collection, model, Some(key))
                && entry.seconds.is_some_and(is_as_long)
                && is_open(row)
                && row.content_hash != hash
        };
        let is_known = |kept: &Arc<Kept>| {
            (&kept.collection, &kept.row.model, kept.track_key.as_deref()) == (collection, model, Some(key))
                && is_as_long(kept.row.seconds)
        };
        let has_alike = jobs().any(is_alike) || self.rows.vectors.iter().any(is_known);
        Ok(has_alike.then_some(Filed::Alike))
    }

    async fn copy_vector(
        &mut self,
        scan: &Scan,
        file: &Found,
        hash: &str,
        key: Option<&str>,
        now: Timestamp,
    ) -> sqlx::Result<bool> {
        let is_same = |kept: &&Arc<Kept>| kept.row.content_hash == hash && kept.row.model == scan.model;
        let Some(same) = self.rows.vectors.iter().find(is_same) else { return Ok(false) };
        let row = VectorRow { track: file.track.clone(), stored: now, ..same.row.clone() };
        let (collection, worker) = (scan.collection.clone(), same.worker.clone());
        Ok(self.rows.insert_vector(Kept { collection, track_key: key.map(str::to_owned), worker, row }))
    }

    async fn insert_job(
        &mut self,
        scan: &Scan,
        file: &Found,
        hash: &str,
        key: Option<&str>,
        error: Option<&str>,
    ) -> sqlx::Result<bool> {
        let mut job = chaarfm_coordinator::Job::new(self.rows.last_job + 1);
        if let Some(error) = error {
            (job.state, job.error) = (State::Failed, Some(error.to_owned()));
        }
        let fresh = job.id;
        let row = JobRow {
            job,
            model: scan.model.clone(),
            library: scan.library.clone(),
            track: file.track.clone(),
            bytes: file.bytes,
            version: file.version.clone(),
            holder_kind: None,
            content_hash: hash.to_owned(),
            collection: scan.collection.clone(),
            track_key: key.map(str::to_owned),
        };
        if is_open(&row) && self.rows.open_job_like(&row).is_some() {
            return Ok(false);
        }
        self.rows.last_job = fresh;
        let entry = Entry { row, session: scan.session, scan: scan.number, seconds: file.seconds };
        let is_earlier = |other: &Entry| {
            let row = &other.row;
            row.job.state == State::Failed
                && row.job.id != fresh
                && other.is_for_the_file_of(&entry)
                && (&row.model, &row.collection) == (&scan.model, &scan.collection)
        };
        self.rows.drop_jobs(scan.session, is_earlier);
        self.rows.put(entry);
        Ok(true)
    }
}

// Vectors.

impl Memory {
    pub(super) async fn collections(&self) -> Stored<Vec<CollectionRow>> {
        let rows = self.read().await;
        let mut tracks: BTreeMap<&str, u64> = BTreeMap::new();
        rows.vectors.iter().for_each(|kept| *tracks.entry(&kept.collection).or_default() += 1);
        Ok(tracks.into_iter().map(|(name, vectors)| CollectionRow { name: name.to_owned(), vectors }).collect())
    }

    pub(super) async fn count_vectors(&self, collection: &str) -> Stored<Option<u64>> {
        let rows = self.read().await;
        let tracks = rows.vectors.iter().filter(|kept| kept.collection == collection).count() as u64;
        let is_named = rows.sessions.values().any(|session| session.row.collection == collection);
        Ok((tracks > 0 || is_named).then_some(tracks))
    }

    pub(super) async fn vectors(&self, collection: &str, offset: u64, limit: u32) -> Stored<Vec<VectorRow>> {
        let rows = self.read().await;
        let some = rows.vectors.iter().filter(|kept| kept.collection == collection);
        Ok(some.skip(offset as usize).take(limit as usize).map(|kept| kept.row.clone()).collect())
    }
}
