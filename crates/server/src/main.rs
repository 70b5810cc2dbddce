//! `chaarfm-server`: reads its arguments, starts the coordinator, stops it on Ctrl-C.

use std::{
    io::{self, IsTerminal, Write},
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
};

use anyhow::Context;
use chaarfm_server::{Config, Database, Server};
use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

/// Shares out a music library among workers and stores the vectors they compute.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Address and port to listen on; port 0 takes a free one. Use 0.0.0.0 to let other machines join.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Folder of the database; created when missing [default: the user's data folder].
    #[arg(long, value_name = "DIR", global = true)]
    data: Option<PathBuf>,
    /// The database: sqlite:PATH, or postgres://USER:PASSWORD@HOST/NAME, which several coordinators may share
    /// [default: a file in the data folder].
    #[arg(long, value_name = "URL", global = true, env = "CHAARFM_DATABASE_URL", hide_env_values = true)]
    database_url: Option<Database>,
    /// Folder of audio files to offer as a library; may be given several times.
    #[arg(long = "library", value_name = "DIR")]
    libraries: Vec<PathBuf>,
    /// What to log: error, warn, info, debug, trace, or a filter such as chaarfm_server=debug.
    #[arg(long, value_name = "FILTER", default_value = "info", global = true)]
    log: String,
}

/// What to do instead of serving.
#[derive(Debug, Subcommand)]
enum Command {
    /// Write all sessions, jobs and vectors into a file, to take them to another database.
    ExportDb {
        /// The file; one that is there is replaced.
        file: PathBuf,
    },
    /// Take such a file into an empty database. If that is interrupted, do it again: it goes on where it was.
    ImportDb {
        /// The file.
        file: PathBuf,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Where standard error is closed, nobody wants to know.
            let _ = writeln!(io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&arguments.log).with_context(|| format!("--log {}", arguments.log))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        // The library would panic over a log that cannot be written, on a full disk for example.
        .log_internal_errors(false)
        .init();
    let database = database(arguments.database_url, arguments.data)?;
    match arguments.command {
        Some(Command::ExportDb { file }) => {
            let tally = chaarfm_server::export_database(&database, &file).await?;
            return Ok(writeln!(io::stdout(), "{} holds {tally}", file.display())?);
        }
        Some(Command::ImportDb { file }) => {
            let tally = chaarfm_server::import_database(&database, &file).await?;
            return Ok(writeln!(io::stdout(), "{database} holds {tally}")?);
        }
        None => {}
    }
    let config = Config { listen: arguments.listen, database, libraries: arguments.libraries };
    // Before the address is told: from then on a signal means an orderly stop.
    let stop = stop_signal().context("signals cannot be listened for")?;
    let server = Server::bind(&config).await?;
    // The first and only line on standard output: programs that start a coordinator wait for it.
    let mut out = io::stdout();
    writeln!(out, "open {}", server.page())?;
    out.flush()?;
    tracing::info!("listening on {}, data in {}", server.local_addr(), config.database);
    server.run(stop).await
}

/// The database that was asked for, or the file in the data folder.
fn database(asked: Option<Database>, data: Option<PathBuf>) -> anyhow::Result<Database> {
    if let Some(database) = asked {
        return Ok(database);
    }
    let data = data.or_else(default_data).context("this system names no data folder; give one with --data")?;
    Ok(Database::Sqlite(data.join("chaarfm.sqlite3")))
}

fn default_data() -> Option<PathBuf> {
    directories::BaseDirs::new().map(|folders| folders.data_dir().join("chaarfm"))
}

/// Begins to listen for Ctrl-C and for the system's request to end; the future comes with the first.
#[cfg(unix)]
fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// Begins to listen for Ctrl-C and for the system's request to end; the future comes with the first.
#[cfg(windows)]
fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    use tokio::signal::windows::{ctrl_c, ctrl_close};
    let (mut interrupt, mut close) = (ctrl_c()?, ctrl_close()?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = close.recv() => {}
        }
    })
}
