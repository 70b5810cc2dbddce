//! This machine, as the platform of a worker.

use std::{
    fs::File,
    sync::Arc,
    time::{Duration, Instant},
};

use chaarfm_protocol::{Failure, ModelRef};
use chaarfm_scratch::Scratch;
use chaarfm_worker::{Analysed, FetchError, Fetched, Platform, SocketError, Source};
use url::Url;

use crate::{
    analyser::Analyser,
    fetch::fetch,
    manners::Keeper,
    network::{NativeSocket, Network},
    orders::{Order, Orders},
    scratch,
};

/// Sockets and downloads with tokio; analysis in a thread of its own.
pub(crate) struct Native {
    analyser: Analyser,
    keeper: Arc<Keeper>,
    orders: Orders,
    network: Network,
    scratch: Scratch,
    started: Instant,
}

impl Native {
    pub(crate) fn new(analyser: Analyser, keeper: Arc<Keeper>, orders: Orders, network: Network) -> Self {
        Self { analyser, keeper, orders, network, scratch: scratch::open(), started: Instant::now() }
    }
}

impl Platform for Native {
    type Socket = NativeSocket;
    type Audio = File;

    async fn connect(&self, url: &Url) -> Result<NativeSocket, SocketError> {
        self.network.websocket(url).await
    }

    async fn fetch(&self, source: &Source, bytes: u64, progress: &dyn Fn(f32)) -> Result<Fetched<File>, FetchError> {
        fetch(&self.network, source, bytes, &self.keeper, &self.scratch, progress).await
    }

    async fn analyse(
        &self,
        model: &ModelRef,
        audio: File,
        file: &str,
        progress: &dyn Fn(f32),
    ) -> Result<Analysed, Failure> {
        self.analyser.analyse(model, audio, file, progress).await
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    async fn sleep(&self, wait: Duration) {
        tokio::time::sleep(wait).await;
    }

    fn random(&self) -> f64 {
        fastrand::f64()
    }

    fn may_begin(&self) -> bool {
        *self.orders.borrow() == Order::Work && self.keeper.gate().permit().state.may_begin()
    }
}
