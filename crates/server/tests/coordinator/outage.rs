//! The database goes away for a while.

use chaarfm_protocol::{Outcome, ToServer, ToWorker, view::JobState};
use serde_json::Value;

use crate::{
    harness::{Coordinator, Folders, vector_for},
    metrics::scrape,
    postgres::Cluster,
    several::on_postgres,
};

#[tokio::test]
async fn no_result_and_no_worker_is_lost_while_the_database_is_down() {
    let folders = Folders::with(&["1.wav"]);
    let cluster = Cluster::start();
    let coordinator = Coordinator::start_with(&on_postgres(&folders, &cluster)).await;
    let code = coordinator.scanned().await;
    let mut worker = coordinator.join(code).await;
    let job = worker.job().await;

    cluster.stop();
    let down = coordinator.get("/readyz").await;
    assert_eq!(down.status(), 503);
    assert!(down.headers().contains_key("retry-after"));
    let words: Value = down.json().await.unwrap();
    assert!(words["error"].as_str().unwrap().contains("cannot be used at the moment"), "{words}");
    assert_eq!(coordinator.get("/healthz").await.status(), 200, "to start it anew would not help");
    let metrics = scrape(&coordinator).await;
    assert_eq!(metrics["chaarfm_store_up"], 0.0);
    assert!(metrics["chaarfm_store_errors_total{kind=\"unavailable\"}"] >= 1.0);
    assert!(!metrics.contains_key("chaarfm_jobs{state=\"leased\"}"), "nobody knows how many");
    assert_eq!(metrics["chaarfm_workers{kind=\"native\",backend=\"flex\"}"], 1.0);
    let result = ToServer::Result { job: job.job.clone(), outcome: Outcome::Done(vector_for(&job)) };
    worker.say(&result).await;
    // Messages are answered in their order: the result has been found impossible to store by then.
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
