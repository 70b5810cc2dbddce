//! Measures the load of thousands of workers on a coordinator, and whether a long queue makes its jobs more expensive.

use clap::Args;

use crate::{
    build::{self, MEASURE},
    packages::native,
    run::{program, run, target_dir},
    tools,
};

/// A few workers that finish instantly: the coordinator is never idle, and workers wait for their turn.
const SATURATION: [&str; 5] =
    ["--workers=500", "--jobs=20000", "--min-work-seconds=0", "--max-work-seconds=0", "--max-p99-millis=60000"];

#[derive(Args)]
pub(crate) struct LoadArguments {
    /// Connected workers.
    #[arg(long, default_value_t = 10_000)]
    workers: usize,
    /// Tracks.
    #[arg(long, default_value_t = 50_000)]
    jobs: usize,
    /// Use a PostgreSQL database instead of an SQLite file.
    #[arg(long)]
    postgres: bool,
    /// Skip the comparison of a short queue with a long one.
    #[arg(long)]
    no_queues: bool,
}

pub(crate) fn load(arguments: &LoadArguments) -> anyhow::Result<()> {
    if arguments.postgres || !arguments.no_queues {
        tools::install_postgres()?;
    }
    run(build::native_release(&["build", "--release", "--bin", "chaarfm-server", "--bin", "load"]).args(MEASURE))?;
    let load = target_dir().join("release").join("load");
    let load = || {
        let mut command = program(&load.to_string_lossy(), &[]);
        command.args(arguments.postgres.then_some("--postgres"));
        command
    };
    run(load().args([format!("--workers={}", arguments.workers), format!("--jobs={}", arguments.jobs)]))?;
    run(load().args(SATURATION))?;
    if !arguments.no_queues {
        let queues = ["test", "--lib", "--", "--ignored", "--nocapture", "--test-threads=1", "queue_length"];
        run(&mut native(&queues))?;
    }
    Ok(())
}
