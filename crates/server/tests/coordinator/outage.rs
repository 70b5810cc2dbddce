//! The database is unavailable for a while.

use std::fs::File;

use chaarfm_api::SessionView;
use chaarfm_domain::JobState;
use chaarfm_protocol::{Outcome, PairingCode, ToServer, ToWorker};
use serde_json::Value;
use sqlx::{Connection, PgConnection, SqliteConnection, sqlite::SqliteConnectOptions};
use tokio_tungstenite::tungstenite::Message;

use crate::{
    harness::{Coordinator, Folders, Worker, vector_for},
    metrics::scrape,
    postgres::Cluster,
    several::on_postgres,
};

/// Expects the response to a request that may succeed later.
async fn expect_to_be_put_off(answer: reqwest::Response) {
    assert_eq!(answer.status(), 503);
    assert!(answer.headers().contains_key("retry-after"));
    let words: Value = answer.json().await.unwrap();
    assert!(words["error"].as_str().unwrap().contains("cannot be used at the moment"), "{words}");
}

#[tokio::test]
async fn no_result_and_no_worker_is_lost_while_the_database_is_down() {
    let folders = Folders::with(&["1.wav"]);
    let cluster = Cluster::start();
    let coordinator = Coordinator::start_with(&on_postgres(&folders, &cluster)).await;
    let code = coordinator.scanned().await;
    let mut worker = coordinator.join(code).await;
    let job = worker.job().await;

    cluster.stop();
    expect_to_be_put_off(coordinator.get("/readyz").await).await;
    assert_eq!(coordinator.get("/healthz").await.status(), 200, "to start it anew would not help");
    let metrics = scrape(&coordinator).await;
    assert_eq!(metrics["chaarfm_store_up"], 0.0);
    assert!(metrics["chaarfm_store_errors_total{kind=\"unavailable\"}"] >= 1.0);
    assert!(!metrics.contains_key("chaarfm_jobs{state=\"leased\"}"), "nobody knows how many");
    assert_eq!(metrics["chaarfm_workers{kind=\"native\",backend=\"flex\"}"], 1.0);
    let result =
        ToServer::Result { job: job.job.clone(), outcome: Outcome::Done(vector_for(&job)), content_hash: None };
    worker.say(&result).await;
    // Messages are answered in order: by then storing the result has failed.
    worker.say(&ToServer::Ping).await;
    assert_eq!(worker.hear_word().await, ToWorker::Pong, "no receipt, and no goodbye");

    cluster.restart();
    worker.say(&result).await;
    assert!(matches!(worker.hear_word().await, ToWorker::Accepted { .. }));
    let jobs = coordinator.jobs(code).await;
    assert_eq!((jobs[0].state, jobs[0].attempts), (JobState::Done, 0));
    assert_eq!(coordinator.get("/readyz").await.status(), 200);
    let metrics = scrape(&coordinator).await;
    assert_eq!((metrics["chaarfm_store_up"], metrics["chaarfm_jobs{state=\"done\"}"]), (1.0, 1.0));
    coordinator.stop().await;
}

/// Both wait for the same ten seconds, so they do it side by side.
#[tokio::test]
async fn a_locked_database_keeps_everybody_waiting_and_costs_nobody_anything() {
    tokio::join!(locked_sqlite(), locked_postgres());
}

async fn locked_sqlite() {
    let folders = Folders::with(&["1.wav", "2.wav"]);
    let coordinator = Coordinator::start(&folders).await;
    let waiting = Waiting::on(&coordinator).await;
    // Slow to read, and the first one.
    File::create(folders.file("0.wav")).unwrap().set_len(2 << 30).unwrap();
    let scanning: SessionView = coordinator.post("/api/sessions", &Value::Null).await.json().await.unwrap();
    assert_eq!(coordinator.scan(scanning.code, "elsewhere").await.status(), 202);

    let options = SqliteConnectOptions::new().filename(folders.database());
    let mut other = SqliteConnection::connect_with(&options).await.unwrap();
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    let waited = waiting.in_vain().await;
    assert_eq!(coordinator.current().await.counts.queued, 0, "what is only read, is");
    other.close().await.unwrap();
    waited.finish().await;
    let view = coordinator.watch(scanning.code, |view| view.scan.is_none()).await;
    let counts = view.counts;
    assert_eq!((counts.total() + counts.skipped, counts.failed), (3, 0), "a scan waits too: {:?}", view.log);
    coordinator.stop().await;
}

async fn locked_postgres() {
    let folders = Folders::with(&["1.wav", "2.wav"]);
    let config = on_postgres(&folders, Cluster::shared());
    let chaarfm_server::Database::Postgres(address) = &config.database else { panic!("not PostgreSQL") };
    let coordinator = Coordinator::start_with(&config).await;
    let waiting = Waiting::on(&coordinator).await;

    let mut other = PgConnection::connect(address).await.unwrap();
    let lock = "BEGIN; LOCK TABLE chaarfm.jobs, chaarfm.sessions IN ACCESS EXCLUSIVE MODE";
    sqlx::raw_sql(lock).execute(&mut other).await.unwrap();
    let waited = waiting.in_vain().await;
    other.close().await.unwrap();
    waited.finish().await;
    coordinator.stop().await;
}

/// A worker with a result to send.
struct Waiting<'a> {
    coordinator: &'a Coordinator,
    code: PairingCode,
    worker: Worker,
    result: ToServer,
}

impl<'a> Waiting<'a> {
    async fn on(coordinator: &'a Coordinator) -> Self {
        let code = coordinator.scanned().await;
        let mut worker = coordinator.join(code).await;
        let job = worker.job().await;
        let result =
            ToServer::Result { job: job.job.clone(), outcome: Outcome::Done(vector_for(&job)), content_hash: None };
        Self { coordinator, code, worker, result }
    }

    /// While the database is locked.
    async fn in_vain(mut self) -> Self {
        self.worker.say(&self.result).await;
        self.worker.say(&ToServer::Ping).await;
        expect_to_be_put_off(self.coordinator.post(&format!("/api/sessions/{}/pause", self.code), &Value::Null).await)
            .await;
        let Message::Text(text) = self.worker.frame().await else { panic!("no message") };
        assert_eq!(
            serde_json::from_str::<ToWorker>(&text).unwrap(),
            ToWorker::Ping,
            "the coordinator lives, whatever waits"
        );
        assert_eq!(self.worker.hear_word().await, ToWorker::Pong, "no receipt, and no goodbye");
        self
    }

    async fn finish(mut self) {
        self.worker.say(&self.result).await;
        assert!(matches!(self.worker.hear_word().await, ToWorker::Accepted { .. }));
        let jobs = self.coordinator.jobs(self.code).await;
        assert_eq!((jobs[0].state, jobs[0].attempts), (JobState::Done, 0));
    }
}
