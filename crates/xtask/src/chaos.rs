//! Runs the long form of the chaos test in `chaarfm-tests`.

use clap::Args;

use crate::{
    packages::native,
    run::{bin_dir, program, run},
    tools,
};

#[derive(Args)]
pub(crate) struct ChaosArguments {
    /// Seconds during which coordinators and workers are killed.
    #[arg(long, default_value_t = 120)]
    seconds: u64,
    #[arg(long, default_value_t = 5000)]
    jobs: usize,
    #[arg(long, default_value_t = 20)]
    workers: usize,
    #[arg(long, default_value_t = 3)]
    servers: usize,
    /// Repeat the schedule of this seed; by default a new one.
    #[arg(long)]
    seed: Option<u64>,
}

pub(crate) fn chaos(arguments: &ChaosArguments) -> anyhow::Result<()> {
    tools::install_postgres()?;
    run(&mut native(&["build", "--bins"]))?;
    let ChaosArguments { seconds, jobs, workers, servers, seed } = arguments;
    let mut command = program(&bin_dir().join("chaos").to_string_lossy(), &[]);
    command.args([format!("--seconds={seconds}"), format!("--jobs={jobs}")]);
    command.args([format!("--workers={workers}"), format!("--servers={servers}")]);
    command.args(seed.map(|seed| format!("--seed={seed}")));
    run(&mut command)
}
