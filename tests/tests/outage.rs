//! The database goes away under a coordinator and a worker that are in the middle of a session: requests are put off with
//! a clear error, the worker keeps what it has finished and delivers it later, and nothing is lost, done twice or counted
//! against anybody.
#![expect(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

use std::{
    collections::BTreeMap,
    ops::Range,
    process::Stdio,
    time::{Duration, Instant},
};

use chaarfm_protocol::{
    SessionState,
    view::{ErrorView, JobState, SessionView},
};
use chaarfm_test_postgres::Cluster;
use chaarfm_tests::{Server, executable, expect_each_once, simulated_library, simulated_worker, within};
use sqlx::{Connection, PgConnection, SqliteConnection, sqlite::SqliteConnectOptions};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

/// Two are done before the outage, two are in hand when it begins, two wait.
const TRACKS: usize = 6;

/// Long enough to be in the middle of a track.
const WORK_MILLIS: Range<u64> = 2000..2500;

/// How long the database is down.
const DOWN_SECONDS: u64 = 30;

/// They mostly wait, and do it side by side: for the end of the outage, and then for the worker, which delivers again what
/// has no receipt after 30 s.
#[tokio::test]
async fn nothing_is_lost_while_the_database_is_down_or_locked_or_its_disk_full() {
    tokio::join!(database_down(), database_locked(), disk_full());
}

async fn database_down() {
    let cluster = Cluster::start();
    let database = cluster.database();
    let mut session = Ingest::begin(&["--database-url", &database], "exec \"$0\" \"$@\"").await;

    cluster.stop();
    let began = Instant::now();
    session.worker_finishes_what_it_has().await;
    for path in ["", "/jobs"] {
        let answer = session.server.ask(&format!("/api/sessions/{}{path}", session.view.code)).await;
        expect_to_be_put_off(answer, "cannot be used at the moment").await;
    }
    session.expect_commands_to_be_put_off("cannot be used at the moment").await;
    tokio::time::sleep(Duration::from_secs(DOWN_SECONDS).saturating_sub(began.elapsed())).await;
    cluster.restart();
    // As if it had been down for hours: every lease has run out.
    let mut owner = PgConnection::connect(&database).await.unwrap();
    let run_out = sqlx::query("UPDATE chaarfm.jobs SET deadline_ms = 1 WHERE state = 'leased'");
    assert_eq!(run_out.execute(&mut owner).await.unwrap().rows_affected(), 2);
    session.expect_nothing_lost().await;
}

async fn database_locked() {
    let data = TempDir::new().unwrap();
    let mut session = Ingest::begin(&["--data", data.path().to_str().unwrap()], "exec \"$0\" \"$@\"").await;

    let options = SqliteConnectOptions::new().filename(data.path().join("chaarfm.sqlite3"));
    let mut other = SqliteConnection::connect_with(&options).await.unwrap();
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    session.worker_finishes_what_it_has().await;
    session.expect_commands_to_be_put_off("cannot be used at the moment").await;
    session.expect_pages_to_work().await;
    other.close().await.unwrap();
    session.expect_nothing_lost().await;
}

async fn disk_full() {
    let data = TempDir::new().unwrap();
    // The log is on the same disk. The signal would otherwise end the process.
    let script = format!("trap '' XFSZ; exec \"$0\" \"$@\" 2>'{}'", data.path().join("log").display());
    let mut session = Ingest::begin(&["--data", data.path().to_str().unwrap()], &script).await;

    session.limit_files("0").await;
    session.worker_finishes_what_it_has().await;
    session.expect_commands_to_be_put_off("disk is full or fails").await;
    session.expect_pages_to_work().await;
    session.limit_files("unlimited").await;
    session.server.command(&session.view, "pause").await;
    session.server.command(&session.view, "resume").await;
    session.expect_nothing_lost().await;
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
    /// Runs the coordinator by a shell script that is given the program and its arguments.
    async fn begin(database: &[&str], script: &str) -> Self {
        let library = TempDir::new().unwrap();
        let files = simulated_library(library.path(), TRACKS);
        let mut command = Command::new("sh");
        command.args(["-c", script]).arg(executable("chaarfm-server")).args(database).args(["--log", "warn"]);
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
