//! Recomputes results on the coordinator's own copy of the audio. `chaarfm-coordinator` decides which ones, and when they
//! match.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fs::File,
    path::Path,
    sync::OnceLock,
    thread,
    time::Duration,
};

use chaarfm_analysis::{AudioError, Backend, Engine, EngineError, Limits, Recheck, recheck};
use chaarfm_coordinator::VerifyShare;
use chaarfm_models::Manifest;
use chaarfm_protocol::limits::{MAX_AUDIO_BYTES, MAX_AUDIO_SECONDS};
use chaarfm_sources::Libraries;
use chaarfm_store::JobRow;
use futures_util::future::BoxFuture;
use tokio::{
    sync::{
        mpsc::{self, error::TrySendError},
        oneshot,
    },
    time::timeout,
};

use crate::wanted::wanted;

/// Maximum number of queued results. Beyond that results are trusted: the wait stays short, and any result may be checked.
pub(crate) const MAX_WAITING: usize = 16;

/// Maximum wait of a result for its recomputation, in seconds. After that it is trusted.
pub(crate) const LIMIT_SECONDS: u64 = 60;

/// Which results are recomputed, and how.
pub(crate) struct Verifier {
    share: VerifyShare,
    recompute: Box<dyn Recompute>,
}

/// A way to recompute patches. A simulation has another one than the network.
pub(crate) trait Recompute: Send + Sync {
    /// Recomputes the patches with these indices, which ascend, of a job's track. The error says why it was impossible, which
    /// is not the worker's fault.
    fn recompute<'a>(
        &'a self,
        libraries: &'a Libraries,
        row: &'a JobRow,
        indices: Vec<u32>,
    ) -> BoxFuture<'a, Result<Recheck, String>>;
}

/// Recomputes them with the network on the coordinator's own copy of the audio, one track at a time, on a thread that starts
/// with the first request.
#[derive(Default)]
struct OwnCopy {
    requests: OnceLock<Option<mpsc::Sender<Request>>>,
}

/// A track with patches to recompute.
struct Request {
    model: &'static Manifest,
    audio: File,
    extension: Option<String>,
    indices: Vec<u32>,
    answer: oneshot::Sender<Result<Recheck, String>>,
}

impl Verifier {
    /// Starts no thread yet.
    pub(crate) fn new(share: VerifyShare) -> Self {
        Self::by(share, OwnCopy::default())
    }

    /// Recomputes in another way.
    pub(crate) fn by(share: VerifyShare, recompute: impl Recompute + 'static) -> Self {
        Self { share, recompute: Box::new(recompute) }
    }

    /// The share of results to recompute.
    pub(crate) fn share(&self) -> VerifyShare {
        self.share
    }

    /// See [`Recompute::recompute`].
    pub(crate) async fn recompute(
        &self,
        libraries: &Libraries,
        row: &JobRow,
        indices: Vec<u32>,
    ) -> Result<Recheck, String> {
        self.recompute.recompute(libraries, row, indices).await
    }
}

impl Recompute for OwnCopy {
    fn recompute<'a>(
        &'a self,
        libraries: &'a Libraries,
        row: &'a JobRow,
        indices: Vec<u32>,
    ) -> BoxFuture<'a, Result<Recheck, String>> {
        Box::pin(async move {
            let library = libraries.find(&row.library);
            let library = library.ok_or_else(|| format!("the library {} is not here", row.library))?;
            let copied = library.copy(wanted(row), libraries.scratch()).await;
            let audio = copied.map_err(|reason| format!("{} {reason}", row.track.file))?;
            let model = chaarfm_models::find(&row.model).ok_or_else(|| format!("there is no model {}", row.model))?;
            let requests = self.requests.get_or_init(start).as_ref().ok_or("there is no thread for it")?;
            let extension = Path::new(&row.track.file).extension().and_then(|extension| extension.to_str());
            let extension = extension.map(str::to_owned);
            let (answer, answered) = oneshot::channel();
            let request = Request { model, audio, extension, indices, answer };
            let recomputed = async {
                requests.try_send(request).map_err(|refused| match refused {
                    TrySendError::Full(_) => format!("{MAX_WAITING} others wait for it already"),
                    TrySendError::Closed(_) => "the thread for it has ended".to_owned(),
                })?;
                answered.await.unwrap_or_else(|_| Err("the thread for it has ended".to_owned()))
            };
            let limit = Duration::from_secs(LIMIT_SECONDS);
            let late = || Err(format!("it was not done within {LIMIT_SECONDS} s"));
            timeout(limit, recomputed).await.unwrap_or_else(|_| late())
        })
    }
}

/// Starts the thread; none when the system refuses. It ends when the request channel closes.
fn start() -> Option<mpsc::Sender<Request>> {
    let (requests, received) = mpsc::channel(MAX_WAITING);
    let thread = thread::Builder::new().name("verification".to_owned());
    let started = thread.spawn(move || serve(received));
    started.inspect_err(|error| tracing::error!("results cannot be computed again: {error}")).ok()?;
    Some(requests)
}

fn serve(mut requests: mpsc::Receiver<Request>) {
    let mut engines = BTreeMap::new();
    while let Some(request) = requests.blocking_recv() {
        // The requester may have stopped waiting.
        if !request.answer.is_closed() {
            let recomputed = recompute(&mut engines, &request).map_err(|error| error.to_string());
            drop(request.answer.send(recomputed));
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum NotRecomputed {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Audio(#[from] AudioError),
}

fn recompute(engines: &mut BTreeMap<&str, Engine>, request: &Request) -> Result<Recheck, NotRecomputed> {
    let model = request.model;
    let engine = match engines.entry(&model.sha256) {
        Entry::Occupied(engine) => engine.into_mut(),
        Entry::Vacant(entry) => {
            let opened = Engine::open(Backend::Flex, model, chaarfm_models::weights(model));
            entry.insert(pollster::block_on(opened)?)
        }
    };
    let limits = Limits { max_bytes: MAX_AUDIO_BYTES, max_seconds: MAX_AUDIO_SECONDS };
    let audio = request.audio.try_clone().map_err(AudioError::Read)?;
    let extension = request.extension.as_deref();
    Ok(pollster::block_on(recheck(engine, Box::new(audio), extension, limits, &request.indices))?)
}
