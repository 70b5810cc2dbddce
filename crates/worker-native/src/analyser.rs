//! The analysis in a thread of its own, so that it never blocks the socket. The only file of the joining worker that
//! knows `chaarfm-analysis`.

use std::{
    any::Any,
    collections::{BTreeMap, btree_map::Entry},
    fs::File,
    future::pending,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    thread,
};

use anyhow::Context;
pub(crate) use chaarfm_analysis::DeviceChoice;
use chaarfm_analysis::{AudioError, Engine, EngineError, Limits, Step};
use chaarfm_models::Manifest;
use chaarfm_protocol::{
    Device, Failure, ModelRef, Vector,
    limits::{MAX_AUDIO_BYTES, MAX_AUDIO_SECONDS},
};
use chaarfm_worker::report;
use tokio::sync::{mpsc, oneshot, watch};

/// Requests that may wait for the thread: the one that follows an analysis that was given up but still ends its step.
const QUEUED_REQUESTS: usize = 1;

/// The thread that analyses, one file at a time. It ends when this is dropped.
pub(crate) struct Analyser {
    requests: mpsc::Sender<Request>,
    /// What it computes on.
    pub(crate) device: Device,
    /// Why it does not compute on the GPU, when it was free to.
    pub(crate) device_note: Option<String>,
}

/// Resolves when the device stops computing correctly, to the reason. The thread has ended then, and the analysis that
/// found out never will: its job has to be handed back.
pub(crate) type Broken = oneshot::Receiver<String>;

struct Request {
    model: ModelRef,
    audio: File,
    extension: Option<String>,
    fraction: watch::Sender<f32>,
    /// Closed when nobody wants the answer any more.
    answer: oneshot::Sender<Result<Vector, Failure>>,
}

impl Analyser {
    /// Starts the thread and, in it, the device with the default model.
    ///
    /// # Errors
    /// When no device that was asked for computes correctly.
    pub(crate) async fn start(choice: DeviceChoice) -> anyhow::Result<(Self, Broken)> {
        let (requests, received) = mpsc::channel(QUEUED_REQUESTS);
        let (opened, opening) = oneshot::channel();
        let (breaking, broken) = oneshot::channel();
        let live = move || {
            let mut engines = Engines::new(choice);
            let device = engines.open_default();
            let is_open = device.is_ok();
            if opened.send(device).is_ok()
                && is_open
                && let Err(reason) = engines.serve(received)
            {
                drop(breaking.send(format!("{reason:#}")));
            }
        };
        thread::Builder::new().name("analysis".to_owned()).spawn(live).context("no thread for the analysis")?;
        let (device, device_note) = opening.await.context("the device crashed when it was started")??;
        Ok((Self { requests, device, device_note }, broken))
    }

    /// Computes the vector of a file. Dropping the future ends the analysis after its present step.
    pub(crate) async fn analyse(
        &self,
        model: &ModelRef,
        audio: File,
        file: &str,
        progress: &dyn Fn(f32),
    ) -> Result<Vector, Failure> {
        let extension = Path::new(file).extension().and_then(|extension| extension.to_str()).map(str::to_owned);
        let (fraction, mut fractions) = watch::channel(0.0);
        let (answer, mut answered) = oneshot::channel();
        let request = Request { model: model.clone(), audio, extension, fraction, answer };
        // A request that the ended thread does not take drops `answer` as well.
        let _ = self.requests.send(request).await;
        loop {
            tokio::select! {
                Ok(answer) = &mut answered => return answer,
                Ok(()) = fractions.changed() => progress(*fractions.borrow_and_update()),
                // The thread has ended: see `Broken`.
                else => return pending().await,
            }
        }
    }
}

/// The models that were asked for so far, each on the device, by the SHA-256 of their weights.
struct Engines {
    choice: DeviceChoice,
    open: BTreeMap<String, Engine>,
}

impl Engines {
    fn new(choice: DeviceChoice) -> Self {
        Self { choice, open: BTreeMap::new() }
    }

    /// Opens the default model, and says what it computes on and why not on the GPU.
    fn open_default(&mut self) -> anyhow::Result<(Device, Option<String>)> {
        let engine = self.engine(chaarfm_models::default())?;
        let info = engine.device().clone();
        let note = engine.fallback_reason().map(str::to_owned);
        // Further models compute on the same device, which the coordinator is told once.
        self.choice = DeviceChoice::Only(info.backend);
        Ok((Device { backend: info.backend.to_string(), name: info.name }, note))
    }

    /// The model on the device; opened when it is asked for the first time.
    fn engine(&mut self, model: &'static Manifest) -> Result<&Engine, EngineError> {
        match self.open.entry(model.sha256.clone()) {
            Entry::Occupied(engine) => Ok(engine.into_mut()),
            Entry::Vacant(place) => {
                let weights = chaarfm_models::weights(model);
                Ok(place.insert(pollster::block_on(Engine::open(self.choice, model, weights))?))
            }
        }
    }

    /// Answers requests until there are no more, or until the device no longer computes correctly.
    fn serve(mut self, mut requests: mpsc::Receiver<Request>) -> Result<(), EngineError> {
        while let Some(request) = requests.blocking_recv() {
            let model = match report::known_model(&request.model) {
                Ok(model) => model,
                Err(failure) => {
                    drop(request.answer.send(Err(failure)));
                    continue;
                }
            };
            let engine = self.engine(model)?;
            // The decoders' panics are the analysis' own business; any other is taken for this worker's fault.
            let work = AssertUnwindSafe(|| pollster::block_on(analyse(engine, &request)));
            let outcome = catch_unwind(work).unwrap_or_else(|panic| Err(AudioError::Device(in_words(&*panic))));
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

fn in_words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    format!("the analysis crashed: {}", text.unwrap_or("no reason given"))
}
