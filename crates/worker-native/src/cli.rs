//! The command line.

use std::path::PathBuf;

use chaarfm_models::Manifest;
use chaarfm_protocol::PairingCode;
use chaarfm_worker::Address;
use clap::{Args, Parser, Subcommand, value_parser};
use tracing_subscriber::filter::Targets;

use crate::devices::DeviceChoice;

/// Turns music into MusicNN vectors for a ChaarFM coordinator.
///
/// Exit codes: 0 after an orderly stop, 1 when something failed, 2 for wrong arguments, 3 when the coordinator refuses
/// the worker because the code is unknown or the session has ended.
#[derive(Debug, Parser)]
#[command(name = "chaarfm-worker", version, args_conflicts_with_subcommands = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) join: JoinArgs,

    /// Trace what happens, such as `info` or `hyper=debug`; plain lines instead of the one-screen status.
    #[arg(long, global = true, value_name = "FILTER")]
    pub(crate) log: Option<Targets>,

    /// Threads to analyse with; as many as there are cores when absent.
    #[arg(long, global = true, value_name = "N", value_parser = value_parser!(u16).range(1..=MAX_THREADS))]
    pub(crate) threads: Option<u16>,

    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// Most threads to analyse with.
const MAX_THREADS: i64 = 1024;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Analyse local files, without any server.
    Analyze(AnalyzeArgs),
    /// Try this machine's devices, and say what each does and which ones `auto` takes.
    Devices(DevicesArgs),
    /// The process that drives the GPU; the worker starts it.
    #[command(name = crate::gpu::process::SUBCOMMAND, hide = true)]
    GpuProcess,
}

/// Whom to work for.
#[derive(Debug, Args)]
pub(crate) struct JoinArgs {
    /// The coordinator's address, such as http://host:8080, or a whole join link.
    #[arg(short, long)]
    pub(crate) url: Option<Address>,

    /// The session's pairing code, such as K7Q-M4X-WDP.
    #[arg(short, long)]
    pub(crate) code: Option<PairingCode>,

    /// What to compute on: auto (the fastest, or CPU and GPU at once), wgpu (the GPU), ndarray or flex (the CPU).
    #[arg(long, default_value_t)]
    pub(crate) device: DeviceChoice,
}

/// What to analyse.
#[derive(Debug, Args)]
pub(crate) struct AnalyzeArgs {
    /// Audio files; `-` is standard input.
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,

    /// The model to compute.
    #[arg(long, default_value = chaarfm_models::default().name.as_str(), value_parser = model)]
    pub(crate) model: &'static Manifest,

    /// What to compute on: auto (the fastest, or CPU and GPU at once), wgpu (the GPU), ndarray or flex (the CPU).
    #[arg(long, default_value_t)]
    pub(crate) device: DeviceChoice,

    /// Print one line of JSON a file.
    #[arg(long)]
    pub(crate) json: bool,
}

/// How to say it.
#[derive(Debug, Args)]
pub(crate) struct DevicesArgs {
    /// Print a line of JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

fn model(name: &str) -> Result<&'static Manifest, String> {
    chaarfm_models::find(name).ok_or_else(|| {
        let names: Vec<_> = chaarfm_models::all().iter().map(|model| model.name.as_str()).collect();
        format!("there is no such model; there are {}", names.join(" and "))
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn reads_both_forms() {
        let join =
            Cli::parse_from(["chaarfm-worker", "-u", "http://h:1", "-c", "k7q m4x wdp", "--device", "flex"]).join;
        assert_eq!(join.url.unwrap().to_string(), "http://h:1");
        assert_eq!(join.code.unwrap().to_string(), "K7Q-M4X-WDP");
        assert_eq!(join.device.to_string(), "flex");
        let Some(Command::Analyze(analyze)) =
            Cli::parse_from(["chaarfm-worker", "analyze", "a", "b", "--json"]).command
        else {
            panic!("a subcommand");
        };
        assert_eq!((analyze.files.len(), analyze.json, analyze.model), (2, true, chaarfm_models::default()));
    }

    #[test]
    fn says_what_is_wrong_with_an_address_or_a_code_and_exits_with_2() {
        for (arguments, says) in [
            (["--url", "localhost:8080"], "does not begin with http://"),
            (["--url", "http://h:1/join/K7Q"], "9 letters and digits"),
            (["--code", "K7Q"], "9 letters and digits"),
            (["--device", "abacus"], "'abacus' is no device"),
            (["--threads", "0"], "0 is not in 1..=1024"),
        ] {
            let error = Cli::try_parse_from(["chaarfm-worker"].into_iter().chain(arguments)).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains(says), "{error}");
        }
    }
}
