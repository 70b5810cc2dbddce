//! The command line.

use std::path::PathBuf;

use chaarfm_config::ConfigCommand;
use chaarfm_models::Manifest;
use chaarfm_protocol::{KeyPin, PairingCode};
use chaarfm_worker::Address;
use clap::{Args, Parser, Subcommand};
use tracing_subscriber::filter::Targets;

use crate::{
    devices::DeviceChoice,
    manners::{ByteCount, Percent, Window},
    threads::Threads,
    update::UpdateArgs,
};

/// Computes MusicNN vectors of music for a ChaarFM coordinator.
///
/// Exit codes: 0 after a graceful stop, 1 after a failure, 2 for wrong arguments, 3 when the coordinator refuses the worker
/// because the code is unknown or the session has ended.
#[derive(Debug, Parser)]
#[command(name = "chaarfm-worker", version, args_conflicts_with_subcommands = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) join: JoinArgs,

    /// Log filter, such as `info` or `hyper=debug`; shows plain lines instead of the one-screen status.
    #[arg(long, global = true, value_name = "FILTER", env = "CHAARFM_WORKER_LOG")]
    pub(crate) log: Option<Targets>,

    /// Number of threads for the analysis; one per core when absent.
    #[arg(long, global = true, value_name = "N", env = "CHAARFM_WORKER_THREADS")]
    pub(crate) threads: Option<Threads>,

    /// Write the log to this file, rotated when it has grown, instead of standard error. A double click on the program does
    /// so by default.
    #[arg(long, global = true, value_name = "FILE", env = "CHAARFM_WORKER_LOG_FILE")]
    pub(crate) log_file: Option<PathBuf>,

    /// Settings file; flags and environment variables override it
    /// [default: the one in the user's folder, see `config path`].
    #[arg(long, global = true, value_name = "FILE", env = "CHAARFM_WORKER_CONFIG")]
    pub(crate) config: Option<PathBuf>,

    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Analyse local files, without a server.
    Analyze(AnalyzeArgs),
    /// Try this machine's devices, and report the results and the ones that `auto` chooses.
    Devices(DevicesArgs),
    /// Check, show or create the settings file.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Check everything that this program needs on this machine and to reach a coordinator, and advise on problems.
    Doctor(DoctorArgs),
    /// Install, remove or check a service that starts a worker whenever this user signs in.
    #[command(subcommand)]
    Service(ServiceCommand),
    /// Install a newer version of this program, if updates are set up.
    Update(UpdateArgs),
    /// The process that drives the GPU; the worker starts it.
    #[command(name = crate::gpu::process::SUBCOMMAND, hide = true)]
    GpuProcess,
}

/// The coordinator to work for, and how.
#[derive(Debug, Args)]
pub(crate) struct JoinArgs {
    /// A join link, such as http://host:8080/join/K7Q-M4X-WDP or chaarfm://join?…
    pub(crate) link: Option<Address>,

    /// The coordinator's address, such as http://host:8080, or a whole join link.
    #[arg(short, long, env = "CHAARFM_WORKER_URL")]
    pub(crate) url: Option<Address>,

    /// The session's pairing code, such as K7Q-M4X-WDP.
    #[arg(short, long, env = "CHAARFM_WORKER_CODE", hide_env_values = true)]
    pub(crate) code: Option<PairingCode>,

    /// Pin of the coordinator's self-signed certificate, as logged when the coordinator starts. Join links contain it.
    #[arg(long, value_name = "SHA256", env = "CHAARFM_WORKER_PIN")]
    pub(crate) pin: Option<KeyPin>,

    /// Device to compute on: auto (the fastest, or CPU and GPU at once), wgpu (the GPU), ndarray or flex (the CPU)
    /// [default: auto].
    #[arg(long, env = "CHAARFM_WORKER_DEVICE")]
    pub(crate) device: Option<DeviceChoice>,

    /// Allow audio downloads from private networks too, wherever the coordinator says, and not only from the public
    /// internet and the coordinator's own host.
    #[arg(long, value_name = "BOOL", env = "CHAARFM_WORKER_ALLOW_PRIVATE_SOURCES", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) allow_private_sources: Option<bool>,

    /// Open a page in the browser to control the worker, as a double click does; needs neither address nor code.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) page: Option<bool>,

    #[command(flatten)]
    pub(crate) manners: MannersArgs,
}

/// When to work, and how much of the machine to take.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Manners")]
pub(crate) struct MannersArgs {
    /// Give priority to other programs [default: true].
    #[arg(long, value_name = "BOOL", env = "CHAARFM_WORKER_LOW_PRIORITY", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) low_priority: Option<bool>,

    /// Share of the processor's cores, and of the graphics card's time, to use [default: 100].
    #[arg(long, value_name = "PERCENT", env = "CHAARFM_WORKER_MAX_CPU")]
    pub(crate) max_cpu: Option<Percent>,

    /// Work only at these times of day, such as 22:00-07:00,12:30-13:30.
    #[arg(long, value_name = "FROM-TO", env = "CHAARFM_WORKER_SCHEDULE", value_delimiter = ',')]
    pub(crate) schedule: Option<Vec<Window>>,

    /// Work only while nobody uses the machine.
    #[arg(long, value_name = "BOOL", env = "CHAARFM_WORKER_ONLY_WHEN_IDLE", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) only_when_idle: Option<bool>,

    /// Minutes without mouse or keyboard input after which a machine counts as unused [default: 5].
    #[arg(long, value_name = "MINUTES", env = "CHAARFM_WORKER_IDLE_MINUTES")]
    pub(crate) idle_minutes: Option<u16>,

    /// Pause while on battery power.
    #[arg(long, value_name = "BOOL", env = "CHAARFM_WORKER_NOT_ON_BATTERY", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) not_on_battery: Option<bool>,

    /// Do not fetch over a metered network.
    #[arg(long, value_name = "BOOL", env = "CHAARFM_WORKER_NOT_ON_METERED", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) not_on_metered: Option<bool>,

    /// Maximum amount to fetch from midnight to midnight, such as 2GB.
    #[arg(long, value_name = "AMOUNT", env = "CHAARFM_WORKER_MAX_BYTES_PER_DAY")]
    pub(crate) max_bytes_per_day: Option<ByteCount>,

    /// Pause while a sensor shows more than this many degrees Celsius.
    #[arg(long, value_name = "CELSIUS", env = "CHAARFM_WORKER_MAX_TEMPERATURE")]
    pub(crate) max_temperature: Option<u8>,
}

/// Files to analyse, and how.
#[derive(Debug, Args)]
pub(crate) struct AnalyzeArgs {
    /// Audio files; `-` means standard input.
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,

    /// Model to compute.
    #[arg(long, default_value = chaarfm_models::default().name.as_str(), value_parser = model)]
    pub(crate) model: &'static Manifest,

    /// Device to compute on: auto (the fastest, or CPU and GPU at once), wgpu (the GPU), ndarray or flex (the CPU)
    /// [default: auto].
    #[arg(long)]
    pub(crate) device: Option<DeviceChoice>,

    /// Print one line of JSON per file.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Output of the command.
#[derive(Debug, Args)]
pub(crate) struct DevicesArgs {
    /// Print a line of JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Checks to make, and their output.
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// The coordinator's address, or a join link, to check the connection to it as well.
    #[arg(short, long)]
    pub(crate) url: Option<Address>,

    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Commands for the service.
#[derive(Debug, Subcommand)]
pub(crate) enum ServiceCommand {
    /// Start a worker now and whenever this user signs in; replaces an installed service.
    Install(InstallArgs),
    /// Stop the service and remove it completely.
    Uninstall,
    /// Report whether the service is installed and running. Exit code 1 if not.
    Status,
}

/// Arguments of the service's worker.
#[derive(Debug, Args)]
pub(crate) struct InstallArgs {
    /// Arguments of the worker, such as --url http://host:8080 --code K7Q-M4X-WDP; everything else is in the settings file.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENT")]
    pub(crate) arguments: Vec<String>,
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
        assert_eq!(join.device.unwrap().to_string(), "flex");
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
