//! The path of one job at a worker: fetch its audio, wait for its turn, analyse.

use std::{cell::Cell, pin::pin, time::Duration};

use chaarfm_protocol::{
    Failure, FailureKind, Halves, Job, Outcome, Stage,
    limits::{MAX_FETCH_TRIES, STALL_LIMIT_SECONDS},
};
use futures_util::{
    future::{Either, select},
    lock::Mutex,
};

use crate::{Address, Analysed, FetchError, Fetched, Platform, Source, backoff::Backoff, text::clip, wait::TICK};

/// A fetch has failed when no byte arrives for this long.
const FETCH_STALL_SECONDS: u64 = 30;

/// Lowest average speed of a fetch, after the grace period. Even a bad line is faster than that.
const MIN_FETCH_BYTES_PER_SECOND: u64 = 8 * 1024;

/// Grace period of a fetch, in addition to the time that its size allows.
const FETCH_GRACE_SECONDS: u64 = 60;

/// How long the worker keeps asking for a file while the coordinator is away or says that it cannot serve. Below the
/// stall limit, so that this worker still has the job when the coordinator comes back.
const COORDINATOR_AWAY_SECONDS: u64 = STALL_LIMIT_SECONDS * 3 / 4;

/// After a storage delivered nothing and the coordinator delivered the same file, the storage is not asked for this
/// long: its owner may not want it to be reached from here, and each try can take as long as a stalled fetch.
const STORAGE_PAUSE_SECONDS: u64 = 600;

/// The HTTP status with which a coordinator says that a file is permanently gone.
const GONE: u16 = 410;

/// Works on jobs. Fetches one audio file at a time and analyses one at a time, so that the next job's audio is there
/// when the current analysis ends.
pub(crate) struct JobRunner<'a, P> {
    platform: &'a P,
    address: &'a Address,
    max_audio_bytes: u64,
    fetching: Mutex<()>,
    analysing: Mutex<()>,
    /// Earliest time to ask the storage again.
    storage_at: Cell<Duration>,
    notice: Cell<Option<String>>,
}

/// The progress of a job.
#[derive(Debug)]
pub(crate) struct Progress {
    stage: Cell<Stage>,
    fraction: Cell<f32>,
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self { stage: Cell::new(Stage::Fetching), fraction: Cell::new(0.0) }
    }

    /// The stage, and the share of it that is done, 0 to 1.
    pub(crate) fn get(&self) -> (Stage, f32) {
        (self.stage.get(), self.fraction.get())
    }

    fn enter(&self, stage: Stage) {
        self.stage.set(stage);
        self.fraction.set(0.0);
    }

    fn set(&self, fraction: f32) {
        if fraction.is_finite() {
            self.fraction.set(fraction.clamp(0.0, 1.0));
        }
    }
}

/// How a job ended.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) outcome: Outcome,
    /// See [`Analysed::patches`].
    pub(crate) patches: Halves,
    /// See [`Fetched::content_hash`]; none when no file arrived.
    pub(crate) content_hash: Option<String>,
}

impl<'a, P: Platform> JobRunner<'a, P> {
    pub(crate) fn new(platform: &'a P, address: &'a Address, max_audio_bytes: u64) -> Self {
        Self {
            platform,
            address,
            max_audio_bytes,
            fetching: Mutex::new(()),
            analysing: Mutex::new(()),
            storage_at: Cell::new(Duration::ZERO),
            notice: Cell::new(None),
        }
    }

    /// A message for the worker's owner; returned once.
    pub(crate) fn notice(&self) -> Option<String> {
        self.notice.take()
    }

    /// Works on a job until it has an outcome. Dropping the future abandons the job.
    pub(crate) async fn work(&self, job: &Job, progress: &Progress) -> Answer {
        let mut content_hash = None;
        match self.analyse(job, progress, &mut content_hash).await {
            Ok(Analysed { vector, patches }) => Answer { outcome: Outcome::Done(vector), patches, content_hash },
            Err(failure) => {
                let failure = Failure { message: clip(&failure.message), ..failure };
                Answer { outcome: Outcome::Failed(failure), patches: Halves::default(), content_hash }
            }
        }
    }

    async fn analyse(
        &self,
        job: &Job,
        progress: &Progress,
        content_hash: &mut Option<String>,
    ) -> Result<Analysed, Failure> {
        let fetched = {
            let _turn = self.fetching.lock().await;
            self.beginning().await;
            self.fetch(job, progress).await?
        };
        *content_hash = Some(fetched.content_hash);
        progress.enter(Stage::Waiting);
        let _turn = self.analysing.lock().await;
        self.beginning().await;
        progress.enter(Stage::Analysing);
        self.platform.analyse(&job.model, fetched.audio, &job.track.file, &|fraction| progress.set(fraction)).await
    }

    /// Waits until the platform allows new work to begin.
    async fn beginning(&self) {
        while !self.platform.may_begin() {
            self.platform.sleep(TICK).await;
        }
    }

    /// Fetches a job's audio: once directly from the storage if the job has such an address, otherwise from the
    /// coordinator. Broken transfers are repeated with growing waits. While the coordinator or its database is down,
    /// tries do not count.
    async fn fetch(&self, job: &Job, progress: &Progress) -> Result<Fetched<P::Audio>, Failure> {
        let bytes = job.audio.bytes;
        if bytes > self.max_audio_bytes {
            let limit = self.max_audio_bytes;
            return Err(passing(format!("the file has {bytes} bytes; this worker takes {limit} at most")));
        }
        let url = self.address.resolve(&job.audio.url).map_err(|error| passing(error.to_string()))?;
        let own = Source { url, lease: Some(job.job.lease.clone()) };
        let direct = job.audio.direct.as_deref().filter(|_| self.platform.now() >= self.storage_at.get());
        let mut missed = None;
        if let Some(url) = direct.and_then(|direct| self.address.storage(direct)) {
            match self.fetch_once(&Source { url, lease: None }, bytes, progress).await {
                Ok(audio) => return Ok(audio),
                Err(error) => missed = Some(Missed { error, got_nothing: progress.get().1 == 0.0 }),
            }
        }
        let mut backoff = Backoff::new();
        let mut tries = 1 + u32::from(missed.is_some());
        let away_until = self.platform.now() + Duration::from_secs(COORDINATOR_AWAY_SECONDS);
        loop {
            progress.enter(Stage::Fetching);
            match self.fetch_once(&own, bytes, progress).await {
                Ok(audio) => {
                    self.judge_storage(missed);
                    return Ok(audio);
                }
                Err(error) if error.is_away() && progress.get().1 == 0.0 && self.platform.now() < away_until => {
                    self.platform.sleep(backoff.next(self.platform.random())).await;
                }
                Err(error) if error.may_pass() && tries < MAX_FETCH_TRIES => {
                    self.platform.sleep(backoff.next(self.platform.random())).await;
                    tries += 1;
                }
                Err(FetchError::Status(GONE)) => {
                    let message = "the file is not there any more, or has changed since it was found".to_owned();
                    return Err(Failure { kind: FailureKind::Permanent, message });
                }
                Err(error) => {
                    // The coordinator must not learn how an address that it chose behaves as seen from here.
                    let from_storage = missed.map_or("", |_| "; the storage itself did not deliver it");
                    return Err(passing(format!("{error}{from_storage}")));
                }
            }
        }
    }

    /// Pauses a storage that delivered no byte of a file that the coordinator then delivered.
    fn judge_storage(&self, missed: Option<Missed>) {
        if let Some(Missed { error, got_nothing: true }) = missed {
            self.storage_at.set(self.platform.now() + Duration::from_secs(STORAGE_PAUSE_SECONDS));
            self.notice.set(Some(format!("fetching through the coordinator, as the storage gave nothing: {error}")));
        }
    }

    async fn fetch_once(
        &self,
        source: &Source,
        bytes: u64,
        progress: &Progress,
    ) -> Result<Fetched<P::Audio>, FetchError> {
        let pace = Pace { moved_at: Cell::new(self.platform.now()), arrived: Cell::new(0.0), busy: Cell::default() };
        let report = |fraction| {
            pace.note(self.platform.now(), fraction);
            progress.set(fraction);
        };
        let transfer = self.platform.fetch(source, bytes, &report);
        match select(pin!(transfer), pin!(self.stall(&pace, bytes))).await {
            Either::Left((result, _)) => result,
            Either::Right((error, _)) => Err(error),
        }
    }

    /// Resolves when a transfer has stalled, or is too slow.
    async fn stall(&self, pace: &Pace, bytes: u64) -> FetchError {
        const LIMIT: Duration = Duration::from_secs(FETCH_STALL_SECONDS);
        let longest = Duration::from_secs(FETCH_GRACE_SECONDS + bytes / MIN_FETCH_BYTES_PER_SECOND);
        loop {
            if pace.busy.get() > longest {
                return FetchError::TooSlow(MIN_FETCH_BYTES_PER_SECOND);
            }
            match LIMIT.checked_sub(self.platform.now().saturating_sub(pace.moved_at.get())) {
                None | Some(Duration::ZERO) => return FetchError::Stalled(LIMIT),
                Some(left) => self.platform.sleep(left).await,
            }
        }
    }
}

/// The pace of a transfer.
struct Pace {
    moved_at: Cell<Duration>,
    /// Share of the file that has arrived.
    arrived: Cell<f32>,
    /// Total time in which data arrived. It does not grow while the machine may not fetch.
    busy: Cell<Duration>,
}

impl Pace {
    fn note(&self, now: Duration, arrived: f32) {
        if arrived > self.arrived.get() {
            self.busy.set(self.busy.get() + now.saturating_sub(self.moved_at.get()));
            self.arrived.set(arrived);
        }
        self.moved_at.set(now);
    }
}

/// A file that the storage did not deliver.
struct Missed {
    error: FetchError,
    got_nothing: bool,
}

fn passing(message: String) -> Failure {
    Failure { kind: FailureKind::Passing, message }
}
