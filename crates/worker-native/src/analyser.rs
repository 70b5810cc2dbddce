//! The analysis in a thread of its own, so that it never blocks the socket.

use std::{
    cell::{Cell, OnceCell},
    collections::{BTreeMap, btree_map::Entry},
    fs::File,
    future::pending,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    thread,
    time::Duration,
};

use anyhow::Context;
use chaarfm_analysis::{AudioError, Engine, EngineError, Limits, Step};
use chaarfm_models::Manifest;
use chaarfm_protocol::{
    Device, Failure, FailureKind, ModelRef, Vector,
    limits::{MAX_AUDIO_BYTES, MAX_AUDIO_SECONDS, STALL_LIMIT_SECONDS},
};
use chaarfm_worker::report;
use rayon::ThreadPoolBuilder;
use tokio::sync::{mpsc, oneshot, watch};

use crate::devices::Place;

/// Requests that may wait for the thread: the one that follows an analysis that was given up but still ends its step.
const QUEUED_REQUESTS: usize = 1;

/// An analysis that does not move on for this long never will. Below the coordinator's limit, so that the job is still this
/// worker's when it says so.
pub(crate) const UNMOVED_LIMIT_SECONDS: u64 = STALL_LIMIT_SECONDS * 3 / 4;

/// The thread that analyses, one file at a time. It ends when this is dropped.
pub(crate) struct Analyser {
    requests: mpsc::Sender<Request>,
    breaking: mpsc::Sender<Breakdown>,
    /// [`UNMOVED_LIMIT_SECONDS`], but for tests.
    unmoved_limit_seconds: u64,
    /// Why the thread takes no more requests, once an analysis in it has not moved on.
    stuck: OnceCell<String>,
    /// What it computes on.
    pub(crate) device: Device,
}

/// Why an analyser analyses no more, in words for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Breakdown {
    /// The device no longer computes correctly, or the thread has crashed.
    Device(String),
    /// An analysis in the thread stands still. The thread is lost with it; the device may be in order.
    Stall(String),
}

/// Receives the reason when the device stops computing correctly, or when there is a file to analyse and an earlier one still
/// stands still. The analysis of that file never ends: its job has to be handed back.
pub(crate) type Broken = mpsc::Receiver<Breakdown>;

struct Request {
    model: ModelRef,
    audio: File,
    extension: Option<String>,
    /// The share that is done, 0 to 1. Its first change, to 0, says that the thread has taken the request.
    fraction: watch::Sender<f32>,
    /// Closed when nobody wants the answer any more.
    answer: oneshot::Sender<Result<Vector, Failure>>,
}

impl Analyser {
    /// Starts the thread and, in it, the device with the default model.
    ///
    /// # Errors
    /// When the device does not compute correctly.
    pub(crate) async fn start(place: Place) -> anyhow::Result<(Self, Broken)> {
        let (requests, received) = mpsc::channel(QUEUED_REQUESTS);
        let (sender, opening) = oneshot::channel();
        // One reason is enough.
        let (breaking, broken) = mpsc::channel(1);
        let live = {
            let breaking = breaking.clone();
            move || {
                let mut engines = Engines::new(place);
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
        // A pool of its own: an analysis that never ends keeps one of the pool's threads, and the analyser that follows needs
        // them all.
        let pool = ThreadPoolBuilder::new().num_threads(rayon::current_num_threads()).build();
        let pool = pool.context("no threads to compute with")?;
        let thread = thread::Builder::new().name("analysis".to_owned());
        thread.spawn(move || pool.install(live)).context("no thread for the analysis")?;
        let device = opening.await.context("the device crashed when it was started")??;
        let (unmoved_limit_seconds, stuck) = (UNMOVED_LIMIT_SECONDS, OnceCell::new());
        Ok((Self { requests, breaking, unmoved_limit_seconds, stuck, device }, broken))
    }

    /// Computes the vector of a file. Dropping the future ends the analysis after its present step.
    pub(crate) async fn analyse(
        &self,
        model: &ModelRef,
        audio: File,
        file: &str,
        progress: &dyn Fn(f32),
    ) -> Result<Vector, Failure> {
        if let Some(reason) = self.stuck.get() {
            return self.hand_back(reason).await;
        }
        let extension = Path::new(file).extension().and_then(|extension| extension.to_str()).map(str::to_owned);
        let (fraction, mut fractions) = watch::channel(0.0);
        let (answer, mut answered) = oneshot::channel();
        let request = Request { model: model.clone(), audio, extension, fraction, answer };
        let (is_taken, unmoved_seconds) = (Cell::new(false), Cell::new(0));
        let work = async {
            // A request that the ended thread does not take drops `answer` as well.
            let _ = self.requests.send(request).await;
            loop {
                tokio::select! {
                    answer = &mut answered => return match answer {
                        Ok(answer) => answer,
                        // The thread has ended: see `Broken`.
                        Err(_) => pending().await,
                    },
                    // When no more changes come there is still the answer.
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

    /// Notes that the thread stands still. The file in it fails, and is not handed back: one that does this to everybody must
    /// not circulate for ever. A file that the thread has not even taken has no fault in that.
    async fn give_up(&self, file: &str, is_taken: bool) -> Result<Vector, Failure> {
        let limit = self.unmoved_limit_seconds;
        if is_taken {
            let reason = self.stuck.get_or_init(|| format!("the analysis of {file} has not moved on for {limit} s"));
            return Err(Failure { kind: FailureKind::Passing, message: reason.clone() });
        }
        let reason = self.stuck.get_or_init(|| format!("an analysis that was given up has not ended for {limit} s"));
        self.hand_back(reason).await
    }

    /// Has the job of a file handed back that the thread never gets to.
    async fn hand_back<T>(&self, reason: &str) -> T {
        drop(self.breaking.try_send(Breakdown::Stall(reason.to_owned())));
        pending().await
    }
}

/// Resolves when `unmoved_seconds`, which whoever moves on sets to 0, has grown to the limit. Counted second by second: the
/// time that a machine sleeps is none in which it could have moved on.
async fn stall(unmoved_seconds: &Cell<u64>, limit: u64) {
    while unmoved_seconds.get() < limit {
        tokio::time::sleep(Duration::from_secs(1)).await;
        unmoved_seconds.set(unmoved_seconds.get() + 1);
    }
}

/// The models that were asked for so far, each on the device, by the SHA-256 of their weights.
struct Engines {
    place: Place,
    open: BTreeMap<String, Engine>,
}

impl Engines {
    fn new(place: Place) -> Self {
        Self { place, open: BTreeMap::new() }
    }

    /// Opens the default model, and says what it computes on.
    fn open_default(&mut self) -> anyhow::Result<Device> {
        let info = self.engine(chaarfm_models::default())?.device();
        Ok(Device { backend: info.backend.to_string(), name: info.name.clone() })
    }

    /// The model on the device; opened when it is asked for the first time.
    fn engine(&mut self, model: &'static Manifest) -> Result<&Engine, EngineError> {
        match self.open.entry(model.sha256.clone()) {
            Entry::Occupied(engine) => Ok(engine.into_mut()),
            Entry::Vacant(entry) => Ok(entry.insert(self.place.engine(model)?)),
        }
    }

    /// Answers requests until there are no more, or until the device no longer computes correctly.
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
            let engine = self.engine(model)?;
            let outcome = pollster::block_on(analyse(engine, &request));
            if let Err(AudioError::Device(_)) = outcome {
                // The device or the file? It is opened anew and has to give the known answer again.
                self.open.clear();
                self.engine(model)?;
            }
            drop(request.answer.send(outcome.map_err(|error| report::failure(&error))));
        }
        Ok(())
    }
}

/// Analyses a file step by step, until its end or until nobody wants the answer any more.
async fn analyse(engine: &Engine, request: &Request) -> Result<Vector, AudioError> {
    let limits = Limits { max_bytes: MAX_AUDIO_BYTES, max_seconds: MAX_AUDIO_SECONDS };
    let audio = request.audio.try_clone().map_err(AudioError::Read)?;
    let mut track = engine.track(Box::new(audio), request.extension.as_deref(), limits)?;
    while let Step::More { fraction } = track.step().await? {
        if request.answer.is_closed() {
            break;
        }
        request.fraction.send_replace(fraction);
    }
    Ok(report::vector(engine.model(), track.finish()?))
}

#[cfg(test)]
mod tests {
    use chaarfm_analysis::Backend;

    use super::*;

    /// An analyser whose thread is played by the test.
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
        // The thread takes the request and does no more.
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
        // The thread stands still in an analysis that nobody wants any more.
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
            // What the other side makes of it, it has made of it by then.
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
        Engines::new(Place::Cpu(Backend::Flex)).serve(received).unwrap();
        assert!(pollster::block_on(fractions.changed()).is_ok());
        assert_eq!(answered.blocking_recv().unwrap().unwrap_err().kind, FailureKind::Passing);
    }
}
