//! Coordinators and workers under a fake clock, with everything going wrong that can: workers vanish with and without a
//! word, hang, answer late, twice, wrongly or under somebody else's lease, fail whatever they get, hand it back, crash with
//! it; coordinators share the stored jobs, restart, and disagree about the time; the database is away for a while, or the
//! storage, so that everybody fails. Whatever happens, each job ends exactly once, and only ever one worker holds it.
//!
//! A seed decides all that happens in a run, so that a run that fails can be repeated: `cargo xtask sim --seed S`.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod coordinator;
mod peer;
mod store;
mod world;

use std::{
    env,
    panic::{self, AssertUnwindSafe},
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use world::{Outcome, World};

/// Runs of an ordinary test; `cargo xtask sim` asks for more.
const SEEDS: u64 = 400;

/// So many runs show everything that may happen.
const SEEDS_FOR_EVERYTHING: u64 = 300;

/// How many runs, set by `cargo xtask sim`.
const SEEDS_VARIABLE: &str = "CHAARFM_SIM_SEEDS";

/// The seed of the only run, set by `cargo xtask sim`.
const SEED_VARIABLE: &str = "CHAARFM_SIM_SEED";

#[test]
fn every_job_ends_exactly_once() {
    if let Some(seed) = number(SEED_VARIABLE) {
        println!("{:#?}", World::new(seed).run());
        return;
    }
    let seeds = number(SEEDS_VARIABLE).unwrap_or(SEEDS);
    let next = AtomicU64::new(0);
    let run_some = || {
        let mut sum = Outcome::default();
        while let Some(seed) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|seed| *seed < seeds) {
            match panic::catch_unwind(AssertUnwindSafe(|| World::new(seed).run())) {
                Ok(outcome) => sum += outcome,
                Err(cause) => {
                    eprintln!("this was seed {seed}; it is repeated by: cargo xtask sim --seed {seed}");
                    panic::resume_unwind(cause);
                }
            }
        }
        sum
    };
    let mut sum = Outcome::default();
    thread::scope(|scope| {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let runs: Vec<_> = (0..threads).map(|_| scope.spawn(run_some)).collect();
        for run in runs {
            sum += run.join().unwrap_or_else(|cause| panic::resume_unwind(cause));
        }
    });
    println!("{seeds} runs: {sum:#?}");
    assert!(seeds < SEEDS_FOR_EVERYTHING || sum.has_everything(), "the runs do not show what they are for: {sum:#?}");
}

fn number(variable: &str) -> Option<u64> {
    env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|error| panic!("{variable}={text}: {error}")))
}
