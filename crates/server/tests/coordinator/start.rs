//! How a coordinator starts, and why it may fail to.

use std::{
    io::{BufRead, BufReader, Read},
    net::TcpListener,
    process::{Child, ChildStdout, Command, Stdio},
};

use chaarfm_server::{Config, Database, NamedLocation, Server};

use crate::harness::{Folders, origin};

async fn refusal(config: &Config) -> String {
    Server::bind(config).await.err().expect("does not start").to_string()
}

#[tokio::test]
async fn what_is_in_the_way_is_named() {
    let folders = Folders::with(&[]);
    let config = folders.config();

    let jazz = ["jazz=/a", "jazz=/b"].map(|text| NamedLocation::parse(text.into()).unwrap());
    let message = refusal(&Config { libraries: jazz.into(), ..config.clone() }).await;
    assert!(message.contains("the name jazz"), "{message}");

    let occupied = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = occupied.local_addr().unwrap();
    let message = refusal(&Config { listen: address, ..config.clone() }).await;
    assert!(message.contains(&address.to_string()), "{message}");

    let file = folders.root().join("file");
    std::fs::write(&file, "not a folder").unwrap();
    let message = refusal(&Config { database: Database::Sqlite(file.join("db")), ..config.clone() }).await;
    assert!(message.contains(file.to_str().unwrap()), "{message}");

    let first = Server::bind(&config).await.unwrap();
    let message = refusal(&config).await;
    assert!(message.contains("in use by another coordinator"), "{message}");
    drop(first);

    let damaged = folders.root().join("damaged.sqlite3");
    std::fs::write(&damaged, "certainly no database, however long it may be").unwrap();
    let message = refusal(&Config { database: Database::Sqlite(damaged), ..config }).await;
    assert!(message.contains("damaged.sqlite3"), "{message}");
}

#[test]
fn the_program_fails_in_one_line_that_says_why() {
    let folders = Folders::with(&[]);
    let mut command = Command::new(env!("CARGO_BIN_EXE_chaarfm-server"));
    command.arg("--data").arg(folders.root().join("new")).args(["--library", "jazz=/a", "--library", "jazz=/b"]);
    let output = command.output().unwrap();
    let words = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), words.lines().count()), (Some(1), 1), "{words}");
    assert!(words.contains("jazz"), "{words}");
}

#[test]
fn the_databases_password_is_in_no_error() {
    let folders = Folders::with(&[]);
    let addresses = [
        "postgre://me:secret@host/music",
        "postgres://me:s?ecret@host/music",
        // The part before the `?` is parsed as a local port.
        "postgres://localhost:1?ecret@host/music",
        "postgres://me:secret@localhost:1/music",
    ];
    for address in addresses {
        for argument in [true, false] {
            let mut command = Command::new(env!("CARGO_BIN_EXE_chaarfm-server"));
            command.arg("--data").arg(folders.root().join("new"));
            if argument {
                command.args(["--database-url", address]);
            } else {
                command.env("CHAARFM_DATABASE_URL", address);
            }
            let output = command.output().unwrap();
            let words = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(1), "{words}");
            assert!(words.contains("postgres://") && !words.contains("ecret") && !words.contains("me:"), "{words}");
        }
    }
}

#[cfg(unix)]
#[test]
fn a_full_disk_at_the_start_is_told() {
    let folders = Folders::with(&[]);
    // No file may grow, as with an exhausted quota.
    let limited = r#"trap '' XFSZ; ulimit -f 0; exec "$0" "$@""#;
    let mut command = Command::new("sh");
    command.args(["-c", limited, env!("CARGO_BIN_EXE_chaarfm-server"), "--listen", "127.0.0.1:0", "--data"]);
    let output = command.arg(folders.root().join("new")).output().unwrap();
    let words = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), words.lines().count()), (Some(1), 1), "{words}");
    assert!(words.contains(folders.database().to_str().unwrap()) && words.contains("disk is full or fails"), "{words}");
}

/// Ends the process even when the test fails.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts the program on its own folders. Returns its output after its address line, and that address.
#[cfg(unix)]
pub(crate) fn start(folders: &Folders, arguments: &[&str], log: Stdio) -> (Running, BufReader<ChildStdout>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chaarfm-server"));
    command
        .args(["--listen", "127.0.0.1:0", "--data"])
        .arg(folders.root().join("new"))
        .arg("--library")
        .arg(folders.config().libraries[0].to_string())
        .args(arguments);
    let mut running = Running(command.stdout(Stdio::piped()).stderr(log).spawn().unwrap());
    let mut out = BufReader::new(running.0.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    (running, out, origin(&line).to_owned())
}

/// Asks the program to stop, as a service manager would.
#[cfg(unix)]
pub(crate) fn terminate(running: &Running) {
    assert!(Command::new("kill").arg(running.0.id().to_string()).status().unwrap().success());
}

#[cfg(unix)]
#[test]
fn the_program_says_where_it_is_and_stops_when_asked() {
    let folders = Folders::with(&[]);
    let (mut running, mut out, address) = start(&folders, &[], Stdio::null());
    std::net::TcpStream::connect(address.strip_prefix("http://").unwrap()).unwrap();

    terminate(&running);
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "", "one line is all");
    assert!(running.0.wait().unwrap().success());
    let made = folders.database().parent().unwrap().metadata().unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::mode(&made) & 0o777, 0o700, "the data is nobody else's");
}
