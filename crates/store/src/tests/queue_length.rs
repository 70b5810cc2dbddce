//! Measures whether a job costs more if more are waiting behind it. Takes minutes, so only `cargo xtask load` runs it.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use sqlx::AssertSqlSafe;

use super::*;

const SHORT: u64 = 1_000;
const LONG: u64 = 1_000_000;

/// Jobs timed in each queue.
const TIMED: usize = 500;

/// Maximum ratio between the times for a job in the long queue and in the short one.
const MAX_RATIO: f64 = 1.3;

#[tokio::test]
#[ignore = "takes minutes: cargo xtask load"]
async fn a_job_costs_the_same_in_a_long_queue_on_sqlite() {
    compare(Engine::Sqlite).await;
}

#[tokio::test]
#[ignore = "takes minutes: cargo xtask load"]
async fn a_job_costs_the_same_in_a_long_queue_on_postgres() {
    compare(Engine::Postgres).await;
}

/// Longest permitted wait of another writer.
const MAX_WAIT: Duration = Duration::from_millis(500);

#[tokio::test]
#[ignore = "takes minutes: cargo xtask load"]
async fn a_long_queue_that_is_dropped_or_tried_again_keeps_nobody_waiting_on_sqlite() {
    let queue = filled(Engine::Sqlite, LONG).await;
    let (store, id) = (&queue.store, queue.session.id);
    beside(&queue, "stopping", async { assert_eq!(store.clear_queue(id).await.unwrap(), LONG) }).await;
    let queue = filled(Engine::Sqlite, LONG).await;
    let (store, id) = (&queue.store, queue.session.id);
    queue.run("UPDATE jobs SET state = 'failed'").await;
    beside(&queue, "trying again", async { assert_eq!(store.retry_failed(id, None).await.unwrap().queued, LONG) })
        .await;
    beside(&queue, "ending", async { store.end_session(id, T0).await.unwrap() }).await;
}

/// Keeps writing something else until the work is done, including one last write, which may have waited longest.
async fn beside(queue: &Fixture, name: &str, work: impl Future<Output = ()>) {
    let other = queue.store.create_session(new_session(rand::random()), 10).await.unwrap().unwrap();
    let is_done = Cell::new(false);
    let working = async {
        let start = Instant::now();
        work.await;
        is_done.set(true);
        start.elapsed()
    };
    let writing = async {
        let mut longest = Duration::ZERO;
        while !is_done.get() {
            let start = Instant::now();
            queue.store.set_paused(other.id, true).await.unwrap();
            longest = longest.max(start.elapsed());
        }
        longest
    };
    let (took, longest) = tokio::join!(working, writing);
    println!("{name}: {LONG} jobs in {took:.2?}; the longest wait of another was {longest:.2?}");
    assert!(longest <= MAX_WAIT, "the limit is {MAX_WAIT:?}");
}

async fn compare(engine: Engine) {
    let queues = [filled(engine, SHORT).await, filled(engine, LONG).await];
    let mut times = [Vec::new(), Vec::new()];
    // Alternating, so that other load on the machine affects both.
    for turn in 0..TIMED {
        for (queue, times) in queues.iter().zip(&mut times) {
            times.push(one_job(queue, turn).await);
        }
    }
    let [short, long] = times.map(median).map(|time| time.as_secs_f64() * 1e3);
    println!("{engine:?}: a job takes {short:.3} ms of {SHORT} queued, {long:.3} ms of {LONG}: {:.2} x", long / short);
    assert!(long <= short * MAX_RATIO, "the limit is {MAX_RATIO} x");
}

/// A session with this many queued jobs.
async fn filled(engine: Engine, jobs: u64) -> Fixture {
    let fixture = fixture(engine).await;
    let columns = "(session, scan, model, collection, library, file, bytes, content_hash, track_key, state)";
    let values = format!("{}, 1, '{MODEL}', 'first', 'lib', n, 100, n, 'track ' || n, 'queued'", fixture.session.id);
    match &fixture.store.engine {
        store::Engine::Sqlite(engine) => {
            let numbers = format!(
                "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {jobs})"
            );
            let fill = format!("{numbers} INSERT INTO jobs {columns} SELECT {values} FROM numbers");
            sqlx::raw_sql(AssertSqlSafe(fill)).execute(&engine.writer).await.unwrap();
            // A scan writes little at a time, but after one huge transaction lookups are slow until the log is
            // checkpointed.
            sqlx::raw_sql("PRAGMA wal_checkpoint(TRUNCATE)").execute(&engine.writer).await.unwrap();
        }
        store::Engine::Postgres(engine) => {
            let numbers = format!("generate_series(1, {jobs}) AS n");
            let fill = format!("INSERT INTO chaarfm.jobs {columns} SELECT {values} FROM {numbers}");
            sqlx::raw_sql(AssertSqlSafe(fill)).execute(&engine.pool).await.unwrap();
            sqlx::raw_sql("VACUUM ANALYZE chaarfm.jobs").execute(&engine.pool).await.unwrap();
        }
        store::Engine::Memory(_) => panic!("it has no index"),
    }
    fixture
}

/// Finds a job, leases it and stores its vector.
async fn one_job(queue: &Fixture, turn: usize) -> Duration {
    let token = format!("t{turn}");
    let start = Instant::now();
    let max_attempts = claim("w", &token).max_attempts();
    assert!(queue.store.has_waiting(queue.session.id, 1000, max_attempts, T0).await.unwrap());
    let row = queue.claim(&token, T0).await.unwrap();
    queue.answer(row.job.id, &token, Outcome::Done(vector())).await.unwrap();
    start.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
