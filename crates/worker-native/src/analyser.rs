//! Runs the analysis in a thread of its own, so that it never blocks the socket.

use std::{
    cell::{Cell, OnceCell},
    collections::{BTreeMap, btree_map::Entry},
    fs::File,
    future::pending,
    num::NonZeroUsize,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;
use chaarfm_analysis::{AudioError, Engine, EngineError, Limits, Step};
use chaarfm_models::Manifest;
use chaarfm_protocol::{
    Device, Failure, FailureKind, Halves, ModelRef,
    limits::{MAX_AUDIO_BYTES, MAX_AUDIO_SECONDS, STALL_LIMIT_SECONDS},
};
use chaarfm_worker::{Analysed, report};
use rayon::{ThreadPool, ThreadPoolBuilder};
use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    devices::Place,
    manners::{self, Duty, Keeper, Percent, Permit},
};

/// Capacity of the request queue: one request may wait while an abandoned analysis finishes its current step.
const QUEUED_REQUESTS: usize = 1;

/// An analysis without progress for this long is considered stuck. Below the coordinator's limit, so that this worker
/// still has the job when it reports that.
pub(crate) const UNMOVED_LIMIT_SECONDS: u64 = STALL_LIMIT_SECONDS * 3 / 4;

/// Handle of the analysis thread, which analyses one file at a time. The thread ends when this is dropped.
pub(crate) struct Analyser {
    requests: mpsc::Sender<Request>,
    breaking: mpsc::Sender<Breakdown>,
    /// [`UNMOVED_LIMIT_SECONDS`], except in tests.
    unmoved_limit_seconds: u64,
    /// Why the thread takes no more requests, once an analysis in it is stuck.
    stuck: OnceCell<String>,
    /// The device it computes on.
    pub(crate) device: Device,
}

/// Why an analyser stopped working, in words for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Breakdown {
    /// The device no longer computes correctly, or the thread has crashed.
    Device(String),
    /// An analysis is stuck and its thread is lost. The device may be fine.
    Stall(String),
}

/// Receives the reason when the device stops computing correctly, or when a file is to be analysed while an earlier
/// analysis is stuck. The analysis of the new file then never ends: its job must be handed back.
pub(crate) type Broken = mpsc::Receiver<Breakdown>;

struct Request {
    model: ModelRef,
    audio: File,
    extension: Option<String>,
    /// The share that is done, 0 to 1. The first change, to 0, means that the thread has taken the request.
    fraction: watch::Sender<f32>,
    /// Closed when the answer is no longer wanted.
    answer: oneshot::Sender<Result<Analysed, Failure>>,
}

impl Analyser {
    /// Starts the thread and opens the device with the default model in it. The keeper limits how much of the machine
    /// it uses.
    ///
    /// # Errors
    /// When the device does not compute correctly.
    pub(crate) async fn start(place: Place, keeper: Arc<Keeper>) -> anyhow::Result<(Self, Broken)> {
        let (requests, received) = mpsc::channel(QUEUED_REQUESTS);
        let (sender, opening) = oneshot::channel();
        // One reason is enough, so the channel holds one.
        let (breaking, broken) = mpsc::channel(1);
        let live = {
            let breaking = breaking.clone();
            move || {
                let mut engines = match Engines::new(place, keeper) {
                    Ok(engines) => engines,
                    Err(error) => {
                        drop(sender.send(Err(error)));
                        return;
                    }
                };
                let opened = engines.open_default();
                let is_open = opened.is_ok();
                if sender.send(opened).is_err() || !is_open {
                    return;
                }
                let end = catch_unwind(AssertUnwindSafe(|| engines.serve(received)));
                let reason = match end {
                    Ok(Ok(())) => return,
                    Ok(Err(error)) => error.to_string(),
                    Err(_) => "the analysis thread has crashed".to_owned(),
                };
                drop(breaking.try_send(Breakdown::Device(reason)));
            }
        };
        let thread = thread::Builder::new().name("analysis".to_owned());
        thread.spawn(live).context("no thread for the analysis")?;
        let device = opening.await.context("the device crashed when it was started")??;
        let (unmoved_limit_seconds, stuck) = (UNMOVED_LIMIT_SECONDS, OnceCell::new());
        Ok((Self { requests, breaking, unmoved_limit_seconds, stuck, device }, broken))
    }

    /// Computes the vector of a file. Dropping the future ends the analysis after its current step.
    pub(crate) async fn analyse(
        &self,
        model: &ModelRef,
        audio: File,
        file: &str,
        progress: &dyn Fn(f32),
    ) -> Result<Analysed, Failure> {
        if let Some(reason) = self.stuck.get() {
            return self.hand_back(reason).await;
        }
        let extension = Path::new(file).extension().and_then(|extension| extension.to_str()).map(str::to_owned);
        let (fraction, mut fractions) = watch::channel(0.0);
        let (answer, mut answered) = oneshot::channel();
        let request = Request { model: model.clone(), audio, extension, fraction, answer };
        let (is_taken, unmoved_seconds) = (Cell::new(false), Cell::new(0));
        let work = async {
            // If the thread has ended, the request is dropped, and `answer` with it.
            let _ = self.requests.send(request).await;
            loop {
                tokio::select! {
                    answer = &mut answered => return match answer {
                        Ok(answer) => answer,
                        // The thread has ended: see `Broken`.
                        Err(_) => pending().await,
                    },
                    // When no more changes come, the answer still does.
                    Ok(()) = fractions.changed() => {
                        is_taken.set(true);
                        unmoved_seconds.set(0);
                        progress(*fractions.borrow_and_update());
                    }
                }
            }
        };
        tokio::select! {
            answer = work => answer,
            () = stall(&unmoved_seconds, self.unmoved_limit_seconds) => self.give_up(file, is_taken.get()).await,
        }
    }

    /// Marks the thread as stuck. A file in analysis fails instead of being handed back, as a file that blocks every
    /// worker must not circulate forever. A file that the thread has not taken yet is not to blame and is handed back.
    async fn give_up(&self, file: &str, is_taken: bool) -> Result<Analysed, Failure> {
        let limit = self.unmoved_limit_seconds;
        if is_taken {
            let reason = self.stuck.get_or_init(|| format!("the analysis of {file} has not moved on for {limit} s"));
            return Err(Failure { kind: FailureKind::Passing, message: reason.clone() });
        }
        let reason = self.stuck.get_or_init(|| format!("an analysis that was given up has not ended for {limit} s"));
        self.hand_back(reason).await
    }

    /// Causes the job of a file that the thread will never reach to be handed back.
    async fn hand_back<T>(&self, reason: &str) -> T {
        drop(self.breaking.try_send(Breakdown::Stall(reason.to_owned())));
        pending().await
    }
}

/// Resolves when `unmoved_seconds`, which every step of progress resets to 0, reaches the limit. Counts second by
/// second, so that time in which the machine sleeps does not count.
async fn stall(unmoved_seconds: &Cell<u64>, limit: u64) {
    while unmoved_seconds.get() < limit {
        tokio::time::sleep(Duration::from_secs(1)).await;
        unmoved_seconds.set(unmoved_seconds.get() + 1);
    }
}

/// The threads that compute, and the gate that they pass before each step.
struct Threads {
    keeper: Arc<Keeper>,
    duty: fn(Percent, NonZeroUsize) -> Duty,
    /// The machine's cores available for this.
    cores: NonZeroUsize,
    pool: ThreadPool,
    /// The number of threads in the pool, and whether their priority is low.
    kind: (NonZeroUsize, bool),
    /// Duration of the last step.
    worked: Duration,
}

impl Threads {
    fn new(place: &Place, keeper: Arc<Keeper>) -> anyhow::Result<Self> {
        let duty = match place {
            Place::Cpu(_) => Duty::of,
            Place::Gpu(_) => Duty::beside,
        };
        let cores = NonZeroUsize::new(rayon::current_num_threads()).unwrap_or(NonZeroUsize::MIN);
        let Permit { max_cpu, low_priority, .. } = keeper.gate().permit();
        let kind = (duty(max_cpu, cores).threads, low_priority);
        Ok(Self { duty, cores, pool: pool(kind)?, kind, worked: Duration::ZERO, keeper })
    }

    /// Waits for permission to compute, then runs the step. While waiting it calls `is_wanted` several times a second,
    /// and stops waiting when that returns false.
    fn step<T: Send>(&mut self, is_wanted: impl FnMut() -> bool, step: impl FnOnce() -> T + Send) -> T {
        let duty = |percent| (self.duty)(percent, self.cores);
        let (duty, permit) = self.keeper.gate().pass(self.worked, duty, is_wanted);
        let kind = (duty.threads, permit.low_priority);
        if kind != self.kind {
            match pool(kind) {
                Ok(pool) => (self.pool, self.kind) = (pool, kind),
                Err(error) => tracing::warn!("on with {} threads: {error:#}", self.kind.0),
            }
        }
        let start = Instant::now();
        let done = self.pool.install(step);
        self.worked = start.elapsed();
        done
    }
}

/// The analyser needs its own pool: a stuck analysis keeps one of the pool's threads, and the next analyser needs all
/// of them.
fn pool((threads, is_low): (NonZeroUsize, bool)) -> anyhow::Result<ThreadPool> {
    let pool = ThreadPoolBuilder::new().num_threads(threads.get()).start_handler(move |_| {
        if is_low {
            manners::lower_priority();
        }
    });
    pool.build().context("no threads to compute with")
}

/// The opened models on the device, by the SHA-256 of their weights.
struct Engines {
    place: Place,
    open: BTreeMap<String, Engine>,
    threads: Threads,
}

impl Engines {
    fn new(place: Place, keeper: Arc<Keeper>) -> anyhow::Result<Self> {
        Ok(Self { threads: Threads::new(&place, keeper)?, place, open: BTreeMap::new() })
    }

    /// Opens the default model and returns the device it computes on.
    fn open_default(&mut self) -> anyhow::Result<Device> {
        let (engine, _) = self.engine(chaarfm_models::default())?;
        let info = engine.device();
        Ok(Device { backend: info.backend.to_string(), name: info.name.clone() })
    }

    /// The model on the device, opened on its first use, and the threads that compute on it.
    fn engine(&mut self, model: &'static Manifest) -> Result<(&Engine, &mut Threads), EngineError> {
        let Self { place, open, threads } = self;
        let engine = match open.entry(model.sha256.clone()) {
            Entry::Occupied(engine) => engine.into_mut(),
            // A paused worker does not get here: see the lane.
            Entry::Vacant(entry) => entry.insert(threads.pool.install(|| place.engine(model))?),
        };
        Ok((engine, threads))
    }

    /// Answers requests until the queue closes or the device no longer computes correctly.
    fn serve(mut self, mut requests: mpsc::Receiver<Request>) -> Result<(), EngineError> {
        while let Some(request) = requests.blocking_recv() {
            request.fraction.send_replace(0.0);
            let model = match report::known_model(&request.model) {
                Ok(model) => model,
                Err(failure) => {
                    drop(request.answer.send(Err(failure)));
                    continue;
                }
            };
            let (engine, threads) = self.engine(model)?;
            let outcome = analyse(engine, threads, &request);
            if let Err(AudioError::Device(_)) = outcome {
                // To tell whether the device or the file is at fault, the model is opened again and must give the known
                // answer.
                self.open.clear();
                self.engine(model)?;
            }
            drop(request.answer.send(outcome.map_err(|error| report::failure(&error))));
        }
        Ok(())
    }
}

/// Analyses a file step by step until its end, or until the answer is no longer wanted. Passes the gate before each
/// step, and keeps reporting its position while it waits there.
fn analyse(engine: &Engine, threads: &mut Threads, request: &Request) -> Result<Analysed, AudioError> {
    let limits = Limits { max_bytes: MAX_AUDIO_BYTES, max_seconds: MAX_AUDIO_SECONDS };
    let audio = request.audio.try_clone().map_err(AudioError::Read)?;
    let stands_at = |fraction| {
        move || {
            request.fraction.send_replace(fraction);
            !request.answer.is_closed()
        }
    };
    let extension = request.extension.as_deref();
    let mut track = threads.step(stands_at(0.0), || engine.track(Box::new(audio), extension, limits))?;
    let (mut done, mut patches) = (0.0, Halves::default());
    while let Step::More { fraction } = threads.step(stands_at(done), || {
        pollster::block_on(track.step_with(|patch| patches.extend(patch.embedding.iter().copied())))
    })? {
        if request.answer.is_closed() {
            break;
        }
        request.fraction.send_replace(fraction);
        done = fraction;
    }
    Ok(report::analysed(engine.model(), track.finish()?, patches))
}

#[cfg(test)]
mod tests {
    use std::{
        cell::RefCell,
        fs,
        io::{Seek, Write},
        path::PathBuf,
    };

    use chaarfm_analysis::Backend;
    use chaarfm_protocol::Vector;

    use super::*;
    use crate::manners::Manners;

    /// An analyser whose thread is simulated by the test.
    fn analyser(unmoved_limit_seconds: u64) -> (Analyser, mpsc::Receiver<Request>, Broken) {
        let (requests, received) = mpsc::channel(QUEUED_REQUESTS);
        let (breaking, broken) = mpsc::channel(1);
        let device = Device { backend: "flex".to_owned(), name: "a test".to_owned() };
        (Analyser { requests, breaking, unmoved_limit_seconds, stuck: OnceCell::new(), device }, received, broken)
    }

    fn no_model() -> ModelRef {
        ModelRef { name: "none".to_owned(), sha256: String::new(), url: String::new() }
    }

    fn no_audio() -> File {
        tempfile::tempfile().unwrap()
    }

    #[tokio::test]
    async fn an_analysis_that_stands_still_fails_and_is_the_last() {
        // The thread takes the request and does nothing more.
        let (analyser, mut received, mut broken) = analyser(2);
        let model = no_model();
        let moved = Cell::new(0);
        let progress = |_| moved.set(moved.get() + 1);
        let moving_once = async {
            let request = received.recv().await.unwrap();
            tokio::time::sleep(Duration::from_millis(1500)).await;
            request.fraction.send_replace(0.5);
            pending::<()>().await
        };
        let start = std::time::Instant::now();
        let analyse = |file: &'static str| analyser.analyse(&model, no_audio(), file, &progress);
        let failure = tokio::select! {
            answer = analyse("song.mp3") => answer.unwrap_err(),
            () = moving_once => panic!("it moves once"),
        };
        let reason = "the analysis of song.mp3 has not moved on for 2 s";
        assert_eq!(failure, Failure { kind: FailureKind::Passing, message: reason.to_owned() });
        assert_eq!(moved.get(), 1);
        assert!(start.elapsed() >= Duration::from_secs(3), "{:?}", start.elapsed());

        let found = tokio::select! {
            reason = broken.recv() => reason,
            answer = analyse("next.mp3") => panic!("{answer:?}"),
        };
        assert_eq!(found, Some(Breakdown::Stall(reason.to_owned())), "and the device is not blamed");
    }

    #[tokio::test]
    async fn a_file_that_the_thread_does_not_take_is_handed_back() {
        // The thread is stuck in an analysis whose answer is no longer wanted.
        let (analyser, _received, mut broken) = analyser(1);
        let model = no_model();
        let progress = |_: f32| {};
        let analyse = |file: &'static str| analyser.analyse(&model, no_audio(), file, &progress);
        for file in ["song.mp3", "next.mp3"] {
            let found = tokio::select! {
                reason = broken.recv() => reason,
                answer = analyse(file) => panic!("{answer:?}"),
            };
            let reason = "an analysis that was given up has not ended for 1 s";
            assert_eq!(found, Some(Breakdown::Stall(reason.to_owned())));
        }
    }

    #[tokio::test]
    async fn a_thread_that_ends_amid_an_analysis_gives_no_answer() {
        let (analyser, mut received, _broken) = analyser(60);
        let model = no_model();
        let progress = |_: f32| {};
        let ending = async {
            let request = received.recv().await.unwrap();
            request.fraction.send_replace(0.5);
            drop(request);
            // Lets the other side finish its reaction.
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            answer = analyser.analyse(&model, no_audio(), "song.mp3", &progress) => panic!("{answer:?}"),
            () = ending => {}
        }
    }

    #[test]
    fn the_thread_says_that_it_takes_a_request() {
        let (requests, received) = mpsc::channel(QUEUED_REQUESTS);
        let (fraction, mut fractions) = watch::channel(0.0);
        let (answer, answered) = oneshot::channel();
        let request = Request { model: no_model(), audio: no_audio(), extension: None, fraction, answer };
        assert!(requests.try_send(request).is_ok());
        drop(requests);
        let keeper = Keeper::idle(Manners::default());
        Engines::new(Place::Cpu(Backend::Flex), keeper).unwrap().serve(received).unwrap();
        assert!(pollster::block_on(fractions.changed()).is_ok());
        assert_eq!(answered.blocking_recv().unwrap().unwrap_err().kind, FailureKind::Passing);
    }

    /// Analyses a real file that takes a while, with a real analyser; `look` sees each reported fraction.
    async fn vector(keeper: &Arc<Keeper>, look: impl Fn(f32)) -> Vector {
        let (analyser, _broken) = Analyser::start(Place::Cpu(Backend::Flex), Arc::clone(keeper)).await.unwrap();
        let model = chaarfm_models::default();
        let wanted = ModelRef { name: model.name.clone(), sha256: model.sha256.clone(), url: String::new() };
        let song = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/music/band.mp3");
        // Concatenated MP3 files form one longer MP3 file.
        let long = fs::read(song).unwrap().repeat(10);
        let mut audio = tempfile::tempfile().unwrap();
        audio.write_all(&long).unwrap();
        audio.rewind().unwrap();
        analyser.analyse(&wanted, audio, "long.mp3", &look).await.unwrap().vector
    }

    #[tokio::test]
    async fn a_pause_takes_effect_within_a_second_amid_a_track_and_loses_nothing() {
        let keeper = Keeper::idle(Manners::default());
        let expected = vector(&keeper, |_| ()).await;
        let told = RefCell::new(Vec::new());
        let paused_at = Cell::new(None);
        let found = vector(&keeper, |fraction| {
            let mut told = told.borrow_mut();
            told.push((fraction, Instant::now()));
            let standing = told.iter().filter(|(other, _)| *other == fraction).count();
            if fraction > 0.0 && paused_at.get().is_none() {
                keeper.pause(true);
                paused_at.set(Some(Instant::now()));
            } else if standing == 5 {
                // While paused it reports its position several times a second.
                keeper.pause(false);
            }
        })
        .await;
        assert_eq!(found, expected);
        let told = told.borrow();
        let standing = told.iter().find(|(at, _)| told.iter().filter(|(other, _)| other == at).count() >= 5);
        let (_, stood_at) = standing.expect("it stood still");
        let effect = stood_at.duration_since(paused_at.get().unwrap());
        assert!(effect < Duration::from_secs(1), "{effect:?}");
        let last = told.last().unwrap().0;
        assert!(standing.unwrap().0 < last, "it stood still amid the track");
    }

    #[test]
    fn a_small_share_takes_one_thread() {
        let little = Manners { max_cpu: "1".parse().unwrap(), ..Manners::default() };
        let threads = Threads::new(&Place::Cpu(Backend::Flex), Keeper::idle(little)).unwrap();
        assert_eq!((threads.kind, threads.pool.current_num_threads()), ((NonZeroUsize::MIN, true), 1));
    }

    #[tokio::test]
    async fn an_analysis_that_is_given_up_while_it_is_paused_ends() {
        let keeper = Keeper::idle(Manners::default());
        let (analyser, _broken) = Analyser::start(Place::Cpu(Backend::Flex), Arc::clone(&keeper)).await.unwrap();
        keeper.pause(true);
        let model = chaarfm_models::default();
        let wanted = ModelRef { name: model.name.clone(), sha256: model.sha256.clone(), url: String::new() };
        let told = watch::Sender::new(0);
        let mut waiting = told.subscribe();
        let look = |_| told.send_modify(|times| *times += 1);
        tokio::select! {
            answer = analyser.analyse(&wanted, no_audio(), "song.mp3", &look) => panic!("{answer:?}"),
            waited = waiting.wait_for(|times| *times >= 3) => drop(waited.unwrap()),
        }
        // The thread is free for the next file, which is not audio.
        keeper.pause(false);
        let failure = analyser.analyse(&wanted, no_audio(), "song.mp3", &|_| ()).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Permanent, "{}", failure.message);
    }
}
