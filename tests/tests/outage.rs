//! The database fails while a coordinator and a worker are in the middle of a session. Requests are refused with a clear
//! temporary error, the worker keeps its finished results and delivers them later, and nothing is lost, done twice or
//! held against any worker.
#![expect(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write},
    ops::Range,
    process::Stdio,
    time::Duration,
};

use chaarfm_api::{ErrorView, SessionView};
use chaarfm_domain::JobState;
use chaarfm_protocol::SessionState;
use chaarfm_test_postgres::Cluster;
use chaarfm_tests::{Server, executable, expect_each_once, simulated_library, simulated_worker, within};
use sqlx::{Connection, PgConnection, SqliteConnection, sqlite::SqliteConnectOptions};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::{Instant, sleep_until},
};

/// Two are done before the outage, two are in progress when it begins, two wait.
const TRACKS: usize = 6;

/// Long enough for the outage to begin in the middle of a track.
const WORK_MILLIS: Range<u64> = 2000..2500;

/// A script that only runs the coordinator.
const RUN: &str = "exec \"$0\" \"$@\"";

/// How long the database is down.
const DOWN_SECONDS: u64 = 30;

/// The worker is frozen this long after the database failed: before it redelivers unconfirmed results, and late enough
/// that the coordinator does not consider it dead.
const FREEZE_SECONDS: u64 = 20;

/// Size of a disk that fills up quickly.
const DISK_BYTES: usize = 16 << 20;

/// The scenarios run in parallel because they mostly wait: for the end of the outage, then for the worker, which
/// redelivers unconfirmed results after 30 s.
#[tokio::test]
async fn nothing_is_lost_while_the_database_is_down_or_locked_or_may_not_grow_or_its_disk_is_full() {
    tokio::join!(database_down(), database_locked(), quota_reached(), disk_full());
}

async fn database_down() {
    let cluster = Cluster::start();
    let database = cluster.database();
    let mut session = Ingest::begin(&["--database-url", &database], &[], RUN).await;

    cluster.stop();
    let began = Instant::now();
    session.worker_finishes_what_it_has().await;
    for path in ["", "/jobs"] {
        let answer = session.server.ask(&format!("/api/sessions/{}{path}", session.view.code)).await;
        expect_to_be_put_off(answer, "cannot be used at the moment").await;
    }
    session.expect_commands_to_be_put_off("cannot be used at the moment").await;
    // Freezes the worker, so that it does not deliver as soon as the database is back.
    sleep_until(began + Duration::from_secs(FREEZE_SECONDS)).await;
    session.signal_worker("STOP").await;
    sleep_until(began + Duration::from_secs(DOWN_SECONDS)).await;
    cluster.restart();
    // Expires every lease, as if the database had been down for hours.
    let mut owner = PgConnection::connect(&database).await.unwrap();
    let run_out = sqlx::query("UPDATE chaarfm.jobs SET deadline_ms = 1 WHERE state = 'leased'");
    assert_eq!(run_out.execute(&mut owner).await.unwrap().rows_affected(), 2);
    session.signal_worker("CONT").await;
    session.expect_nothing_lost().await;
}

async fn database_locked() {
    let data = TempDir::new().unwrap();
    let mut session = Ingest::begin(&["--data", data.path().to_str().unwrap()], &[], RUN).await;

    let options = SqliteConnectOptions::new().filename(data.path().join("chaarfm.sqlite3"));
    let mut other = SqliteConnection::connect_with(&options).await.unwrap();
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    session.worker_finishes_what_it_has().await;
    session.expect_commands_to_be_put_off("cannot be used at the moment").await;
    session.expect_pages_to_work().await;
    other.close().await.unwrap();
    session.expect_nothing_lost().await;
}

async fn quota_reached() {
    let data = TempDir::new().unwrap();
    // The log is on the same disk. Without the trap, the signal would end the process.
    let script = format!("trap '' XFSZ; exec \"$0\" \"$@\" 2>'{}'", data.path().join("log").display());
    let mut session = Ingest::begin(&["--data", data.path().to_str().unwrap()], &[], &script).await;

    session.limit_files("0").await;
    session.worker_finishes_what_it_has().await;
    session.expect_commands_to_be_put_off("disk is full or fails").await;
    session.expect_pages_to_work().await;
    session.limit_files("unlimited").await;
    session.server.command(&session.view, "pause").await;
    session.server.command(&session.view, "resume").await;
    session.expect_nothing_lost().await;
}

/// Uses a small disk that only the coordinator sees, and that disappears with it.
async fn disk_full() {
    let Some(unshare) = may_mount().await else {
        // Bypasses the test's captured output, so that the message shows even though the test passes.
        io::stderr().write_all(b"skipped: the disk that is full, as this machine does not let us mount one\n").unwrap();
        return;
    };
    let data = TempDir::new().unwrap();
    let folder = data.path().to_str().unwrap();
    let mount = format!("mount -t tmpfs -o size={DISK_BYTES} tmpfs '{folder}'");
    let script = format!("{mount} && exec \"$0\" \"$@\" 2>'{folder}/log'");
    let mut session = Ingest::begin(&["--data", folder], unshare, &script).await;

    let ballast = format!("/proc/{}/root{folder}/ballast", session.server.process());
    fill_disk(&ballast);
    session.worker_finishes_what_it_has().await;
    session.expect_commands_to_be_put_off("has no room left").await;
    session.expect_pages_to_work().await;
    fs::remove_file(ballast).unwrap();
    session.expect_nothing_lost().await;
}

/// A wrapper command that lets a program mount something only for itself; none if that is not permitted.
async fn may_mount() -> Option<&'static [&'static str]> {
    let ways: [&[&str]; 2] = [&["unshare", "--mount"], &["unshare", "--mount", "--map-root-user"]];
    for unshare in ways {
        let mut mount = Command::new(unshare[0]);
        mount.args(&unshare[1..]).args(["mount", "-t", "tmpfs", "tmpfs", "/mnt"]).stderr(Stdio::null());
        if mount.status().await.unwrap().success() {
            return Some(unshare);
        }
    }
    None
}

/// Writes to a file until not one more byte fits.
fn fill_disk(file: &str) {
    let mut file = File::create(file).unwrap();
    let full = io::copy(&mut io::repeat(1), &mut file).unwrap_err();
    assert_eq!(full.kind(), io::ErrorKind::StorageFull);
}

/// Asserts that the answer is an error that allows a later retry.
async fn expect_to_be_put_off(answer: reqwest::Response, reason: &str) {
    assert_eq!(answer.status(), 503);
    assert!(answer.headers().contains_key("retry-after"));
    let ErrorView { error } = answer.json().await.unwrap();
    assert!(error.contains(reason), "{error}");
}

/// A session in the middle of its work, with a worker.
struct Ingest {
    server: Server,
    view: SessionView,
    worker: Child,
    /// The tracks that the worker has computed, read as it reports them.
    computed: Lines<BufReader<ChildStdout>>,
    tracks: Vec<String>,
    files: BTreeMap<String, Vec<u8>>,
    _library: TempDir,
}

impl Ingest {
    /// Runs the coordinator through a shell script, which gets the program and its arguments. The command `by`, if not
    /// empty, runs the script.
    async fn begin(database: &[&str], by: &[&str], script: &str) -> Self {
        let library = TempDir::new().unwrap();
        let files = simulated_library(library.path(), TRACKS);
        let mut command = Command::new("env");
        command.args(by).args(["sh", "-c", script]);
        command.arg(executable("chaarfm-server")).args(database).args(["--log", "warn"]);
        let server = Server::spawn(command, 0, library.path()).await;
        let view = server.session().await;
        server.ingest(&view).await;
        let mut worker = simulated_worker(&server.url, &view, &WORK_MILLIS).stdout(Stdio::piped()).spawn().unwrap();
        let computed = BufReader::new(worker.stdout.take().unwrap()).lines();
        let ingest = Self { server, view, worker, computed, tracks: Vec::new(), files, _library: library };
        let middle = |view: &SessionView| view.counts.done >= 2 && view.counts.leased == 2;
        ingest.server.wait_for(&ingest.view, "the middle", middle).await;
        ingest
    }

    /// Waits until the worker has computed the tracks in progress when the outage began.
    async fn worker_finishes_what_it_has(&mut self) {
        while self.tracks.len() < 4 {
            let line = within("a track", self.computed.next_line()).await.unwrap();
            self.tracks.push(line.expect("the worker works"));
        }
    }

    async fn signal_worker(&self, signal: &str) {
        let worker = self.worker.id().expect("the worker runs").to_string();
        assert!(Command::new("kill").args(["-s", signal, &worker]).status().await.unwrap().success());
    }

    async fn expect_commands_to_be_put_off(&self, reason: &str) {
        let path = format!("/api/sessions/{}/pause", self.view.code);
        expect_to_be_put_off(self.server.tell(&path, None::<()>).await, reason).await;
    }

    async fn expect_pages_to_work(&self) {
        let view = self.server.session().await;
        assert_eq!((view.code, view.counts.leased), (self.view.code, 2));
        assert_eq!(self.server.jobs(&self.view, JobState::Leased).await.len(), 2);
        self.server.tracks().await;
    }

    /// Limits the size of files that the coordinator writes; writes beyond the limit fail.
    async fn limit_files(&self, bytes: &str) {
        let mut command = Command::new("prlimit");
        command.args(["--pid", &self.server.process().to_string(), &format!("--fsize={bytes}:")]);
        assert!(command.status().await.unwrap().success());
    }

    async fn expect_nothing_lost(mut self) {
        let is_complete = |view: &SessionView| view.state == SessionState::Complete;
        self.server.wait_for(&self.view, "the end", is_complete).await;
        let jobs = self.server.jobs(&self.view, JobState::Done).await;
        assert!(jobs.iter().all(|job| job.attempts == 0), "nobody is to blame: {jobs:#?}");
        expect_each_once(&self.server.tracks().await, &self.files);
        // Ends the worker, and with it the list of computed tracks.
        drop(self.worker.stdin.take());
        while let Some(line) = within("the worker's end", self.computed.next_line()).await.unwrap() {
            self.tracks.push(line);
        }
        self.tracks.sort();
        assert!(self.tracks.iter().eq(self.files.keys()), "nothing is computed twice: {:?}", self.tracks);
        self.server.stop().await;
    }
}
