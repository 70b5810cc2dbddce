//! Runs [`chaarfm_tests::chaos`] for any duration.
#![expect(clippy::print_stdout, reason = "a command line program")]

use std::time::Duration;

use chaarfm_tests::chaos::{Plan, chaos};
use clap::Parser;

#[derive(Parser)]
struct Arguments {
    /// Seconds during which processes are killed.
    #[arg(long, default_value_t = 120)]
    seconds: u64,
    #[arg(long, default_value_t = 5000)]
    jobs: usize,
    #[arg(long, default_value_t = 20)]
    workers: usize,
    #[arg(long, default_value_t = 3)]
    servers: usize,
    /// Average lifetime of a server in seconds.
    #[arg(long, default_value_t = 15)]
    server_life: u64,
    /// Average lifetime of a worker in seconds.
    #[arg(long, default_value_t = 30)]
    worker_life: u64,
    /// Determines how long each process lives; random by default.
    #[arg(long)]
    seed: Option<u64>,
}

#[tokio::main]
async fn main() {
    let Arguments { seconds, jobs, workers, servers, server_life, worker_life, seed } = Arguments::parse();
    let plan = Plan {
        killing: Duration::from_secs(seconds),
        jobs,
        workers,
        servers,
        server_life: Duration::from_secs(server_life),
        worker_life: Duration::from_secs(worker_life),
        apart: Duration::ZERO,
        seed: seed.unwrap_or_else(|| fastrand::u64(..)),
    };
    println!("{plan:?}");
    let outcome = chaos(&plan, |line| println!("{line}")).await;
    println!("{outcome}; --seed {} repeats the schedule", plan.seed);
}
