//! The path of one job at a worker: fetch its audio, wait for its turn, analyse.

use std::{cell::Cell, pin::pin, time::Duration};

use chaarfm_protocol::{Failure, FailureKind, Job, Outcome, Stage, Vector, limits::MAX_FETCH_TRIES};
use futures_util::{
    future::{Either, select},
    lock::Mutex,
};
use url::Url;

use crate::{Address, FetchError, Platform, backoff::Backoff, text::clip};

/// A fetch of which no byte arrives for this long has failed.
const FETCH_STALL_SECONDS: u64 = 30;

/// Where jobs are worked on. One audio file is fetched at a time and one is analysed at a time, so that the next job's
/// audio is there when the current one's analysis ends.
pub(crate) struct Bench<'a, P> {
    platform: &'a P,
    address: &'a Address,
    max_audio_bytes: u64,
    fetching: Mutex<()>,
    analysing: Mutex<()>,
}

/// How far a job is.
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

impl<'a, P: Platform> Bench<'a, P> {
    pub(crate) fn new(platform: &'a P, address: &'a Address, max_audio_bytes: u64) -> Self {
        Self { platform, address, max_audio_bytes, fetching: Mutex::new(()), analysing: Mutex::new(()) }
    }

    /// Works on a job until it has an outcome. Dropping the future gives the job up.
    pub(crate) async fn work(&self, job: &Job, progress: &Progress) -> Outcome {
        match self.vector(job, progress).await {
            Ok(vector) => Outcome::Done(vector),
            Err(failure) => Outcome::Failed(Failure { message: clip(&failure.message), ..failure }),
        }
    }

    async fn vector(&self, job: &Job, progress: &Progress) -> Result<Vector, Failure> {
        let audio = {
            let _turn = self.fetching.lock().await;
            self.fetch(job, progress).await?
        };
        progress.enter(Stage::Waiting);
        let _turn = self.analysing.lock().await;
        progress.enter(Stage::Analysing);
        self.platform.analyse(&job.model, audio, &job.track.file, &|fraction| progress.set(fraction)).await
    }

    /// Fetches a job's audio, again when the transfer breaks, with growing waits between: a coordinator may restart.
    async fn fetch(&self, job: &Job, progress: &Progress) -> Result<P::Audio, Failure> {
        let bytes = job.audio.bytes;
        if bytes > self.max_audio_bytes {
            let limit = self.max_audio_bytes;
            return Err(passing(format!("the file has {bytes} bytes; this worker takes {limit} at most")));
        }
        let url = self.address.resolve(&job.audio.url).map_err(|error| passing(error.to_string()))?;
        let mut backoff = Backoff::new();
        let mut tries = 1;
        loop {
            progress.enter(Stage::Fetching);
            match self.fetch_once(&url, bytes, progress).await {
                Ok(audio) => return Ok(audio),
                Err(error) if error.may_pass() && tries < MAX_FETCH_TRIES => {
                    self.platform.sleep(backoff.next(self.platform.random())).await;
                    tries += 1;
                }
                Err(error) => return Err(passing(error.to_string())),
            }
        }
    }

    async fn fetch_once(&self, url: &Url, bytes: u64, progress: &Progress) -> Result<P::Audio, FetchError> {
        let moved_at = Cell::new(self.platform.now());
        let report = |fraction| {
            moved_at.set(self.platform.now());
            progress.set(fraction);
        };
        let transfer = self.platform.fetch(url, bytes, &report);
        match select(pin!(transfer), pin!(self.stall(&moved_at))).await {
            Either::Left((result, _)) => result,
            Either::Right((limit, _)) => Err(FetchError::Stalled(limit)),
        }
    }

    /// Resolves when a transfer that last moved at `moved_at` has stood still for too long.
    async fn stall(&self, moved_at: &Cell<Duration>) -> Duration {
        const LIMIT: Duration = Duration::from_secs(FETCH_STALL_SECONDS);
        loop {
            match LIMIT.checked_sub(self.platform.now().saturating_sub(moved_at.get())) {
                None | Some(Duration::ZERO) => return LIMIT,
                Some(left) => self.platform.sleep(left).await,
            }
        }
    }
}

fn passing(message: String) -> Failure {
    Failure { kind: FailureKind::Passing, message }
}
