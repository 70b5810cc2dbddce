//! Runs the long form of the hub simulation, a test in `chaarfm-server`.

use clap::Args;

use crate::run::{cargo, run};

#[derive(Args)]
pub(crate) struct SimArguments {
    /// Number of runs, each with its own seed.
    #[arg(long, default_value_t = 10_000)]
    seeds: u64,
    /// Repeat only the run of this seed, and print everything that happens in it.
    #[arg(long)]
    seed: Option<u64>,
}

pub(crate) fn sim(arguments: &SimArguments) -> anyhow::Result<()> {
    let test = "simulation::every_job_ends_exactly_once";
    // For thousands of runs an optimised build pays off.
    let optimised = ["chaarfm-server", "chaarfm-store"].map(|name| format!("profile.dev.package.{name}.opt-level=2"));
    let mut command = cargo(&["test", "--config", &optimised[0], "--config", &optimised[1]]);
    command.args(["-p", "chaarfm-server", "--lib", test, "--", "--exact", "--nocapture"]);
    command.env("CHAARFM_SIM_SEEDS", arguments.seeds.to_string());
    if let Some(seed) = arguments.seed {
        command.env("CHAARFM_SIM_SEED", seed.to_string());
    }
    run(&mut command)
}
