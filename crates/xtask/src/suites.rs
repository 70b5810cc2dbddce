//! The native tests. One cargo command builds them, so that each dependency is compiled once. They run from here, several
//! executables in parallel, because many tests wait more than they work.

use std::{
    collections::VecDeque,
    fs::{self, File},
    path::PathBuf,
    process::{Command, ExitStatus, Stdio},
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use serde_json::Value;

use crate::run::{describe, target_dir};

/// Number of executables that run in parallel.
const SIDE_BY_SIDE: usize = 2;

/// Number of parallel tests in each executable; more than the cores, because tests wait.
const TEST_THREADS: usize = 4;

/// Time limit of a suite in seconds; the longest takes four minutes on two cores.
const SUITE_LIMIT_SECONDS: u64 = 1_800;

/// Polling interval for a suite's end, in milliseconds.
const POLL_MILLIS: u64 = 50;

/// A test executable.
pub(crate) struct Suite {
    pub(crate) package: String,
    name: String,
    /// The folder where cargo would run it.
    folder: PathBuf,
    executable: PathBuf,
}

/// Builds the workspace's tests that `cargo` selects, and returns those in wanted packages.
pub(crate) fn build(mut cargo: Command, is_wanted: impl Fn(&str) -> bool) -> anyhow::Result<Vec<Suite>> {
    // Skips the examples, which clippy compiles, and documentation tests, of which there are none.
    cargo.args(["--tests", "--no-run", "--message-format=json-render-diagnostics"]);
    println!("$ {}", describe(&cargo));
    let start = Instant::now();
    let output = cargo.stderr(Stdio::inherit()).output().context("cargo does not start")?;
    println!("  {:.0} s", start.elapsed().as_secs_f32());
    if !output.status.success() {
        bail!("the tests do not compile");
    }
    let messages = String::from_utf8(output.stdout)?;
    let suites = messages.lines().filter_map(|line| suite(&serde_json::from_str(line).ok()?));
    Ok(suites.filter(|suite| is_wanted(&suite.package)).collect())
}

/// The suite described by a message of cargo.
fn suite(message: &Value) -> Option<Suite> {
    let is_test = message["reason"] == "compiler-artifact" && message["profile"]["test"] == true;
    let manifest = PathBuf::from(message["manifest_path"].as_str().filter(|_| is_test)?);
    let folder = manifest.parent()?.to_owned();
    let executable = PathBuf::from(message["executable"].as_str()?);
    // `path+file:///…/crates/server#chaarfm-server@0.1.0`, without the package's name if the folder has the same.
    let id = message["package_id"].as_str()?.rsplit(['/', '#']).next()?;
    let package = id.split_once('@').map_or_else(|| folder.file_name()?.to_str(), |(name, _)| Some(name))?.to_owned();
    let name = message["target"]["name"].as_str()?.to_owned();
    Some(Suite { package, name, folder, executable })
}

/// Runs several suites in parallel.
///
/// # Errors
/// Names the suites that failed, after all have run.
pub(crate) fn side_by_side(suites: Vec<Suite>) -> anyhow::Result<()> {
    run(suites, SIDE_BY_SIDE)
}

/// Runs the suites one after the other, because each starts many programs.
///
/// # Errors
/// As [`side_by_side`].
pub(crate) fn one_by_one(suites: Vec<Suite>) -> anyhow::Result<()> {
    run(suites, 1)
}

fn run(suites: Vec<Suite>, at_once: usize) -> anyhow::Result<()> {
    if suites.is_empty() {
        bail!("there are no tests");
    }
    let waiting = Mutex::new(VecDeque::from(suites));
    let failed = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                while let Some(suite) = next(&waiting) {
                    if !suite.run() {
                        failed.lock().expect("nobody panics with it").push(format!("{} {}", suite.package, suite.name));
                    }
                }
            });
        }
    });
    let failed = failed.into_inner()?;
    if failed.is_empty() { Ok(()) } else { bail!("failed: {}", failed.join(", ")) }
}

fn next(waiting: &Mutex<VecDeque<Suite>>) -> Option<Suite> {
    waiting.lock().expect("nobody panics with it").pop_front()
}

impl Suite {
    /// Runs the suite, prints its output, and returns whether all its tests passed.
    fn run(&self) -> bool {
        let start = Instant::now();
        let mut command = Command::new(&self.executable);
        command.current_dir(&self.folder).env("CARGO_MANIFEST_DIR", &self.folder);
        command.env("RUST_TEST_THREADS", TEST_THREADS.to_string());
        let outcome = self.run_within_limit(&mut command, start);
        let seconds = start.elapsed().as_secs_f32();
        println!("\n== {}: {} ({seconds:.0} s)", self.package, self.name);
        match outcome {
            Ok((status, output)) => {
                print!("{}", String::from_utf8_lossy(&output));
                if status.is_none() {
                    println!("it was ended after {SUITE_LIMIT_SECONDS} s");
                }
                status.is_some_and(|status| status.success())
            }
            Err(error) => {
                println!("it does not run: {error}");
                false
            }
        }
    }

    /// Exit status of a program, or none if it exceeded the time limit, and its output. The output goes to a file, because
    /// a process left behind by the suite could hold a pipe open forever.
    fn run_within_limit(&self, command: &mut Command, start: Instant) -> anyhow::Result<(Option<ExitStatus>, Vec<u8>)> {
        let folder = target_dir().join("suites");
        fs::create_dir_all(&folder)?;
        let path = folder.join(format!("{}-{}.log", self.package, self.name));
        let output = File::create(&path)?;
        let mut suite = command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).spawn()?;
        let status = loop {
            if let Some(status) = suite.try_wait()? {
                break Some(status);
            }
            if start.elapsed() > Duration::from_secs(SUITE_LIMIT_SECONDS) {
                suite.kill()?;
                suite.wait()?;
                break None;
            }
            thread::sleep(Duration::from_millis(POLL_MILLIS));
        };
        Ok((status, fs::read(path)?))
    }
}
