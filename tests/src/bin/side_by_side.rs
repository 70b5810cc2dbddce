//! Compares this project with its peers on the same files in one run, and prints a table.
//!
//! The executables next to this one are used, built for release by `cargo xtask bench`. The scripts in `tests/peers` time
//! the peers, if a Python environment with them is given. Nothing is asserted, because machines differ.
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

/// Length of the file for measuring start-up.
const START_UP_SECONDS: u32 = 30;

/// Lengths of the files for comparing memory and work.
const SHORT_SECONDS: u32 = 3 * 60;
const LONG_SECONDS: u32 = 60 * 60;

#[derive(Parser)]
struct Arguments {
    /// Music to time with.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// A Python environment with the peers (see tests/peers/README.md).
    #[arg(long)]
    python: Option<PathBuf>,
    /// Numbers of threads to time with.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2])]
    threads: Vec<usize>,
    /// Also time the tab, with these numbers of Web Workers.
    #[arg(long, value_delimiter = ',')]
    tab: Vec<usize>,
    /// Also time the GPU.
    #[arg(long)]
    gpu: bool,
}

/// Subject of a row.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    Native,
    NativeOnGpu,
    Tab,
    Peer,
    PeerInTab,
}

/// A row of the table.
struct Row {
    who: Who,
    name: String,
    threads: usize,
    /// Speed of the network alone.
    patches_per_second: f64,
    /// Results from file to vector.
    files: Option<Files>,
}

struct Files {
    patches_per_second: f64,
    tracks_per_minute: f64,
    /// Time from the start of the process to the vector of a file of [`START_UP_SECONDS`].
    first: Duration,
    peak_mb: f64,
    /// Share of the time spent decoding and resampling; with several threads this overlaps the analysis.
    decoding: Option<f64>,
}

#[tokio::main]
async fn main() {
    let arguments = Arguments::parse();
    let folder = TempDir::new().unwrap();
    let short = folder.path().join("short.wav");
    write_tones(&short, START_UP_SECONDS);
    let mut rows = Vec::new();
    if arguments.gpu {
        rows.push(ours(Who::NativeOnGpu, 1, &arguments.files, &short));
    }
    for &threads in &arguments.threads {
        rows.push(ours(Who::Native, threads, &arguments.files, &short));
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
        rows.push(row_of_peer(Who::PeerInTab, &line, None));
    }
    print(&rows);
    print_ratios(&rows);
    print_length(folder.path());
}

/// Results of a run of `chaarfm-worker analyze`.
struct Run {
    elapsed: Duration,
    /// Processor time of all threads.
    cpu: Duration,
    peak_mb: f64,
    lines: Vec<Value>,
}

fn analyze(device: &str, threads: usize, files: &[PathBuf]) -> Run {
    let mut command = Command::new(executable("chaarfm-worker"));
    command.args(["analyze", "--device", device, "--json", "--threads", &threads.to_string()]).args(files);
    let start = Instant::now();
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let text = std::io::read_to_string(child.stdout.take().unwrap()).unwrap();
    let end = child.wait4().unwrap();
    Run {
        elapsed: start.elapsed(),
        cpu: end.rusage.utime + end.rusage.stime,
        peak_mb: end.rusage.maxrss as f64 / (1 << 20) as f64,
        lines: text.lines().map(json).collect(),
    }
}

/// Measures `chaarfm-worker analyze`, and the network alone.
fn ours(who: Who, threads: usize, files: &[PathBuf], short: &Path) -> Row {
    let (name, device) = match who {
        Who::NativeOnGpu => ("chaarfm-worker, GPU", "wgpu"),
        _ => ("chaarfm-worker", "flex"),
    };
    eprintln!("{name}, {threads} threads");
    let first = analyze(device, threads, &[short.to_owned()]).elapsed;
    let run = analyze(device, threads, files);
    let sum = |value: &dyn Fn(&Value) -> Option<f64>| run.lines.iter().filter_map(value).sum::<f64>();
    let milliseconds = |part: &str| sum(&|line| line["elapsed_ms"][part].as_f64());
    let mut network = Command::new(executable("network"));
    network.args([device, &threads.to_string()]).arg(&files[0]);
    let network = lines(&mut network).pop().unwrap();
    if let Some(share) = network["share_of_peak"].as_f64() {
        println!("{name}: the network takes {:.1} % of the arithmetic that the device can do", 100.0 * share);
    }
    Row {
        who,
        name: name.to_owned(),
        threads,
        patches_per_second: network["patches_per_second"].as_f64().unwrap(),
        files: Some(Files {
            patches_per_second: sum(&|line| line["patches"].as_f64()) / run.elapsed.as_secs_f64(),
            tracks_per_minute: 60.0 * files.len() as f64 / run.elapsed.as_secs_f64(),
            first,
            peak_mb: run.peak_mb,
            decoding: Some(milliseconds("decode") / milliseconds("total")),
        }),
    }
}

/// Measures a peer's script; start-up and files separately.
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
        decoding: None,
    };
    row_of_peer(Who::Peer, &last, Some(files))
}

fn row_of_peer(who: Who, line: &Value, files: Option<Files>) -> Row {
    Row {
        who,
        name: format!("{} {}", line["peer"].as_str().unwrap(), line["version"].as_str().unwrap()),
        threads: line["threads"].as_u64().unwrap() as usize,
        patches_per_second: line["patches_per_second"].as_f64().unwrap(),
        files,
    }
}

/// Measures a tab of headless Chromium without a GPU: from file to vector through the coordinator, starting at the tab's
/// first result.
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
    tab.close().await;
    let name = "tab, file to vector".to_owned();
    Row { who: Who::Tab, name, threads: workers, patches_per_second: patches / elapsed, files: None }
}

/// Patches in a track of a given length.
fn patches(seconds: f64) -> f64 {
    let frames = (seconds * 16_000.0 / 256.0).ceil() + 1.0;
    ((frames - 187.0) / 93.0).floor() + 1.0
}

fn print(rows: &[Row]) {
    let header = [
        "",
        "threads",
        "network, patches/s",
        "file to vector, patches/s",
        "tracks/min",
        "first vector",
        "peak memory",
        "decoding",
    ];
    println!("| {} |", header.join(" | "));
    println!("|---|{}", "--:|".repeat(header.len() - 1));
    for row in rows {
        let mut cells = vec![row.name.clone(), row.threads.to_string(), format!("{:.1}", row.patches_per_second)];
        match &row.files {
            Some(files) => cells.extend([
                format!("{:.1}", files.patches_per_second),
                format!("{:.1}", files.tracks_per_minute),
                format!("{:.2} s", files.first.as_secs_f64()),
                format!("{:.0} MB", files.peak_mb),
                files.decoding.map_or_else(|| "–".to_owned(), |share| format!("{:.0} %", 100.0 * share)),
            ]),
            None => cells.extend(["–"; 5].map(str::to_owned)),
        }
        println!("| {} |", cells.join(" | "));
    }
}

/// Prints the speed relative to each peer with the same number of threads.
fn print_ratios(rows: &[Row]) {
    println!("\n| times as fast as | threads | network | file to vector | first vector |\n|---|--:|--:|--:|--:|");
    for (own, peer) in [(Who::Native, Who::Peer), (Who::Tab, Who::PeerInTab)] {
        for own in rows.iter().filter(|row| row.who == own) {
            for peer in rows.iter().filter(|row| row.who == peer && row.threads == own.threads) {
                let mut cells = vec![peer.name.clone(), own.threads.to_string()];
                cells.push(format!("{:.1}", own.patches_per_second / peer.patches_per_second));
                match (&own.files, &peer.files) {
                    (Some(own), Some(peer)) => cells.extend([
                        format!("{:.1}", own.tracks_per_minute / peer.tracks_per_minute),
                        format!("{:.0}", peer.first.as_secs_f64() / own.first.as_secs_f64()),
                    ]),
                    _ => cells.extend(["–"; 2].map(str::to_owned)),
                }
                println!("| {} |", cells.join(" | "));
            }
        }
    }
    for who in [Who::Native, Who::Tab] {
        let own: Vec<_> = rows.iter().filter(|row| row.who == who).collect();
        for (one, more) in own.iter().zip(own.iter().skip(1)) {
            let gain = more.patches_per_second / one.patches_per_second;
            println!(
                "| {}: {} against {} | {} | {gain:.2} | – | – |",
                one.name, more.threads, one.threads, more.threads
            );
        }
    }
}

/// Prints whether a minute of audio costs more in a file of an hour than in one of three minutes.
fn print_length(folder: &Path) {
    let run = |seconds: u32| {
        let file = folder.join(format!("{seconds}.wav"));
        write_tones(&file, seconds);
        analyze("flex", 1, &[file])
    };
    let a_minute = |run: &Run, seconds: u32| run.cpu.as_secs_f64() * 60.0 / f64::from(seconds);
    let (short, long) = (run(SHORT_SECONDS), run(LONG_SECONDS));
    println!(
        "\nOne hour in one file: {:.0} MB at most, and {:.3} s of work a minute of audio; {:.3} s in a file of 3 minutes.",
        long.peak_mb,
        a_minute(&long, LONG_SECONDS),
        a_minute(&short, SHORT_SECONDS),
    );
}

/// Writes rising tones, in 16-bit stereo at 44.1 kHz.
fn write_tones(path: &Path, seconds: u32) {
    let spec = hound::WavSpec {
        channels: 2,
        sample_rate: 44_100,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut file = hound::WavWriter::create(path, spec).unwrap();
    for n in 0..spec.sample_rate * seconds {
        // The tone restarts every half minute, before it becomes inaudibly high.
        let t = (n % (30 * spec.sample_rate)) as f32 / spec.sample_rate as f32;
        let sample = (8000.0 * (t * (300.0 + 40.0 * t)).sin()) as i16;
        file.write_sample(sample).unwrap();
        file.write_sample(sample / 2).unwrap();
    }
    file.finalize().unwrap();
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peers").join(name)
}

/// The lines of JSON printed by a program.
fn lines(command: &mut Command) -> Vec<Value> {
    let output = command.stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", output.status);
    String::from_utf8(output.stdout).unwrap().lines().map(json).collect()
}

fn json(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"))
}
