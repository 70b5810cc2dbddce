//! End-to-end tests with the real executables and a real browser, on real audio (`fixtures/`). This is their harness: it
//! starts programs for a test and ends them with the test.
//!
//! Tests wait for changes that a page would see on the coordinator's event stream, instead of sleeping for a fixed time.
#![expect(missing_docs, clippy::unwrap_used, reason = "only tests use it")]

mod api;
mod balancer;
mod browser;
pub mod chaos;
mod simulated;

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    ops::{Deref, Range},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use chaarfm_api::{SessionView, TrackView};
use chaarfm_domain::PairingCode;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

pub use api::{Api, http};
pub use balancer::Balancer;
pub use browser::Browser;
pub use simulated::embedding_of;

/// Time limit of every single wait in a test.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// The collection that tests fill.
pub const COLLECTION: &str = "test";

/// The fixtures' folder.
pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

/// Files of a fixtures folder, sorted by name.
pub fn files(folder: &str) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(fixtures().join(folder)).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// An executable of this workspace: next to this program or, for a test, in the parent folder.
pub fn executable(name: &str) -> PathBuf {
    let program = std::env::current_exe().unwrap();
    let mut folders = program.ancestors().skip(1).take(2).map(|folder| folder.join(name));
    folders
        .find(|path| path.exists())
        .unwrap_or_else(|| panic!("{name} is missing beside {}: `cargo xtask test` builds it first", program.display()))
}

/// The worker under test: this build's, or the executable named by `CHAARFM_TEST_WORKER`, for example one for Windows.
pub fn worker_executable() -> PathBuf {
    std::env::var_os("CHAARFM_TEST_WORKER").map_or_else(|| executable("chaarfm-worker"), PathBuf::from)
}

/// A command that runs an executable on the tested worker's system: through the program named by `CHAARFM_TEST_RUNNER`,
/// or directly if it is not set.
pub fn command(executable: &Path) -> Command {
    match std::env::var_os("CHAARFM_TEST_RUNNER") {
        None => Command::new(executable),
        Some(runner) => {
            let mut command = Command::new(runner);
            command.arg(executable);
            command
        }
    }
}

/// A coordinator. Killed when dropped.
pub struct Server {
    api: Api,
    child: Child,
}

impl Server {
    /// Starts a coordinator on a free port.
    pub async fn start(data: &Path, library: &Path) -> Self {
        Self::start_on(0, data, library).await
    }

    /// Starts a coordinator on a port, or on a free one if it is 0.
    pub async fn start_on(port: u16, data: &Path, library: &Path) -> Self {
        let mut command = Command::new(executable("chaarfm-server"));
        command.arg("--data").arg(data);
        Self::spawn(command, port, library).await
    }

    /// Starts a coordinator with a command that already specifies its data.
    pub async fn spawn(mut command: Command, port: u16, library: &Path) -> Self {
        command.arg("--listen").arg(format!("127.0.0.1:{port}")).arg("--library").arg(library);
        let mut child = command.stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = within("the server's address", lines.next_line()).await.unwrap().expect("the server has started");
        let page = line.strip_prefix("open ").unwrap_or_else(|| panic!("unexpected first line: {line}")).to_owned();
        let (url, credential) = match page.split_once("/enter?token=") {
            Some((url, _)) => (url, enter(&page).await),
            // A browser has already been let in earlier, so the server prints no link.
            None => (page.strip_suffix("/ingest").expect("the owner's page"), make_token(&command).await),
        };
        Self { api: Api { url: url.to_owned(), credential }, child }
    }

    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.api.url.split_once("://").unwrap().1.parse().unwrap()
    }

    /// Its process number.
    pub fn process(&self) -> u32 {
        self.child.id().expect("the server runs")
    }

    /// Kills it as a power cut would; it must still be running.
    pub async fn kill(mut self) {
        assert_eq!(self.child.try_wait().unwrap(), None, "the server ended by itself");
        self.child.kill().await.unwrap();
    }

    /// Asks it to end gracefully, and waits for that.
    pub async fn stop(mut self) {
        let asked = Command::new("kill").arg(self.process().to_string()).status().await.unwrap();
        assert!(asked.success());
        let end = within("the server's end", self.child.wait()).await.unwrap();
        assert!(end.success(), "{end}");
    }
}

/// Opens the link printed by a server, as a browser does.
async fn enter(link: &str) -> (&'static str, String) {
    let answer = api::http_undirected().get(link).timeout(PATIENCE).send().await.unwrap();
    let set = answer.headers().get("set-cookie").unwrap_or_else(|| panic!("not let in: {}", answer.status()));
    let cookie = set.to_str().unwrap().split(';').next().unwrap();
    ("cookie", cookie.to_owned())
}

/// Creates an owner's token for the database that `command` uses.
async fn make_token(command: &Command) -> (&'static str, String) {
    let command = command.as_std();
    let mut making = Command::new(command.get_program());
    making.args(command.get_args()).args(["token", "add", &format!("test {}", fastrand::u64(..)), "--role", "owner"]);
    making.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let made = making.stderr(Stdio::inherit()).output().await.unwrap();
    assert!(made.status.success(), "no token: {}", made.status);
    ("authorization", format!("Bearer {}", String::from_utf8(made.stdout).unwrap().trim_end()))
}

impl Deref for Server {
    type Target = Api;

    fn deref(&self) -> &Api {
        &self.api
    }
}

/// A native worker on one CPU thread. Killed when dropped.
pub fn native_worker(server: &str, code: PairingCode) -> Child {
    command(&worker_executable())
        .args(["--url", server, "--code", &code.to_string(), "--device", "flex", "--threads", "1"])
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// A simulated worker; the time per track is drawn from `work_millis`. Killed when dropped.
pub fn simulated_worker(server: &str, session: &SessionView, work_millis: &Range<u64>) -> Command {
    let mut command = Command::new(executable("simulated_worker"));
    command
        .args(["--url", server, "--code", &session.code.to_string()])
        .args(["--work-millis", &format!("{}..{}", work_millis.start, work_millis.end)])
        // The worker ends when this is closed.
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .kill_on_drop(true);
    command
}

/// Creates a library of `files` files for simulated workers, and returns them by name. All contents differ.
pub fn simulated_library(folder: &Path, files: usize) -> BTreeMap<String, Vec<u8>> {
    let file =
        |number: usize| (format!("{number:06}.mp3"), format!("track {number} ").repeat(1 + number % 100).into_bytes());
    let files: BTreeMap<_, _> = (0..files).map(file).collect();
    for (name, content) in &files {
        fs::write(folder.join(name), content).unwrap();
    }
    files
}

/// Asserts that the collection has each file once, with the embedding that simulated workers compute for its content.
pub fn expect_each_once(tracks: &[TrackView], files: &BTreeMap<String, Vec<u8>>) {
    let stored: BTreeMap<_, _> = tracks.iter().map(|track| (&track.track.file, &track.embedding)).collect();
    assert_eq!((tracks.len(), stored.len()), (files.len(), files.len()), "tracks and names");
    for (name, content) in files {
        let embedding = stored.get(name).unwrap_or_else(|| panic!("{name} is missing"));
        assert_eq!(**embedding, embedding_of(content, embedding.len()), "{name} has another one's embedding");
    }
}

/// Runs `chaarfm-worker analyze --json` and returns its exit code and its output lines.
pub async fn analyze(files: &[PathBuf]) -> (Option<i32>, Vec<serde_json::Value>) {
    let output = command(&worker_executable())
        .args(["analyze", "--device", "flex", "--json"])
        .args(files)
        .output()
        .await
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    (output.status.code(), text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

/// Awaits a future for at most [`PATIENCE`].
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: nothing within {PATIENCE:?}"),
    }
}

/// Cosine of the angle between two vectors.
pub fn cosine(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}
