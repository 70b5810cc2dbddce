//! The database goes away under a coordinator and a worker that are in the middle of a session: requests are put off with
//! a clear error, the worker keeps what it has finished and delivers it later, and nothing is lost, done twice or counted
//! against anybody.
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

/// Two are done before the outage, two are in hand when it begins, two wait.
const TRACKS: usize = 6;

/// Long enough to be in the middle of a track.
const WORK_MILLIS: Range<u64> = 2000..2500;

/// The script that only runs the coordinator.
const RUN: &str = "exec \"$0\" \"$@\"";

/// How long the database is down.
const DOWN_SECONDS: u64 = 30;

/// So long after the database went down the worker is frozen: before it delivers again what has no receipt, and not for so
/// long that it is thought dead.
const FREEZE_SECONDS: u64 = 20;

/// Size of a disk that is soon full.
const DISK_BYTES: usize = 16 << 20;

/// They mostly wait, and do it side by side: for the end of the outage, and then for the worker, which delivers again what
/// has no receipt after 30 s.
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
    // So that it does not deliver as soon as the database is back.
    sleep_until(began + Duration::from_secs(FREEZE_SECONDS)).await;
    session.signal_worker("STOP").await;
    sleep_until(began + Duration::from_secs(DOWN_SECONDS)).await;
    cluster.restart();
    // As if it had been down for hours: every lease has run out.
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
    // The log is on the same disk. The signal would otherwise end the process.
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

/// On a small disk that only the coordinator sees, and that is gone with it.
async fn disk_full() {
    let Some(unshare) = may_mount().await else {
        // To where it is seen though the test passes.
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

/// How a program is run that may mount something for itself only; none where that is not permitted.
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

/// Writes to a file until there is no room for one more byte.
fn fill_disk(file: &str) {
    let mut file = File::create(file).unwrap();
    let full = io::copy(&mut io::repeat(1), &mut file).unwrap_err();
    assert_eq!(full.kind(), io::ErrorKind::StorageFull);
}

/// The answer to a request that may succeed later.
async fn expect_to_be_put_off(answer: reqwest::Response, reason: &str) {
    assert_eq!(answer.status(), 503);
    assert!(answer.headers().contains_key("retry-after"));
    let ErrorView { error } = answer.json().await.unwrap();
    assert!(error.contains(reason), "{error}");
}

/// A session in its middle, with a worker.
struct Ingest {
    server: Server,
    view: SessionView,
    worker: Child,
    /// The tracks that the worker has computed, as it goes on.
    computed: Lines<BufReader<ChildStdout>>,
    tracks: Vec<String>,
    files: BTreeMap<String, Vec<u8>>,
    _library: TempDir,
}

impl Ingest {
    /// Runs the coordinator by a shell script that is given the program and its arguments, and that itself is run by the
    /// program `by`, if any.
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

    /// Waits until the worker has computed what it had in hand when the outage began.
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

    /// Sets how large a file may become that the coordinator writes to: nothing may be written beyond that.
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
        // The worker ends, and with it the list of what it has computed.
        drop(self.worker.stdin.take());
        while let Some(line) = within("the worker's end", self.computed.next_line()).await.unwrap() {
            self.tracks.push(line);
        }
        self.tracks.sort();
        assert!(self.tracks.iter().eq(self.files.keys()), "nothing is computed twice: {:?}", self.tracks);
        self.server.stop().await;
    }
}
