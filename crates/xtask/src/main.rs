//! `cargo xtask`: the repository's commands. Continuous integration runs only `cargo xtask test`.
#![expect(clippy::print_stdout, reason = "a command line program")]

mod arm64;
mod bench;
mod borders;
mod build;
mod bundle;
mod chaos;
mod check;
mod cycles;
mod dist;
mod first_look;
mod load;
mod siege;
mod sim;
mod sizes;
mod suites;
mod up;

use std::{ffi::OsString, path::PathBuf};

use clap::{Parser, Subcommand};
use xtask::{packages, run, tools};

#[derive(Parser)]
#[command(about = "Builds, tests and runs ChaarFM")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build everything needed, start a coordinator and one local worker, print the page's address.
    Up(up::UpArguments),
    /// Run all checks of continuous integration: lint, unit tests, WASM tests, end-to-end tests.
    Test {
        /// Only one part: lint, pages (by trunk), web, end-to-end, or a crate by its folder's name.
        part: Option<String>,
    },
    /// Build the pages and the executables.
    Build {
        /// Optimise as for a release.
        #[arg(long)]
        release: bool,
    },
    /// Build everything that users install, for every system, into the target folder's `dist`. See `--help`.
    #[command(disable_help_flag = true)]
    Dist {
        /// Arguments as listed by `--help`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Time each stage of the analysis, and the whole side by side with the peers.
    Bench(bench::BenchArguments),
    /// Simulate thousands of runs of coordinators and workers with every kind of failure.
    Sim(sim::SimArguments),
    /// Run thousands of simulated workers on one coordinator and measure its load.
    Load(load::LoadArguments),
    /// Attack a coordinator with silent connections, stalled bodies, unread exports and floods, and measure how it fares.
    Siege,
    /// Share a session among coordinators and workers that are killed at random, and check that nothing is lost.
    Chaos(chaos::ChaosArguments),
    /// Check the vectors of the worker for 64-bit ARM under qemu.
    Arm64,
    /// Check format, clippy for native and WASM, documentation, and the sizes of the build outputs.
    Lint,
    /// Rebuild `models/` from exported checkpoints (see models/README.md).
    Models {
        /// Folder with `NAME.tf-layout.safetensors`.
        #[arg(long)]
        from: PathBuf,
    },
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Up(arguments) => up::up(&arguments),
        Command::Test { part } => check::test(part.as_deref()),
        Command::Build { release } => build::build(release),
        Command::Dist { arguments } => dist::dist(&arguments),
        Command::Bench(arguments) => bench::bench(&arguments),
        Command::Sim(arguments) => sim::sim(&arguments),
        Command::Load(arguments) => load::load(&arguments),
        Command::Siege => siege::siege(),
        Command::Chaos(arguments) => chaos::chaos(&arguments),
        Command::Arm64 => arm64::arm64(),
        Command::Lint => check::lint(),
        Command::Models { from } => build::models(&from),
    }
}
