//! The native worker: joins a session and works for it, or analyses local files without any server.
//!
//! Not here: the life of a worker (`chaarfm-worker`) and the analysis (`chaarfm-analysis`). Here are the socket, the
//! downloads, the devices, the analysis thread, and the user interface: the terminal, or a page.

mod analyser;
mod analyze;
mod cli;
mod command;
mod devices;
mod display;
mod doctor;
mod fetch;
mod gpu;
mod interrupt;
mod join;
mod json_file;
mod keys;
mod lane;
mod log;
mod manners;
mod network;
mod orders;
mod page;
mod platform;
mod scratch;
mod service;
mod settings;
mod threads;
mod tray;
mod update;

use std::process::ExitCode;

use crate::{
    cli::{Cli, Command},
    settings::{EXAMPLE, Settings},
};
use clap::Parser;

fn main() -> anyhow::Result<ExitCode> {
    let cli = Cli::parse();
    if let Some(Command::GpuProcess) = cli.command {
        return gpu::process::run().map(|()| ExitCode::SUCCESS);
    }
    let file = Settings::file(&cli);
    if let Some(Command::Config(command)) = cli.command {
        let effective = |settings: Settings| settings.under(&cli);
        command.run(&file, EXAMPLE, effective, &mut std::io::stdout())?;
        return Ok(ExitCode::SUCCESS);
    }
    let settings = file.read::<Settings>()?.under(&cli);
    let shows_page = page::is_wanted(&cli);
    if shows_page && page::leaves_console(&cli) {
        return Ok(ExitCode::SUCCESS);
    }
    log::begin(settings.log.clone(), settings.log_file.clone(), shows_page)?;
    if let Some(threads) = settings.threads {
        rayon::ThreadPoolBuilder::new().num_threads(threads.get()).build_global()?;
    }
    match cli.command {
        None if shows_page => page::run(settings, file),
        None => join::run(settings),
        Some(Command::Analyze(args)) => analyze::run(&args, args.device.or(settings.device).unwrap_or_default()),
        Some(Command::Devices(args)) => devices::report(args.json),
        Some(Command::Doctor(args)) => doctor::run(args),
        Some(Command::Service(command)) => service::run(command),
        Some(Command::Update(args)) => update::run(&args),
        Some(Command::Config(_) | Command::GpuProcess) => unreachable!("they were answered above"),
    }
}
