//! A scripted machine, a scripted coordinator, and a clock that jumps to the next moment for which a future waits.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::{Future, poll_fn},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use chaarfm_domain::LogLevel;
use chaarfm_protocol::{
    AcceptedAs, AudioRef, Device, Failure, Halves, Job, JobId, JobRef, ModelRef, Outcome, RejectionReason,
    SessionState, ToServer, ToWorker, Track, Trial, VERSION, Vector, WorkerKey, WorkerKind,
};
use chaarfm_worker::{
    Analysed, Config, Event, Exit, FetchError, Fetched, Platform, Socket, SocketError, Source, Status, run,
};
use futures_channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use futures_util::{StreamExt, future::join};
use url::Url;

/// The largest audio file that the worker says it takes.
pub(crate) const MAX_AUDIO_BYTES: u64 = 1000;

/// A test that has run this long on its own clock will never end.
const LONGEST_TEST_SECONDS: u64 = 3600;

const CODE: &str = "K7Q-M4X-WDP";

pub(crate) fn lease(number: JobId) -> JobRef {
    JobRef { job: number, lease: format!("lease {number}") }
}

pub(crate) fn job(number: JobId) -> Job {
    Job {
        job: lease(number),
        model: ModelRef { name: "m".into(), sha256: "0".into(), url: "/models/m".into() },
        track: Track {
            artist: Some("A".into()),
            title: Some(format!("track {number}")),
            album: None,
            file: format!("{number}"),
        },
        audio: AudioRef { url: format!("/api/audio/{number}"), direct: None, bytes: 100 },
    }
}

/// A job whose audio can be fetched directly from the storage.
pub(crate) fn stored_job(number: JobId) -> Job {
    let mut job = job(number);
    job.audio.direct = Some(format!("https://storage/tunes/{number}?signature=s"));
    job
}

/// The machine, its clock, and a record of events.
pub(crate) struct World {
    now: Cell<Duration>,
    sleepers: RefCell<Vec<(Duration, Waker)>>,
    callers: RefCell<VecDeque<Peer>>,
    caller: RefCell<Option<Waker>>,
    refusing: Cell<bool>,
    stopping: Cell<bool>,
    may_begin: Cell<bool>,
    stopper: RefCell<Option<Waker>>,
    fetch: Cell<Duration>,
    byte: Cell<Option<Duration>>,
    /// How many more fetches from the coordinator fail, and how.
    failing_fetches: RefCell<(u32, FetchError)>,
    storage_breaks_at: Cell<Option<f32>>,
    analysis: Cell<Duration>,
    failure: RefCell<Option<Failure>>,
    random: Cell<f64>,
    journal: RefCell<Vec<String>>,
    statuses: RefCell<Vec<(Duration, Status)>>,
    log: RefCell<Vec<(LogLevel, String)>>,
}

impl World {
    /// A file takes one second to arrive, an analysis takes another, and nothing fails.
    pub(crate) fn new() -> Self {
        Self {
            now: Cell::default(),
            sleepers: RefCell::default(),
            callers: RefCell::default(),
            caller: RefCell::default(),
            refusing: Cell::default(),
            stopping: Cell::default(),
            may_begin: Cell::new(true),
            stopper: RefCell::default(),
            fetch: Cell::new(Duration::from_secs(1)),
            byte: Cell::new(None),
            failing_fetches: RefCell::new((0, FetchError::Broken(String::new()))),
            storage_breaks_at: Cell::default(),
            analysis: Cell::new(Duration::from_secs(1)),
            failure: RefCell::default(),
            random: Cell::new(0.5),
            journal: RefCell::default(),
            statuses: RefCell::default(),
            log: RefCell::default(),
        }
    }

    /// Runs a worker and the script of its coordinator until both have ended.
    pub(crate) fn play(&self, script: impl AsyncFnOnce(&World)) -> Exit {
        let config = Config {
            address: "http://host".parse().unwrap(),
            code: CODE.parse().unwrap(),
            key: WorkerKey::from_random(7),
            kind: WorkerKind::Native,
            agent: "test".into(),
            device: Device { backend: "none".into(), name: "none".into() },
            trial: Trial::default(),
            max_audio_bytes: MAX_AUDIO_BYTES,
        };
        let worker = run(self, config, poll_fn(|context| self.stopped(context)), |event| self.show(event));
        self.simulate(join(worker, script(self))).0
    }

    /// Polls `future` while it makes progress, and otherwise advances the clock.
    fn simulate<T>(&self, future: impl Future<Output = T>) -> T {
        let woken = Arc::new(Woken(AtomicBool::new(true)));
        let waker = Waker::from(Arc::clone(&woken));
        let mut context = Context::from_waker(&waker);
        let mut future = pin!(future);
        loop {
            while woken.0.swap(false, Ordering::Relaxed) {
                if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
                    return value;
                }
            }
            self.jump();
        }
    }

    fn jump(&self) {
        let mut sleepers = self.sleepers.borrow_mut();
        let next = sleepers.iter().map(|(until, _)| *until).min().expect("everybody waits for somebody else");
        assert!(next.as_secs() < LONGEST_TEST_SECONDS, "this never ends");
        self.now.set(next);
        for (_, waker) in sleepers.extract_if(.., |(until, _)| *until <= next) {
            waker.wake();
        }
    }

    fn stopped(&self, context: &mut Context<'_>) -> Poll<()> {
        if self.stopping.get() {
            return Poll::Ready(());
        }
        *self.stopper.borrow_mut() = Some(context.waker().clone());
        Poll::Pending
    }

    fn show(&self, event: Event<'_>) {
        match event {
            Event::Status(status) => self.statuses.borrow_mut().push((self.now.get(), status.clone())),
            Event::Log(level, line) => self.log.borrow_mut().push((level, line.to_owned())),
        }
    }

    fn note(&self, line: &str) {
        self.journal.borrow_mut().push(format!("{} {line}", self.now.get().as_secs()));
    }

    pub(crate) fn fetch_takes(&self, seconds: u64) {
        self.fetch.set(Duration::from_secs(seconds));
    }

    /// From now on each of a file's hundred bytes takes this long.
    pub(crate) fn fetch_trickles(&self, seconds: u64) {
        self.byte.set(Some(Duration::from_secs(seconds)));
    }

    /// The next transfers break off in the middle.
    pub(crate) fn fetch_breaks(&self, times: u32) {
        self.fetch_fails(times, FetchError::Broken("reset by peer".into()));
    }

    /// The next fetches fail with `error`: statuses before the first byte, all other errors after half of the file.
    pub(crate) fn fetch_fails(&self, times: u32, error: FetchError) {
        self.failing_fetches.replace((times, error));
    }

    /// From now on a transfer from the storage breaks after this share of the file.
    pub(crate) fn storage_breaks_at(&self, share: Option<f32>) {
        self.storage_breaks_at.set(share);
    }

    pub(crate) fn analysis_takes(&self, seconds: u64) {
        self.analysis.set(Duration::from_secs(seconds));
    }

    pub(crate) fn analysis_fails(&self, failure: Failure) {
        *self.failure.borrow_mut() = Some(failure);
    }

    pub(crate) fn random_is(&self, random: f64) {
        self.random.set(random);
    }

    pub(crate) fn refuse_connections(&self, refuse: bool) {
        self.refusing.set(refuse);
    }

    /// The machine begins no more tracks.
    pub(crate) fn begin_nothing(&self) {
        self.may_begin.set(false);
    }

    /// Asks the worker to stop.
    pub(crate) fn stop(&self) {
        self.stopping.set(true);
        if let Some(waker) = self.stopper.borrow_mut().take() {
            waker.wake();
        }
    }

    pub(crate) fn seconds(&self) -> f64 {
        self.now.get().as_secs_f64()
    }

    pub(crate) async fn sleep_seconds(&self, seconds: u64) {
        self.sleep(Duration::from_secs(seconds)).await;
    }

    /// Fetches and analyses, with the second in which each began, ended or was dropped.
    pub(crate) fn journal(&self) -> Vec<String> {
        self.journal.borrow().clone()
    }

    pub(crate) fn statuses(&self) -> Vec<Status> {
        self.statuses.borrow().iter().map(|(_, status)| status.clone()).collect()
    }

    pub(crate) fn status_moments(&self) -> Vec<f64> {
        self.statuses.borrow().iter().map(|(moment, _)| moment.as_secs_f64()).collect()
    }

    pub(crate) fn last_status(&self) -> Status {
        self.statuses().pop().expect("a worker shows itself at the end")
    }

    pub(crate) fn logged(&self, level: LogLevel, part: &str) -> bool {
        self.log.borrow().iter().any(|(at, line)| *at == level && line.contains(part))
    }

    /// The coordinator's end of the next connection after the worker's hello, and the leases named in it.
    pub(crate) async fn greeted(&self) -> (Peer, Vec<JobRef>) {
        let mut peer = poll_fn(|context| match self.callers.borrow_mut().pop_front() {
            Some(peer) => Poll::Ready(peer),
            None => {
                *self.caller.borrow_mut() = Some(context.waker().clone());
                Poll::Pending
            }
        })
        .await;
        match peer.hear().await {
            ToServer::Hello { protocol: VERSION, kind: WorkerKind::Native, capacity, holding, key, .. } => {
                assert_eq!(key, Some(WorkerKey::from_random(7)), "the same on all connections");
                assert_eq!((capacity.jobs, capacity.max_audio_bytes), (2, MAX_AUDIO_BYTES));
                (peer, holding)
            }
            other => panic!("expected hello, got {other:?}"),
        }
    }

    /// The next connection, after the welcome.
    pub(crate) async fn welcome(&self) -> Peer {
        let (peer, _) = self.greeted().await;
        peer.greet();
        peer
    }
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The file that a job's fetch returns.
fn fetched(number: &str) -> Fetched<()> {
    Fetched { audio: (), content_hash: format!("hash of {number}") }
}

/// Records a piece of work that is dropped before its end.
struct Unfinished<'a>(&'a World, &'a str);

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        self.0.note(&format!("dropped {}", self.1));
    }
}

impl Platform for World {
    type Socket = Line;
    type Audio = ();

    async fn connect(&self, url: &Url) -> Result<Line, SocketError> {
        assert_eq!(url.as_str(), "ws://host/api/sessions/K7Q-M4X-WDP/worker");
        if self.refusing.get() {
            return Err(SocketError::Failed("connection refused".into()));
        }
        let (to_server, from_worker) = unbounded();
        let (to_worker, from_server) = unbounded();
        let stuck = Arc::new(AtomicBool::new(false));
        self.callers.borrow_mut().push_back(Peer { to_worker, from_worker, stuck: Arc::clone(&stuck) });
        if let Some(caller) = self.caller.borrow_mut().take() {
            caller.wake();
        }
        Ok(Line { to_server, from_server, stuck })
    }

    async fn fetch(&self, source: &Source, bytes: u64, progress: &dyn Fn(f32)) -> Result<Fetched<()>, FetchError> {
        let Source { url, lease } = source;
        let number = url.path().rsplit('/').next().unwrap();
        if url.as_str() == format!("https://storage/tunes/{number}?signature=s") {
            assert_eq!(*lease, None, "what a storage gets to see");
            self.note(&format!("fetch {number} from the storage"));
            self.sleep(self.fetch.get()).await;
            return match self.storage_breaks_at.get() {
                None => Ok(fetched(number)),
                Some(share) => {
                    if share > 0.0 {
                        progress(share);
                    }
                    Err(FetchError::Broken("no way".into()))
                }
            };
        }
        self.note(&format!("fetch {number}"));
        assert_eq!((url.as_str(), bytes), (format!("http://host/api/audio/{number}").as_str(), 100));
        assert!(lease.is_some());
        self.sleep(self.fetch.get()).await;
        if let Some(byte) = self.byte.get() {
            for arrived in 1..bytes {
                self.sleep(byte).await;
                progress(arrived as f32 / bytes as f32);
            }
        }
        let (left, error) = self.failing_fetches.borrow().clone();
        if let Some(left) = left.checked_sub(1) {
            if !matches!(error, FetchError::Status(_)) {
                progress(0.5);
            }
            self.fetch_fails(left, error.clone());
            return Err(error);
        }
        progress(1.0);
        Ok(fetched(number))
    }

    async fn analyse(&self, model: &ModelRef, _: (), file: &str, progress: &dyn Fn(f32)) -> Result<Analysed, Failure> {
        const STEPS: u32 = 100;
        self.note(&format!("analyse {file}"));
        let unfinished = Unfinished(self, file);
        for step in 1..=STEPS {
            self.sleep(self.analysis.get() / STEPS).await;
            progress(step as f32 / STEPS as f32);
        }
        std::mem::forget(unfinished);
        self.note(&format!("analysed {file}"));
        if let Some(failure) = self.failure.borrow().clone() {
            return Err(failure);
        }
        let (embedding, tags) = (vec![0.5; 200], vec![0.5; 50]);
        let patches = Halves::from_iter([0.5; 200]);
        let vector = Vector { model: model.name.clone(), embedding, tags, seconds: 1.0, patches: 1, flags: vec![] };
        Ok(Analysed { vector, patches })
    }

    fn now(&self) -> Duration {
        self.now.get()
    }

    async fn sleep(&self, wait: Duration) {
        let until = self.now.get() + wait;
        poll_fn(|context| {
            if self.now.get() >= until {
                return Poll::Ready(());
            }
            self.sleepers.borrow_mut().push((until, context.waker().clone()));
            Poll::Pending
        })
        .await;
    }

    fn may_begin(&self) -> bool {
        self.may_begin.get()
    }

    fn random(&self) -> f64 {
        self.random.get()
    }
}

/// The worker's end of a connection.
pub(crate) struct Line {
    to_server: UnboundedSender<String>,
    from_server: UnboundedReceiver<String>,
    stuck: Arc<AtomicBool>,
}

impl Socket for Line {
    async fn send(&mut self, text: String) -> Result<(), SocketError> {
        if self.stuck.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        self.to_server.unbounded_send(text).map_err(|_| SocketError::Closed)
    }

    async fn receive(&mut self) -> Result<String, SocketError> {
        self.from_server.next().await.ok_or(SocketError::Closed)
    }

    async fn close(self) {}
}

/// The coordinator's end of a connection. Dropping it breaks the connection.
pub(crate) struct Peer {
    to_worker: UnboundedSender<String>,
    from_worker: UnboundedReceiver<String>,
    stuck: Arc<AtomicBool>,
}

impl Peer {
    pub(crate) fn say(&self, message: ToWorker) {
        self.say_text(&serde_json::to_string(&message).unwrap());
    }

    pub(crate) fn say_text(&self, text: &str) {
        self.to_worker.unbounded_send(text.to_owned()).unwrap();
    }

    pub(crate) fn greet(&self) {
        let state = SessionState::Running;
        self.say(ToWorker::Welcome { protocol: VERSION, session: CODE.into(), state, model: job(0).model });
    }

    pub(crate) fn accept(&self, number: JobId, outcome: AcceptedAs) {
        self.say(ToWorker::Accepted { job: lease(number), outcome });
    }

    pub(crate) fn reject(&self, number: JobId, reason: RejectionReason) {
        self.say(ToWorker::Rejected { job: lease(number), reason, message: "no".into() });
    }

    /// From now on the network accepts no message from the worker.
    pub(crate) fn take_nothing(&self) {
        self.stuck.store(true, Ordering::Relaxed);
    }

    /// The worker's next message.
    pub(crate) async fn hear(&mut self) -> ToServer {
        let text = self.from_worker.next().await.expect("the worker hung up");
        serde_json::from_str(&text).unwrap()
    }

    /// The worker's next message of this sort; other messages are answered where they need it.
    pub(crate) async fn until(&mut self, wanted: impl Fn(&ToServer) -> bool) -> ToServer {
        loop {
            match self.hear().await {
                said if wanted(&said) => return said,
                _ => self.say(ToWorker::Pong),
            }
        }
    }

    /// The outcome of a job, which has to be the next result.
    pub(crate) async fn result(&mut self, number: JobId) -> Outcome {
        match self.until(|said| matches!(said, ToServer::Result { .. })).await {
            ToServer::Result { job, outcome, content_hash } if job == lease(number) => {
                assert!(content_hash.is_none_or(|hash| hash == fetched(&number.to_string()).content_hash));
                outcome
            }
            other => panic!("expected the result of job {number}, got {other:?}"),
        }
    }

    /// All further messages until the worker closes the connection.
    pub(crate) async fn rest(&mut self) -> Vec<ToServer> {
        let mut rest = Vec::new();
        while let Some(text) = self.from_worker.next().await {
            rest.push(serde_json::from_str(&text).unwrap());
        }
        rest
    }
}
