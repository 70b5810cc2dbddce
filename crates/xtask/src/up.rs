//! Runs a coordinator and one local worker on this machine.

use std::{
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use clap::Args;

use crate::{
    build,
    run::{bin_dir, describe, root},
};

#[derive(Args)]
pub(crate) struct UpArguments {
    /// A music folder to offer, or s3://BUCKET/PREFIX; may be given several times. By default the repository's own
    /// fixtures.
    #[arg(long)]
    library: Vec<PathBuf>,
    /// Address to listen on; 0.0.0.0:8080 lets other machines and phones in.
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: String,
    /// Folder for the database; by default the user's data folder.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Also build the programs for the GPU, which takes about as long again.
    #[arg(long)]
    gpu: bool,
}

/// Polling interval for a program's end.
const POLL_MILLIS: u64 = 200;

/// Time for a program to end gracefully; the server takes at most 8 s.
const STOP_SECONDS: u64 = 10;

/// Exit code of `chaarfm-worker` when the coordinator refuses it.
const REFUSED_EXIT_CODE: i32 = 3;

/// Wait before a new worker replaces a refused one.
const REJOIN_WAIT_SECONDS: u64 = 1;

/// Maximum number of consecutive attempts to replace a refused worker.
const MAX_REJOINS: u32 = 10;

/// A worker that has run this long was admitted. A refused worker ends once it has tried its devices, within two minutes.
const LET_IN_SECONDS: u64 = 240;

/// Time limit for the server's answer.
const ANSWER_LIMIT_SECONDS: u64 = 30;

/// Builds everything needed and starts both programs. When one ends, ends the other; when told to end, ends both.
pub(crate) fn up(arguments: &UpArguments) -> anyhow::Result<()> {
    build::for_a_first_look(arguments.gpu)?;
    let is_ending = Arc::new(AtomicBool::new(false));
    let end = Arc::clone(&is_ending);
    // Handles Ctrl-C, termination, and a closed terminal.
    ctrlc::set_handler(move || end.store(true, Ordering::Release))?;
    let mut server = start_server(arguments)?;
    let page = read_page_address(&mut server.0)?;
    let (base, link) =
        page.split_once("/enter").or_else(|| page.split_once("/ingest")).context("a server has a page")?;
    // The server prints a one-time link only until the first browser has been let in.
    let link = if link.is_empty() { new_link(arguments)? } else { format!("/enter{link}") };
    let owner = Owner::new(arguments, base)?;
    let session = owner.current_session()?;
    let mut worker = start_worker(base, &session.code)?;
    let Session { code, origin } = &session;
    let elsewhere = origin.as_deref().unwrap_or(base);
    println!(
        "\n  Open {base}{link}\n  It lets one browser in, as yours; afterwards that finds the page at {base}/ingest\n"
    );
    if let Some(origin) = origin {
        println!("  Or from another machine: {origin}{link}");
    }
    println!("  Another worker: chaarfm-worker --url {elsewhere} --code {code}");
    if !arguments.gpu {
        println!("  The CPU does the work; `cargo xtask up --gpu` builds what graphics cards need.");
    }
    println!("  Ctrl-C ends both.\n");
    let mut rejoins = Rejoins { tries: 0, started: Some(Instant::now()) };
    // Every attempt passes this check, so that no worker starts after the server has ended.
    loop {
        if is_ending.load(Ordering::Acquire) {
            // The worker stops first, so that it can return its jobs.
            worker.stop()?;
            return server.stop();
        }
        if let Some(status) = server.0.try_wait()? {
            return ended("the server", status, "the worker", worker);
        }
        let Some(status) = worker.0.try_wait()? else {
            sleep(Duration::from_millis(POLL_MILLIS));
            continue;
        };
        if status.code() != Some(REFUSED_EXIT_CODE) {
            return ended("the worker", status, "the server", server);
        }
        if !rejoins.may_try_again() {
            println!("No worker was let in, {MAX_REJOINS} times in a row.");
            return ended("the worker", status, "the server", server);
        }
        // Usually the owner has ended the session for a new code, which the page is requesting at this moment.
        sleep(Duration::from_secs(REJOIN_WAIT_SECONDS));
        let Ok(session) = owner.current_session() else { continue };
        println!("The worker was sent away; one joins the session {}.", session.code);
        worker = start_worker(base, &session.code)?;
        rejoins.started = Some(Instant::now());
    }
}

/// Counts consecutive attempts to replace a refused worker.
struct Rejoins {
    tries: u32,
    /// Start of the newest worker; none once its end has been counted.
    started: Option<Instant>,
}

impl Rejoins {
    /// Counts an attempt, from one again if the last worker ran for long. Returns false after too many.
    fn may_try_again(&mut self) -> bool {
        let let_in = Duration::from_secs(LET_IN_SECONDS);
        if self.started.take().is_some_and(|started| started.elapsed() >= let_in) {
            self.tries = 0;
        }
        self.tries += 1;
        self.tries <= MAX_REJOINS
    }
}

/// Reports which program has ended, and ends the other one.
fn ended(name: &str, status: ExitStatus, other_name: &str, mut other: Running) -> anyhow::Result<()> {
    println!("{name} has ended ({status}); stopping {other_name}");
    other.stop()?;
    if status.success() { Ok(()) } else { bail!("{name} ended: {status}") }
}

/// A child program that ends with this one.
struct Running(Child);

impl Running {
    /// Asks the program to end, and waits for a limited time; dropping it kills it.
    fn stop(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(STOP_SECONDS);
        ask_to_end(&self.0);
        while self.0.try_wait()?.is_none() && Instant::now() < deadline {
            sleep(Duration::from_millis(POLL_MILLIS));
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Fails if the program has already ended, which is fine.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Shields a program from the terminal's Ctrl-C: this program ends it gracefully, and the child would treat a second
/// signal as impatience.
#[cfg(unix)]
fn apart(command: &mut Command) -> &mut Command {
    std::os::unix::process::CommandExt::process_group(command, 0)
}

#[cfg(windows)]
fn apart(command: &mut Command) -> &mut Command {
    command
}

#[cfg(unix)]
fn ask_to_end(program: &Child) {
    // Without `kill`, the program is killed after the waiting time.
    let _ = Command::new("kill").arg(program.id().to_string()).status();
}

/// On Windows programs can only be killed; nothing stored is lost.
#[cfg(windows)]
fn ask_to_end(_program: &Child) {}

fn start_worker(base: &str, code: &str) -> anyhow::Result<Running> {
    let mut command = Command::new(bin_dir().join("chaarfm-worker"));
    Ok(Running(apart(command.args(["--url", base, "--code", code])).spawn().context("cannot start chaarfm-worker")?))
}

/// A command of the server's program on its database.
fn server(arguments: &UpArguments) -> Command {
    let mut command = Command::new(bin_dir().join("chaarfm-server"));
    command.args(["--listen", &arguments.listen]);
    command.args(arguments.data.iter().flat_map(|data| ["--data".as_ref(), data.as_os_str()]));
    command
}

fn start_server(arguments: &UpArguments) -> anyhow::Result<Running> {
    let fixtures = vec![root().join("tests/fixtures/music")];
    let libraries = if arguments.library.is_empty() { &fixtures } else { &arguments.library };
    let mut command = server(arguments);
    command.stdout(Stdio::piped());
    command.args(libraries.iter().flat_map(|library| ["--library".as_ref(), library.as_os_str()]));
    Ok(Running(apart(&mut command).spawn().context("cannot start chaarfm-server")?))
}

/// The server's first line is `open http://HOST:PORT/ingest`, or the address of a link that leads there.
fn read_page_address(server: &mut Child) -> anyhow::Result<String> {
    let mut line = String::new();
    BufReader::new(server.stdout.take().context("the server's output is piped")?).read_line(&mut line)?;
    let Some(page) = line.trim().strip_prefix("open ") else { bail!("the server did not start") };
    Ok(page.to_owned())
}

/// The server's open session.
struct Session {
    code: String,
    /// The server's origin for other machines, if they can reach it.
    origin: Option<String>,
}

/// Owner access for this command: a token that exists as long as the server runs.
struct Owner<'a> {
    arguments: &'a UpArguments,
    base: &'a str,
    token: String,
}

/// Name of the token.
const TOKEN: &str = "cargo xtask up";

impl<'a> Owner<'a> {
    fn new(arguments: &'a UpArguments, base: &'a str) -> anyhow::Result<Self> {
        let token = told(server(arguments).args(["token", "add", TOKEN, "--role", "owner", "--replace"]))?;
        Ok(Self { arguments, base, token })
    }

    fn current_session(&self) -> anyhow::Result<Session> {
        let url = format!("{}/api/sessions/current", self.base);
        let limit = Duration::from_secs(ANSWER_LIMIT_SECONDS);
        let request = ureq::post(&url).header("authorization", format!("Bearer {}", self.token));
        let request = request.config().timeout_global(Some(limit)).build();
        let session: serde_json::Value = request.send_empty()?.body_mut().read_json()?;
        let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
        let code = text(&session["code"]).context("the session has a code")?;
        Ok(Session { code, origin: text(&session["advertised"]["origin"]) })
    }
}

impl Drop for Owner<'_> {
    fn drop(&mut self) {
        // If this fails, the leftover token is replaced next time.
        let _ = told(server(self.arguments).args(["token", "revoke", TOKEN]));
    }
}

/// Creates a login link for another browser, relative to the server's address.
fn new_link(arguments: &UpArguments) -> anyhow::Result<String> {
    let link = told(server(arguments).args(["token", "--keep"]))?;
    let link = link.lines().next().and_then(|line| line.split_once("/enter"));
    Ok(format!("/enter{}", link.context("the server makes a link")?.1))
}

/// Output of a program.
fn told(command: &mut Command) -> anyhow::Result<String> {
    let output = command.stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        bail!("{} failed: {}", describe(command), output.status);
    }
    Ok(String::from_utf8(output.stdout)?.trim_end().to_owned())
}
