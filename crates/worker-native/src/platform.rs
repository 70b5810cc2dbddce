//! This machine, as the life of a worker sees it.

use std::{
    fs::File,
    sync::Arc,
    time::{Duration, Instant},
};

use chaarfm_protocol::{Failure, ModelRef, Vector};
use chaarfm_worker::{FetchError, Fetched, Platform, SocketError};
use reqwest::{Client, redirect::Policy};
use rustls::ClientConfig;
use url::Url;

use crate::{
    analyser::Analyser,
    fetch::fetch,
    lane::{Order, Orders},
    manners::Keeper,
    socket::NativeSocket,
    tls,
};

/// Sockets and downloads by tokio, analysis in a thread of its own.
pub(crate) struct Native {
    analyser: Analyser,
    keeper: Arc<Keeper>,
    orders: Orders,
    http: Client,
    tls: Arc<ClientConfig>,
    started: Instant,
}

impl Native {
    pub(crate) fn new(analyser: Analyser, keeper: Arc<Keeper>, orders: Orders) -> anyhow::Result<Self> {
        let tls = tls::config()?;
        let http = http_client(tls.clone())?;
        Ok(Self { analyser, keeper, orders, http, tls: Arc::new(tls), started: Instant::now() })
    }
}

/// Waits are bounded by the life of a worker, which sees whether a file still arrives.
pub(crate) fn http_client(tls: ClientConfig) -> reqwest::Result<Client> {
    // Without proxy, as the socket: both have to reach the same coordinator. An address is a secret and says whether there
    // is TLS: a redirection could take it elsewhere, and without.
    Client::builder().tls_backend_preconfigured(tls).no_proxy().redirect(Policy::none()).build()
}

impl Platform for Native {
    type Socket = NativeSocket;
    type Audio = File;

    async fn connect(&self, url: &Url) -> Result<NativeSocket, SocketError> {
        NativeSocket::connect(url, &self.tls).await
    }

    async fn fetch(&self, url: &Url, bytes: u64, progress: &dyn Fn(f32)) -> Result<Fetched<File>, FetchError> {
        fetch(&self.http, url, bytes, &self.keeper, progress).await
    }

    async fn analyse(
        &self,
        model: &ModelRef,
        audio: File,
        file: &str,
        progress: &dyn Fn(f32),
    ) -> Result<Vector, Failure> {
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
