//! A coordinator and one local worker, on this machine.

use std::{
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use anyhow::{Context, bail};
use clap::Args;

use crate::{
    build,
    run::{bin_dir, root},
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
}

/// Builds all, starts both programs and waits for either to end.
pub(crate) fn up(arguments: &UpArguments) -> anyhow::Result<()> {
    build::build(false)?;
    let mut server = start_server(arguments)?;
    let page = read_page_address(&mut server.0)?;
    let base = page.strip_suffix("/ingest").context("the server's page is /ingest")?;
    let code = session_code(base)?;
    let mut worker = Running(
        Command::new(bin_dir().join("chaarfm-worker"))
            .args(["--url", base, "--code", &code])
            .spawn()
            .context("cannot start chaarfm-worker")?,
    );
    println!("\n  Open {page}\n  Another worker: chaarfm-worker --url {base} --code {code}\n  Ctrl-C ends both.\n");
    let status = server.0.wait()?;
    worker.0.wait()?;
    if status.success() { Ok(()) } else { bail!("the server ended: {status}") }
}

/// A program that is ended when the other one fails to start. Ctrl-C reaches both by itself, as they share a terminal.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Already ended is what we want.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start_server(arguments: &UpArguments) -> anyhow::Result<Running> {
    let fixtures = vec![root().join("tests/fixtures/music")];
    let libraries = if arguments.library.is_empty() { &fixtures } else { &arguments.library };
    let mut command = Command::new(bin_dir().join("chaarfm-server"));
    command.args(["--listen", &arguments.listen]).stdout(Stdio::piped());
    command.args(libraries.iter().flat_map(|library| ["--library".as_ref(), library.as_os_str()]));
    command.args(arguments.data.iter().flat_map(|data| ["--data".as_ref(), data.as_os_str()]));
    Ok(Running(command.spawn().context("cannot start chaarfm-server")?))
}

/// The server's first line is `open http://HOST:PORT/ingest`.
fn read_page_address(server: &mut Child) -> anyhow::Result<String> {
    let mut line = String::new();
    BufReader::new(server.stdout.take().context("the server's output is piped")?).read_line(&mut line)?;
    let Some(page) = line.trim().strip_prefix("open ") else { bail!("the server did not start") };
    Ok(page.to_owned())
}

/// Asks the server for its open session.
fn session_code(base: &str) -> anyhow::Result<String> {
    let url = format!("{base}/api/sessions/current");
    let session: serde_json::Value = ureq::post(&url).send_empty()?.body_mut().read_json()?;
    session["code"].as_str().map(str::to_owned).context("the session has a code")
}
