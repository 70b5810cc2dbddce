//! Tests the hub against workers that lie: they invent vectors and failures, agree on the same wrong answers, take jobs and
//! vanish, and come back with other keys. Verification recomputes patches by a toy function. Whatever they do, the session
//! is completed, honest workers stay, who is caught is named in the audit record, and what it has delivered is done again.
//!
//! What nobody has looked at may be false, so how much that is gets measured. A failed run is repeated, and all of it printed,
//! with its seed in the variable `CHAARFM_SIM_LIARS`.

mod guest;
mod run;
mod toy;

use std::{ops::RangeInclusive, time::Duration};

use chaarfm_coordinator::VerifyShare;
use chaarfm_domain::{AuditEvent, FailureKind};
use fastrand::Rng;

use self::{
    guest::{Nature, Record},
    run::{Outcome, Plan, Restart, Run},
};
use super::{ledger::Trace, number, on_all_cores};

/// Number of runs of all kinds of workers together.
const SEEDS: u64 = 40;

/// Number of runs for each figure.
const SEEDS_PER_FIGURE: u64 = 6;

/// Number of runs that are repeated to check reproducibility.
const SEEDS_TWICE: u64 = 6;

/// Variable with the only seed to run.
const SEED_VARIABLE: &str = "CHAARFM_SIM_LIARS";

const AGAIN: &str = "this test under CHAARFM_SIM_LIARS=";

/// Patches of tracks of three to five minutes.
const SONG: RangeInclusive<usize> = 60..=100;

/// Patches of tracks that are recomputed as a whole.
const SHORT: RangeInclusive<usize> = 1..=16;

/// Most extra work for verification, in percent of the jobs.
const MAX_EXTRA_PERCENT: u64 = 5;

/// How long a worker that was set aside, or another one from its address, is not let in as a new one. Deliberately repeats
/// the value of `active_session.rs`.
const BARRED_SECONDS: u64 = 3_600;

/// Most tracks that are given up in a run because workers vanish with them.
const MAX_LOST_TO_CHURNERS: usize = 3;

/// An entry of the audit record may be lost when the coordinator dies this soon before or after it.
const MAX_LOST_MILLIS: u64 = 2_000;

fn run(plan: &Plan, trace: Trace) -> Outcome {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).build().expect("a runtime needs nothing");
    runtime.block_on(async { Run::begin(plan.clone(), trace).await.run().await })
}

/// A run with all kinds of workers, or with a third of them colluding.
fn mixed(seed: u64) -> Plan {
    let mut rng = Rng::with_seed(seed ^ 0x11a2);
    let share = if seed.is_multiple_of(2) { VerifyShare::All } else { VerifyShare::default() };
    let honest = rng.usize(4..=8);
    let mut natures = vec![Nature::Honest; honest];
    let are_apart = rng.u32(..3) == 0;
    if are_apart {
        natures.extend(vec![Nature::Colluder; honest.div_ceil(2)]);
    } else {
        let kinds = [
            Nature::Inventor { percent: 1 },
            Nature::Inventor { percent: 10 },
            Nature::Inventor { percent: 100 },
            Nature::Amplifier,
            Nature::Colluder,
            Nature::Churner,
            Nature::Churner,
            Nature::Blamer { kind: FailureKind::Permanent, has_file: true, one_in: 1 },
            Nature::Blamer { kind: FailureKind::Permanent, has_file: false, one_in: 1 },
            Nature::Blamer { kind: FailureKind::Permanent, has_file: true, one_in: 4 },
            Nature::Blamer { kind: FailureKind::Passing, has_file: true, one_in: 1 },
            Nature::Blamer { kind: FailureKind::Passing, has_file: false, one_in: 3 },
        ];
        natures.extend((0..rng.usize(2..=honest)).map(|_| kinds[rng.usize(..kinds.len())]));
    }
    Plan {
        share,
        tracks: rng.usize(100..=160),
        patches: if rng.bool() { SHORT } else { SONG },
        broken_percent: if rng.u32(..4) == 0 { 5 } else { 0 },
        are_apart,
        share_an_address: rng.u32(..4) == 0,
        coordinators: rng.usize(1..=2),
        restart: [Restart::Never, Restart::Never, Restart::Stop, Restart::Kill][rng.usize(..4)],
        recompute: Duration::from_millis(rng.u64(50..=800)),
        ..calm(seed, natures)
    }
}

/// A run in which nothing happens but what these workers do.
fn calm(seed: u64, natures: Vec<Nature>) -> Plan {
    Plan {
        seed,
        share: VerifyShare::default(),
        tracks: 150,
        patches: SONG,
        broken_percent: 0,
        natures,
        are_apart: false,
        share_an_address: false,
        coordinators: 1,
        restart: Restart::Never,
        recompute: Duration::from_millis(500),
    }
}

#[test]
fn liars_are_found_out_and_what_they_did_is_done_again() {
    if let Some(seed) = number(SEED_VARIABLE) {
        let plan = mixed(seed);
        println!("{plan:#?}");
        check(&plan, &run(&plan, Trace::Printed));
        return;
    }
    let tracks: usize = on_all_cores(SEEDS, AGAIN, |seed| {
        let plan = mixed(seed);
        let outcome = run(&plan, Trace::Dropped);
        println!("{}", summary(&plan, &outcome));
        check(&plan, &outcome);
        plan.tracks
    })
    .into_iter()
    .sum();
    println!("{SEEDS} runs, {tracks} tracks");
}

#[test]
fn a_seed_decides_all_that_liars_do() {
    for seed in 0..SEEDS_TWICE {
        let plan = Plan { tracks: 30, patches: 1..=4, ..mixed(seed) };
        let traces = [(); 2].map(|()| run(&plan, Trace::Kept(Vec::new())).trace);
        let [Trace::Kept(once), Trace::Kept(again)] = traces else { panic!("they are kept") };
        assert_eq!(once.iter().zip(&again).find(|(once, again)| once != again), None, "seed {seed}");
        assert_eq!(once.len(), again.len(), "seed {seed}");
        assert!(!once.is_empty());
    }
}

#[test]
fn few_false_vectors_are_stored_and_fewer_stay() {
    // Percentage of false patches, most results that are stored on average until a liar is caught, and most percent of all
    // vectors that are false in the end. A tenth of the patches is hit by a sample of 16 nearly always; a single one of 80 in
    // one of five samples, so that half of those liars become long-known workers.
    for (percent, most_stored, most_false_percent) in [(1, 20, 25), (10, 6, 2), (100, 4, 1)] {
        let outcomes = on_all_cores(SEEDS_PER_FIGURE, "this test with the seed ", |seed| {
            let natures = [vec![Nature::Honest; 8], vec![Nature::Inventor { percent }; 2]].concat();
            let plan = calm(1_000 + seed, natures);
            let outcome = run(&plan, Trace::Dropped);
            check(&plan, &outcome);
            (plan.tracks as u64, outcome)
        });
        let records = outcomes.iter().flat_map(|(_, outcome)| &outcome.records);
        let liars: Vec<&Record> =
            records.filter(|record| record.nature.lies() && record.stored_results() > 0).collect();
        let caught: Vec<u64> =
            liars.iter().filter(|liar| liar.caught.is_some()).map(|liar| liar.stored_false).collect();
        let stored: u64 = caught.iter().sum();
        let tracks: u64 = outcomes.iter().map(|(tracks, _)| tracks).sum();
        let false_vectors: Vec<f64> =
            outcomes.iter().flat_map(|(_, outcome)| &outcome.false_vectors).map(|vector| vector.distance).collect();
        println!(
            "{percent} % false patches: {} of {} liars caught, {:.1} results stored before on average, {} at most; {} of {tracks} \
             vectors are false in the end, {:.3} of their length at most",
            caught.len(),
            liars.len(),
            stored as f64 / caught.len().max(1) as f64,
            caught.iter().max().copied().unwrap_or_default(),
            false_vectors.len(),
            false_vectors.iter().copied().fold(0.0, f64::max),
        );
        assert!(stored <= most_stored * caught.len() as u64, "{percent} %: {caught:?}");
        assert!(
            false_vectors.len() as u64 * 100 <= most_false_percent * tracks,
            "{percent} %: {}",
            false_vectors.len()
        );
    }
}

#[test]
fn verification_costs_honest_workers_nothing() {
    let totals = [VerifyShare::None, VerifyShare::default(), VerifyShare::All].map(|share| {
        let runs = on_all_cores(SEEDS_PER_FIGURE, "this test with the seed ", |seed| {
            let plan = Plan { share, broken_percent: 3, ..calm(2_000 + seed, vec![Nature::Honest; 8]) };
            let outcome = run(&plan, Trace::Dropped);
            check(&plan, &outcome);
            assert!(outcome.set_aside.is_empty() && outcome.invented == 0);
            (outcome.analysed, plan.tracks as u64, outcome.seconds)
        });
        runs.into_iter().fold((0, 0, 0), |sum, run| (sum.0 + run.0, sum.1 + run.1, sum.2 + run.2))
    });
    let [without, by_default, all] = totals;
    println!("tracks analysed, tracks, seconds: without {without:?}, by default {by_default:?}, all {all:?}");
    for with in [by_default, all] {
        assert!(with.0 * 100 <= without.0 * (100 + MAX_EXTRA_PERCENT), "{with:?} {without:?}");
    }
}

#[test]
fn a_slow_coordinator_drops_nobody() {
    let runs = on_all_cores(2, "this test with the seed ", |seed| {
        let recompute = Duration::from_secs(40);
        let plan = calm(3_000 + seed, vec![Nature::Honest; 6]);
        let plan = Plan { share: VerifyShare::All, tracks: 60, patches: SHORT, recompute, ..plan };
        let outcome = run(&plan, Trace::Dropped);
        check(&plan, &outcome);
        assert_eq!(outcome.dropped_honest, 0, "seed {seed}: a worker that waits for an answer is not silent");
        (outcome.seconds, outcome.analysed)
    });
    println!("seconds, tracks analysed: {runs:?}");
}

fn summary(plan: &Plan, outcome: &Outcome) -> String {
    let Plan { seed, share, tracks, patches, are_apart, coordinators, restart, .. } = plan;
    let mut makers: Vec<_> = outcome.false_vectors.iter().map(|vector| nature_of(outcome, &vector.maker)).collect();
    makers.dedup();
    format!(
        "seed {seed}: verify {share}, {patches:?} patches, {}{coordinators} coordinators, {restart:?}: {} s, {tracks} tracks, {} \
         analysed, {} set aside; false {} by {makers:?}, invented {}, given up {}; came again {}, refused {}",
        if *are_apart { "collusion, " } else { "" },
        outcome.seconds,
        outcome.analysed,
        outcome.set_aside.len(),
        outcome.false_vectors.len(),
        outcome.invented,
        outcome.lost.len(),
        outcome.came_again,
        outcome.refused,
    )
}

fn nature_of(outcome: &Outcome, name: &str) -> Nature {
    outcome.records.iter().find(|record| record.name == name).expect("everybody has a record").nature
}

/// What must hold after every run.
fn check(plan: &Plan, outcome: &Outcome) {
    for honest in outcome.records.iter().filter(|record| record.nature == Nature::Honest) {
        assert!(!outcome.set_aside.contains_key(&honest.name), "an honest worker is set aside");
    }
    outcome.records.iter().filter(|record| record.caught.is_some()).for_each(|caught| check_caught(outcome, caught));
    // Workers that vanish use up tries, and one that has finished something gets last tries.
    let most_lost = if plan.natures.contains(&Nature::Churner) { MAX_LOST_TO_CHURNERS } else { 0 };
    assert!(outcome.lost.len() <= most_lost, "given up although honest workers are there: {:?}", outcome.lost);
    for vector in &outcome.false_vectors {
        assert!(nature_of(outcome, &vector.maker).lies(), "an honest worker's vector is false");
        // Of longer tracks only some patches are looked at.
        let is_seen = plan.patches == SHORT || !matches!(nature_of(outcome, &vector.maker), Nature::Inventor { .. });
        assert!(plan.share != VerifyShare::All || !is_seen, "a false vector stays: {vector:?}");
    }
    if plan.coordinators == 1 && plan.restart != Restart::Kill && outcome.seconds < BARRED_SECONDS {
        assert_eq!(outcome.came_again, 0, "who was set aside came again with another key");
    }
}

/// Who was caught is named, and nothing of it stays.
fn check_caught(outcome: &Outcome, caught: &Record) {
    assert_eq!(outcome.set_aside.get(&caught.name), Some(&true), "{caught:?}");
    assert!(!outcome.makers.contains(&caught.name), "a result is still stored: {caught:?}");
    let is_recorded =
        outcome.killed.is_none_or(|killed| caught.caught.is_some_and(|at| at.0.abs_diff(killed.0) > MAX_LOST_MILLIS));
    if is_recorded {
        assert!(outcome.tells(AuditEvent::SetAside, &caught.name), "{caught:?}");
        let has_delivered = caught.stored_results() > 0;
        assert!(!has_delivered || outcome.tells(AuditEvent::Retracted, &caught.name), "{caught:?}");
    }
}
