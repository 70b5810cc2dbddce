//! The simulation of the queue, which is a test of `chaarfm-coordinator`, in its long form.

use clap::Args;

use crate::run::{cargo, run};

#[derive(Args)]
pub(crate) struct SimArguments {
    /// Runs, each with a seed of its own.
    #[arg(long, default_value_t = 10_000)]
    seeds: u64,
    /// Repeat the run of this seed only.
    #[arg(long)]
    seed: Option<u64>,
}

pub(crate) fn sim(arguments: &SimArguments) -> anyhow::Result<()> {
    let mut command = cargo(&["test", "-p", "chaarfm-coordinator", "--test", "simulation", "--", "--nocapture"]);
    command.env("CHAARFM_SIM_SEEDS", arguments.seeds.to_string());
    if let Some(seed) = arguments.seed {
        command.env("CHAARFM_SIM_SEED", seed.to_string());
    }
    run(&mut command)
}
