//! Which worker gets which job, which answers count, and what happens to a job whose worker is gone.

use std::fs;

use chaarfm_api::SessionView;
use chaarfm_domain::{JobState, Standing};
use chaarfm_protocol::{
    AcceptedAs, Failure, FailureKind, JobRef, Outcome, PairingCode, RefusalReason, RejectionReason, SessionState,
    ToServer, ToWorker, VERSION,
    limits::{MAX_MESSAGE_BYTES, MAX_TEXT_CHARS},
    worker_socket_path,
};
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{Coordinator, Folders, hello, vector_for};

fn accepted(reply: &ToWorker) -> AcceptedAs {
    match reply {
        ToWorker::Accepted { outcome, .. } => *outcome,
        other => panic!("not accepted: {other:?}"),
    }
}

fn rejected(reply: ToWorker) -> (RejectionReason, String) {
    match reply {
        ToWorker::Rejected { reason, message, .. } => (reason, message),
        other => panic!("not rejected: {other:?}"),
    }
}

#[tokio::test]
async fn only_a_proper_hello_to_an_open_session_is_welcome() {
    let folders = Folders::with(&[]);
    let coordinator = Coordinator::start(&folders).await;
    let code = coordinator.current().await.code;
    let mut worker = coordinator.connect(&worker_socket_path(&code)).await;
    worker.say(&hello(1)).await;
    let ToWorker::Welcome { protocol, session, state, model } = worker.hear().await else { panic!("no welcome") };
    assert_eq!((protocol, state), (VERSION, SessionState::Idle));
    assert_ne!(session, code.to_string(), "a code lets others in");
    assert_eq!(model.name, chaarfm_models::default().name);

    let nobodys = PairingCode::from_random(12345);
    let mut older = serde_json::to_value(hello(1)).unwrap();
    older["protocol"] = 1.into();
    let cases = [
        (worker_socket_path(&nobodys), serde_json::to_string(&hello(1)).unwrap(), RefusalReason::UnknownCode),
        ("/api/sessions/K7Q/worker".into(), serde_json::to_string(&hello(1)).unwrap(), RefusalReason::UnknownCode),
        (worker_socket_path(&code), older.to_string(), RefusalReason::ProtocolVersion),
        (worker_socket_path(&code), r#"{"type":"ping"}"#.into(), RefusalReason::BadHello),
        (worker_socket_path(&code), "hello".into(), RefusalReason::BadHello),
    ];
    for (path, first_words, expected) in cases {
        let mut worker = coordinator.connect(&path).await;
        worker.say_text(&first_words).await;
        let ToWorker::Refused { reason, message, .. } = worker.hear().await else {
            panic!("not refused: {first_words}")
        };
        assert_eq!(reason, expected, "{message}");
        assert!(matches!(worker.frame().await, Message::Close(Some(_))));
    }

    // A worker that is too old is told what to download, a tab to reload, and a newer worker that it is not at fault.
    for (protocol, kind, has_key, says, has_program) in [
        (2, "native", false, "get chaarfm-worker ", true),
        (VERSION, "native", false, "get chaarfm-worker ", true),
        (VERSION - 1, "native", true, "get chaarfm-worker ", true),
        (VERSION - 1, "browser", true, "reload it", false),
        (VERSION + 1, "native", true, "the coordinator is too old", false),
    ] {
        let mut other = serde_json::to_value(hello(1)).unwrap();
        (other["protocol"], other["kind"]) = (protocol.into(), kind.into());
        if !has_key {
            other.as_object_mut().unwrap().remove("key");
        }
        let mut worker = coordinator.connect(&worker_socket_path(&code)).await;
        worker.say_text(&other.to_string()).await;
        let ToWorker::Refused { message, get, .. } = worker.hear().await else { panic!("not refused") };
        assert!(message.contains(says), "{message}");
        assert_eq!(get.map(|program| program.page), has_program.then(|| "/join".to_owned()));
    }

    coordinator.delete(&format!("/api/sessions/{code}")).await;
    assert!(matches!(worker.hear_word().await, ToWorker::Refused { reason: RefusalReason::SessionEnded, .. }));
    let mut late = coordinator.connect(&worker_socket_path(&code)).await;
    late.say(&hello(1)).await;
    assert!(matches!(late.hear().await, ToWorker::Refused { reason: RefusalReason::UnknownCode, .. }));
    coordinator.stop().await;
}

#[tokio::test]
async fn empty_hands_come_before_prefetching() {
    let folders = Folders::with(&["1.wav", "2.wav", "3.wav", "4.wav"]);
    let coordinator = Coordinator::start(&folders).await;
    let code = coordinator.scanned().await;
    coordinator.command(code, "pause").await;
    let mut first = coordinator.join_with(code, 2).await;
    let mut second = coordinator.join_with(code, 2).await;
    coordinator.command(code, "resume").await;
    for (worker, expected) in [(&mut first, ["1.wav", "3.wav"]), (&mut second, ["2.wav", "4.wav"])] {
        assert_eq!([worker.job().await.track.file, worker.job().await.track.file], expected);
    }
    coordinator.stop().await;
}

#[tokio::test]
async fn a_tab_that_is_closed_costs_its_job_no_attempt() {
    let folders = Folders::with(&["1.wav"]);
    let coordinator = Coordinator::start(&folders).await;
    let code = coordinator.scanned().await;
    for _ in 0..4 {
        let mut tab = coordinator.join(code).await;
        tab.job().await;
        tab.go_away().await;
    }
    let mut worker = coordinator.join(code).await;
    let job = worker.job().await;
    assert_eq!(accepted(&worker.finish(&job).await), AcceptedAs::Stored);
    assert_eq!(coordinator.jobs(code).await[0].attempts, 0);
    coordinator.stop().await;
}

#[tokio::test]
async fn a_job_whose_worker_vanishes_goes_back_to_the_front() {
    let folders = Folders::with(&["1.wav", "2.wav", "3.wav"]);
    let coordinator = Coordinator::start(&folders).await;
    let code = coordinator.scanned().await;
    let mut doomed = coordinator.join(code).await;
    let lost = doomed.job().await;
    doomed.start_on(&lost).await;
    coordinator
        .watch(code, |view| view.workers.iter().any(|worker| worker.current.as_ref().is_some_and(|c| c.fraction > 0.0)))
        .await;
    doomed.vanish();
    coordinator.watch(code, |view| view.workers.is_empty()).await;

    let mut next = coordinator.join(code).await;
    let again = next.job().await;
    assert_eq!((again.job.job, again.track.file.as_str()), (lost.job.job, "1.wav"));
    assert_ne!(again.job.lease, lost.job.lease);
    assert_eq!(coordinator.jobs(code).await[0].attempts, 1);

    next.say(&ToServer::Release { job: again.job.clone() }).await;
    let second = next.job().await;
    assert_eq!(second.track.file, "2.wav", "others may have it at once, but not who has handed it back");
    let mut other = coordinator.join(code).await;
    assert_eq!(other.job().await.job.job, lost.job.job, "handed back, it is first again");
    other.say(&ToServer::Bye).await;
    next.say(&ToServer::Bye).await;
    let view = coordinator.watch(code, |view| view.counts.queued == 3).await;
    assert!(view.log.iter().any(|line| line.message.contains("left")), "{:?}", view.log);
    assert_eq!(coordinator.jobs(code).await[0].attempts, 1, "handing back costs no attempt");
    coordinator.stop().await;
}

#[tokio::test]
async fn what_is_wrong_is_refused_and_said_so() {
    let folders = Folders::with(&["1.wav", "2.wav", "3.wav", "4.wav"]);
    let coordinator = Coordinator::start(&folders).await;
    let code = coordinator.scanned().await;
    let mut owner = coordinator.join(code).await;
    let theirs = owner.job().await;
    let mut worker = coordinator.join(code).await;
    let job = worker.job().await;

    let forged = JobRef { job: theirs.job.job, lease: job.job.lease.clone() };
    let (reason, _) = rejected(worker.answer(&forged, Outcome::Done(vector_for(&theirs))).await);
    assert_eq!(reason, RejectionReason::NotYourLease);
    let unknown = JobRef { job: 999, lease: job.job.lease.clone() };
    let (reason, _) = rejected(worker.answer(&unknown, Outcome::Done(vector_for(&theirs))).await);
    assert_eq!(reason, RejectionReason::UnknownJob);
    worker.say(&ToServer::Progress { job: forged, stage: chaarfm_protocol::Stage::Fetching, fraction: 0.0 }).await;
    assert_eq!(rejected(worker.hear_word().await).0, RejectionReason::NotYourLease);

    let mut short = vector_for(&job);
    short.embedding.pop();
    let (reason, message) = rejected(worker.answer(&job.job, Outcome::Done(short)).await);
    assert_eq!(reason, RejectionReason::InvalidVector);
    assert!(message.contains("200 numbers; this one has 199"), "{message}");

    let job = worker.job().await;
    let mut infinite = vector_for(&job);
    infinite.embedding[17] = f32::NAN;
    let (reason, message) = rejected(worker.answer(&job.job, Outcome::Done(infinite)).await);
    assert_eq!(reason, RejectionReason::InvalidVector);
    assert!(message.contains("number 17 of the embedding is NaN"), "{message}");

    let job = worker.job().await;
    let mut other = vector_for(&job);
    other.model = "other".repeat(10_000);
    let (reason, message) = rejected(worker.answer(&job.job, Outcome::Done(other)).await);
    assert_eq!(reason, RejectionReason::InvalidVector);
    assert!(message.contains("otherother") && message.len() < 2 * MAX_TEXT_CHARS, "{message}");

    assert_eq!(accepted(&owner.finish(&theirs).await), AcceptedAs::Stored);
    let jobs = coordinator.jobs(code).await;
    let seen: Vec<_> = jobs.iter().map(|job| (job.state, job.attempts)).collect();
    let again = (JobState::Queued, 1);
    assert_eq!(seen, [(JobState::Done, 0), again, again, again]);
    coordinator.stop().await;
}

#[tokio::test]
async fn a_result_counts_once_also_when_it_is_repeated_or_late() {
    let folders = Folders::with(&["1.wav", "2.wav"]);
    let coordinator = Coordinator::start(&folders).await;
    let code = coordinator.scanned().await;
    let mut worker = coordinator.join_with(code, 2).await;
    let (first, second) = (worker.job().await, worker.job().await);
    assert_eq!(accepted(&worker.finish(&first).await), AcceptedAs::Stored);
    assert_eq!(accepted(&worker.finish(&first).await), AcceptedAs::Repeated);
    worker.vanish();
    coordinator.watch(code, |view| view.workers.is_empty()).await;

    // The worker returns without resuming its lease, and accepts no new job.
    let mut returned = coordinator.join_with(code, 0).await;
    assert_eq!(accepted(&returned.finish(&second).await), AcceptedAs::Stored);
    assert_eq!(accepted(&returned.finish(&first).await), AcceptedAs::Repeated);
    let view = coordinator.watch(code, |view| view.state == SessionState::Complete).await;
    assert_eq!((view.counts.done, view.counts.total()), (2, 2));
    let page: serde_json::Value = coordinator.get("/api/collections/music/tracks").await.json().await.unwrap();
    assert_eq!(page["total"], 2);
    coordinator.stop().await;
}

#[tokio::test]
async fn a_permanent_failure_is_final_and_shown() {
    let folders = Folders::with(&["1.wav"]);
    let coordinator = Coordinator::start(&folders).await;
    let code = coordinator.scanned().await;
    let mut worker = coordinator.join(code).await;
    let job = worker.job().await;
    let failure = Failure { kind: FailureKind::Permanent, message: "no audio in it".into() };
    assert_eq!(accepted(&worker.answer(&job.job, Outcome::Failed(failure)).await), AcceptedAs::Recorded);
    worker.hear_state(SessionState::Complete).await;
    let jobs = coordinator.jobs(code).await;
    assert_eq!((jobs[0].state, jobs[0].error.as_deref()), (JobState::Failed, Some("no audio in it")));
    coordinator.stop().await;
}

#[tokio::test]
async fn a_worker_that_fails_what_others_do_is_set_aside() {
    let files = ["1.wav", "2.wav", "3.wav", "4.wav", "5.wav", "6.wav", "7.wav"];
    let folders = Folders::with(&files);
    let coordinator = Coordinator::start(&folders).await;
    let code = coordinator.scanned().await;
    let mut good = coordinator.join(code).await;
    let first = good.job().await;
    let mut bad = coordinator.join(code).await;
    for _ in 0..5 {
        let job = bad.job().await;
        let failure = Failure { kind: FailureKind::Permanent, message: "no audio in it".into() };
        assert_eq!(accepted(&bad.answer(&job.job, Outcome::Failed(failure)).await), AcceptedAs::Recorded);
    }
    let standing = |view: &SessionView| view.workers.last().map(|worker| worker.standing);
    // A worker's standing and the tracks' states come from two sources, which may differ briefly.
    let is_settled = |view: &SessionView| standing(view) == Some(Standing::OnProbation) && view.counts.queued == 6;
    let view = coordinator.watch(code, is_settled).await;
    assert_eq!(view.counts.failed, 0, "others are asked before they are given up");
    good.finish(&first).await;
    for _ in 1..files.len() {
        let job = good.job().await;
        good.finish(&job).await;
    }
    let is_over = |view: &SessionView| standing(view) == Some(Standing::SetAside) && view.counts.done == 7;
    let view = coordinator.watch(code, is_over).await;
    assert_eq!((view.counts.failed, view.state), (0, SessionState::Complete));
    assert!(view.log.iter().any(|line| line.message.contains("worker 2 is set aside")), "{:?}", view.log);
    coordinator.stop().await;
}

#[tokio::test]
async fn tracks_that_are_broken_for_everybody_are_held_against_nobody() {
    let names: Vec<_> = (10..30).map(|number| format!("{number}.wav")).collect();
    let folders = Folders::with(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let coordinator = Coordinator::start(&folders).await;
    let code = coordinator.scanned().await;
    let mut other = coordinator.join(code).await;
    other.job().await;
    let mut worker = coordinator.join(code).await;
    for number in 0..12 {
        let job = worker.job().await;
        let failure = Failure { kind: FailureKind::Permanent, message: "no audio in it".into() };
        let content = fs::read(folders.file(&job.track.file)).unwrap();
        // Half of the files are gone when they are requested.
        let content = if number % 2 == 0 { Some(content) } else { None };
        if content.is_none() {
            fs::remove_file(folders.file(&job.track.file)).unwrap();
            assert_eq!(coordinator.audio(&job).await.status(), 410);
        }
        let reply = worker.answer_about(&job.job, Outcome::Failed(failure), content.as_deref()).await;
        assert_eq!(accepted(&reply), AcceptedAs::Recorded);
    }
    let view = coordinator.current().await;
    assert_eq!((view.counts.failed, view.counts.open()), (12, 8), "nobody else is asked");
    assert!(view.workers.iter().all(|worker| worker.standing == Standing::Good), "{:?}", view.workers);
    coordinator.stop().await;
}

#[tokio::test]
async fn a_worker_that_hands_everything_back_is_set_aside() {
    let files = ["1.wav", "2.wav", "3.wav", "4.wav", "5.wav", "6.wav", "7.wav"];
    let folders = Folders::with(&files);
    let coordinator = Coordinator::start(&folders).await;
    let code = coordinator.scanned().await;
    let mut good = coordinator.join(code).await;
    let first = good.job().await;
    let mut bad = coordinator.join(code).await;
    for _ in 0..5 {
        let job = bad.job().await;
        bad.say(&ToServer::Release { job: job.job }).await;
    }
    let standing = |view: &SessionView| view.workers.last().map(|worker| worker.standing);
    // A worker's standing and the tracks' states come from two sources, which may differ briefly.
    let is_settled = |view: &SessionView| standing(view) == Some(Standing::OnProbation) && view.counts.queued == 6;
    let view = coordinator.watch(code, is_settled).await;
    assert_eq!(view.workers[1].failed, 0);
    good.finish(&first).await;
    for _ in 1..files.len() {
        let job = good.job().await;
        good.finish(&job).await;
    }
    coordinator.watch(code, |view| standing(view) == Some(Standing::SetAside)).await;
    assert!(coordinator.jobs(code).await.iter().all(|job| job.attempts == 0), "nobody has failed them");
    coordinator.stop().await;
}

#[tokio::test]
async fn a_job_that_its_worker_lost_goes_past_it_to_another() {
    let folders = Folders::with(&["1.wav"]);
    let coordinator = Coordinator::start(&folders).await;
    let code = coordinator.scanned().await;
    let mut clumsy = coordinator.join_as(code, "clumsy").await;
    let lost = clumsy.job().await;
    clumsy.vanish();
    coordinator.watch(code, |view| view.counts.queued == 1).await;
    let _clumsy = coordinator.join_as(code, "clumsy").await;
    coordinator.watch(code, |view| view.workers.len() == 1).await;
    let mut other = coordinator.join_as(code, "other").await;
    let job = other.job().await;
    assert_eq!(job.job.job, lost.job.job, "the first in line has to wait for it, the second has not");
    other.finish(&job).await;
    coordinator.stop().await;
}

#[tokio::test]
async fn a_worker_that_reconnects_keeps_its_lease() {
    let folders = Folders::with(&["1.wav", "2.wav"]);
    let coordinator = Coordinator::start(&folders).await;
    let code = coordinator.scanned().await;
    let mut worker = coordinator.join_holding(code, "first", 1, Vec::new()).await;
    let job = worker.job().await;

    // The first connection is still open: the coordinator must detect that it was replaced.
    let foreign = JobRef { job: job.job.job + 1, lease: "forged".into() };
    let stolen = vec![job.job.clone()];
    let mut thief = coordinator.join_holding(code, "thief", 1, stolen).await;
    assert_eq!(rejected(thief.hear_word().await).0, RejectionReason::NotYourLease, "it is another's");
    assert_eq!(thief.job().await.track.file, "2.wav");
    thief.vanish();
    coordinator.watch(code, |view| view.counts.queued == 1).await;
    let held = vec![job.job.clone(), foreign, job.job.clone()];
    let mut returned = coordinator.join_holding(code, "first", 2, held).await;
    assert_eq!(rejected(returned.hear_word().await).0, RejectionReason::NotYourLease);
    assert_eq!(returned.job().await.track.file, "2.wav", "what it shows twice it holds once");
    let close = loop {
        if let Message::Close(close) = worker.frame().await {
            break close.unwrap();
        }
    };
    assert!(close.reason.contains("newer"), "{close}");
    coordinator.watch(code, |view| view.workers.len() == 1).await;
    assert_eq!(accepted(&returned.finish(&job).await), AcceptedAs::Stored);
    assert_eq!(coordinator.jobs(code).await[0].attempts, 0);
    coordinator.stop().await;
}

#[tokio::test]
async fn a_restart_keeps_the_session_and_the_leases() {
    let folders = Folders::with(&["1.wav", "2.wav", "3.wav"]);
    let coordinator = Coordinator::start(&folders).await;
    let code = coordinator.scanned().await;
    let mut worker = coordinator.join_holding(code, "first", 2, Vec::new()).await;
    let (first, second) = (worker.job().await, worker.job().await);
    let stopping = tokio::spawn(coordinator.stop());
    assert_eq!(worker.hear_word().await, ToWorker::Goodbye);
    drop(worker);
    stopping.await.unwrap();

    let coordinator = Coordinator::start(&folders).await;
    let view = coordinator.current().await;
    assert_eq!((view.code, view.counts.leased, view.counts.queued), (code, 2, 1));
    // Another worker connects first, and does not get the jobs that are still leased.
    let mut other = coordinator.join(code).await;
    let third = other.job().await;
    assert_eq!(third.track.file, "3.wav");
    let held = vec![first.job.clone(), second.job.clone()];
    let mut returned = coordinator.join_holding(code, "first", 2, held).await;
    for job in [&first, &second] {
        assert_eq!(accepted(&returned.finish(job).await), AcceptedAs::Stored);
    }
    assert_eq!(accepted(&other.finish(&third).await), AcceptedAs::Stored);
    let view = coordinator.watch(code, |view| view.state == SessionState::Complete).await;
    assert_eq!(view.counts.done, 3);
    assert!(coordinator.jobs(code).await.iter().all(|job| job.attempts == 0));
    coordinator.stop().await;
}

#[tokio::test]
async fn pause_resume_and_stop_do_what_they_say() {
    let folders = Folders::with(&["1.wav", "2.wav", "3.wav", "4.wav"]);
    let coordinator = Coordinator::start(&folders).await;
    let code = coordinator.scanned().await;
    let mut worker = coordinator.join(code).await;
    let first = worker.job().await;
    assert_eq!(coordinator.command(code, "pause").await.state, SessionState::Paused);
    worker.hear_state(SessionState::Paused).await;
    assert_eq!(accepted(&worker.finish(&first).await), AcceptedAs::Stored);
    coordinator.command(code, "resume").await;
    // No other message may come between the two.
    assert_eq!(worker.hear().await, ToWorker::State { state: SessionState::Running });
    let second = worker.job().await;
    let view = coordinator.command(code, "stop").await;
    assert_eq!((view.counts.queued, view.counts.leased, view.state), (0, 1, SessionState::Running));
    assert_eq!(accepted(&worker.finish(&second).await), AcceptedAs::Stored);
    worker.hear_state(SessionState::Complete).await;
    coordinator.stop().await;
}

#[tokio::test]
async fn nonsense_ends_the_connection_and_nothing_else() {
    let folders = Folders::with(&["1.wav"]);
    let coordinator = Coordinator::start(&folders).await;
    let code = coordinator.scanned().await;
    let mut malformed = coordinator.join(code).await;
    malformed.job().await;
    malformed.say_text(&format!(r#"{{"type":"progress","job":"{}"}}"#, "x".repeat(60_000))).await;
    let Message::Close(Some(close)) = malformed.frame().await else { panic!("no close") };
    assert!(close.reason.contains("malformed message"), "{close}");
    coordinator.watch(code, |view| view.workers.is_empty() && view.counts.queued == 1).await;
    let error = coordinator.jobs(code).await[0].error.clone().unwrap();
    assert!(error.contains("malformed message") && error.len() < 2 * MAX_TEXT_CHARS, "{error}");

    let mut endless = coordinator.join(code).await;
    endless.job().await;
    endless.say_text(&"x".repeat(MAX_MESSAGE_BYTES + 1)).await;
    coordinator.watch(code, |view| view.workers.is_empty() && view.counts.queued == 1).await;
    assert_eq!(coordinator.jobs(code).await[0].attempts, 2);
    coordinator.stop().await;
}

#[tokio::test]
async fn a_silent_worker_loses_its_job_to_another_within_thirty_seconds() {
    let folders = Folders::with(&["1.wav"]);
    let coordinator = Coordinator::start(&folders).await;
    let code = coordinator.scanned().await;
    let mut silent = coordinator.join(code).await;
    let job = silent.job().await;
    let began = std::time::Instant::now();
    // The other worker is active; the first does not even answer pings, since nothing reads its socket.
    let mut other = coordinator.join(code).await;
    let again = loop {
        match other.frame().await {
            Message::Text(text) => match serde_json::from_str(&text).unwrap() {
                ToWorker::Ping => other.say(&ToServer::Pong).await,
                ToWorker::Job(job) => break job,
                _ => {}
            },
            _ => other.say(&ToServer::Pong).await,
        }
    };
    assert_eq!(again.job.job, job.job.job);
    assert!(began.elapsed().as_secs() < 30, "{:?}", began.elapsed());
    coordinator.stop().await;
}
