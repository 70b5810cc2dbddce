//! This project and the peers it is compared with, on the same files in one run: a table for people.
//!
//! The executables are those beside this one, built for release by `cargo xtask bench`. The peers are timed by the scripts
//! of `tests/peers`, where a Python with them is given. Nothing is asserted here: machines differ.
#![expect(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, reason = "a program for developers")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use chaarfm_protocol::SessionState;
use chaarfm_tests::{Browser, Server, executable};
use clap::Parser;
use serde_json::Value;
use tempfile::TempDir;
use wait4::Wait4;

/// Length of the file that start-up is measured with.
const START_UP_SECONDS: u32 = 30;

#[derive(Parser)]
struct Arguments {
    /// Music to time with.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// A Python that has the peers (see tests/peers/README.md).
    #[arg(long)]
    python: Option<PathBuf>,
    /// Threads to time with.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2])]
    threads: Vec<usize>,
    /// Time the tab as well, with so many Web Workers.
    #[arg(long, value_delimiter = ',')]
    tab: Vec<usize>,
}

/// One line of the table.
struct Row {
    who: String,
    threads: usize,
    /// Of the network alone.
    patches_per_second: f64,
    /// From file to vector.
    files: Option<Files>,
}

struct Files {
    patches_per_second: f64,
    tracks_per_minute: f64,
    /// From the start of the process to the vector of a file of [`START_UP_SECONDS`].
    first: Duration,
    peak_mb: f64,
}

#[tokio::main]
async fn main() {
    let arguments = Arguments::parse();
    let folder = TempDir::new().unwrap();
    let short = folder.path().join("short.wav");
    write_tones(&short);
    let mut rows = Vec::new();
    for &threads in &arguments.threads {
        rows.push(ours(threads, &arguments.files, &short));
        if let Some(python) = &arguments.python {
            for script in ["essentia_peer.py", "onnxruntime_peer.py"] {
                rows.push(peer(python, script, threads, &arguments.files, &short));
            }
        }
    }
    for &workers in &arguments.tab {
        rows.push(tab(workers, &arguments.files).await);
    }
    if let (Some(python), false) = (&arguments.python, arguments.tab.is_empty()) {
        let line = lines(Command::new(python).arg(script("onnxruntime_web/run.py"))).pop().unwrap();
        rows.push(row_of_peer(&line, None));
    }
    print(&rows);
}

/// `chaarfm-worker analyze`, and the network alone.
fn ours(threads: usize, files: &[PathBuf], short: &Path) -> Row {
    eprintln!("chaarfm-worker, {threads} threads");
    let analyze = |files: &[PathBuf]| {
        let mut command = Command::new(executable("chaarfm-worker"));
        command.args(["analyze", "--device", "flex", "--json", "--threads", &threads.to_string()]).args(files);
        let start = Instant::now();
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let text = std::io::read_to_string(child.stdout.take().unwrap()).unwrap();
        let end = child.wait4().unwrap();
        let patches: u64 = text.lines().map(|line| json(line)["patches"].as_u64().unwrap_or_default()).sum();
        (start.elapsed(), patches, end.rusage.maxrss as f64 / (1 << 20) as f64)
    };
    let (first, ..) = analyze(&[short.to_owned()]);
    let (elapsed, patches, peak_mb) = analyze(files);
    let mut network = Command::new(executable("network"));
    let network = lines(network.args([threads.to_string().into(), files[0].clone().into_os_string()])).pop().unwrap();
    Row {
        who: "chaarfm-worker".to_owned(),
        threads,
        patches_per_second: network["patches_per_second"].as_f64().unwrap(),
        files: Some(Files {
            patches_per_second: patches as f64 / elapsed.as_secs_f64(),
            tracks_per_minute: 60.0 * files.len() as f64 / elapsed.as_secs_f64(),
            first,
            peak_mb,
        }),
    }
}

/// A peer's script, start-up and files apart.
fn peer(python: &Path, name: &str, threads: usize, files: &[PathBuf], short: &Path) -> Row {
    eprintln!("{name}, {threads} threads");
    let run = |files: &[PathBuf]| {
        let mut command = Command::new(python);
        lines(command.arg(script(name)).args(["--threads", &threads.to_string()]).args(files))
    };
    let total = |line: &Value| line["elapsed_ms"]["total"].as_f64().unwrap_or_default() / 1e3;
    let start = run(&[short.to_owned()]);
    let first = Duration::from_secs_f64(total(&start[0]) + start[1]["startup_ms"].as_f64().unwrap() / 1e3);
    let mut lines = run(files);
    let last = lines.pop().unwrap();
    let seconds: f64 = lines.iter().map(total).sum();
    let patches: f64 = lines.iter().filter_map(|line| line["patches"].as_f64()).sum();
    let files = Files {
        patches_per_second: patches / seconds,
        tracks_per_minute: 60.0 * lines.len() as f64 / seconds,
        first,
        peak_mb: last["peak_rss_mb"].as_f64().unwrap(),
    };
    row_of_peer(&last, Some(files))
}

fn row_of_peer(line: &Value, files: Option<Files>) -> Row {
    Row {
        who: format!("{} {}", line["peer"].as_str().unwrap(), line["version"].as_str().unwrap()),
        threads: line["threads"].as_u64().unwrap() as usize,
        patches_per_second: line["patches_per_second"].as_f64().unwrap(),
        files,
    }
}

/// A tab of headless Chromium without a GPU: from file to vector, over the coordinator, from its first answer on.
async fn tab(workers: usize, files: &[PathBuf]) -> Row {
    eprintln!("tab, {workers} Web Workers");
    let (data, library) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    for (i, file) in files.iter().enumerate() {
        let name = format!("{i}.{}", file.extension().unwrap_or_default().to_string_lossy());
        fs::copy(file, library.path().join(name)).unwrap();
    }
    let server = Server::start(data.path(), library.path()).await;
    let session = server.session().await;
    let address = format!("{}/join/{}?device=flex&workers={workers}", server.url, session.code);
    let tab = Browser::open(&address).await;
    tab.press("Join").await;
    server.wait_for(&session, "the tab", |view| view.workers.len() == workers).await;
    server.ingest(&session).await;
    server.wait_for(&session, "the end", |view| view.state == SessionState::Complete).await;
    let mut tracks = server.tracks().await;
    tracks.sort_by_key(|track| track.stored_at_ms);
    let (first, rest) = tracks.split_first().unwrap();
    let elapsed = (rest.last().unwrap().stored_at_ms - first.stored_at_ms) as f64 / 1e3;
    let patches: f64 = rest.iter().map(|track| patches(track.seconds)).sum();
    Row { who: "tab, file to vector".to_owned(), threads: workers, patches_per_second: patches / elapsed, files: None }
}

/// Patches of a track of so many seconds.
fn patches(seconds: f64) -> f64 {
    let frames = (seconds * 16_000.0 / 256.0).ceil() + 1.0;
    ((frames - 187.0) / 93.0).floor() + 1.0
}

fn print(rows: &[Row]) {
    let header =
        ["", "threads", "network, patches/s", "file to vector, patches/s", "tracks/min", "first vector", "peak"];
    println!("| {} |", header.join(" | "));
    println!("|---|{}", "--:|".repeat(header.len() - 1));
    for row in rows {
        let mut cells = vec![row.who.clone(), row.threads.to_string(), format!("{:.1}", row.patches_per_second)];
        match &row.files {
            Some(files) => cells.extend([
                format!("{:.1}", files.patches_per_second),
                format!("{:.1}", files.tracks_per_minute),
                format!("{:.2} s", files.first.as_secs_f64()),
                format!("{:.0} MB", files.peak_mb),
            ]),
            None => cells.extend(["–"; 4].map(str::to_owned)),
        }
        println!("| {} |", cells.join(" | "));
    }
}

fn write_tones(path: &Path) {
    let spec = hound::WavSpec {
        channels: 2,
        sample_rate: 44_100,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut file = hound::WavWriter::create(path, spec).unwrap();
    for n in 0..spec.sample_rate * START_UP_SECONDS {
        let t = n as f32 / spec.sample_rate as f32;
        let sample = (8000.0 * (t * (300.0 + 40.0 * t)).sin()) as i16;
        file.write_sample(sample).unwrap();
        file.write_sample(sample / 2).unwrap();
    }
    file.finalize().unwrap();
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peers").join(name)
}

/// The lines of JSON that a program prints.
fn lines(command: &mut Command) -> Vec<Value> {
    let output = command.stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", output.status);
    String::from_utf8(output.stdout).unwrap().lines().map(json).collect()
}

fn json(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"))
}
