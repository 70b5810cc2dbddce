//! End-to-end tests: the real executables and a real browser, on real audio (`fixtures/`). This is their harness: it
//! starts programs for a test and ends them with it.
//!
//! Nothing here sleeps: a test waits for what a page would see, on the coordinator's event stream.
#![expect(missing_docs, clippy::unwrap_used, reason = "only tests use it")]

mod browser;

use std::{
    ffi::OsStr,
    fs,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use chaarfm_protocol::view::{JobState, JobView, SessionView, StartRequest, TrackPage, TrackView};
use futures_util::StreamExt;
use serde::de::DeserializeOwned;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

pub use browser::Browser;

/// Longest a test waits for any one thing.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// The collection that tests fill.
pub const COLLECTION: &str = "test";

/// The fixtures' folder.
pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

/// Files of a fixtures folder, by name.
pub fn files(folder: &str) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(fixtures().join(folder)).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// An executable of this workspace, as built beside this program or, for a test, beside the folder it is in.
pub fn executable(name: &str) -> PathBuf {
    let program = std::env::current_exe().unwrap();
    let mut folders = program.ancestors().skip(1).take(2).map(|folder| folder.join(name));
    folders
        .find(|path| path.exists())
        .unwrap_or_else(|| panic!("{name} is missing beside {}: `cargo xtask test` builds it first", program.display()))
}

/// A coordinator. Ended hard when dropped.
pub struct Server {
    pub url: String,
    child: Child,
}

impl Server {
    /// Starts one on a free port.
    pub async fn start(data: &Path, library: &Path) -> Self {
        Self::start_on(0, data, library).await
    }

    /// Starts one on a given port, or on a free one when it is 0.
    pub async fn start_on(port: u16, data: &Path, library: &Path) -> Self {
        Self::start_with(port, library, &["--data".as_ref(), data.as_os_str()]).await
    }

    /// Starts one that is told where its database is, or what else it has to know.
    pub async fn start_with(port: u16, library: &Path, arguments: &[&OsStr]) -> Self {
        let mut child = Command::new(executable("chaarfm-server"))
            .args(["--listen", &format!("127.0.0.1:{port}")])
            .args(["--library".as_ref(), library.as_os_str()])
            .args(arguments)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = within("the server's address", lines.next_line()).await.unwrap().unwrap();
        let url = line.strip_prefix("open ").and_then(|page| page.strip_suffix("/ingest"));
        Self { url: url.unwrap_or_else(|| panic!("unexpected first line: {line}")).to_owned(), child }
    }

    /// The number of its process.
    pub fn process(&self) -> u32 {
        self.child.id().expect("it runs until it is killed")
    }

    /// Ends it as a power cut would.
    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// The open session.
    pub async fn session(&self) -> SessionView {
        self.post("/api/sessions/current", None::<()>).await
    }

    /// Starts the ingest of the library.
    pub async fn ingest(&self, session: &SessionView) -> SessionView {
        let libraries: Vec<chaarfm_protocol::view::LibraryView> = self.get("/api/libraries").await;
        let request =
            StartRequest { library: libraries[0].name.clone(), collection: COLLECTION.to_owned(), model: None };
        self.post(&format!("/api/sessions/{}/start", session.code), Some(request)).await
    }

    /// Pauses, resumes or stops the session.
    pub async fn order(&self, session: &SessionView, order: &str) -> SessionView {
        self.post(&format!("/api/sessions/{}/{order}", session.code), None::<()>).await
    }

    /// Waits until the session looks as wanted, as a page would.
    pub async fn wait_for(
        &self,
        session: &SessionView,
        what: &str,
        wanted: impl Fn(&SessionView) -> bool,
    ) -> SessionView {
        let url = format!("{}/api/sessions/{}/events", self.url, session.code);
        let mut seen = None;
        let watch = async {
            let mut body = http().get(url).send().await.unwrap().error_for_status().unwrap().bytes_stream();
            let mut text = Vec::new();
            while let Some(bytes) = body.next().await {
                text.extend_from_slice(&bytes.unwrap());
                while let Some(end) = text.iter().position(|&byte| byte == b'\n') {
                    let line: Vec<u8> = text.drain(..=end).collect();
                    let Some(data) = line.strip_prefix(b"data:") else { continue };
                    let view: SessionView = serde_json::from_slice(data.trim_ascii()).unwrap();
                    if wanted(&view) {
                        return view;
                    }
                    seen = Some(view);
                }
            }
            panic!("the event stream ended before {what}");
        };
        match tokio::time::timeout(PATIENCE, watch).await {
            Ok(view) => view,
            Err(_) => panic!("{what} did not happen within {PATIENCE:?}; last seen: {seen:#?}"),
        }
    }

    /// Every stored track.
    pub async fn tracks(&self) -> Vec<TrackView> {
        let page: TrackPage = self.get(&format!("/api/collections/{COLLECTION}/tracks?offset=0&limit=1000")).await;
        assert_eq!(page.total as usize, page.tracks.len());
        page.tracks
    }

    /// The failed jobs.
    pub async fn failures(&self, session: &SessionView) -> Vec<JobView> {
        let jobs: Vec<JobView> = self.get(&format!("/api/sessions/{}/jobs?state=failed", session.code)).await;
        assert!(jobs.iter().all(|job| job.state == JobState::Failed));
        jobs
    }

    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> T {
        let answer = http().get(format!("{}{path}", self.url)).send().await.unwrap();
        answer.error_for_status().unwrap().json().await.unwrap()
    }

    pub async fn bytes(&self, path: &str) -> Vec<u8> {
        let answer = http().get(format!("{}{path}", self.url)).send().await.unwrap();
        answer.error_for_status().unwrap().bytes().await.unwrap().to_vec()
    }

    async fn post<T: DeserializeOwned>(&self, path: &str, body: Option<impl serde::Serialize>) -> T {
        let mut request = http().post(format!("{}{path}", self.url));
        if let Some(body) = body {
            request = request.json(&body);
        }
        request.send().await.unwrap().error_for_status().unwrap().json().await.unwrap()
    }
}

/// An HTTP client. The workspace's has no TLS provider of its own, and asks for one even where all is plain.
pub fn http() -> reqwest::Client {
    // The provider may be there already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::new()
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// A native worker on one thread of the CPU. Ended hard when dropped.
pub fn native_worker(server: &str, session: &SessionView) -> Child {
    Command::new(executable("chaarfm-worker"))
        .args(["--url", server, "--code", &session.code.to_string(), "--device", "flex", "--threads", "1"])
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// Runs `chaarfm-worker analyze --json` and returns its exit code and its lines.
pub async fn analyze(files: &[PathBuf]) -> (Option<i32>, Vec<serde_json::Value>) {
    let output = Command::new(executable("chaarfm-worker"))
        .args(["analyze", "--device", "flex", "--json"])
        .args(files)
        .output()
        .await
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    (output.status.code(), text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

/// Awaits with [`PATIENCE`].
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
