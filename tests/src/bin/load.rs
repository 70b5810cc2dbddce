//! Runs thousands of simulated workers on one coordinator: measures its memory and time, and checks that nothing is lost.
//!
//! The workers speak the protocol over real sockets, fetch every file and report progress; instead of analysing they wait
//! and answer with random numbers. Measured delays include those of the workers, because they share the machine with the
//! coordinator.
#![expect(clippy::print_stdout, reason = "a program for developers")]

use std::{
    collections::VecDeque,
    fs,
    ops::Range,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use chaarfm_api::{SessionView, TrackPage};
use chaarfm_protocol::{
    AcceptedAs, Capacity, Device, Job, LEASE_HEADER, Outcome, PairingCode, Stage, ToServer, ToWorker, Trial, VERSION,
    Vector, WorkerKey, WorkerKind,
    limits::{MAX_AUDIO_BYTES, MAX_JOBS_PER_WORKER, PEER_TIMEOUT_SECONDS, PROGRESS_INTERVAL_SECONDS},
    worker_socket_path,
};
use chaarfm_test_postgres::Cluster;
use chaarfm_tests::{COLLECTION, Server};
use clap::Parser;
use futures_util::{SinkExt, StreamExt};
use tokio::{
    net::TcpStream,
    process::Command,
    sync::{Semaphore, watch},
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval_at, sleep, sleep_until, timeout},
};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{Message, client::IntoClientRequest, protocol::WebSocketConfig},
};

/// Maximum number of workers that connect at the same time, and of concurrent fetches.
const MAX_CONNECTING: usize = 128;
const MAX_FETCHING: usize = 128;

/// Time limit for a worker's welcome, and for fetching a file.
const CONNECT_SECONDS: u64 = 60;
const FETCH_SECONDS: u64 = 60;

/// How long the workers stay connected without work.
const IDLE_SECONDS: u64 = 20;

/// Longest time without a stored track.
const STALL_SECONDS: u64 = 120;

/// Files per folder of the library.
const FILES_PER_FOLDER: usize = 1000;

const MIB: f64 = 1024.0 * 1024.0;

/// Linux's clock ticks per second, the unit of processor time.
const TICKS_PER_SECOND: f64 = 100.0;

#[derive(Parser)]
struct Plan {
    /// Connected workers.
    #[arg(long, default_value_t = 10_000)]
    workers: usize,
    /// Tracks.
    #[arg(long, default_value_t = 50_000)]
    jobs: usize,
    /// Shortest time that a worker spends on a track.
    #[arg(long, default_value_t = 10.0)]
    min_work_seconds: f64,
    /// Longest time that a worker spends on a track.
    #[arg(long, default_value_t = 30.0)]
    max_work_seconds: f64,
    /// Use a PostgreSQL database instead of an SQLite file.
    #[arg(long)]
    postgres: bool,
    /// Maximum 99th percentile of the dispatch latency.
    #[arg(long, default_value_t = 250.0)]
    max_p99_millis: f64,
}

/// Observations of all workers.
#[derive(Default)]
struct Counters {
    stored: AtomicU64,
    /// Unexpected messages, such as refused or unneeded results.
    odd: AtomicU64,
    bytes_sent: AtomicU64,
    bytes_received: AtomicU64,
    /// Arrival times of the jobs that filled the workers' initial slots.
    first_jobs: Mutex<Vec<Instant>>,
    /// Delays from a result that frees a slot to the job that fills it, in order of time.
    latencies: Mutex<Vec<Duration>>,
}

impl Counters {
    /// Records a job for a slot that became free at `room_since`, or was free from the start if none.
    fn note_job(&self, now: Instant, room_since: Option<Instant>) {
        match room_since {
            Some(since) => self.latencies.lock().expect("nobody panics with it").push(now - since),
            None => self.first_jobs.lock().expect("nobody panics with it").push(now),
        }
    }
}

/// State shared by all workers.
struct Load {
    url: String,
    code: PairingCode,
    work_seconds: Range<f64>,
    http: reqwest::Client,
    fetching: Semaphore,
    counters: Counters,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let plan = Plan::parse();
    // For this process's ends of the connections; the coordinator's process inherits the limit for its own.
    rlimit::increase_nofile_limit(u64::MAX)?;
    let folder = tempfile::tempdir()?;
    let library = folder.path().join("library");
    fill(&library, plan.jobs)?;
    let data = folder.path().join("data");
    let cluster = plan.postgres.then(Cluster::start_durable);
    let mut command = Command::new(chaarfm_tests::executable("chaarfm-server"));
    command.args(["--log", "warn", "--data"]).arg(&data);
    if let Some(cluster) = &cluster {
        command.args(["--database-url", &cluster.database()]);
    }
    let server = Server::spawn(command, 0, &library).await;
    let session = server.session().await;
    let load = Arc::new(Load {
        url: server.url.clone(),
        code: session.code,
        work_seconds: plan.min_work_seconds..plan.max_work_seconds,
        http: chaarfm_tests::http(),
        fetching: Semaphore::new(MAX_FETCHING),
        counters: Counters::default(),
    });

    let start = Instant::now();
    server.ingest(&session).await;
    server.wait_for(&session, "the end of the scan", |view| view.scan.is_none() && view.counts.queued > 0).await;
    println!("{} files scanned and queued in {:.1} s", plan.jobs, start.elapsed().as_secs_f64());
    server.command(&session, "pause").await;

    let before = resident_bytes(&server)?;
    let start = Instant::now();
    let (stop, stopped) = watch::channel(());
    let mut workers = JoinSet::new();
    let sockets = connect_all(&load, plan.workers).await?;
    let seconds = start.elapsed().as_secs_f64();
    let each = (resident_bytes(&server)? - before) / plan.workers as f64;
    println!("{} workers connected in {seconds:.1} s; {:.1} KiB of memory each", plan.workers, each / 1024.0);
    for socket in sockets {
        let (load, stopped) = (Arc::clone(&load), stopped.clone());
        workers.spawn(async move { live(&load, socket, stopped).await });
    }
    let (idle_from, idle_cpu) = (Instant::now(), processor_seconds(&server)?);
    sleep(Duration::from_secs(IDLE_SECONDS)).await;
    let share = (processor_seconds(&server)? - idle_cpu) / idle_from.elapsed().as_secs_f64();
    println!("while nothing is to do, the coordinator takes {:.1} % of a core", share * 100.0);

    let (start, cpu) = (Instant::now(), processor_seconds(&server)?);
    server.command(&session, "resume").await;
    let rate = wait_for_all(&load, &mut workers, plan.jobs).await?;
    let (seconds, cpu) = (start.elapsed().as_secs_f64(), processor_seconds(&server)? - cpu);
    let peak = resident_bytes(&server)?;
    stop.send_replace(());
    while let Some(worker) = workers.join_next().await {
        worker??;
    }
    report_first(&load, &plan, start);
    report(&load, &plan, seconds, cpu, rate, peak)?;
    check(&server, &session, &load, plan.jobs).await
}

/// A library of tiny files, each with its own content.
fn fill(library: &Path, files: usize) -> anyhow::Result<()> {
    for file in 0..files {
        let folder: PathBuf = library.join(format!("{:04}", file / FILES_PER_FOLDER));
        if file.is_multiple_of(FILES_PER_FOLDER) {
            fs::create_dir_all(&folder)?;
        }
        fs::write(folder.join(format!("{file:07}.wav")), format!("no audio, only number {file}"))?;
    }
    Ok(())
}

type Socket = WebSocketStream<TcpStream>;

async fn connect_all(load: &Arc<Load>, count: usize) -> anyhow::Result<Vec<Socket>> {
    let limited = |number| timeout(Duration::from_secs(CONNECT_SECONDS), connect(Arc::clone(load), number));
    let connecting = futures_util::stream::iter((0..count).map(limited));
    let mut connecting = connecting.buffer_unordered(MAX_CONNECTING);
    let mut sockets = Vec::with_capacity(count);
    while let Some(socket) = connecting.next().await {
        sockets.push(socket.context("a worker is not welcome in time")??);
    }
    Ok(sockets)
}

/// Connects and waits for the welcome.
async fn connect(load: Arc<Load>, number: usize) -> anyhow::Result<Socket> {
    let address = load.url.replace("http:", "ws:") + &worker_socket_path(&load.code);
    let host = load.url.strip_prefix("http://").context("not over HTTP")?;
    let stream = TcpStream::connect(host).await?;
    stream.set_nodelay(true)?;
    let config = WebSocketConfig::default().read_buffer_size(4096);
    let (mut socket, _) = client_async_with_config(address.into_client_request()?, stream, Some(config)).await?;
    let hello = ToServer::Hello {
        protocol: VERSION,
        agent: "load/1".into(),
        kind: if number.is_multiple_of(2) { WorkerKind::Native } else { WorkerKind::Browser },
        device: Device { backend: "flex".into(), name: "simulated".into() },
        trial: Trial::default(),
        capacity: Capacity { jobs: MAX_JOBS_PER_WORKER, max_audio_bytes: MAX_AUDIO_BYTES },
        key: Some(WorkerKey::from_random(number as u128)),
        holding: Vec::new(),
    };
    say(&load, &mut socket, &hello).await?;
    match hear(&load, &mut socket).await? {
        ToWorker::Welcome { .. } => Ok(socket),
        other => bail!("no welcome but {other:?}"),
    }
}

async fn say(load: &Load, socket: &mut Socket, message: &ToServer) -> anyhow::Result<()> {
    let text = serde_json::to_string(message)?;
    load.counters.bytes_sent.fetch_add(text.len() as u64, Ordering::Relaxed);
    Ok(socket.send(Message::text(text)).await?)
}

/// The next message. Cancel-safe: dropping the future loses no message.
async fn hear(load: &Load, socket: &mut Socket) -> anyhow::Result<ToWorker> {
    loop {
        match socket.next().await.context("the connection ended")?? {
            Message::Text(text) => {
                load.counters.bytes_received.fetch_add(text.len() as u64, Ordering::Relaxed);
                return Ok(serde_json::from_str(&text)?);
            }
            Message::Ping(_) | Message::Pong(_) => {}
            other => bail!("no message but {other:?}"),
        }
    }
}

/// A worker's life after the handshake.
async fn live(load: &Load, mut socket: Socket, mut stop: watch::Receiver<()>) -> anyhow::Result<()> {
    let mut jobs: VecDeque<Job> = VecDeque::new();
    let mut begun = Instant::now();
    let mut end = begun;
    let mut heard_at = begun;
    // Send times of results whose freed slots have not been filled yet.
    let mut room_since = VecDeque::new();
    // Staggers the workers' progress reports.
    let phase = Duration::from_secs(PROGRESS_INTERVAL_SECONDS).mul_f64(fastrand::f64());
    let mut report = interval_at(begun + phase, Duration::from_secs(PROGRESS_INTERVAL_SECONDS));
    report.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let begin = || {
        let now = Instant::now();
        let work = load.work_seconds.start + fastrand::f64() * (load.work_seconds.end - load.work_seconds.start);
        (now, now + Duration::from_secs_f64(work))
    };
    loop {
        tokio::select! {
            // Messages first: one that has arrived counts as heard, however late it is read.
            biased;
            message = hear(load, &mut socket) => {
                let now = Instant::now();
                heard_at = now;
                match message? {
                    ToWorker::Job(job) => {
                        load.counters.note_job(now, room_since.pop_front());
                        fetch(load, &job).await?;
                        if jobs.is_empty() {
                            (begun, end) = begin();
                        }
                        jobs.push_back(job);
                    }
                    ToWorker::Accepted { outcome: AcceptedAs::Stored, .. } => {
                        load.counters.stored.fetch_add(1, Ordering::Relaxed);
                    }
                    ToWorker::Ping => say(load, &mut socket, &ToServer::Pong).await?,
                    ToWorker::State { .. } => {}
                    other => {
                        load.counters.odd.fetch_add(1, Ordering::Relaxed);
                        println!("unexpected: {other:?}");
                    }
                }
            }
            () = sleep_until(heard_at + Duration::from_secs(PEER_TIMEOUT_SECONDS)) => {
                bail!("the coordinator has said nothing for {PEER_TIMEOUT_SECONDS} s");
            }
            () = sleep_until(end), if !jobs.is_empty() => {
                let job = jobs.pop_front().expect("there is one");
                let vector = vector(&job);
                say(load, &mut socket, &patches(&job, &vector)).await?;
                let result = ToServer::Result { job: job.job, outcome: Outcome::Done(vector), content_hash: None };
                say(load, &mut socket, &result).await?;
                room_since.push_back(Instant::now());
                (begun, end) = begin();
            }
            _ = report.tick(), if !jobs.is_empty() => {
                let fraction = begun.elapsed().div_duration_f32((end - begun).max(Duration::from_millis(1)));
                for (place, job) in jobs.iter().enumerate() {
                    let (stage, fraction) =
                        if place == 0 { (Stage::Analysing, fraction.min(1.0)) } else { (Stage::Waiting, 0.0) };
                    let progress = ToServer::Progress { job: job.job.clone(), stage, fraction };
                    say(load, &mut socket, &progress).await?;
                }
            }
            _ = stop.changed() => {
                say(load, &mut socket, &ToServer::Bye).await?;
                return Ok(());
            }
        }
    }
}

async fn fetch(load: &Load, job: &Job) -> anyhow::Result<()> {
    let _one_of_few = load.fetching.acquire().await?;
    let request = load.http.get(format!("{}{}", load.url, job.audio.url)).header(LEASE_HEADER, &job.job.lease);
    let response = request.timeout(Duration::from_secs(FETCH_SECONDS)).send().await?.error_for_status()?;
    let bytes = response.bytes().await?.len() as u64;
    ensure!(bytes == job.audio.bytes, "{bytes} bytes for {} of {}", job.audio.bytes, job.track.file);
    Ok(())
}

fn vector(job: &Job) -> Vector {
    let model = chaarfm_models::find(&job.model.name).expect("the coordinator has the same models");
    Vector {
        model: model.name.clone(),
        embedding: (0..model.embedding_length).map(|_| fastrand::f32()).collect(),
        tags: model.tags.iter().map(|_| fastrand::f32()).collect(),
        seconds: 180.0,
        patches: 60,
        flags: Vec::new(),
    }
}

/// The number of patches that the vector declares, each equal to the vector: the size of a message for a track of a
/// minute and a half.
fn patches(job: &Job, vector: &Vector) -> ToServer {
    let length = vector.embedding.len();
    let embeddings = vector.embedding.iter().copied().cycle().take(vector.patches as usize * length).collect();
    ToServer::Patches { job: job.job.clone(), first: 0, length: length as u16, embeddings }
}

/// Waits until every track is stored, and returns the tracks per second in the middle eight tenths.
async fn wait_for_all(load: &Load, workers: &mut JoinSet<anyhow::Result<()>>, jobs: usize) -> anyhow::Result<f64> {
    let stored = || load.counters.stored.load(Ordering::Relaxed) as usize;
    let (mut newest, mut newest_at) = (0, Instant::now());
    let (mut first, mut last) = (None, None);
    let mut shown = Instant::now();
    while stored() < jobs {
        if let Ok(Some(ended)) = timeout(Duration::from_millis(20), workers.join_next()).await {
            ended??;
            bail!("a worker has ended before the work");
        }
        let now = (Instant::now(), stored());
        if now.1 > newest {
            (newest, newest_at) = (now.1, now.0);
        }
        ensure!(newest_at.elapsed().as_secs() < STALL_SECONDS, "no track in {STALL_SECONDS} s after {newest}");
        if now.1 >= jobs / 10 {
            first.get_or_insert(now);
        }
        if now.1 >= jobs * 9 / 10 {
            last.get_or_insert(now);
        }
        if shown.elapsed() > Duration::from_secs(10) {
            println!("{} of {jobs} stored", now.1);
            shown = Instant::now();
        }
    }
    let last = last.unwrap_or((Instant::now(), jobs));
    let (begun, before) = first.unwrap_or(last);
    Ok((last.1 - before) as f64 / (last.0 - begun).as_secs_f64())
}

/// The initial hand-outs, when all workers have free slots, say nothing about the delay to a worker's next job, so they
/// are reported separately.
fn report_first(load: &Load, plan: &Plan, start: Instant) {
    let mut first = std::mem::take(&mut *load.counters.first_jobs.lock().expect("nobody panics with it"));
    first.sort_unstable();
    let after = |number: usize| first.get(number).map_or(f64::NAN, |at| (*at - start).as_secs_f64());
    println!(
        "the first {} of {} hand-outs, for the room of all workers at once: half of them after {:.2} s, all after {:.2} s",
        first.len(),
        plan.jobs,
        after(first.len() / 2),
        after(first.len().saturating_sub(1)),
    );
}

fn report(load: &Load, plan: &Plan, seconds: f64, cpu: f64, rate: f64, memory: f64) -> anyhow::Result<()> {
    let counters = &load.counters;
    let jobs = plan.jobs as f64;
    println!("{} tracks in {seconds:.1} s, {rate:.0} a second in the middle of it", plan.jobs);
    println!(
        "the coordinator: {:.2} ms of processor time a track, {:.0} MiB at the end",
        cpu / jobs * 1e3,
        memory / MIB
    );
    let [sent, received] =
        [&counters.bytes_sent, &counters.bytes_received].map(|bytes| bytes.load(Ordering::Relaxed) as f64 / jobs);
    println!("{sent:.0} bytes a track from the workers, {received:.0} to them, audio and frames aside");
    let mut latencies = std::mem::take(&mut *counters.latencies.lock().expect("nobody panics with it"));
    ensure!(!latencies.is_empty(), "too few tracks for a worker to get a second one");
    let tenth = latencies.len().div_ceil(10);
    let tenths: Vec<_> = latencies.chunks_mut(tenth).map(|tenth| format!("{:.0}", percentile(tenth, 0.99))).collect();
    println!("p99 in each tenth of the jobs: {} ms", tenths.join(", "));
    let [median, p99, longest] = [0.5, 0.99, 1.0].map(|share| percentile(&mut latencies, share));
    println!(
        "result sent to next job received, the other {} of {} hand-outs: p50 {median:.1} ms, p99 {p99:.1} ms, longest \
         {longest:.1} ms",
        latencies.len(),
        plan.jobs
    );
    ensure!(p99 <= plan.max_p99_millis, "p99 is over {} ms", plan.max_p99_millis);
    Ok(())
}

/// A percentile in milliseconds.
fn percentile(latencies: &mut [Duration], share: f64) -> f64 {
    latencies.sort_unstable();
    latencies[((latencies.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3
}

/// Checks that nothing is lost and nothing was done twice.
async fn check(server: &Server, session: &SessionView, load: &Load, jobs: usize) -> anyhow::Result<()> {
    let view: SessionView = server.get(&format!("/api/sessions/{}", session.code)).await;
    let page: TrackPage = server.get(&format!("/api/collections/{COLLECTION}/tracks?limit=1")).await;
    let counts = (view.counts.done, view.counts.failed, view.counts.open(), page.total);
    ensure!(counts == (jobs as u64, 0, 0, jobs as u64), "done, failed, open and vectors are {counts:?}");
    let odd = load.counters.odd.load(Ordering::Relaxed);
    ensure!(odd == 0, "{odd} unexpected messages");
    println!("every track is stored, once");
    Ok(())
}

fn resident_bytes(server: &Server) -> anyhow::Result<f64> {
    let status = fs::read_to_string(format!("/proc/{}/status", server.process()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? * 1024.0)
}

/// Processor time of the coordinator since its start.
fn processor_seconds(server: &Server) -> anyhow::Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", server.process()))?;
    // The second field is the program's name in parentheses; user and system time are fields 14 and 15.
    let fields: Vec<_> = stat.rsplit_once(')').context("no name")?.1.split_whitespace().collect();
    Ok((fields[11].parse::<f64>()? + fields[12].parse::<f64>()?) / TICKS_PER_SECOND)
}
