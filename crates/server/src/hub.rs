//! The running state of the coordinator: active sessions, connected workers, and the owners' commands. Connects the store's
//! data and the decisions of `chaarfm-coordinator` to the clock and the connections.

mod active_session;
mod dispatch;
mod environment;
mod feed;
mod indexing;
mod invitations;
mod notices;
mod notifier;
mod peer_snapshot;
mod queue_status;
mod renewal;
mod reputation;
mod retention;
mod scan;
mod verify;
mod workers;

use std::{
    collections::{BTreeMap, BTreeSet},
    panic,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use chaarfm_api::SessionView;
use chaarfm_config::ConfigFile;
use chaarfm_coordinator::{ExpiryGrace, Timestamp, VerifyShare};
use chaarfm_domain::{CollectionNameError, InvitationId, LogLevel, SessionId};
use chaarfm_protocol::{JobId, PairingCode};
use chaarfm_sources::{Libraries, NoLibrary};
use chaarfm_store::{NewSession, SessionRow, Store, StoreError};
use tokio::{
    sync::Notify,
    task::{AbortHandle, JoinHandle, JoinSet},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub(crate) use active_session::ActiveSession;
pub(crate) use environment::{Environment, system_time};
use peer_snapshot::PeerSnapshot;
pub(crate) use workers::{Denial, Farewell, Guest, Hello, Joined};

use crate::{advertised_address::AdvertisedAddress, audit::Audit, metrics::Metrics, models, verification::Verifier};

/// Maximum number of sessions per coordinator that have not ended.
const MAX_OPEN_SESSIONS: u32 = 100;

/// Maximum number of jobs remembered as having lost their files, until their workers report the failure.
const MAX_GONE: usize = 10_000;

/// Collection of a session that has not been started yet.
const FIRST_COLLECTION: &str = "music";

/// State shared by all of the coordinator's tasks.
pub(crate) struct Hub {
    pub(crate) store: Store,
    pub(crate) libraries: Libraries,
    /// The settings file, to which added libraries are written.
    settings: Option<ConfigFile>,
    pub(crate) metrics: Metrics,
    pub(crate) audit: Arc<Audit>,
    pub(crate) advertised: AdvertisedAddress,
    verifier: Verifier,
    environment: Environment,
    /// Cancelled when the coordinator should stop.
    pub(crate) shutdown: CancellationToken,
    /// Tasks that must end before the coordinator has stopped: worker connections, scans.
    pub(crate) tasks: TaskTracker,
    active: Mutex<BTreeMap<PairingCode, Arc<ActiveSession>>>,
    /// Sessions with changes that may allow a job to be handed out.
    dirty: Mutex<BTreeSet<PairingCode>>,
    became_dirty: Notify,
    /// Sessions whose changes must be announced to the other coordinators.
    dirty_for_peers: Mutex<BTreeSet<SessionId>>,
    has_news: Notify,
    /// The latest jobs whose files were requested but no longer exist.
    gone: Mutex<BTreeSet<JobId>>,
    expiry_grace: Mutex<ExpiryGrace>,
    /// The task that runs the background loops, until the coordinator stops.
    loops: OnceLock<AbortHandle>,
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    #[error("there is no session with the code {0}")]
    UnknownSession(PairingCode),
    #[error("session {0} has ended")]
    SessionEnded(PairingCode),
    #[error("{MAX_OPEN_SESSIONS} sessions are open, as many as one coordinator keeps; end one first")]
    TooManySessions,
    #[error(transparent)]
    Library(#[from] NoLibrary),
    #[error("there is no model called {0}")]
    UnknownModel(String),
    #[error(transparent)]
    Collection(#[from] CollectionNameError),
    #[error("session {0} is scanning a library already; stop it or wait until it is through")]
    AlreadyScanning(PairingCode),
    #[error(
        "job {0} of this session has not failed, or another job is at its track, or its file could not be read: then only a \
         scan can look at it again"
    )]
    NotRetryable(JobId),
    #[error("the session has no invitation {0} that has not been revoked")]
    UnknownInvitation(InvitationId),
    #[error("no worker with the key {0} has joined this session")]
    UnknownWorker(String),
    #[error("the session has as many invitations as there may be")]
    TooManyInvitations,
    #[error(
        "an invitation has a name of 1 to {} characters, is good for 1 to {} days, and has bounds above 0, if any",
        invitations::MAX_NAME_CHARS,
        invitations::MAX_DAYS
    )]
    NoInvitation,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl CommandError {
    /// Whether the command may succeed later without any change.
    pub(crate) fn is_passing(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_passing())
    }
}

impl Hub {
    pub(crate) fn new(
        store: Store,
        libraries: Libraries,
        settings: Option<ConfigFile>,
        advertised: AdvertisedAddress,
    ) -> Self {
        Self::within(Environment::system(), store, libraries, settings, advertised)
    }

    /// Sets which results are verified, and how; by default none is.
    pub(crate) fn verifying(self, verifier: Verifier) -> Self {
        Self { verifier, ..self }
    }

    /// Creates a hub with another clock and random source than the system's.
    pub(crate) fn within(
        environment: Environment,
        store: Store,
        libraries: Libraries,
        settings: Option<ConfigFile>,
        advertised: AdvertisedAddress,
    ) -> Self {
        let metrics = Metrics::new(store.metrics());
        Self {
            store,
            libraries,
            settings,
            metrics,
            audit: Arc::new(Audit::new()),
            advertised,
            verifier: Verifier::new(VerifyShare::None),
            environment,
            shutdown: CancellationToken::new(),
            tasks: TaskTracker::new(),
            active: Mutex::default(),
            dirty: Mutex::default(),
            became_dirty: Notify::new(),
            dirty_for_peers: Mutex::default(),
            has_news: Notify::new(),
            gone: Mutex::default(),
            expiry_grace: Mutex::default(),
            loops: OnceLock::new(),
        }
    }

    /// Writes a library to the settings file, so that it is offered after a restart. The error says why it will not be.
    pub(crate) fn remember_library(&self, location: &str) -> Result<(), String> {
        let Some(settings) = &self.settings else {
            return Err("it is offered until the server stops: start that with --library for it next time".to_owned());
        };
        let written = settings.append("libraries", location);
        written.map_err(|error| format!("it is offered until the server stops: {error}"))
    }

    /// Notes that a job's file no longer exists, so that no worker is blamed for it.
    pub(crate) fn note_gone(&self, job: JobId) {
        let mut gone = self.gone.lock().unwrap_or_else(PoisonError::into_inner);
        gone.insert(job);
        if gone.len() > MAX_GONE {
            gone.pop_first();
        }
    }

    fn was_gone(&self, job: JobId) -> bool {
        self.gone.lock().unwrap_or_else(PoisonError::into_inner).contains(&job)
    }

    /// Runs the background loops until the coordinator stops. Panics when one of them does: the others are useless without
    /// it.
    pub(crate) async fn run(self: Arc<Self>, job_retention_days: u32) {
        let mut loops = JoinSet::new();
        // One task each, so that a wake-up concerns only its own loop.
        let [dispatch, sweeps, renewals, notifier, peer_snapshot, takeovers, indexing, audit] =
            [(); 8].map(|()| Arc::clone(&self));
        loops.spawn(async move { dispatch.run_dispatch().await });
        loops.spawn(async move { sweeps.run_sweeps().await });
        loops.spawn(async move { renewals.run_renewals().await });
        loops.spawn(async move { notifier.run_notifier().await });
        loops.spawn(async move { peer_snapshot.run_peer_snapshots().await });
        loops.spawn(async move { takeovers.run_takeovers().await });
        loops.spawn(async move { indexing.run_indexing().await });
        loops.spawn(async move { audit.audit.run(&audit.store, || audit.now(), &audit.shutdown).await });
        loops.spawn(async move { self.run_retention(job_retention_days).await });
        while let Some(ended) = loops.join_next().await {
            ended.unwrap_or_else(|panicked| panic::resume_unwind(panicked.into_panic()));
        }
    }

    /// Stores the handle of the task that runs the loops.
    pub(crate) fn watch_loops<T>(&self, task: &JoinHandle<T>) {
        let _ = self.loops.set(task.abort_handle());
    }

    /// Whether that task has ended unexpectedly: then only a restart helps.
    pub(crate) fn has_failed(&self) -> bool {
        self.loops.get().is_some_and(AbortHandle::is_finished) && !self.shutdown.is_cancelled()
    }

    /// The newest session that has not ended, or a new one.
    pub(crate) async fn current_session(&self) -> Result<SessionView, CommandError> {
        let row = self.store.current_session(self.fresh_session()).await?;
        let peer_snapshot = self.peer_snapshot(&self.active_for(&row)).await?;
        self.view_of(row, peer_snapshot).await
    }

    /// Creates a session.
    pub(crate) async fn create_session(&self) -> Result<SessionView, CommandError> {
        let row = self.store.create_session(self.fresh_session(), MAX_OPEN_SESSIONS).await?;
        let row = row.ok_or(CommandError::TooManySessions)?;
        let peer_snapshot = self.peer_snapshot(&self.active_for(&row)).await?;
        self.view_of(row, peer_snapshot).await
    }

    /// The session with this code, ended or not.
    pub(crate) async fn session(&self, code: &PairingCode) -> Result<Arc<ActiveSession>, CommandError> {
        let active = self.sessions().get(code).cloned();
        if let Some(active) = active {
            return Ok(active);
        }
        let row = self.store.session(code).await?.ok_or(CommandError::UnknownSession(*code))?;
        Ok(self.active_for(&row))
    }

    /// The session's current view, for pages.
    pub(crate) async fn view(&self, active: &ActiveSession) -> Result<SessionView, CommandError> {
        // Read the database last: a page that sees the end of a scan must also see all its jobs.
        let peer_snapshot = self.peer_snapshot(active).await?;
        let row = self.store.session(&active.code).await?.ok_or(CommandError::UnknownSession(active.code))?;
        self.view_of(row, peer_snapshot).await
    }

    async fn view_of(&self, row: SessionRow, peer_snapshot: PeerSnapshot) -> Result<SessionView, CommandError> {
        let waiting = self.waiting(&row, &peer_snapshot).await?;
        let invitations = self.invitation_views(&row, &peer_snapshot).await?;
        Ok(SessionView {
            code: row.code,
            state: row.flags.state(&row.counts),
            model: row.model,
            collection: row.collection,
            counts: row.counts,
            tracks_per_minute: peer_snapshot.tracks_per_minute,
            waiting,
            scan: peer_snapshot.scan,
            left_out: row.left_out,
            invitations,
            worker_count: peer_snapshot.worker_count,
            workers: peer_snapshot.workers,
            log: peer_snapshot.log,
            advertised: Some(self.advertised.view()),
        })
    }

    /// Pauses or resumes the session.
    pub(crate) async fn set_paused(&self, active: &ActiveSession, paused: bool) -> Result<(), CommandError> {
        self.expect_open(active).await?;
        self.store.set_paused(active.id, paused).await?;
        active.log(LogLevel::Info, if paused { "paused" } else { "resumed" });
        self.wake_all(active);
        Ok(())
    }

    /// Empties the queue and cancels a scan. Workers finish the jobs they hold.
    pub(crate) async fn stop(&self, active: &ActiveSession) -> Result<(), CommandError> {
        let _transition = active.transition.lock().await;
        self.expect_open(active).await?;
        let dropped = self.store.clear_queue(active.id).await?;
        active.stop_scan();
        active.log(LogLevel::Info, format!("stopped; {dropped} waiting tracks were dropped"));
        self.wake_all(active);
        Ok(())
    }

    /// Queues all failed jobs again, or only the given one.
    pub(crate) async fn retry(&self, active: &ActiveSession, job: Option<JobId>) -> Result<(), CommandError> {
        self.expect_open(active).await?;
        let retried = self.store.retry_failed(active.id, job).await?;
        match job {
            Some(job) if retried.queued + retried.known == 0 => return Err(CommandError::NotRetryable(job)),
            _ => {}
        }
        active.log(
            LogLevel::Info,
            format!("failed tracks tried again: {} queued, {} known by now", retried.queued, retried.known),
        );
        self.wake_all(active);
        Ok(())
    }

    /// Ends the session: its code no longer admits anybody.
    pub(crate) async fn end(&self, active: &ActiveSession) -> Result<(), CommandError> {
        let _transition = active.transition.lock().await;
        self.expect_open(active).await?;
        self.store.end_session(active.id, self.now()).await?;
        self.retire(active);
        self.wake_all(active);
        Ok(())
    }

    /// Disconnects a session's workers after it has ended, here or on another coordinator.
    fn retire(&self, active: &ActiveSession) {
        self.sessions().remove(&active.code);
        active.stop_scan();
        active.log(LogLevel::Info, "the session has ended");
        active.broadcast(&workers::session_ended().into());
    }

    /// Schedules dispatching for this session.
    fn wake(&self, active: &ActiveSession) {
        self.dirty.lock().unwrap_or_else(PoisonError::into_inner).insert(active.code);
        self.became_dirty.notify_one();
    }

    /// Schedules dispatching for this session, here and on the other coordinators.
    fn wake_all(&self, active: &ActiveSession) {
        self.wake(active);
        self.tell(active.id);
    }

    /// Notes a database outage if that caused the error: then no lease is ended for a while.
    pub(crate) fn note_outage(&self, error: &StoreError) {
        if error.is_outage() {
            self.expiry_grace().note_outage(self.now());
        }
    }

    fn expiry_grace(&self) -> MutexGuard<'_, ExpiryGrace> {
        self.expiry_grace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn expect_open(&self, active: &ActiveSession) -> Result<(), CommandError> {
        self.open_row(active).await?.map(drop).ok_or(CommandError::SessionEnded(active.code))
    }

    /// The session's in-memory state. That of an ended session lives only as long as its caller.
    fn active_for(&self, row: &SessionRow) -> Arc<ActiveSession> {
        if row.flags.ended {
            return Arc::new(ActiveSession::new(row.id, row.code, self.environment.clone()));
        }
        let mut sessions = self.sessions();
        let active = sessions
            .entry(row.code)
            .or_insert_with(|| Arc::new(ActiveSession::new(row.id, row.code, self.environment.clone())));
        Arc::clone(active)
    }

    #[cfg(test)]
    pub(crate) fn active_session(&self, code: &PairingCode) -> Option<Arc<ActiveSession>> {
        self.sessions().get(code).cloned()
    }

    fn active_sessions(&self) -> Vec<Arc<ActiveSession>> {
        self.sessions().values().cloned().collect()
    }

    fn sessions(&self) -> MutexGuard<'_, BTreeMap<PairingCode, Arc<ActiveSession>>> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fresh_code(&self) -> PairingCode {
        PairingCode::from_random(self.environment.random() as u64)
    }

    fn fresh_session(&self) -> NewSession<'static> {
        NewSession {
            code: self.fresh_code(),
            model: models::default_name(),
            collection: FIRST_COLLECTION,
            now: self.now(),
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.environment.now()
    }
}
