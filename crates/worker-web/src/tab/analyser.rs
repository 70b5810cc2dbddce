//! Runs the analysis in the Web Worker's only thread, and lets the event loop run after each step.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    future::pending,
    io::Cursor,
    path::Path,
    pin::pin,
    rc::Rc,
    time::Duration,
};

use chaarfm_analysis::{AudioError, Backend, Engine, EngineError, Limits, Step};
use chaarfm_models::Manifest;
use chaarfm_protocol::{
    Device, Failure, Halves, ModelRef,
    limits::{MAX_AUDIO_BYTES_IN_TAB, MAX_AUDIO_SECONDS},
};
use chaarfm_worker::{Address, Analysed, report};
use futures_channel::oneshot;
use futures_util::future::{Either, select};
use gloo_timers::future::TimeoutFuture;
use sha2::{Digest, Sha256};
use web_sys::console;

use super::{download, turn::turn};

/// Largest file of weights, in bytes.
const MAX_WEIGHTS_BYTES: u64 = 64 * 1024 * 1024;

/// Longest time for a batch on a GPU.
const BATCH_LIMIT_SECONDS: u32 = 60;

/// Longest time for opening a device with a downloaded model.
const OPEN_LIMIT_SECONDS: u32 = 120;

/// The opened models on the device.
pub(crate) struct Analyser {
    address: Address,
    backend: Backend,
    /// By the SHA-256 of their weights.
    engines: RefCell<BTreeMap<String, Rc<Engine>>>,
    /// The device it computes on.
    pub(crate) device: Device,
    breaking: Cell<Option<oneshot::Sender<String>>>,
}

/// Resolves to the reason when the device stops computing correctly. The analysis that noticed it never ends: its job
/// must be handed back.
pub(crate) type Broken = oneshot::Receiver<String>;

impl Analyser {
    /// Opens the device with the default model, whose weights the coordinator serves.
    ///
    /// # Errors
    /// When the weights do not arrive, or the device does not compute correctly.
    pub(crate) async fn open(address: Address, backend: Backend) -> Result<(Self, Broken), OpenError> {
        let model = chaarfm_models::default();
        let url = format!("/models/{}/{}", model.sha256, model.file);
        let engine = load(&address, backend, model, &url).await?;
        let info = engine.device();
        let (breaking, broken) = oneshot::channel();
        let analyser = Self {
            address,
            backend,
            device: Device { backend: info.backend.to_string(), name: info.name.clone() },
            engines: RefCell::new(BTreeMap::from([(model.sha256.clone(), Rc::new(engine))])),
            breaking: Cell::new(Some(breaking)),
        };
        Ok((analyser, broken))
    }

    /// Speed of the device in patches a second, measured for at least this long.
    ///
    /// # Errors
    /// When the device fails.
    pub(crate) async fn speed(&self, at_least: Duration) -> Result<f64, String> {
        let engine = self.engines.borrow().values().next().cloned().ok_or("no model is open")?;
        engine.speed(at_least).await.map_err(|error| error.to_string())
    }

    /// Computes the vector of a file. Dropping the future ends the analysis.
    pub(crate) async fn analyse(
        &self,
        model: &ModelRef,
        audio: Vec<u8>,
        file: &str,
        progress: &dyn Fn(f32),
    ) -> Result<Analysed, Failure> {
        let engine = self.engine(model).await?;
        let extension = Path::new(file).extension().and_then(|extension| extension.to_str());
        let outcome = vector(&engine, audio, extension, progress).await;
        if let Err(AudioError::Device(_)) = outcome {
            // To tell whether the device or the file is at fault, the model is opened again and must give the known
            // answer.
            self.engines.borrow_mut().clear();
            if let Err(failure) = self.engine(model).await
                && let Some(breaking) = self.breaking.take()
            {
                // A send without a receiver means that the run is about to end anyway.
                breaking.send(failure.message).unwrap_or_default();
                return pending().await;
            }
        }
        outcome.map_err(|error| report::failure(&error))
    }

    /// The model on the device; downloaded and opened on its first use.
    async fn engine(&self, model: &ModelRef) -> Result<Rc<Engine>, Failure> {
        if let Some(engine) = self.engines.borrow().get(&model.sha256) {
            return Ok(Rc::clone(engine));
        }
        let manifest = report::known_model(model)?;
        let engine = load(&self.address, self.backend, manifest, &model.url).await;
        let engine = Rc::new(engine.map_err(|error| report::passing(error.to_string()))?);
        self.engines.borrow_mut().insert(model.sha256.clone(), Rc::clone(&engine));
        Ok(engine)
    }
}

/// Downloads a model's weights, verifies them, and opens the model.
async fn load(address: &Address, backend: Backend, model: &'static Manifest, path: &str) -> Result<Engine, OpenError> {
    let url = address.resolve(path).map_err(|error| OpenError::Model(error.to_string()))?;
    let weights = download::at_most(&url, MAX_WEIGHTS_BYTES).await;
    let weights = weights.map_err(|error| OpenError::Model(format!("no weights of {}: {error}", model.name)))?;
    let sha256 = format!("{:x}", Sha256::digest(&weights));
    if sha256 != model.sha256 {
        let message = format!("the weights of {} have SHA-256 {sha256} instead of {}", model.name, model.sha256);
        return Err(OpenError::Model(message));
    }
    match select(pin!(Engine::open(backend, model, &weights)), TimeoutFuture::new(OPEN_LIMIT_SECONDS * 1000)).await {
        Either::Left((engine, _)) => engine.map_err(|error| OpenError::new(&error, backend)),
        Either::Right(_) => {
            Err(OpenError::Device(format!("the graphics card was not ready within {OPEN_LIMIT_SECONDS} s")))
        }
    }
}

/// Why a model could not be opened on the device, in words for people.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// The weights are missing or wrong; another device would not help.
    #[error("{0}")]
    Model(String),
    /// The device is missing or does not compute correctly; another one may work.
    #[error("{0}")]
    Device(String),
}

impl OpenError {
    fn new(error: &EngineError, backend: Backend) -> Self {
        // Messages of the graphics libraries are useful only for debugging.
        console::warn_1(&error.to_string().into());
        let device = if backend == Backend::Flex { "CPU" } else { "graphics card" };
        match error {
            EngineError::Weights { .. } => Self::Model(error.to_string()),
            EngineError::NotBuilt(_) => Self::Device(format!("this program was not built for the {device}")),
            EngineError::NoGpu(_) => Self::Device(format!("the {device} cannot be used from this browser")),
            EngineError::WrongAnswer { .. } => Self::Device(format!("the {device} computes wrong numbers here")),
            EngineError::Device(_) => Self::Device(format!("the {device} failed when it was tried out")),
        }
    }
}

/// Runs a batch of patches with a time limit. This works for a GPU only: computation on the CPU cannot be interrupted,
/// but then the page notices the silence.
async fn in_time<T>(batch: impl Future<Output = Result<T, AudioError>>) -> Result<T, AudioError> {
    match select(pin!(batch), TimeoutFuture::new(BATCH_LIMIT_SECONDS * 1000)).await {
        Either::Left((outcome, _)) => outcome,
        Either::Right(_) => Err(AudioError::Device(format!("it did not answer within {BATCH_LIMIT_SECONDS} s"))),
    }
}

async fn vector(
    engine: &Engine,
    audio: Vec<u8>,
    extension: Option<&str>,
    progress: &dyn Fn(f32),
) -> Result<Analysed, AudioError> {
    let limits = Limits { max_bytes: MAX_AUDIO_BYTES_IN_TAB, max_seconds: MAX_AUDIO_SECONDS };
    let mut track = engine.track(Box::new(Cursor::new(audio)), extension, limits)?;
    let mut patches = Halves::default();
    while let Step::More { fraction } =
        in_time(track.step_with(|patch| patches.extend(patch.embedding.iter().copied()))).await?
    {
        progress(fraction);
        turn().await;
    }
    Ok(report::analysed(engine.model(), track.finish()?, patches))
}
