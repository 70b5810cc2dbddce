//! Tests the hub against every possible fault, with a seed controlling clock, database and connections: workers disconnect
//! with or without a goodbye, hang, answer late, twice, wrongly or under another worker's lease, fail or hand back
//! everything, and crash; coordinators share the jobs, race for them, restart, have different clocks, and die during a
//! scan; the database is down or slow, rolls back a transaction or loses its answer; the storage is down, so that every
//! worker fails. Whatever happens, each file becomes a job, each job ends exactly once, and only one worker at a time holds
//! it.
//!
//! It runs the code that serves real workers: [`crate::hub`] with its loops, and [`crate::worker_socket::serve`] with
//! everything but the WebSocket itself, on [`chaarfm_store::memory`], which passes the tests of the databases. Everything
//! runs on one thread, under a clock that advances only when all tasks are idle. A failed run is therefore reproducible:
//! `cargo xtask sim --seed S`.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "whoever runs it reads what it prints")]

mod clock;
mod ledger;
mod liars;
mod peer;
mod process;
mod wire;
mod world;

use std::{
    env,
    panic::{self, AssertUnwindSafe},
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use ledger::{Seen, Trace};
use world::World;

/// Number of runs in an ordinary test; `cargo xtask sim` runs more.
const SEEDS: u64 = 300;

/// Number of runs after which every kind of event must have occurred.
const SEEDS_FOR_EVERYTHING: u64 = 400;

/// Number of runs that are repeated to check reproducibility.
const SEEDS_TWICE: u64 = 12;

/// Variable with the number of runs, set by `cargo xtask sim`.
const SEEDS_VARIABLE: &str = "CHAARFM_SIM_SEEDS";

/// Variable with the only seed to run, set by `cargo xtask sim`.
const SEED_VARIABLE: &str = "CHAARFM_SIM_SEED";

/// One run, and the events in it.
fn run(seed: u64, trace: Trace) -> (Seen, Trace) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).build().expect("a runtime needs nothing");
    runtime.block_on(async { World::begin(seed, trace).await.run().await })
}

#[test]
fn every_job_ends_exactly_once() {
    if let Some(seed) = number(SEED_VARIABLE) {
        println!("{:#?}", run(seed, Trace::Printed).0);
        return;
    }
    let seeds = number(SEEDS_VARIABLE).unwrap_or(SEEDS);
    let mut sum = Seen::default();
    on_all_cores(seeds, "cargo xtask sim --seed ", |seed| run(seed, Trace::Dropped).0)
        .into_iter()
        .for_each(|seen| sum += seen);
    println!("{seeds} runs: {sum:#?}");
    assert!(seeds < SEEDS_FOR_EVERYTHING || sum.missing().is_empty(), "never happened: {:?}", sum.missing());
}

#[test]
fn a_seed_decides_all_that_happens() {
    for seed in 0..SEEDS_TWICE {
        let [first, second] = [(); 2].map(|()| run(seed, Trace::Kept(Vec::new())));
        let (Trace::Kept(once), Trace::Kept(again)) = (&first.1, &second.1) else { panic!("they are kept") };
        assert_eq!(once.iter().zip(again).find(|(once, again)| once != again), None, "seed {seed}");
        assert_eq!((first.0, once.len()), (second.0, again.len()), "seed {seed}");
        assert!(!once.is_empty());
    }
}

/// Runs all seeds on all cores, and says how to repeat a run that panics: with the seed after `again`. The outcomes are ordered
/// by seed.
fn on_all_cores<T: Send>(seeds: u64, again: &str, run: impl Fn(u64) -> T + Sync) -> Vec<T> {
    let next = AtomicU64::new(0);
    let run_some = || {
        let mut outcomes = Vec::new();
        while let Some(seed) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|seed| *seed < seeds) {
            match panic::catch_unwind(AssertUnwindSafe(|| run(seed))) {
                Ok(outcome) => outcomes.push((seed, outcome)),
                Err(cause) => {
                    eprintln!("this was seed {seed}; it is repeated by: {again}{seed}");
                    panic::resume_unwind(cause);
                }
            }
        }
        outcomes
    };
    let mut all = Vec::new();
    thread::scope(|scope| {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let runs: Vec<_> = (0..threads).map(|_| scope.spawn(run_some)).collect();
        for run in runs {
            all.extend(run.join().unwrap_or_else(|cause| panic::resume_unwind(cause)));
        }
    });
    all.sort_by_key(|(seed, _)| *seed);
    all.into_iter().map(|(_, outcome)| outcome).collect()
}

fn number(variable: &str) -> Option<u64> {
    env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|error| panic!("{variable}={text}: {error}")))
}
