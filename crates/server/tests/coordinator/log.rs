//! The program's log.

#![cfg(unix)]

use std::{
    io::{BufRead, BufReader},
    process::Stdio,
    thread,
};

use chaarfm_protocol::{JobRef, Outcome, ToServer};
use serde_json::Value;

use crate::{
    harness::{Coordinator, Folders, vector_for},
    start::{start, terminate},
};

#[tokio::test]
async fn a_line_has_the_ids_it_is_about_and_no_secret() {
    let folders = Folders::with(&["1.wav", "2.wav"]);
    let (mut running, _out, address) =
        start(&folders, &["--log", "trace", "--log-format", "json", "--verify", "none"], Stdio::piped());
    let log = BufReader::new(running.0.stderr.take().unwrap());
    let log = thread::spawn(move || log.lines().collect::<Result<Vec<_>, _>>().unwrap());

    let coordinator = Coordinator::at(&address, &folders.config().database).await;
    let code = coordinator.scanned().await;
    let mut worker = coordinator.join(code).await;
    let stored = worker.job().await;
    worker.finish(&stored).await;
    let returned = worker.job().await;
    worker.finish(&stored).await;
    let forged = JobRef { job: returned.job.job, lease: "forged".into() };
    worker.answer(&forged, Outcome::Done(vector_for(&returned))).await;
    assert_eq!(coordinator.audio(&returned).await.status(), 200);
    worker.say(&ToServer::Bye).await;
    coordinator.watch(code, |view| view.workers.is_empty() && view.counts.queued == 1).await;
    terminate(&running);
    assert!(running.0.wait().unwrap().success());
    let log = log.join().unwrap();
    let token = coordinator.token.clone();
    coordinator.stop().await;

    let code_without_dashes = code.to_string().replace('-', "");
    for secret in [&code.to_string(), &code_without_dashes, &stored.job.lease, &returned.job.lease, &token] {
        let told = log.iter().find(|line| line.contains(secret.as_str()));
        assert_eq!(told, None, "{secret}");
    }
    let log: Vec<Value> = log.iter().map(|line| serde_json::from_str(line).expect(line)).collect();
    assert!(log.iter().all(|line| line["timestamp"].is_string() && line["target"].is_string()));
    // Level, beginning, and the ids of worker and job if the line has them.
    let (first, second) = (stored.job.job, returned.job.job);
    for (level, beginning, worker, job) in [
        ("INFO", "scanning lib", None, None),
        ("INFO", "worker 1 joined", Some(1), None),
        ("DEBUG", "handed out", Some(1), Some(first)),
        ("INFO", "stored 1.wav", Some(1), Some(first)),
        ("DEBUG", "a result of worker 1 came again", Some(1), Some(first)),
        ("DEBUG", "handed out", Some(1), Some(second)),
        ("WARN", "refused a result", Some(1), Some(second)),
        ("INFO", "worker 1 left", Some(1), None),
        ("INFO", "took back 2.wav", Some(1), Some(second)),
    ] {
        let is_it = |line: &&Value| {
            let span = &line["span"];
            let begins = line["message"].as_str().is_some_and(|message| message.starts_with(beginning));
            begins && (span["worker"].as_u64(), span["job"].as_i64()) == (worker, job)
        };
        let line =
            log.iter().find(is_it).unwrap_or_else(|| panic!("{beginning} {worker:?} {job:?} is not in {log:#?}"));
        assert_eq!((&line["level"], &line["span"]["session"]), (&level.into(), &1.into()), "{line}");
    }
}
