//! The browser, as the platform of a worker.

use std::time::Duration;

use chaarfm_protocol::{Failure, ModelRef};
use chaarfm_worker::{Analysed, FetchError, Fetched, Platform, SocketError, Source};
use gloo_timers::future::TimeoutFuture;
use url::Url;
use web_time::Instant;

use super::{analyser::Analyser, download, socket::TabSocket};

/// Everything runs in the Web Worker's only thread; audio files are held in memory.
pub(crate) struct Tab {
    analyser: Analyser,
    started: Instant,
}

impl Tab {
    pub(crate) fn new(analyser: Analyser) -> Self {
        Self { analyser, started: Instant::now() }
    }
}

impl Platform for Tab {
    type Socket = TabSocket;
    type Audio = Vec<u8>;

    async fn connect(&self, url: &Url) -> Result<TabSocket, SocketError> {
        TabSocket::connect(url).await
    }

    async fn fetch(&self, source: &Source, bytes: u64, progress: &dyn Fn(f32)) -> Result<Fetched<Vec<u8>>, FetchError> {
        download::exactly(source, bytes, progress).await
    }

    async fn analyse(
        &self,
        model: &ModelRef,
        audio: Vec<u8>,
        file: &str,
        progress: &dyn Fn(f32),
    ) -> Result<Analysed, Failure> {
        self.analyser.analyse(model, audio, file, progress).await
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    async fn sleep(&self, wait: Duration) {
        let milliseconds = wait.as_micros().div_ceil(1000);
        TimeoutFuture::new(u32::try_from(milliseconds).unwrap_or(u32::MAX)).await;
    }

    fn random(&self) -> f64 {
        js_sys::Math::random()
    }
}
