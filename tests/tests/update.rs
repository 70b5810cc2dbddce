//! Updates a real copy of the executable from a real server, signed with the test's own key.

#![expect(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

use std::{
    collections::HashMap,
    env::consts::{ARCH, OS},
    fs,
    io::{BufRead, BufReader, Cursor, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{Arc, Mutex},
    thread,
};

use chaarfm_tests::{command, worker_executable};
use minisign::KeyPair;
use ring::digest::{SHA256, digest};
use tempfile::TempDir;

/// A publisher: an HTTP server and a key.
struct Publisher {
    address: String,
    keys: KeyPair,
    files: Arc<Mutex<HashMap<String, Vec<u8>>>>,
}

impl Publisher {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let files = Arc::<Mutex<HashMap<String, Vec<u8>>>>::default();
        let served = Arc::clone(&files);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let served = Arc::clone(&served);
                // The client may hang up early.
                thread::spawn(move || drop(answer(&stream.unwrap(), &served)));
            }
        });
        Self { address, keys: KeyPair::generate_unencrypted_keypair().unwrap(), files }
    }

    fn put(&self, name: &str, bytes: Vec<u8>) {
        self.files.lock().unwrap().insert(name.to_owned(), bytes);
    }

    /// Publishes an executable under a version.
    fn publish(&self, version: &str, executable: &[u8]) {
        self.announce(version, executable.len() as u64, &sha256(executable));
        self.put("/files/new", executable.to_vec());
    }

    fn announce(&self, version: &str, size: u64, sha256: &str) {
        let build = serde_json::json!({ "url": "files/new", "sha256": sha256, "size": size });
        let release = serde_json::json!({
            "program": "chaarfm-worker", "version": version, "targets": { format!("{}-{ARCH}", system()): build }
        });
        let release = release.to_string();
        let signature = minisign::sign(None, &self.keys.sk, Cursor::new(&release), None, None).unwrap();
        self.put("/release.json", release.into_bytes());
        self.put("/release.json.minisig", signature.to_bytes());
    }
}

/// A file with this ending is sent without it, but with too large a content length.
const CUT: &[u8] = b"<cut>";

fn answer(stream: &TcpStream, files: &Mutex<HashMap<String, Vec<u8>>>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let request = lines.next().unwrap()?;
    while !lines.next().unwrap()?.is_empty() {}
    let path = request.split(' ').nth(1).unwrap();
    let mut stream = stream;
    // Each connection serves one request; without saying so, the client's next one may meet a connection that is being closed.
    if path == "/moved" {
        return stream.write_all(
            b"HTTP/1.1 302 Found\r\nlocation: /files/new\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        );
    }
    let Some(file) = files.lock().unwrap().get(path).cloned() else {
        return stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    };
    let (body, missing) = match file.strip_suffix(CUT) {
        Some(body) => (body, 1000),
        None => (&*file, 0),
    };
    write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len() + missing)?;
    stream.write_all(body)
}

fn sha256(bytes: &[u8]) -> String {
    digest(&SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A copy of the executable in a folder.
struct Installed {
    folder: PathBuf,
    _kept: Option<TempDir>,
}

impl Installed {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { folder: Self::copied_to(folder.path()), _kept: Some(folder) }
    }

    fn copied_to(folder: &Path) -> PathBuf {
        fs::copy(worker_executable(), folder.join(program())).unwrap();
        folder.to_owned()
    }

    fn content(&self) -> Vec<u8> {
        fs::read(self.folder.join(program())).unwrap()
    }

    fn files(&self) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(&self.folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn run(&self, arguments: &[&str]) -> Output {
        command(&self.folder.join(program()))
            .as_std_mut()
            .args(arguments)
            .env_remove("CHAARFM_UPDATE_URL")
            .env_remove("CHAARFM_UPDATE_KEY")
            .output()
            .unwrap()
    }

    fn update(&self, publisher: &Publisher, more: &[&str]) -> Output {
        let (from, key) = (format!("{}/release.json", publisher.address), publisher.keys.pk.to_base64());
        self.run(&[&["update", "--from", &from, "--key", &key], more].concat())
    }

    /// Asserts that an update fails with this message and changes nothing.
    fn refuses(&self, publisher: &Publisher, says: &str) {
        let (before, files) = (self.content(), self.files());
        let output = self.update(publisher, &[]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(says), "{said} does not say {says}");
        assert!(self.content() == before, "the executable has changed");
        assert_eq!(self.files(), files, "something is left behind");
    }
}

/// Suffix of executables on the worker's system.
fn suffix() -> &'static str {
    if worker_executable().extension().is_some_and(|extension| extension == "exe") { ".exe" } else { "" }
}

/// The worker's system, by its name in releases.
fn system() -> &'static str {
    if suffix().is_empty() { OS } else { "windows" }
}

fn program() -> String {
    format!("chaarfm-worker{}", suffix())
}

/// The executable with extra bytes at its end, which change only its hash.
fn newer() -> Vec<u8> {
    let mut bytes = fs::read(worker_executable()).unwrap();
    bytes.extend(b"newer");
    bytes
}

fn said(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_newer_version_takes_the_place_of_this_one_and_gives_it_back() {
    let (publisher, installed) = (Publisher::new(), Installed::new());
    let (old, new) = (installed.content(), newer());
    publisher.publish("9.1.0", &new);
    assert!(said(&installed.update(&publisher, &["--check"])).contains("chaarfm-worker 9.1.0 is there"));
    assert!(installed.content() == old, "looking changes nothing");
    assert!(said(&installed.update(&publisher, &[])).contains("to 9.1.0"));
    assert!(installed.content() == new);
    let previous = format!("chaarfm-worker.previous{}", suffix());
    assert_eq!(installed.files(), [program(), previous.clone()]);
    assert!(fs::read(installed.folder.join(&previous)).unwrap() == old);
    said(&installed.run(&["--version"]));
    said(&installed.run(&["update", "--rollback"]));
    assert!(installed.content() == old);
    assert!(fs::read(installed.folder.join(&previous)).unwrap() == new, "and forward again is possible");
    said(&installed.run(&["update", "--rollback"]));
    assert!(installed.content() == new);
}

#[test]
fn an_executable_may_have_been_moved() {
    let (publisher, installed, new) = (Publisher::new(), Installed::new(), newer());
    publisher.publish("9.1.0", &new);
    let release = String::from_utf8(publisher.files.lock().unwrap()["/release.json"].clone()).unwrap();
    let release = release.replace("files/new", "moved");
    let signature = minisign::sign(None, &publisher.keys.sk, Cursor::new(&release), None, None).unwrap();
    publisher.put("/release.json", release.into_bytes());
    publisher.put("/release.json.minisig", signature.to_bytes());
    said(&installed.update(&publisher, &[]));
    assert!(installed.content() == new);
}

#[test]
fn what_is_not_right_changes_nothing() {
    let (publisher, installed, new) = (Publisher::new(), Installed::new(), newer());
    installed.refuses(&publisher, "HTTP status 404");

    publisher.publish("9.1.0", &new);
    publisher.put("/files/new", [&new[..new.len() - 5], b"evil!"].concat());
    installed.refuses(&publisher, "is not the file that the release says");

    publisher.put("/files/new", new[..new.len() / 2].to_vec());
    installed.refuses(&publisher, "bytes that the release says");

    publisher.put("/files/new", [&new[..new.len() / 2], CUT].concat());
    installed.refuses(&publisher, "did not arrive");

    publisher.put("/files/new", [&new[..], b"more"].concat());
    installed.refuses(&publisher, "has more than");

    let signature = publisher.files.lock().unwrap()["/release.json.minisig"].clone();
    publisher.publish("9.2.0", &new);
    publisher.put("/release.json.minisig", signature);
    installed.refuses(&publisher, "not signed by the key");

    publisher.put("/release.json.minisig", b"<html>".to_vec());
    installed.refuses(&publisher, "no signature of minisign");

    publisher.put("/release.json", vec![b' '; 1 << 20]);
    installed.refuses(&publisher, "more than 65536 bytes");

    publisher.publish("0.0.1", &new);
    installed.refuses(&publisher, "is older than this program");

    publisher.publish("9.1.0", b"no executable at all");
    installed.refuses(&publisher, "so this one stays");

    publisher.announce("9.1.0", u64::MAX, &sha256(b""));
    installed.refuses(&publisher, "the limit is");
}

#[test]
fn the_same_version_is_the_newest() {
    let (publisher, installed) = (Publisher::new(), Installed::new());
    publisher.publish(env!("CARGO_PKG_VERSION"), &newer());
    let before = installed.content();
    assert!(said(&installed.update(&publisher, &[])).contains("is the newest version"));
    assert!(installed.content() == before);
}

#[test]
fn without_a_key_updates_are_off_and_without_a_version_before_there_is_no_way_back() {
    let installed = Installed::new();
    for (arguments, says) in [
        (&["update"][..], "updates are off"),
        (&["update", "--from", "http://127.0.0.1:9/release.json"], "updates are off"),
        (&["update", "--from", "http://127.0.0.1:9/release.json", "--key", "RWQ"], "no public key of minisign"),
        (&["update", "--rollback"], "there is no version before"),
    ] {
        let output = installed.run(arguments);
        assert_eq!(output.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&output.stderr).contains(says), "{output:?}");
    }
    assert_eq!(installed.files(), [program()]);
}

/// A small file system; only an administrator can mount it.
struct Small(TempDir);

impl Small {
    fn mount(bytes: u64) -> Option<Self> {
        let place = tempfile::tempdir().unwrap();
        let size = format!("size={bytes}");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "chaarfm"]).arg(place.path()).output();
        mounted.is_ok_and(|output| output.status.success()).then_some(Self(place))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        drop(Command::new("umount").arg(self.0.path()).output());
    }
}

#[test]
fn a_full_disk_changes_nothing() {
    let (publisher, new) = (Publisher::new(), newer());
    publisher.publish("9.1.0", &new);
    // Room for the installed executable only; then also for the new one, but not for the backup copy.
    for (times, says) in [(1.5, "cannot be kept in"), (2.5, "no room in")] {
        let Some(small) = Small::mount((new.len() as f64 * times) as u64) else {
            eprintln!("left out: this user cannot mount a small file system");
            return;
        };
        let installed = Installed { folder: Installed::copied_to(small.0.path()), _kept: None };
        installed.refuses(&publisher, says);
    }
}
