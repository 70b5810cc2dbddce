//! Attacks a coordinator in the ways that exhaust memory and connections, one after the other, and measures the effect: its
//! memory before, at the peak and after, and the longest waits of an honest request and an honest worker meanwhile.
//!
//! All attackers connect from this machine, where the limits per address do not apply.
#![expect(clippy::print_stdout, reason = "a program for developers")]

use std::{fs, sync::Arc, time::Duration};

use anyhow::{Context, bail, ensure};
use chaarfm_protocol::{
    Capacity, Device, PairingCode, ToServer, ToWorker, Trial, VERSION, WorkerKey, WorkerKind, limits::MAX_AUDIO_BYTES,
    worker_socket_path,
};
use chaarfm_tests::Server;
use clap::Parser;
use futures_util::{SinkExt, StreamExt};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::Command,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Bytes, Message},
};

const MIB: u64 = 1024 * 1024;

/// Time between two honest requests.
const PROBE_MILLIS: u64 = 200;

/// Time limit for an honest request or worker; the siege goes on, and the wait counts.
const PROBE_LIMIT_SECONDS: u64 = 20;

/// Number of files in the library: large enough that an export of the jobs does not fit into the network buffers.
const FILES: usize = 20_000;

/// Maximum payload of a WebSocket ping (RFC 6455, section 5.5).
const PING_BYTES: usize = 125;

#[derive(Parser)]
struct Plan {
    /// Connections that send nothing.
    #[arg(long, default_value_t = 20_000)]
    silent: usize,
    /// Requests whose bodies do not arrive.
    #[arg(long, default_value_t = 10_000)]
    stalled: usize,
    /// Exports that nobody reads.
    #[arg(long, default_value_t = 40)]
    exports: usize,
    /// Workers that send pings, or messages, without a pause and read nothing.
    #[arg(long, default_value_t = 200)]
    floods: usize,
    /// How long each attack lasts.
    #[arg(long, default_value_t = 15)]
    seconds: u64,
    /// Maximum memory of the coordinator.
    #[arg(long, default_value_t = 300)]
    max_mib: u64,
    /// Maximum wait of an honest request, and of an honest worker for its welcome.
    #[arg(long, default_value_t = 1_000)]
    max_wait_millis: u64,
}

/// What attackers and honest clients know about the coordinator.
struct Target {
    host: String,
    code: PairingCode,
    /// The owner's credential, as a request header line: some attacks assume that it has leaked.
    credential: String,
}

type Attack = fn(Arc<Target>, usize) -> std::pin::Pin<Box<dyn Future<Output = anyhow::Result<()>> + Send>>;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let plan = Plan::parse();
    rlimit::increase_nofile_limit(u64::MAX)?;
    let folder = tempfile::tempdir()?;
    let (data, library) = (folder.path().join("data"), folder.path().join("library"));
    fs::create_dir_all(&library)?;
    for file in 0..FILES {
        fs::write(library.join(format!("{file:06}.wav")), format!("no audio, only number {file}"))?;
    }
    let mut command = Command::new(chaarfm_tests::executable("chaarfm-server"));
    command.args(["--log", "error", "--data"]).arg(&data);
    let server = Server::spawn(command, 0, &library).await;
    let session = server.session().await;
    server.command(&session, "pause").await;
    server.ingest(&session).await;
    server.wait_for(&session, "the end of the scan", |view| view.scan.is_none() && view.counts.queued > 0).await;
    let (name, value) = &server.credential;
    let target = Arc::new(Target {
        host: server.address().to_string(),
        code: session.code,
        credential: format!("{name}: {value}\r\n"),
    });
    println!("attack                       memory before, peak, after in MiB   longest wait of a request, of a worker");
    let attacks: [(&str, usize, Attack); 5] = [
        ("silent connections", plan.silent, |target, _| Box::pin(silent(target))),
        ("bodies that do not arrive", plan.stalled, |target, _| Box::pin(stalled(target))),
        ("exports that nobody reads", plan.exports, |target, _| Box::pin(unread_export(target))),
        ("floods of pings", plan.floods, |target, number| Box::pin(flood(target, number, ping()))),
        ("floods of words", plan.floods, |target, number| Box::pin(flood(target, 1_000_000 + number, word()))),
    ];
    let mut failures = Vec::new();
    for (name, attackers, attack) in attacks {
        let seen = besiege(&server, &target, attackers, plan.seconds, attack).await?;
        println!(
            "{attackers:6} {name:26} {:5} {:5} {:5}   {:6} ms {:6} ms",
            seen.before / MIB,
            seen.peak / MIB,
            seen.after / MIB,
            seen.request.as_millis(),
            seen.worker.as_millis()
        );
        let limit = Duration::from_millis(plan.max_wait_millis);
        if seen.peak > plan.max_mib * MIB || seen.request > limit || seen.worker > limit {
            failures.push(name);
        }
    }
    server.stop().await;
    ensure!(failures.is_empty(), "over the limits: {}", failures.join(", "));
    Ok(())
}

/// Measured effect of an attack.
struct Seen {
    before: u64,
    peak: u64,
    after: u64,
    request: Duration,
    worker: Duration,
}

async fn besiege(
    server: &Server,
    target: &Arc<Target>,
    attackers: usize,
    seconds: u64,
    attack: Attack,
) -> anyhow::Result<Seen> {
    let before = resident_bytes(server)?;
    let mut attacking = JoinSet::new();
    for number in 0..attackers {
        attacking.spawn(attack(Arc::clone(target), number));
    }
    let (mut peak, mut request, mut worker) = (before, Duration::ZERO, Duration::ZERO);
    let end = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < end {
        request = request.max(wait_of(honest_request(target)).await?);
        worker = worker.max(wait_of(honest_worker(target)).await?);
        peak = peak.max(resident_bytes(server)?);
        sleep(Duration::from_millis(PROBE_MILLIS)).await;
    }
    attacking.shutdown().await;
    honest_request(target).await.context("after the attack")?;
    Ok(Seen { before, peak, after: resident_bytes(server)?, request, worker })
}

/// Duration of an honest action.
async fn wait_of(asked: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<Duration> {
    let start = Instant::now();
    match timeout(Duration::from_secs(PROBE_LIMIT_SECONDS), asked).await {
        Ok(Err(error)) => Err(error),
        Ok(Ok(())) | Err(_) => Ok(start.elapsed()),
    }
}

async fn honest_request(target: &Target) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(&target.host).await?;
    stream
        .write_all(format!("GET /healthz HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", target.host).as_bytes())
        .await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    ensure!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    Ok(())
}

async fn honest_worker(target: &Target) -> anyhow::Result<()> {
    // From the second time on, the worker is known by its key.
    join(target, u128::MAX).await.map(drop)
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Joins with a key, and waits for the welcome.
async fn join(target: &Target, key: u128) -> anyhow::Result<Socket> {
    let (mut socket, _) = connect_async(format!("ws://{}{}", target.host, worker_socket_path(&target.code))).await?;
    let hello = ToServer::Hello {
        protocol: VERSION,
        agent: "siege/1".into(),
        kind: WorkerKind::Native,
        device: Device { backend: "flex".into(), name: "simulated".into() },
        trial: Trial::default(),
        capacity: Capacity { jobs: 0, max_audio_bytes: MAX_AUDIO_BYTES },
        key: Some(WorkerKey::from_random(key)),
        holding: Vec::new(),
    };
    socket.send(Message::text(serde_json::to_string(&hello)?)).await?;
    let answer = socket.next().await.context("the connection ended")??;
    match serde_json::from_str(answer.to_text()?)? {
        ToWorker::Welcome { .. } => Ok(socket),
        other => bail!("no welcome but {other:?}"),
    }
}

/// Connects, sends nothing, and reconnects when disconnected.
async fn silent(target: Arc<Target>) -> anyhow::Result<()> {
    loop {
        if let Ok(mut stream) = TcpStream::connect(&target.host).await {
            let _ = stream.read(&mut [0; 64]).await;
        }
        sleep(Duration::from_millis(500)).await;
    }
}

/// Announces a body and sends one byte of it.
async fn stalled(target: Arc<Target>) -> anyhow::Result<()> {
    let head = format!(
        "POST /api/sessions HTTP/1.1\r\nhost: {}\r\n{}content-type: application/json\r\ncontent-length: 60000\r\n\r\n{{",
        target.host, target.credential
    );
    loop {
        if let Ok(mut stream) = TcpStream::connect(&target.host).await
            && stream.write_all(head.as_bytes()).await.is_ok()
        {
            let _ = stream.read(&mut [0; 64]).await;
        }
        sleep(Duration::from_millis(500)).await;
    }
}

/// Requests an export of some megabytes and reads nothing of it.
async fn unread_export(target: Arc<Target>) -> anyhow::Result<()> {
    let head = format!(
        "GET /api/sessions/{}/jobs/export?format=jsonl HTTP/1.1\r\nhost: {}\r\n{}\r\n",
        target.code, target.host, target.credential
    );
    let mut stream = TcpStream::connect(&target.host).await?;
    stream.write_all(head.as_bytes()).await?;
    std::future::pending().await
}

fn ping() -> Message {
    Message::Ping(Bytes::from_static(&[0; PING_BYTES]))
}

fn word() -> Message {
    Message::text(serde_json::to_string(&ToServer::Ping).expect("a message is JSON"))
}

/// A worker that keeps sending the same message and reads nothing, and rejoins when disconnected.
async fn flood(target: Arc<Target>, number: usize, message: Message) -> anyhow::Result<()> {
    loop {
        if let Ok(mut socket) = join(&target, number as u128).await {
            while socket.send(message.clone()).await.is_ok() {}
        }
        sleep(Duration::from_millis(500)).await;
    }
}

/// Memory of the coordinator's process.
fn resident_bytes(server: &Server) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", server.process()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").trim().parse()?;
    Ok(kib * 1024)
}
