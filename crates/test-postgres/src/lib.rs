//! A real PostgreSQL server for tests, from Debian's packages `postgresql` and `postgresql-*-pgvector`: started in a folder
//! of its own, reached by a socket in that folder, gone when the test process is, however that ends.
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

/// Makes a cluster in `$1` with the programs in `$2`, says `ready`, and takes everything away when its input ends, which is
/// when the process that started it is gone.
const KEEPER: &str = r#"
    trap '' INT TERM
    "$2/initdb" --pgdata="$1" --auth=trust --username=test --encoding=UTF8 --no-sync >/dev/null &&
    printf '%s\n' "listen_addresses = ''" "unix_socket_directories = '$1'" 'fsync = off' 'max_connections = 300' \
        >> "$1/postgresql.conf" &&
    "$2/pg_ctl" --pgdata="$1" --log="$1/log" --wait --silent start >/dev/null &&
    echo ready
    read -r _
    "$2/pg_ctl" --pgdata="$1" --mode=immediate --wait --silent stop >/dev/null 2>&1
    rm -rf "$1"
"#;

/// A running server.
pub struct Cluster {
    folder: PathBuf,
    programs: PathBuf,
    /// Closing it is what ends the server.
    _life: ChildStdin,
    _keeper: Child,
}

impl Cluster {
    /// The one that all tests of this process share.
    #[must_use]
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// One that a test may stop.
    #[must_use]
    pub fn start() -> Self {
        static STARTED: AtomicUsize = AtomicUsize::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("chaarfm-postgres-{}-{number}", std::process::id()));
        let programs = programs();
        let mut keeper = as_ordinary_user("sh");
        keeper.args(["-c", KEEPER, "keeper"]).arg(&folder).arg(&programs);
        let mut keeper = keeper.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(keeper.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "PostgreSQL did not start; see {}", folder.join("log").display());
        Self { folder, programs, _life: keeper.stdin.take().unwrap(), _keeper: keeper }
    }

    /// The address of a new, empty database.
    #[must_use]
    pub fn database(&self) -> String {
        static MADE: AtomicUsize = AtomicUsize::new(0);
        let name = format!("test_{}", MADE.fetch_add(1, Ordering::Relaxed));
        let mut create = Command::new(self.programs.join("createdb"));
        let made = create.arg("--host").arg(&self.folder).args(["--username=test", &name]).status().unwrap();
        assert!(made.success());
        format!("postgres:///{name}?user=test&host={}", self.folder.display())
    }

    /// Ends the server as a reboot does.
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
        // The server inherits what its starter leaves open.
        let done =
            control.args(command).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
        assert!(done.success(), "pg_ctl {command:?} failed");
    }
}

/// Where the newest PostgreSQL's programs are.
fn programs() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").expect("the tests need Debian's package postgresql");
    let versions = versions.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let newest = versions.max().expect("the tests need Debian's package postgresql");
    Path::new("/usr/lib/postgresql").join(newest.to_string()).join("bin")
}

/// PostgreSQL does not run as root; the packages bring a user for it.
fn as_ordinary_user(program: &str) -> Command {
    let id = Command::new("id").arg("-u").output().unwrap();
    let mut command = Command::new(if id.stdout == b"0\n" { "runuser" } else { program });
    if id.stdout == b"0\n" {
        command.args(["-u", "postgres", "--", program]);
    }
    command.current_dir("/");
    command
}
