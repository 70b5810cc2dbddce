//! The short form of `cargo xtask chaos`.

use std::time::Duration;

use chaarfm_tests::chaos::{Plan, chaos};

#[tokio::test]
async fn every_track_is_stored_once_whoever_is_killed() {
    let seed = std::env::var("CHAARFM_CHAOS_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    println!("CHAARFM_CHAOS_SEED={seed} repeats the schedule");
    let plan = Plan {
        killing: Duration::from_secs(15),
        jobs: 400,
        workers: 8,
        servers: 3,
        server_life: Duration::from_secs(6),
        worker_life: Duration::from_secs(6),
        // Workers reconnect to another server after about a second.
        apart: Duration::from_secs(2),
        seed,
    };
    let outcome = chaos(&plan, |line| println!("{line}")).await;
    println!("{outcome}");
}
