//! The simulation of the hub, which is a test of `chaarfm-server`, in its long form.

use clap::Args;

use crate::run::{cargo, run};

#[derive(Args)]
pub(crate) struct SimArguments {
    /// Runs, each with a seed of its own.
    #[arg(long, default_value_t = 10_000)]
    seeds: u64,
    /// Repeat the run of this seed only, and print all that happens in it.
    #[arg(long)]
    seed: Option<u64>,
}

pub(crate) fn sim(arguments: &SimArguments) -> anyhow::Result<()> {
    let test = "simulation::every_job_ends_exactly_once";
    // Thousands of runs are worth a compilation of their own.
    let optimised = ["chaarfm-server", "chaarfm-store"].map(|name| format!("profile.dev.package.{name}.opt-level=2"));
    let mut command = cargo(&["test", "--config", &optimised[0], "--config", &optimised[1]]);
    command.args(["-p", "chaarfm-server", "--lib", test, "--", "--exact", "--nocapture"]);
    command.env("CHAARFM_SIM_SEEDS", arguments.seeds.to_string());
    if let Some(seed) = arguments.seed {
        command.env("CHAARFM_SIM_SEED", seed.to_string());
    }
    run(&mut command)
}
