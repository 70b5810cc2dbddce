//! A coordinator and one local worker, on this machine.

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
    /// A music folder to offer, or s3://BUCKET/PREFIX; may be given several times. The repository's own fixtures when absent.
    #[arg(long)]
    library: Vec<PathBuf>,
    /// Address to listen on; 0.0.0.0:8080 lets other machines and phones in.
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: String,
    /// Folder for the database; the user's data folder when absent.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Build the programs for the GPU as well, which takes about as long again.
    #[arg(long)]
    gpu: bool,
}

/// How often it is looked whether a program has ended.
const POLL_MILLIS: u64 = 200;

/// Time that a program has to end in order; the server takes 8 s at most.
const STOP_SECONDS: u64 = 10;

/// How `chaarfm-worker` ends when the coordinator sends it away.
const REFUSED_EXIT_CODE: i32 = 3;

/// Wait before another worker takes the place of one that was sent away.
const REJOIN_WAIT_SECONDS: u64 = 1;

/// Tries to put another worker into that place before it stays empty, in a row.
const MAX_REJOINS: u32 = 10;

/// A worker that lived for this long was let in. One that is not is gone once its devices have been tried, which takes two
/// minutes at most.
const LET_IN_SECONDS: u64 = 240;

/// Longest wait for the server's answer.
const ANSWER_LIMIT_SECONDS: u64 = 30;

/// Builds what is needed, starts both programs, and ends one when the other has ended, and both when it is told to end.
pub(crate) fn up(arguments: &UpArguments) -> anyhow::Result<()> {
    build::for_a_first_look(arguments.gpu)?;
    let is_ending = Arc::new(AtomicBool::new(false));
    let end = Arc::clone(&is_ending);
    // Ctrl-C, termination, and the end of the terminal.
    ctrlc::set_handler(move || end.store(true, Ordering::Release))?;
    let mut server = start_server(arguments)?;
    let page = read_page_address(&mut server.0)?;
    let (base, link) =
        page.split_once("/enter").or_else(|| page.split_once("/ingest")).context("a server has a page")?;
    // It is printed as long as nobody has come in, and good once.
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
    // Every try passes here, so that none is made at a server that has ended.
    loop {
        if is_ending.load(Ordering::Acquire) {
            // The worker first, so that it can hand back what it holds.
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
        // As a rule the owner has ended the session for a new code; the page is making that one just now.
        sleep(Duration::from_secs(REJOIN_WAIT_SECONDS));
        let Ok(session) = owner.current_session() else { continue };
        println!("The worker was sent away; one joins the session {}.", session.code);
        worker = start_worker(base, &session.code)?;
        rejoins.started = Some(Instant::now());
    }
}

/// How often in a row it was tried to put another worker into the place of one that was sent away.
struct Rejoins {
    tries: u32,
    /// When the newest worker was started; none once it is known to have been sent away.
    started: Option<Instant>,
}

impl Rejoins {
    /// Counts a try, as the first one when the worker lived for a while. False when there have been too many.
    fn may_try_again(&mut self) -> bool {
        let let_in = Duration::from_secs(LET_IN_SECONDS);
        if self.started.take().is_some_and(|started| started.elapsed() >= let_in) {
            self.tries = 0;
        }
        self.tries += 1;
        self.tries <= MAX_REJOINS
    }
}

/// Says which program has ended, and ends the other one.
fn ended(name: &str, status: ExitStatus, other_name: &str, mut other: Running) -> anyhow::Result<()> {
    println!("{name} has ended ({status}); stopping {other_name}");
    other.stop()?;
    if status.success() { Ok(()) } else { bail!("{name} ended: {status}") }
}

/// A program that is ended with this one.
struct Running(Child);

impl Running {
    /// Asks it to end, and ends it hard when it does not.
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
        // Already ended is what we want.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Keeps the terminal's Ctrl-C from a program: it is ended in order by this one, and would take a second signal for
/// impatience.
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
    // Without `kill` it is ended hard, after a while.
    let _ = Command::new("kill").arg(program.id().to_string()).status();
}

/// Here programs can only be ended hard; that loses nothing that is stored.
#[cfg(windows)]
fn ask_to_end(_program: &Child) {}

fn start_worker(base: &str, code: &str) -> anyhow::Result<Running> {
    let mut command = Command::new(bin_dir().join("chaarfm-worker"));
    Ok(Running(apart(command.args(["--url", base, "--code", code])).spawn().context("cannot start chaarfm-worker")?))
}

/// The server's program on its database.
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
    /// What the server's addresses begin with for other machines, if they reach it.
    origin: Option<String>,
}

/// What this command commands the server by, as its owner: a token, as long as the server runs.
struct Owner<'a> {
    arguments: &'a UpArguments,
    base: &'a str,
    token: String,
}

/// Name of that token.
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
        // What is left of it is replaced next time.
        let _ = told(server(self.arguments).args(["token", "revoke", TOKEN]));
    }
}

/// A link for one more browser, below the server's address.
fn new_link(arguments: &UpArguments) -> anyhow::Result<String> {
    let link = told(server(arguments).args(["token", "--keep"]))?;
    let link = link.lines().next().and_then(|line| line.split_once("/enter"));
    Ok(format!("/enter{}", link.context("the server makes a link")?.1))
}

/// What a program prints.
fn told(command: &mut Command) -> anyhow::Result<String> {
    let output = command.stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        bail!("{} failed: {}", describe(command), output.status);
    }
    Ok(String::from_utf8(output.stdout)?.trim_end().to_owned())
}
