//! A real worker except for the analysis: it runs the common worker code over a real WebSocket and fetches its audio,
//! then waits for a while and answers with a function of the file's bytes. Prints a line for each finished track.
//!
//! It ends when its standard input closes, so that it never outlives the process that started it.
#![expect(clippy::unwrap_used, reason = "only tests use it")]

use std::{
    io::{self, Read, Write},
    ops::Range,
    process::ExitCode,
    time::{Duration, Instant},
};

use chaarfm_protocol::{
    Device, Failure, LEASE_HEADER, ModelRef, PairingCode, Trial, Vector, WorkerKey, WorkerKind,
    limits::{MAX_AUDIO_BYTES, MAX_MESSAGE_BYTES},
};
use chaarfm_tests::{embedding_of, http};
use chaarfm_worker::{
    Address, Analysed, Config, Exit, FetchError, Fetched, Platform, Received, Socket, SocketError, Source, run,
};
use clap::Parser;
use futures_util::{SinkExt, StreamExt};
use tokio::{net::TcpStream, sync::oneshot};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async_with_config,
    tungstenite::{Message, protocol::WebSocketConfig},
};
use url::Url;

/// Number of progress reports per track.
const STEPS: u32 = 10;

#[derive(Parser)]
struct Arguments {
    /// Address of the coordinator.
    #[arg(long)]
    url: Address,
    /// Code of the session.
    #[arg(long)]
    code: PairingCode,
    /// Time per track, drawn anew for each: MIN..MAX in milliseconds.
    #[arg(long, value_parser = range)]
    work_millis: Range<u64>,
}

fn range(text: &str) -> Result<Range<u64>, String> {
    let bounds = text.split_once("..").and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
    bounds.filter(|bounds: &Range<u64>| !bounds.is_empty()).ok_or_else(|| "a range is MIN..MAX".to_owned())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let simulation = Simulation { http: http(), work_millis: arguments.work_millis, started: Instant::now() };
    let config = Config {
        address: arguments.url,
        code: arguments.code,
        key: WorkerKey::from_random(fastrand::u128(..)),
        kind: WorkerKind::Native,
        agent: "simulated".to_owned(),
        device: Device { backend: "none".to_owned(), name: "simulated".to_owned() },
        trial: Trial::default(),
        max_audio_bytes: MAX_AUDIO_BYTES,
    };
    match run(&simulation, config, end_of_input(), |_| {}).await {
        Exit::Stopped => ExitCode::SUCCESS,
        Exit::Refused { .. } => ExitCode::FAILURE,
    }
}

async fn end_of_input() {
    let (ended, end) = oneshot::channel();
    std::thread::spawn(move || {
        let _ = io::stdin().read_to_end(&mut Vec::new());
        let _ = ended.send(());
    });
    let _ = end.await;
}

/// The platform: like a real machine, but time passes instead of an analysis.
struct Simulation {
    http: reqwest::Client,
    work_millis: Range<u64>,
    started: Instant,
}

impl Platform for Simulation {
    type Socket = Wire;
    type Audio = Vec<u8>;

    async fn connect(&self, url: &Url) -> Result<Wire, SocketError> {
        let limits = WebSocketConfig::default()
            .max_message_size(Some(MAX_MESSAGE_BYTES))
            .max_frame_size(Some(MAX_MESSAGE_BYTES));
        let without_delay = true;
        let connected = connect_async_with_config(url.as_str(), Some(limits), without_delay).await;
        connected.map(|(stream, _)| Wire(stream)).map_err(|error| SocketError::Failed(error.to_string()))
    }

    async fn fetch(&self, source: &Source, bytes: u64, progress: &dyn Fn(f32)) -> Result<Fetched<Vec<u8>>, FetchError> {
        let broken = |error: reqwest::Error| FetchError::Broken(error.without_url().to_string());
        let mut request = self.http.get(source.url.clone());
        if let Some(lease) = &source.lease {
            request = request.header(LEASE_HEADER, lease);
        }
        let mut response = request.send().await.map_err(broken)?;
        if !response.status().is_success() {
            return Err(FetchError::Status(response.status().as_u16()));
        }
        let (mut content, mut received) = (Vec::new(), Received::nothing_of(bytes));
        while let Some(piece) = response.chunk().await.map_err(broken)? {
            progress(received.piece(&piece)?);
            content.extend_from_slice(&piece);
        }
        let content_hash = received.finish()?;
        Ok(Fetched { audio: content, content_hash })
    }

    async fn analyse(
        &self,
        model: &ModelRef,
        content: Vec<u8>,
        file: &str,
        progress: &dyn Fn(f32),
    ) -> Result<Analysed, Failure> {
        let work = Duration::from_millis(fastrand::u64(self.work_millis.clone()));
        for step in 1..=STEPS {
            self.sleep(work / STEPS).await;
            progress(step as f32 / STEPS as f32);
        }
        let manifest = chaarfm_models::find(&model.name).unwrap();
        // The reader may be gone already.
        let _ = writeln!(io::stdout(), "{file}");
        let embedding = embedding_of(&content, manifest.embedding_length);
        let patches = embedding.iter().copied().collect();
        let vector = Vector {
            model: model.name.clone(),
            embedding,
            tags: vec![0.5; manifest.tags.len()],
            seconds: 1.0,
            patches: 1,
            flags: Vec::new(),
        };
        Ok(Analysed { vector, patches })
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
}

struct Wire(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket for Wire {
    async fn send(&mut self, text: String) -> Result<(), SocketError> {
        self.0.send(Message::text(text)).await.map_err(|error| SocketError::Failed(error.to_string()))
    }

    async fn receive(&mut self) -> Result<String, SocketError> {
        loop {
            match self.0.next().await {
                Some(Ok(Message::Text(text))) => return Ok(text.as_str().to_owned()),
                Some(Ok(Message::Close(_))) | None => return Err(SocketError::Closed),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(SocketError::Failed(error.to_string())),
            }
        }
    }

    async fn close(mut self) {
        let _ = self.0.close(None).await;
    }
}
