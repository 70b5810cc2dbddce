//! The life of a worker: maintains a connection, keeps the jobs moving whatever the connection does, shows the status.

use std::{
    convert::Infallible,
    fmt,
    pin::{Pin, pin},
    time::Duration,
};

use chaarfm_domain::LogLevel;
use chaarfm_protocol::{
    Capacity, Device, JobRef, PairingCode, RefusalReason, RejectionReason, SessionState, ToServer, ToWorker, Trial,
    VERSION, WorkerKey, WorkerKind, limits::MAX_JOBS_PER_WORKER,
};
use futures_util::{
    future::{FusedFuture, FutureExt},
    select_biased,
};

use crate::{
    Address, Phase, Platform, Status,
    backoff::Backoff,
    counters::Counters,
    jobs::{Jobs, Settled},
    link::{Link, LinkError},
    runner::JobRunner,
    text::clip,
    wait::{TICK, within},
};

/// Longest goodbye: sending finished answers, handing back the other jobs, closing.
const GOODBYE_SECONDS: u64 = 5;

/// How long a worker waits for the receipts of its finished answers when its coordinator stops. The coordinator keeps
/// listening for about as long.
const PARTING_SECONDS: u64 = 3;

/// What a worker is and which session it joins.
#[derive(Debug, Clone)]
pub struct Config {
    /// The coordinator.
    pub address: Address,
    /// The code of its invitation.
    pub code: PairingCode,
    /// The key by which the coordinator recognises the worker, also after a restart.
    pub key: WorkerKey,
    /// Native executable or browser tab.
    pub kind: WorkerKind,
    /// Program name and version, such as `chaarfm-worker/0.1.0`.
    pub agent: String,
    /// The device it computes on.
    pub device: Device,
    /// How that device was chosen.
    pub trial: Trial,
    /// Largest audio file it takes, in bytes.
    pub max_audio_bytes: u64,
}

/// Something to show.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Event<'a> {
    /// The worker's status; at most four times a second, and once more at the end.
    Status(&'a Status),
    /// A line for the log.
    Log(LogLevel, &'a str),
}

/// How a worker's life ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// The worker was asked to stop or may begin nothing more, and has handed back its jobs.
    Stopped,
    /// The coordinator does not want this worker. Trying again is pointless.
    Refused {
        /// The reason, for programs.
        reason: RefusalReason,
        /// The reason, for people.
        message: String,
    },
}

impl Exit {
    /// Why the worker ended, if it was not asked to.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Stopped => None,
            Self::Refused { message, .. } => Some(message),
        }
    }
}

/// Runs a worker until `stop` resolves, the coordinator refuses it, or it may begin nothing more and has finished its
/// current track. `on_event` gets everything that is to be shown.
///
/// A worker that is asked to stop does not finish the current track: it sends its finished answers, hands back the
/// other jobs, says goodbye and closes, all within five seconds.
pub async fn run<P: Platform>(
    platform: &P,
    config: Config,
    stop: impl Future<Output = ()>,
    mut on_event: impl FnMut(Event<'_>),
) -> Exit {
    let runner = JobRunner::new(platform, &config.address, config.max_audio_bytes);
    let mut session_loop = SessionLoop {
        platform,
        config: &config,
        stop: pin!(stop.fuse()),
        on_event: &mut on_event,
        jobs: Jobs::new(&runner),
        backoff: Backoff::new(),
        counters: Counters::new(platform.now()),
        phase: Phase::Connecting,
        session: None,
        shown: None,
        tick_at: platform.now(),
    };
    let Err(exit) = session_loop.live().await;
    session_loop.phase = Phase::Stopped { reason: exit.reason().map(str::to_owned) };
    session_loop.show();
    exit
}

struct SessionLoop<'a, P: Platform> {
    platform: &'a P,
    config: &'a Config,
    stop: Pin<&'a mut dyn FusedFuture<Output = ()>>,
    on_event: &'a mut dyn FnMut(Event<'_>),
    jobs: Jobs<'a, P>,
    backoff: Backoff,
    counters: Counters,
    phase: Phase,
    session: Option<SessionState>,
    /// The status last shown.
    shown: Option<Status>,
    tick_at: Duration,
}

/// Why a wait ended.
enum Woke<T> {
    /// The awaited event.
    Event(T),
    /// A job has an outcome.
    Finished,
    /// Time has passed.
    Tick,
    /// The worker was asked to stop.
    Stop,
}

/// Why a connection ended.
enum Ended {
    /// The worker tries again.
    Lost(LinkError),
    /// The worker ends.
    Over(Exit),
}

impl From<LinkError> for Ended {
    fn from(error: LinkError) -> Self {
        Self::Lost(error)
    }
}

impl From<Exit> for Ended {
    fn from(exit: Exit) -> Self {
        Self::Over(exit)
    }
}

impl<P: Platform> SessionLoop<'_, P> {
    /// Connects again and again until the worker ends.
    async fn live(&mut self) -> Result<Infallible, Exit> {
        loop {
            let Err(ended) = self.connection().await;
            match ended {
                Ended::Lost(error) => self.back_off(&error.to_string()).await?,
                Ended::Over(exit) => return Err(exit),
            }
        }
    }

    /// Opens a connection and serves on it until it ends.
    async fn connection(&mut self) -> Result<Infallible, Ended> {
        self.phase = Phase::Connecting;
        let url = self.config.address.socket(&self.config.code);
        let hello = self.hello();
        let mut link = self.until(Link::open(self.platform, &url, &hello)).await??;
        let Err(mut ended) = self.serve(&mut link).await;
        if matches!(ended, Ended::Lost(LinkError::Goodbye)) {
            Err(ended) = self.part(&mut link).await;
        }
        match ended {
            Ended::Over(Exit::Stopped) => self.say_goodbye(link).await,
            Ended::Lost(LinkError::Goodbye) => self.close(link).await,
            Ended::Lost(_) | Ended::Over(_) => {}
        }
        Err(ended)
    }

    fn hello(&mut self) -> ToServer {
        ToServer::Hello {
            protocol: VERSION,
            agent: self.config.agent.clone(),
            kind: self.config.kind,
            device: self.config.device.clone(),
            trial: self.config.trial.clone(),
            capacity: Capacity { jobs: MAX_JOBS_PER_WORKER, max_audio_bytes: self.config.max_audio_bytes },
            key: Some(self.config.key.clone()),
            holding: self.jobs.carry_over(),
        }
    }

    /// Sends what is due and handles incoming messages until the connection ends.
    async fn serve(&mut self, link: &mut Link<'_, P>) -> Result<Infallible, Ended> {
        loop {
            link.beat().await?;
            if link.has_proved_itself() {
                self.backoff.reset();
            }
            if link.is_welcomed() {
                for answer in self.jobs.answers(self.platform.now()) {
                    link.send(&answer).await?;
                }
                link.report(|| self.jobs.reports()).await?;
            }
            match self.wait(link.receive()).await {
                Woke::Event(message) => self.hear(link, message?).await?,
                Woke::Finished | Woke::Tick => {}
                Woke::Stop => return Err(Exit::Stopped.into()),
            }
        }
    }

    /// Delivers the finished answers to a coordinator that is stopping. The other jobs go on and are named to the next
    /// coordinator.
    async fn part(&mut self, link: &mut Link<'_, P>) -> Result<Infallible, Ended> {
        let until = self.platform.now() + Duration::from_secs(PARTING_SECONDS);
        loop {
            for answer in self.jobs.answers(self.platform.now()) {
                link.send(&answer).await?;
            }
            if !self.jobs.has_answers() || self.platform.now() >= until {
                return Err(LinkError::Goodbye.into());
            }
            match self.wait(link.receive()).await {
                Woke::Event(message) => self.hear(link, message?).await?,
                Woke::Finished | Woke::Tick => {}
                Woke::Stop => return Err(Exit::Stopped.into()),
            }
        }
    }

    async fn hear(&mut self, link: &mut Link<'_, P>, message: ToWorker) -> Result<(), Ended> {
        match message {
            ToWorker::Welcome { session, state, .. } => {
                link.welcome();
                self.phase = Phase::Connected;
                self.session = Some(state);
                self.log(LogLevel::Info, format_args!("joined session {}", clip(&session)));
            }
            // Neither refusal is final: other workers leave, and a greeting may only have been late because of a slow
            // network.
            ToWorker::Refused { reason: RefusalReason::Full | RefusalReason::BadHello, message, .. } => {
                return Err(LinkError::NotNow(clip(&message)).into());
            }
            ToWorker::Refused { reason, message, get } => {
                let page = get.and_then(|program| self.config.address.resolve(&program.page).ok());
                let message = clip(&page.map_or(message.clone(), |page| format!("{message}: {page}")));
                self.log(LogLevel::Error, format_args!("the coordinator refused this worker: {message}"));
                return Err(Exit::Refused { reason, message }.into());
            }
            ToWorker::Job(job) => {
                if let Some(job) = self.jobs.take(job) {
                    link.send(&ToServer::Release { job }).await?;
                }
            }
            ToWorker::Accepted { job, .. } => self.accepted(&job),
            ToWorker::Rejected { job, reason, message } => self.rejected(&job, reason, &message),
            ToWorker::State { state } => {
                self.session = Some(state);
                self.log(LogLevel::Info, format_args!("the session is {}", in_words(state)));
            }
            ToWorker::Goodbye => return Err(LinkError::Goodbye.into()),
            ToWorker::Ping => link.send(&ToServer::Pong).await?,
            ToWorker::Pong | ToWorker::Unknown => {}
        }
        Ok(())
    }

    fn accepted(&mut self, job: &JobRef) {
        match self.jobs.settle(job) {
            Some(Settled { label, failure: None }) => {
                self.counters.stored(self.platform.now());
                self.log(LogLevel::Success, format_args!("stored {label}"));
            }
            Some(Settled { label, failure: Some(failure) }) => {
                self.counters.failed();
                self.log(LogLevel::Error, format_args!("failed {label}: {}", failure.message));
            }
            None => {}
        }
    }

    fn rejected(&mut self, job: &JobRef, reason: RejectionReason, message: &str) {
        let Some(Settled { label, .. }) = self.jobs.settle(job) else { return };
        if reason == RejectionReason::InvalidVector {
            self.counters.failed();
        }
        self.log(LogLevel::Warning, format_args!("dropped {label}: {}", clip(message)));
    }

    /// Sends finished answers, hands back the other jobs, closes.
    async fn say_goodbye(&mut self, mut link: Link<'_, P>) {
        self.phase = Phase::Stopping;
        self.show();
        let mut messages = self.jobs.answers(self.platform.now());
        // `Bye` hands back all jobs; it counts against the worker no more than a `Release`.
        self.jobs.give_up();
        messages.push(ToServer::Bye);
        let farewell = async {
            for message in &messages {
                if link.send(message).await.is_err() {
                    return;
                }
            }
            link.close().await;
        };
        // A failed goodbye does no harm: the coordinator takes the jobs back when the connection ends.
        within(self.platform, Duration::from_secs(GOODBYE_SECONDS), farewell).await;
    }

    async fn close(&self, link: Link<'_, P>) {
        within(self.platform, Duration::from_secs(GOODBYE_SECONDS), link.close()).await;
    }

    /// Waits before the next connection.
    async fn back_off(&mut self, reason: &str) -> Result<(), Exit> {
        let wait = self.backoff.next(self.platform.random());
        let (seconds, reason) = (wait.as_secs_f32(), clip(reason));
        self.log(LogLevel::Warning, format_args!("{reason}; next try in {seconds:.1} s"));
        self.phase = Phase::BackingOff { seconds, reason };
        self.until(self.platform.sleep(wait)).await
    }

    /// Waits for `event` while the jobs go on; fails when the worker is asked to stop.
    async fn until<T>(&mut self, event: impl Future<Output = T>) -> Result<T, Exit> {
        let mut event = pin!(event);
        loop {
            match self.wait(event.as_mut()).await {
                Woke::Event(value) => return Ok(value),
                Woke::Stop => return Err(Exit::Stopped),
                Woke::Finished | Woke::Tick => {}
            }
        }
    }

    /// Waits for the first of several events. All waits except those for sending pass through here, so that jobs always
    /// go on and a stop is always noticed.
    async fn wait<T>(&mut self, event: impl Future<Output = T>) -> Woke<T> {
        let till_tick = self.tick_at.saturating_sub(self.platform.now());
        {
            let mut tick = pin!(self.platform.sleep(till_tick).fuse());
            let mut event = pin!(event.fuse());
            let mut finished = pin!(self.jobs.finished().fuse());
            select_biased! {
                () = self.stop.as_mut() => return Woke::Stop,
                value = event => return Woke::Event(value),
                () = finished => return Woke::Finished,
                () = tick => {}
            }
        }
        self.tick_at = self.platform.now() + TICK;
        if let Some(notice) = self.jobs.notice() {
            self.log(LogLevel::Warning, format_args!("{}", clip(&notice)));
        }
        self.show();
        let has_finished = !self.platform.may_begin() && !self.jobs.is_analysing() && !self.jobs.has_answers();
        if has_finished { Woke::Stop } else { Woke::Tick }
    }

    /// Shows the status if it changed.
    fn show(&mut self) {
        let status = Status {
            phase: self.phase.clone(),
            device: Some(self.config.device.clone()),
            trial: self.config.trial.clone(),
            session: self.session,
            jobs: self.jobs.statuses(),
            done: self.counters.done,
            failed: self.counters.failed,
            tracks_per_minute: self.counters.tracks_per_minute(self.platform.now()),
        };
        if self.shown.as_ref() != Some(&status) {
            (self.on_event)(Event::Status(&status));
            self.shown = Some(status);
        }
    }

    fn log(&mut self, level: LogLevel, line: fmt::Arguments<'_>) {
        (self.on_event)(Event::Log(level, &line.to_string()));
    }
}

fn in_words(state: SessionState) -> &'static str {
    match state {
        SessionState::Idle => "idle",
        SessionState::Running => "running",
        SessionState::Paused => "paused",
        SessionState::Complete => "complete",
        SessionState::Ended => "ended",
    }
}
