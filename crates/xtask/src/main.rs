//! `cargo xtask`: the commands of the repository. Continuous integration runs `cargo xtask test` and nothing else.
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
    /// Build what is needed, start a coordinator and one local worker, print the page's address.
    Up(up::UpArguments),
    /// Everything continuous integration checks: lint, unit tests, WASM tests, end-to-end tests.
    Test {
        /// Only a part of it: lint, web, end-to-end, or a crate by the name of its folder.
        part: Option<String>,
    },
    /// The pages and the executables.
    Build {
        /// Optimise as for a release.
        #[arg(long)]
        release: bool,
    },
    /// Everything that people install, for every system, into the target folder's `dist`. `--help` tells more.
    #[command(disable_help_flag = true)]
    Dist {
        /// What `--help` tells.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Time each stage of the analysis, and all of it side by side with the peers.
    Bench(bench::BenchArguments),
    /// Live through thousands of runs of coordinators and workers with everything going wrong that can.
    Sim(sim::SimArguments),
    /// Have thousands of simulated workers at one coordinator, and measure what that takes.
    Load(load::LoadArguments),
    /// Share a session among coordinators and workers that are killed at random, and see that nothing is lost.
    Chaos(chaos::ChaosArguments),
    /// The vectors of the worker for 64-bit ARM, which qemu runs.
    Arm64,
    /// Format, clippy for native and WASM, documentation, sizes of what was built.
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
        Command::Chaos(arguments) => chaos::chaos(&arguments),
        Command::Arm64 => arm64::arm64(),
        Command::Lint => check::lint(),
        Command::Models { from } => build::models(&from),
    }
}
