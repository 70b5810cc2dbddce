//! Several coordinators on one PostgreSQL database.

use chaarfm_api::{SessionView, WorkerView};
use chaarfm_domain::JobState;
use chaarfm_protocol::{Failure, FailureKind, Outcome, SessionState, Stage, ToServer, ToWorker, WorkerKind};
use chaarfm_server::{Config, Database};
use serde_json::Value;

use crate::{
    harness::{Coordinator, Folders},
    postgres::Cluster,
};

pub(crate) fn on_postgres(folders: &Folders, cluster: &Cluster) -> Config {
    Config { database: Database::Postgres(cluster.database()), ..folders.config() }
}

#[tokio::test]
async fn what_one_coordinator_queues_another_hands_out() {
    let folders = Folders::with(&["1.wav", "2.wav"]);
    let config = on_postgres(&folders, Cluster::shared());
    let (first, second) = (Coordinator::start_with(&config).await, Coordinator::start_with(&config).await);
    let code = first.current().await.code;
    assert_eq!(second.current().await.code, code);
    let mut worker = second.join(code).await;
    assert_eq!(first.scan(code, "music").await.status(), 202);
    let job = worker.job().await;
    assert_eq!(second.audio(&job).await.status(), 200);
    worker.finish(&job).await;
    first.watch(code, |view| view.counts.done == 1).await;

    let job = worker.job().await;
    let failure = Failure { kind: FailureKind::Permanent, message: "no audio, \"really\"".into() };
    worker.answer(&job.job, Outcome::Failed(failure)).await;
    let view = first.watch(code, |view| view.state == SessionState::Complete).await;
    assert_eq!((view.counts.done, view.counts.failed), (1, 1));

    first.delete(&format!("/api/sessions/{code}")).await;
    loop {
        if let ToWorker::Refused { message, .. } = worker.hear_word().await {
            assert!(message.contains("has ended"), "{message}");
            break;
        }
    }
    first.stop().await;
    second.stop().await;
}

/// The worker that is analysing.
fn busy(view: &SessionView) -> Option<&WorkerView> {
    view.workers.iter().find(|worker| worker.current.as_ref().is_some_and(|job| job.stage == Stage::Analysing))
}

fn has_notice(view: &SessionView, notice: &str) -> bool {
    view.log.iter().any(|line| line.message.contains(notice))
}

#[tokio::test]
async fn each_coordinators_page_shows_the_workers_of_all() {
    let folders = Folders::with(&["1.wav", "2.wav"]);
    let config = on_postgres(&folders, Cluster::shared());
    let (first, second) = (Coordinator::start_with(&config).await, Coordinator::start_with(&config).await);
    let code = first.current().await.code;
    // A worker that only watches, and accepts no jobs.
    let _near = first.join_with(code, 0).await;
    let mut far = second.join(code).await;
    let view = first.watch(code, |view| view.workers.len() == 2).await;
    assert_eq!(view.worker_count, 2);
    assert_ne!(view.workers[0].id, view.workers[1].id);
    assert_eq!(first.scan(code, "music").await.status(), 202);
    let job = far.job().await;
    far.start_on(&job).await;
    let view = first.watch(code, |view| busy(view).is_some()).await;
    let worker = busy(&view).unwrap();
    let current = worker.current.as_ref().unwrap();
    assert_eq!((current.label.as_str(), current.fraction), ("1.wav", 0.5));
    let number = worker.id;
    assert!(has_notice(&view, &format!("worker {number} joined")), "{:?}", view.log);

    far.finish(&job).await;
    let is_done = |worker: &WorkerView| (worker.id, worker.done) == (number, 1);
    let view = first.watch(code, |view| view.workers.iter().any(is_done)).await;
    assert!(view.tracks_per_minute > 0.0);
    let stored = format!("stored 1.wav (worker {number})");
    assert!(has_notice(&view, &stored), "{:?}", view.log);
    let elsewhere = second.watch(code, |view| view.worker_count == 2).await;
    assert!(has_notice(&elsewhere, &stored));
    let job = far.job().await;
    far.finish(&job).await;
    let is_through = |view: &SessionView| view.log.iter().filter(|line| line.message.contains("through")).count();
    let view = first.watch(code, |view| view.state == SessionState::Complete && is_through(view) > 0).await;
    assert_eq!(is_through(&view), 1, "however many notice it: {:?}", view.log);

    far.say(&ToServer::Bye).await;
    let view = first.watch(code, |view| view.worker_count == 1).await;
    assert_eq!(view.workers.len(), 1);
    assert!(has_notice(&view, &format!("worker {number} left")), "{:?}", view.log);

    let _left_behind = second.join(code).await;
    first.watch(code, |view| view.worker_count == 2).await;
    second.stop().await;
    first.watch(code, |view| view.worker_count == 1).await;
    first.stop().await;
}

#[tokio::test]
async fn failed_tracks_can_be_taken_home_and_tried_again() {
    let folders = Folders::with(&["1.wav", "2, \"two\".wav"]);
    let coordinator = Coordinator::start_with(&on_postgres(&folders, Cluster::shared())).await;
    let code = coordinator.scanned().await;
    let mut worker = coordinator.join(code).await;
    for _ in 0..2 {
        let job = worker.job().await;
        let failure = Failure { kind: FailureKind::Permanent, message: "no \"audio\"".into() };
        worker.answer(&job.job, Outcome::Failed(failure)).await;
    }
    worker.hear_state(SessionState::Complete).await;

    let export = async |query: &str| {
        let response = coordinator.get(&format!("/api/sessions/{code}/jobs/export?{query}")).await;
        assert_eq!(response.status(), 200, "{query}");
        response.text().await.unwrap()
    };
    let table = export("state=failed&format=csv").await;
    let mut reader = csv::Reader::from_reader(table.as_bytes());
    let headers = reader.headers().unwrap().clone();
    let column = |name: &str| headers.iter().position(|header| header == name).unwrap();
    let rows: Vec<_> = reader.records().map(Result::unwrap).collect();
    let (file, error, worker_kind) = (column("file"), column("error"), column("worker"));
    assert_eq!((rows.len(), &rows[1][file], &rows[1][error]), (2, "2, \"two\".wav", "no \"audio\""));
    assert_eq!((&rows[1][worker_kind], &rows[1][column("attempts")]), ("native", "0"));
    let lines = export("state=failed&format=jsonl").await;
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((lines.len(), &lines[0]["file"], &lines[0]["state"]), (2, &"1.wav".into(), &"failed".into()));
    assert_eq!(export("state=queued&format=jsonl").await, "");

    let listed = coordinator.jobs(code).await;
    assert_eq!((listed[1].worker, listed[1].attempts), (Some(WorkerKind::Native), 0));
    let id = lines[1]["id"].as_i64().unwrap();
    let unknown = coordinator.post(&format!("/api/sessions/{code}/jobs/{}/retry", id + 100), &Value::Null).await;
    assert_eq!(unknown.status(), 409);
    let view = coordinator.command(code, &format!("jobs/{id}/retry")).await;
    assert_eq!((view.counts.failed, view.counts.open()), (1, 1));
    let job = worker.job().await;
    assert_eq!(job.track.file, "2, \"two\".wav");
    worker.finish(&job).await;
    coordinator.command(code, "jobs/retry").await;
    let job = worker.job().await;
    worker.finish(&job).await;
    let view = coordinator.watch(code, |view| view.state == SessionState::Complete).await;
    assert_eq!((view.counts.done, view.counts.failed), (2, 0));
    assert!(coordinator.jobs(code).await.iter().all(|job| job.state == JobState::Done));
    coordinator.stop().await;
}

#[tokio::test]
async fn a_scan_is_taken_over_when_its_coordinator_stops() {
    let folders = Folders::with(&["1.wav", "2.wav"]);
    // Slow to read, and the last one.
    std::fs::File::create(folders.file("z.wav")).unwrap().set_len(2 << 30).unwrap();
    let config = on_postgres(&folders, Cluster::shared());
    let (first, second) = (Coordinator::start_with(&config).await, Coordinator::start_with(&config).await);
    let code = first.current().await.code;
    assert_eq!(first.scan(code, "music").await.status(), 202);
    assert_eq!(second.scan(code, "music").await.status(), 409, "one scan at a time, wherever");
    first.watch(code, |view| view.scan.is_some() && view.counts.queued == 2).await;
    first.stop().await;
    let view = second.watch(code, |view| view.scan.as_ref().is_some_and(|scan| scan.files >= 2)).await;
    assert_eq!((view.counts.queued, view.counts.skipped), (2, 0));
    second.command(code, "stop").await;
    second.stop().await;
}
