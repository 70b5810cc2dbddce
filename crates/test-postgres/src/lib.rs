//! A real PostgreSQL server for tests, from Debian's packages `postgresql` and `postgresql-*-pgvector`. It runs in its own
//! folder, listens on a socket there, and is removed when the test process ends, however it ends.
#![expect(clippy::unwrap_used, reason = "only tests use it")]

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Where Debian's packages install the programs of each version.
const VERSIONS: &str = "/usr/lib/postgresql";

/// Creates a cluster in `$1` with the programs in `$2` and `fsync` set to `$3`, prints `ready`, and removes everything when
/// its input closes, that is when the starting process ends. If the server fails to start, prints why and exits.
const KEEPER: &str = r#"
    trap '' INT TERM
    exec 2>&1
    if "$2/initdb" --pgdata="$1" --auth=trust --username=test --encoding=UTF8 --no-sync >/dev/null &&
        printf '%s\n' "listen_addresses = ''" "unix_socket_directories = '$1'" "fsync = $3" 'max_connections = 300' \
            >> "$1/postgresql.conf" &&
        "$2/pg_ctl" --pgdata="$1" --log="$1/log" --wait --silent start >/dev/null
    then
        echo ready
        read -r _
    else
        cat "$1/log" 2>/dev/null
    fi
    "$2/pg_ctl" --pgdata="$1" --mode=immediate --wait --silent stop >/dev/null 2>&1
    rm -rf "$1"
"#;

/// A running server.
pub struct Cluster {
    folder: PathBuf,
    programs: PathBuf,
    /// Closing it ends the server.
    _life: ChildStdin,
    _keeper: Child,
}

impl Cluster {
    /// A server shared by all tests of this process.
    #[must_use]
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// A server that a test may stop.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with("off")
    }

    /// A server that syncs commits to disk, as in production: for benchmarks.
    #[must_use]
    pub fn start_durable() -> Self {
        Self::start_with("on")
    }

    fn start_with(fsync: &str) -> Self {
        static STARTED: AtomicUsize = AtomicUsize::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("chaarfm-postgres-{}-{number}", std::process::id()));
        let version = newest_version().expect("the tests need Debian's package postgresql");
        let programs = Path::new(VERSIONS).join(version.to_string()).join("bin");
        let mut keeper = as_ordinary_user("sh");
        keeper.args(["-c", KEEPER, "keeper"]).arg(&folder).arg(&programs).arg(fsync);
        let mut keeper = keeper.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(keeper.stdout.take().unwrap());
        let mut said = String::new();
        while !said.lines().any(|line| line == "ready") {
            assert!(output.read_line(&mut said).unwrap() > 0, "PostgreSQL did not start:\n{said}");
        }
        Self { folder, programs, _life: keeper.stdin.take().unwrap(), _keeper: keeper }
    }

    /// Creates an empty database and returns its address.
    #[must_use]
    pub fn database(&self) -> String {
        static MADE: AtomicUsize = AtomicUsize::new(0);
        let name = format!("test_{}", MADE.fetch_add(1, Ordering::Relaxed));
        let mut create = Command::new(self.programs.join("createdb"));
        let made = create.arg("--host").arg(&self.folder).args(["--username=test", &name]).status().unwrap();
        assert!(made.success());
        format!("postgres:///{name}?user=test&host={}", self.folder.display())
    }

    /// Stops the server as a reboot does.
    pub fn stop(&self) {
        self.control(&["--mode=fast", "stop"]);
    }

    /// Starts the server again.
    pub fn restart(&self) {
        self.control(&["start"]);
    }

    fn control(&self, command: &[&str]) {
        let mut control = as_ordinary_user(self.programs.join("pg_ctl").to_str().unwrap());
        control
            .arg("--pgdata")
            .arg(&self.folder)
            .arg("--log")
            .arg(self.folder.join("log"))
            .args(["--wait", "--silent"]);
        // The server inherits open handles from its starter.
        let done =
            control.args(command).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
        assert!(done.success(), "pg_ctl {command:?} failed");
    }
}

/// The newest installed PostgreSQL server. A client alone also has a folder for its version.
#[must_use]
pub fn newest_version() -> Option<u32> {
    let versions = fs::read_dir(VERSIONS).ok()?.filter_map(Result::ok);
    let servers = versions.filter(|version| version.path().join("bin/initdb").exists());
    servers.filter_map(|version| version.file_name().to_str()?.parse().ok()).max()
}

/// PostgreSQL refuses to run as root; the packages create a user for it.
fn as_ordinary_user(program: &str) -> Command {
    let id = Command::new("id").arg("-u").output().unwrap();
    let mut command = Command::new(if id.stdout == b"0\n" { "runuser" } else { program });
    if id.stdout == b"0\n" {
        command.args(["-u", "postgres", "--", program]);
    }
    command.current_dir("/");
    command
}
