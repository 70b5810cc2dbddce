//! The native worker: joins a session and works for it, or analyses local files without any server.
//!
//! Leaves out the life of a worker, which is `chaarfm-worker`'s, and the analysis, which is `chaarfm-analysis`'s: here
//! are the socket, the downloads, the devices, the analysis thread and the terminal.

mod analyser;
mod analyze;
mod cli;
mod devices;
mod display;
mod fetch;
mod gpu;
mod interrupt;
mod join;
mod lane;
mod platform;
mod socket;
mod tls;

use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::{layer::SubscriberExt, util::SubscriberInitExt};

use crate::cli::{Cli, Command};

fn main() -> anyhow::Result<ExitCode> {
    let cli = Cli::parse();
    if let Some(filter) = &cli.log {
        let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
        tracing_subscriber::registry().with(lines).with(filter.clone()).init();
    }
    if let Some(threads) = cli.threads {
        rayon::ThreadPoolBuilder::new().num_threads(threads.into()).build_global()?;
    }
    match cli.command {
        None => join::run(cli.join, cli.log.is_some()),
        Some(Command::Analyze(args)) => analyze::run(&args),
        Some(Command::Devices(args)) => devices::report(&args),
        Some(Command::GpuProcess) => gpu::process::run().map(|()| ExitCode::SUCCESS),
    }
}
