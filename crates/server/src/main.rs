//! `chaarfm-server`: reads its settings, starts the coordinator and stops it on Ctrl-C.

mod settings;

use std::{
    io::{self, IsTerminal, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::ExitCode,
    time::{Duration, UNIX_EPOCH},
};

use anyhow::Context;
use chaarfm_config::{ConfigCommand, ConfigFile};
use chaarfm_domain::Role;
use chaarfm_server::{
    Access, Config, Database, NamedLocation, PublicUrl, Server, StorageSettings, VerifyShare, packaged_downloads,
};
use clap::{
    Parser, Subcommand, ValueEnum,
    builder::{OsStringValueParser, TypedValueParser},
};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;
use tracing_subscriber::EnvFilter;

use crate::settings::{EXAMPLE, PROGRAM, Settings};

/// Distributes a music library among workers and stores the vectors that they compute.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Settings file; flags and environment variables override it
    /// [default: the one in the user's folder, see `config path`].
    #[arg(long, value_name = "FILE", global = true, env = "CHAARFM_CONFIG")]
    config: Option<PathBuf>,
    /// Address and port to listen on; port 0 picks a free one. Use 0.0.0.0 to let other machines join
    /// [default: 127.0.0.1:8080].
    #[arg(long, value_name = "ADDRESS:PORT", env = "CHAARFM_LISTEN")]
    listen: Option<SocketAddr>,
    /// Folder for the database and temporary files; created when missing [default: the user's data folder].
    #[arg(long, value_name = "DIR", global = true, env = "CHAARFM_DATA")]
    data: Option<PathBuf>,
    /// Database: sqlite:PATH, or postgres://USER:PASSWORD@HOST/NAME, which several coordinators may share
    /// [default: a file in the data folder].
    // Parsed later: clap would quote an invalid value in its error, and the value may contain a password.
    #[arg(long, value_name = "URL", global = true, env = "CHAARFM_DATABASE_URL", hide_env_values = true)]
    database_url: Option<String>,
    /// Library of audio files to offer: a folder, file:///PATH, or s3://BUCKET/PREFIX. May be given several times. Prefix
    /// it with NAME= to name it; the default name is the last part of its path. Buckets are configured by environment
    /// variables: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT for storage other than Amazon's,
    /// AWS_ALLOW_HTTP=true for an endpoint without TLS.
    #[arg(
        long = "library",
        value_name = "[NAME=]DIR|URL",
        env = "CHAARFM_LIBRARY",
        value_parser = OsStringValueParser::new().try_map(NamedLocation::parse)
    )]
    libraries: Vec<NamedLocation>,
    /// Folder with worker programs, such as chaarfm-worker-0.1.0-linux-x86_64.deb, to offer on the join page
    /// [default: the folder downloads beside this program, or ../share/chaarfm/downloads from there].
    #[arg(long, value_name = "DIR", env = "CHAARFM_DOWNLOADS")]
    downloads: Option<PathBuf>,
    /// Days after which an ended session and its jobs are deleted; 0 keeps them forever. Vectors are never deleted
    /// [default: 30].
    #[arg(long, value_name = "DAYS", env = "CHAARFM_JOB_RETENTION_DAYS")]
    job_retention_days: Option<u32>,
    /// Share of the workers' results to recompute on the coordinator's own copy of the audio: none, a percentage, or all.
    /// New workers are checked more often, established ones less [default: 3].
    #[arg(long, value_name = "none|PERCENT|all", env = "CHAARFM_VERIFY")]
    verify: Option<VerifyShare>,
    /// Address by which people and workers reach the coordinator if it differs from its own: behind a proxy, or by name.
    /// Requests for other names are refused. May be given several times or separated by commas; the first is shown to
    /// people.
    #[arg(long = "public-url", value_name = "URL", env = "CHAARFM_PUBLIC_URL", value_delimiter = ',')]
    public_urls: Vec<PublicUrl>,
    /// Network of trusted proxies, such as 10.0.0.0/8, whose X-Forwarded-For header gives the origin of a request; it is
    /// ignored from other peers. May be given several times or separated by commas.
    #[arg(long = "trusted-proxy", value_name = "CIDR", env = "CHAARFM_TRUSTED_PROXY", value_delimiter = ',')]
    trusted_proxies: Vec<IpNet>,
    /// TLS certificate of the coordinator, followed by the intermediate certificates, in PEM format; reloaded when the file
    /// changes. Needs --tls-key.
    #[arg(long, value_name = "FILE", global = true, env = "CHAARFM_TLS_CERT")]
    tls_cert: Option<PathBuf>,
    /// Private key of that certificate, in PEM format.
    #[arg(long, value_name = "FILE", global = true, env = "CHAARFM_TLS_KEY")]
    tls_key: Option<PathBuf>,
    /// Use TLS with a self-signed certificate, kept in the data folder. Browsers warn about it once; native workers
    /// recognise it by the pin in their link.
    #[arg(long, value_name = "BOOL", global = true, env = "CHAARFM_TLS_SELF_SIGNED", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    tls_self_signed: Option<bool>,
    /// Log filter: error, warn, info, debug, trace, or a filter such as chaarfm_server=debug [default: info].
    #[arg(long, value_name = "FILTER", global = true, env = "CHAARFM_LOG")]
    log: Option<String>,
    /// Log format: lines of text for people, or one JSON object per line for programs [default: text].
    #[arg(long, value_name = "FORMAT", value_enum, global = true, env = "CHAARFM_LOG_FORMAT")]
    log_format: Option<LogFormat>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum LogFormat {
    #[default]
    Text,
    Json,
}

/// Commands other than serving.
#[derive(Debug, Subcommand)]
enum Command {
    /// Write all sessions, jobs and vectors to a file, to move them to another database.
    ExportDb {
        /// File to write; an existing one is replaced.
        file: PathBuf,
    },
    /// Read such a file into an empty database. If interrupted, run it again: it continues where it stopped.
    ImportDb {
        /// File to read.
        file: PathBuf,
    },
    /// Check everything that the coordinator needs, and advise on problems. Give the coordinator's options before the word
    /// doctor. Exit code 1 if a check failed.
    Doctor {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Check whether the coordinator on this machine works, and fail if it does not: the health check of containers.
    Healthcheck {
        /// Address of the coordinator [default: the one in the settings].
        #[arg(long, value_name = "ADDRESS:PORT")]
        address: Option<SocketAddr>,
    },
    /// Let people and programs in. Without a subcommand: print a new link for the owner's browser, and invalidate earlier
    /// links and browsers. The coordinator may be running; give its options before the word token.
    #[command(args_conflicts_with_subcommands = true)]
    Token {
        #[command(subcommand)]
        command: Option<TokenCommand>,
        /// Keep the browsers that are let in, and the links that have not been opened.
        #[arg(long)]
        keep: bool,
    },
    /// Check, show or create the settings file.
    #[command(subcommand)]
    Config(ConfigCommand),
}

/// Tokens for programs, which send them in `Authorization: Bearer`.
#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// Print a new token. It is shown only once.
    Add {
        /// Name by which the token is listed and revoked.
        name: String,
        /// Role: owner for everything, or reader for read-only access.
        #[arg(long)]
        role: Role,
        /// Revoke an existing token of this name.
        #[arg(long)]
        replace: bool,
    },
    /// Print the names, roles and ages of all tokens.
    List,
    /// Revoke a token.
    Revoke {
        /// Name of the token.
        name: String,
    },
}

/// Default address to listen on, which no other machine can reach.
const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);

/// Default of `--job-retention-days`.
const DEFAULT_JOB_RETENTION_DAYS: u32 = 30;

/// Number of open files that the program asks for; the system may grant fewer.
const MAX_OPEN_FILES: u64 = 1 << 20;

/// Wait at exit for threads that are still reading files, whose storage may not respond any more.
const LAST_READ_SECONDS: u64 = 1;

fn main() -> ExitCode {
    let ended = Runtime::new().context("no threads can be started").and_then(|runtime| {
        let ended = runtime.block_on(run(Arguments::parse()));
        runtime.shutdown_timeout(Duration::from_secs(LAST_READ_SECONDS));
        ended
    });
    match ended {
        Ok(exit_code) => exit_code,
        Err(error) => {
            // Standard error may be closed.
            let _ = writeln!(io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let file = ConfigFile::find(PROGRAM, arguments.config.clone());
    if let Some(Command::Config(command)) = arguments.command {
        let effective = |settings: Settings| settings.under(&arguments);
        command.run(&file, EXAMPLE, effective, &mut io::stdout())?;
        return Ok(ExitCode::SUCCESS);
    }
    let settings = file.read::<Settings>()?.under(&arguments);
    begin_log(settings.log.as_deref().unwrap_or("info"), settings.log_format.unwrap_or_default())?;
    let listen = settings.listen.unwrap_or(DEFAULT_LISTEN);
    let data = settings.data.clone().or_else(default_data);
    let access = Access {
        tls: settings.tls(data.as_deref())?,
        public_urls: settings.public_urls,
        trusted_proxies: settings.trusted_proxies,
    };
    if let Some(Command::Healthcheck { address }) = arguments.command {
        chaarfm_server::healthcheck(address.unwrap_or(listen), access.tls.is_some())?;
        return Ok(ExitCode::SUCCESS);
    }
    let database = database(settings.database_url, data.clone())?;
    match arguments.command {
        Some(Command::ExportDb { file }) => {
            let record_counts = chaarfm_server::export_database(&database, &file).await?;
            writeln!(io::stdout(), "{} holds {record_counts}", file.display())?;
            return Ok(ExitCode::SUCCESS);
        }
        Some(Command::ImportDb { file }) => {
            let record_counts = chaarfm_server::import_database(&database, &file).await?;
            writeln!(io::stdout(), "{database} holds {record_counts}")?;
            return Ok(ExitCode::SUCCESS);
        }
        Some(Command::Token { command, keep }) => {
            let origins = chaarfm_server::origins(listen, &access);
            token(&database, command, &origins, keep).await?;
            return Ok(ExitCode::SUCCESS);
        }
        Some(Command::Config(_) | Command::Doctor { .. } | Command::Healthcheck { .. }) | None => {}
    }
    // Libraries given by flags replace those of the file.
    let file = arguments.libraries.is_empty().then_some(file);
    let libraries = settings.libraries.into_iter().map(|library| library.0).collect();
    let downloads = settings.downloads.or_else(packaged_downloads);
    let job_retention_days = settings.job_retention_days.unwrap_or(DEFAULT_JOB_RETENTION_DAYS);
    let config = Config {
        listen,
        database,
        libraries,
        storage: StorageSettings::from_env(),
        downloads,
        settings: file,
        temporary: data.unwrap_or_else(|| std::env::temp_dir().join(PROGRAM)).join("tmp"),
        job_retention_days,
        verify: settings.verify.unwrap_or_default(),
        access,
    };
    if let Some(Command::Doctor { json }) = arguments.command {
        return doctor(&config, json).await;
    }
    // Each worker needs a file descriptor, and the systems' default limits are meant for small programs.
    if let Err(error) = rlimit::increase_nofile_limit(MAX_OPEN_FILES) {
        tracing::warn!("the limit of open files stays as it is: {error}");
    }
    // Before anything that may take long: from now on a signal means a graceful stop.
    let mut stop = Box::pin(stop_signal().context("signals cannot be listened for")?);
    let server = tokio::select! {
        server = Server::bind(&config) => server?,
        () = &mut stop => return Ok(ExitCode::SUCCESS),
    };
    // The first line on standard output: programs that start a coordinator wait for it, and may read no further.
    let mut lines = format!("open {}\n", server.page());
    let elsewhere = server.page_elsewhere();
    if server.is_waiting_for_its_owner() {
        // Links are secrets and are kept out of the log.
        lines.extend(elsewhere.map(|page| format!("or, on another machine, {page}\n")));
        tracing::info!("listening on {}, data in {}", server.local_addr(), config.database);
    } else {
        let elsewhere = elsewhere.map(|page| format!(", other machines open {page}")).unwrap_or_default();
        tracing::info!("listening on {}{elsewhere}, data in {}", server.local_addr(), config.database);
    }
    if let Some(pin) = server.pin() {
        tracing::info!(
            "the certificate is signed by this coordinator; native workers without a link are told --pin {pin}"
        );
    }
    if server.is_readable_on_the_way() {
        tracing::warn!(
            "other machines reach this coordinator without TLS: who listens on the network reads the owner's link and cookie, \
             codes and audio, and browsers there have no WebGPU. --tls-cert and --tls-key, or --tls-self-signed, change that; \
             if a proxy in front has TLS, say so with --public-url https://…"
        );
    }
    let mut out = io::stdout();
    out.write_all(lines.as_bytes())?;
    out.flush()?;
    server.run(stop).await?;
    Ok(ExitCode::SUCCESS)
}

/// Runs the `token` command.
async fn token(
    database: &Database,
    command: Option<TokenCommand>,
    origins: &[String],
    keep: bool,
) -> anyhow::Result<()> {
    let mut out = io::stdout();
    match command {
        None => {
            let links = chaarfm_server::new_link(database, origins, keep).await?;
            for (link, word) in links.iter().zip(["open", "or, on another machine,"]) {
                writeln!(out, "{word} {link}")?;
            }
        }
        Some(TokenCommand::Add { name, role, replace }) => {
            writeln!(out, "{}", chaarfm_server::add_token(database, &name, role, replace).await?)?;
        }
        Some(TokenCommand::List) => {
            for token in chaarfm_server::list_tokens(database).await? {
                let made = UNIX_EPOCH + Duration::from_millis(token.created_at_ms);
                let days = made.elapsed().unwrap_or_default().as_secs() / (24 * 60 * 60);
                writeln!(out, "{}\t{}\t{days} days old", token.name, token.role)?;
            }
        }
        Some(TokenCommand::Revoke { name }) => chaarfm_server::revoke_token(database, &name).await?,
    }
    Ok(())
}

async fn doctor(config: &Config, json: bool) -> anyhow::Result<ExitCode> {
    let tell = |lines: &str| if json { Ok(()) } else { writeln!(io::stdout(), "{lines}") };
    let report = chaarfm_server::doctor(config, tell).await?;
    let end = if json { report.json().to_string() } else { report.end() };
    writeln!(io::stdout(), "{end}")?;
    Ok(report.exit_code())
}

fn begin_log(filter: &str, format: LogFormat) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(filter).with_context(|| format!("--log {filter}"))?;
    // tungstenite's finest level logs whole messages, including lease tokens.
    let filter = filter.add_directive("tungstenite=off".parse()?);
    // This target logs unknown options in a database address, and a password with a `?` in it ends up in one.
    let filter = filter.add_directive("sqlx_postgres::options=off".parse()?);
    // lofty may log a line for each of a million frames of a file. Faults in tags are reported elsewhere.
    let filter = filter.add_directive("lofty=off".parse()?);
    // tracing would panic if a log line cannot be written, for example on a full disk.
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).log_internal_errors(false);
    match format {
        LogFormat::Text => log.with_ansi(io::stderr().is_terminal()).init(),
        // A line is in one span at most, which has the ids.
        LogFormat::Json => log.with_ansi(false).json().flatten_event(true).with_span_list(false).init(),
    }
    Ok(())
}

/// The requested database, or the file in the data folder.
fn database(asked: Option<String>, data: Option<PathBuf>) -> anyhow::Result<Database> {
    if let Some(address) = asked {
        return address.parse().context("--database-url");
    }
    let data = data.context("this system names no data folder; give one with --data")?;
    Ok(Database::Sqlite(data.join("chaarfm.sqlite3")))
}

fn default_data() -> Option<PathBuf> {
    directories::BaseDirs::new().map(|folders| folders.data_dir().join("chaarfm"))
}

/// Installs handlers for Ctrl-C and SIGTERM; the future completes with the first signal.
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

/// Installs handlers for Ctrl-C and the system's shutdown events; the future completes with the first one.
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
