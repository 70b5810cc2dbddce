//! Questions about jobs, and new attempts at failed ones.

use super::*;

on_engines! {
    all {
        the_backlog_says_which_jobs_nobody_may_have
        the_backlog_is_looked_at_from_its_beginning_and_no_further_than_needed
        a_lease_that_runs_out_is_found
        what_a_worker_failed_is_queued_again_for_others
        a_failed_track_that_has_an_open_job_elsewhere_stays_failed
        a_failed_track_is_not_lost_when_another_session_gives_it_up
        failed_jobs_are_listed_and_tried_again_at_the_end_of_the_queue
        nothing_is_tried_again_in_an_ended_session
        a_queue_of_several_batches_is_dropped_and_tried_again_as_a_whole
    }
    databases {}
}

fn takers(workers: &[(&str, u64)]) -> Takers {
    let mut takers = Takers::default();
    workers.iter().for_each(|(name, max_bytes)| takers.add(name, *max_bytes));
    takers
}

async fn the_backlog_says_which_jobs_nobody_may_have(fixture: Fixture) {
    let queue_status = async |workers: &[(&str, u64)], now| {
        fixture.store.queue_status(fixture.session.id, &takers(workers), now).await.unwrap()
    };
    assert_eq!(queue_status(&[("w", 1000)], T0).await, QueueStatus::default());
    let large = Found { bytes: 5000, ..file("a", "1") };
    fixture.scan("first", &[large, file("b", "2"), file("c", "3")]).await;
    let one_ready = QueueStatus { ready: 2, too_large: 1, ..QueueStatus::default() };
    assert_eq!(queue_status(&[("w", 4999)], T0).await, one_ready);
    assert_eq!(queue_status(&[("w", 100), ("v", 5000)], T0).await, QueueStatus { ready: 3, ..QueueStatus::default() });

    let failed = fixture.claim_for("w", "t1", T0).await.unwrap();
    fixture.answer(failed.job.id, "t1", failure(FailureKind::Passing)).await.unwrap();
    let lost = fixture.claim_for("w", "t2", T0).await.unwrap();
    let lose = |job: &mut Job| job.lose("t2", 1, "gone", T0);
    fixture.store.decide(fixture.session.id, lost.job.id, lose).await.unwrap().unwrap();
    let [first, second] = [RETRY_WAIT_SECONDS[0], RETRY_WAIT_SECONDS[1]].map(|wait| T0.plus_seconds(wait));
    let resting = |ready, resting, next_try| QueueStatus { ready, too_large: 1, resting, next_try };
    let alone = [("w", 1000)];
    assert_eq!(queue_status(&alone, T0).await, resting(0, 2, Some(first)), "it waits longer for what it had itself");
    assert_eq!(queue_status(&alone, first).await, resting(1, 1, Some(second)));
    assert_eq!(queue_status(&alone, second).await, resting(2, 0, None));
    for others in [[("v", 1000), ("w", 1000)], [("w", 4000), ("v", 100)], [("u", 1000), ("v", 99)]] {
        assert_eq!(
            queue_status(&others, T0).await,
            resting(1, 1, Some(first)),
            "{others:?}: what was lost others may have"
        );
    }
    assert_eq!(queue_status(&[("w", 1000), ("v", 99)], T0).await, resting(0, 2, Some(first)), "v takes no such files");

    fixture.claim("t3", T0).await.unwrap();
    assert_eq!(queue_status(&alone, T0).await, resting(0, 1, Some(second)), "what is leased does not wait");
    let other = fixture.store.create_session(new_session(2), 10).await.unwrap().unwrap();
    assert_eq!(fixture.store.queue_status(other.id, &takers(&alone), T0).await.unwrap(), QueueStatus::default());
}

async fn the_backlog_is_looked_at_from_its_beginning_and_no_further_than_needed(fixture: Fixture) {
    let large = |i: u64| Found { bytes: 5000, ..file(&format!("{i}"), &format!("{i}")) };
    let files: Vec<_> = (0..MAX_WAITING_COUNTED).map(large).chain([file("small", "small")]).collect();
    fixture.scan("first", &files).await;
    let queue_status = fixture.store.queue_status(fixture.session.id, &takers(&[("w", 1000)]), T0).await.unwrap();
    assert_eq!(queue_status, QueueStatus { too_large: MAX_WAITING_COUNTED, ..QueueStatus::default() });
}

async fn a_lease_that_runs_out_is_found(fixture: Fixture) {
    fixture.scan("first", &[file("a", "1")]).await;
    let held = fixture.claim("t1", T0).await.unwrap();
    let end = T0.plus_seconds(LEASE_SECONDS);
    assert_eq!(fixture.store.expired(Timestamp(end.0 - 1)).await.unwrap(), []);
    let job = JobRef { job: held.job.id, lease: "t1".into() };
    assert_eq!(fixture.store.expired(end).await.unwrap(), [(fixture.session.code, job)]);
}

async fn what_a_worker_failed_is_queued_again_for_others(fixture: Fixture) {
    fixture.scan("first", &[file("a", "1"), file("b", "2"), file("c", "3")]).await;
    for (worker, token) in [("w", "t1"), ("v", "t2"), ("w", "t3")] {
        let held = fixture.claim_for(worker, token, T0).await.unwrap();
        assert_eq!(fixture.answer(held.job.id, token, failure(FailureKind::Permanent)).await, Ok(Answer::GivenUp));
    }
    let (store, session) = (&fixture.store, fixture.session.id);
    let failed_of = async |after, limit| store.ended_by(session, "w", JobState::Failed, after, limit).await.unwrap();
    let [first, second] = failed_of(0, 10).await[..] else { panic!("w has failed two") };
    assert_eq!((failed_of(0, 1).await, failed_of(first, 1).await), (vec![first], vec![second]));
    assert_eq!(failed_of(second, 1).await, [0; 0]);
    for (worker, reopened) in [("u", 0), ("w", 2), ("w", 0)] {
        assert_eq!(fixture.request_second_opinion(worker).await, reopened, "{worker}");
    }
    assert_eq!(fixture.counts().await, Counts { queued: 2, failed: 1, ..Counts::default() });
    assert_eq!(fixture.claim_for("w", "t4", T0).await, None);
    for (token, name) in [("t5", "a"), ("t6", "c")] {
        let held = fixture.claim_for("v", token, T0).await.unwrap();
        assert_eq!((held.track.file.as_str(), held.job.attempts, held.job.reopened), (name, 0, 1));
        fixture.answer(held.job.id, token, failure(FailureKind::Permanent)).await.unwrap();
    }
    assert_eq!(
        (fixture.request_second_opinion("w").await, fixture.request_second_opinion("v").await),
        (0, 3),
        "whoever failed it last"
    );
}

async fn a_failed_track_that_has_an_open_job_elsewhere_stays_failed(fixture: Fixture) {
    let files = [tagged("a", "1", "x", "y"), tagged("b", "2", "p", "q"), file("c", "3")];
    fixture.scan("first", &files).await;
    for token in ["t1", "t2", "t3"] {
        let held = fixture.claim_for("w", token, T0).await.unwrap();
        fixture.answer(held.job.id, token, failure(FailureKind::Permanent)).await.unwrap();
    }
    let other = fixture.store.create_session(new_session(2), 10).await.unwrap().unwrap();
    let same = [tagged("same content", "1", "u", "v"), file("same too", "2")];
    assert_eq!(fixture.scan_for(&other, "first", &same).await, queued(2));
    assert_eq!(fixture.request_second_opinion("w").await, 1, "the others are being done");
    assert_eq!(fixture.counts().await, Counts { queued: 1, failed: 2, ..Counts::default() });
    assert_eq!(fixture.claim("t4", T0).await.unwrap().track.file, "c");
    fixture.store.clear_queue(other.id).await.unwrap();
    assert_eq!(fixture.request_second_opinion("w").await, 2);

    let held = fixture.claim_for("w2", "t5", T0).await.unwrap();
    fixture.answer(held.job.id, "t5", failure(FailureKind::Permanent)).await.unwrap();
    fixture.store.end_session(fixture.session.id, T0).await.unwrap();
    assert_eq!(fixture.request_second_opinion("w2").await, 0, "an ended session wants nothing more");
}

async fn a_failed_track_is_not_lost_when_another_session_gives_it_up(fixture: Fixture) {
    let (store, id) = (&fixture.store, fixture.session.id);
    fixture.scan("first", &[file("x", "1"), tagged("y", "2", "p", "q"), file("z", "3")]).await;
    for token in ["t1", "t2", "t3"] {
        let held = fixture.claim(token, T0).await.unwrap();
        fixture.answer(held.job.id, token, failure(FailureKind::Permanent)).await.unwrap();
    }
    let other = store.create_session(new_session(2), 10).await.unwrap().unwrap();
    let same = [file("same content", "1"), file("same too", "2")];
    assert_eq!(fixture.scan_for(&other, "first", &same).await, queued(2));

    let failed = async || {
        let failed = store.jobs(id, Some(JobState::Failed), 0, 10).await.unwrap();
        failed.into_iter().map(|row| row.track.file).collect::<Vec<_>>()
    };
    let first = store.jobs(id, Some(JobState::Failed), 0, 1).await.unwrap().remove(0);
    assert_eq!(store.retry_failed(id, Some(first.job.id)).await.unwrap(), Retried::default());
    assert_eq!(store.job(first.job.id).await.unwrap(), Some(first));
    assert_eq!(store.retry_failed(id, None).await.unwrap(), Retried { queued: 1, known: 0 });
    assert_eq!(failed().await, ["x", "y"], "nobody knows what becomes of the others");
    // A scan does not queue them either.
    let files = [file("x", "1"), tagged("y", "2", "p", "q")];
    assert_eq!(fixture.scan("first", &files).await, Enqueued { skipped: 2, ..Enqueued::default() });
    assert_eq!(failed().await, ["x", "y"]);

    assert_eq!(store.clear_queue(other.id).await.unwrap(), 2);
    assert_eq!(failed().await, ["x", "y"], "they are nowhere else now");
    assert_eq!(store.retry_failed(id, None).await.unwrap(), Retried { queued: 2, known: 0 });
    assert_eq!(fixture.counts().await, Counts { queued: 3, skipped: 2, ..Counts::default() });

    // A job whose content has a vector by now is done, regardless of the session that made the vector.
    let names = ["z", "x", "y"];
    for (token, name) in ["t4", "t5", "t6"].into_iter().zip(names) {
        let held = fixture.claim(token, T0).await.unwrap();
        assert_eq!(held.track.file, name);
        fixture.answer(held.job.id, token, failure(FailureKind::Permanent)).await.unwrap();
    }
    assert_eq!(fixture.scan_for(&other, "first", &same).await, queued(2));
    for token in ["t7", "t8"] {
        let row = fixture.claim_all(other.id, &[claim("w", token)], T0).await.remove(0).unwrap();
        let held = JobRef { job: row.job.id, lease: token.into() };
        store.answer(other.id, &held, Outcome::Done(vector()), &maker(), T0).await.unwrap().unwrap();
    }
    assert_eq!(store.retry_failed(id, None).await.unwrap(), Retried { queued: 1, known: 2 });
    assert_eq!(fixture.counts().await, Counts { queued: 1, skipped: 2, ..Counts::default() });
}

async fn failed_jobs_are_listed_and_tried_again_at_the_end_of_the_queue(fixture: Fixture) {
    let session = fixture.session.id;
    let unreadable = Found { content: Err("cannot be read".into()), ..file("x", "") };
    fixture.scan("first", &[file("a", "1"), file("b", "2"), unreadable, file("c", "3")]).await;
    for (token, name) in [("t1", "a"), ("t2", "b")] {
        let held = fixture.claim(token, T0).await.unwrap();
        assert_eq!((held.track.file.as_str(), held.holder_kind), (name, Some(WorkerKind::Browser)));
        let failure = Failure { kind: FailureKind::Permanent, message: "not audio".into() };
        fixture.answer(held.job.id, token, Outcome::Failed(failure)).await.unwrap();
    }
    let failed = fixture.store.jobs(session, Some(JobState::Failed), 0, 10).await.unwrap();
    assert_eq!(failed.iter().map(|row| row.track.file.as_str()).collect::<Vec<_>>(), ["a", "b", "x"]);
    assert_eq!(fixture.store.jobs(session, Some(JobState::Failed), 1, 1).await.unwrap(), failed[1..2]);

    let nothing = Retried::default();
    let (a, x) = (failed[0].job.id, failed[2].job.id);
    assert_eq!(fixture.store.retry_failed(session, Some(x)).await.unwrap(), nothing, "only a scan can do that");
    assert_eq!(fixture.store.retry_failed(SessionId(session.0 + 1), Some(a)).await.unwrap(), nothing);
    let one = Retried { queued: 1, known: 0 };
    assert_eq!(fixture.store.retry_failed(session, Some(a)).await.unwrap(), one);
    assert_eq!(fixture.store.retry_failed(session, Some(a)).await.unwrap(), nothing, "it has another number now");
    assert_eq!(fixture.store.retry_failed(session, None).await.unwrap(), one);
    assert_eq!(fixture.counts().await, Counts { queued: 3, failed: 1, ..Counts::default() });
    for (token, name) in [("t3", "c"), ("t4", "a"), ("t5", "b")] {
        let held = fixture.claim(token, T0).await.unwrap();
        assert_eq!((held.track.file.as_str(), held.job.attempts, held.job.error), (name, 0, None));
    }
}

async fn nothing_is_tried_again_in_an_ended_session(fixture: Fixture) {
    fixture.scan("first", &[tagged("a", "1", "x", "y"), file("b", "2")]).await;
    for token in ["t1", "t2"] {
        let held = fixture.claim(token, T0).await.unwrap();
        fixture.answer(held.job.id, token, failure(FailureKind::Permanent)).await.unwrap();
    }
    fixture.store.end_session(fixture.session.id, T0).await.unwrap();
    assert_eq!(fixture.store.retry_failed(fixture.session.id, None).await.unwrap(), Retried::default());
    assert_eq!(fixture.counts().await, Counts { failed: 2, ..Counts::default() });
    let other = fixture.store.create_session(new_session(2), 10).await.unwrap().unwrap();
    assert_eq!(fixture.scan_for(&other, "first", &[file("a", "1"), file("b", "2")]).await, queued(2));
}

async fn a_queue_of_several_batches_is_dropped_and_tried_again_as_a_whole(fixture: Fixture) {
    const JOBS: u64 = 2500;
    let (store, id) = (&fixture.store, fixture.session.id);
    let files: Vec<_> = (0..JOBS).map(|i| file(&format!("{i:04}"), &format!("{i}"))).collect();
    let unreadable = Found { content: Err("cannot be read".into()), ..file("x", "") };
    fixture.scan("first", &[&files[..10], &[unreadable], &files[10..]].concat()).await;
    fixture.fail_queued().await;
    assert_eq!(fixture.counts().await, Counts { failed: JOBS + 1, ..Counts::default() });
    assert_eq!(store.retry_failed(id, None).await.unwrap(), Retried { queued: JOBS, known: 0 });
    assert_eq!(fixture.counts().await, Counts { queued: JOBS, failed: 1, ..Counts::default() });
    assert_eq!(fixture.claim("t1", T0).await.unwrap().track.file, "0000", "they keep their order");
    assert_eq!(store.clear_queue(id).await.unwrap(), JOBS - 1);
    assert_eq!(fixture.counts().await, Counts { leased: 1, failed: 1, ..Counts::default() });
    assert_eq!(store.session(&fixture.session.code).await.unwrap().unwrap().flags, Flags::default());

    fixture.scan("first", &files[1..]).await;
    store.end_session(id, T0).await.unwrap();
    assert_eq!(fixture.counts().await, Counts { failed: 1, ..Counts::default() });
    assert!(store.session(&fixture.session.code).await.unwrap().unwrap().flags.ended);
}
