//! What changes jobs: claims, leases and answers.

use super::*;

on_engines! {
    all {
        the_queue_keeps_its_order_and_counts_itself
        a_claim_passes_over_what_is_too_large_or_has_to_wait
        one_transaction_gives_each_worker_what_it_may_have
        a_failed_track_goes_to_another_worker_first
        a_last_try_is_passed_over_by_those_it_is_not_for
        what_cannot_be_served_here_stays_as_it_is_and_ends_the_claiming
        nothing_is_claimed_from_a_paused_or_ended_session
        workers_that_claim_at_once_never_get_the_same_job
        leases_are_renewed_together
        jobs_answer_only_to_their_own_session_and_lease
        an_invalid_vector_is_a_passing_failure
        a_result_that_comes_second_completes_its_job_and_changes_nothing
    }
    databases {
        results_for_one_content_that_come_at_once_make_one_vector
    }
}

async fn the_queue_keeps_its_order_and_counts_itself(fixture: Fixture) {
    assert_eq!(fixture.scan("first", &[file("a", "1"), file("b", "2"), file("c", "3")]).await, queued(3));
    let first = fixture.claim("t1", T0).await.unwrap();
    let second = fixture.claim("t2", T0).await.unwrap();
    assert_eq!((first.track.file.as_str(), second.track.file.as_str()), ("a", "b"));
    assert_eq!(fixture.counts().await, Counts { queued: 1, leased: 2, ..Counts::default() });

    let session = fixture.session.id;
    fixture.store.decide(session, first.job.id, |job| job.lose("t1", 1, "gone", T0)).await.unwrap().unwrap();
    assert_eq!(fixture.claim("t3", T0).await.unwrap().job.id, first.job.id, "it stands before what waited");
    assert_eq!(fixture.answer(second.job.id, "t2", Outcome::Done(vector())).await, Ok(Answer::Stored));
    assert_eq!(fixture.store.clear_queue(session).await.unwrap(), 1);
    assert_eq!(fixture.counts().await, Counts { leased: 1, done: 1, ..Counts::default() });
}

async fn a_claim_passes_over_what_is_too_large_or_has_to_wait(fixture: Fixture) {
    let large = Found { bytes: 5000, ..file("a", "1") };
    fixture.scan("first", &[large, file("b", "2")]).await;
    let small = fixture.claim("t1", T0).await.unwrap();
    assert_eq!(small.track.file, "b");
    assert_eq!(fixture.claim("t2", T0).await, None);

    let failure = Failure { kind: FailureKind::Passing, message: "no network".into() };
    assert_eq!(fixture.answer(small.job.id, "t1", Outcome::Failed(failure)).await, Ok(Answer::Requeued));
    let due = T0.plus_seconds(RETRY_WAIT_SECONDS[0]);
    assert_eq!(fixture.claim("t3", Timestamp(due.0 - 1)).await, None);
    assert_eq!(fixture.claim("t4", due).await.unwrap().job.error.as_deref(), Some("no network"));
}

async fn one_transaction_gives_each_worker_what_it_may_have(fixture: Fixture) {
    let large = Found { bytes: 5000, ..file("a", "1") };
    fixture.scan("first", &[large, file("b", "2"), file("c", "3")]).await;
    let lost = fixture.claim_for("w", "t1", T0).await.unwrap();
    let lose = |job: &mut Job| job.lose("t1", 1, "gone", T0);
    fixture.store.decide(fixture.session.id, lost.job.id, lose).await.unwrap().unwrap();

    let greedy = Claim { max_bytes: 5000, ..claim("x", "t4") };
    let claims = [claim("w", "t2"), claim("v", "t3"), greedy, claim("u", "t5")];
    let rows = fixture.claim_all(fixture.session.id, &claims, T0).await;
    let files: Vec<_> = rows.iter().map(|row| row.as_ref().map(|row| row.track.file.as_str())).collect();
    assert_eq!(files, [Some("c"), Some("b"), Some("a"), None], "w has just lost b");
    let holders: Vec<_> = rows.iter().flatten().map(|row| row.job.holder.clone().unwrap()).collect();
    assert_eq!(holders, ["w", "v", "x"]);
    assert_eq!(fixture.counts().await, Counts { leased: 3, ..Counts::default() });

    let waits = async |max_bytes| {
        let max_attempts = claims[0].max_attempts();
        fixture.store.has_waiting(fixture.session.id, max_bytes, max_attempts, T0).await.unwrap()
    };
    assert!(!waits(u64::MAX).await);
    let release = |job: &mut Job| job.release("t4", T0);
    fixture.store.decide(fixture.session.id, rows[2].as_ref().unwrap().job.id, release).await.unwrap().unwrap();
    assert_eq!((waits(4999).await, waits(5000).await), (false, true));
    fixture.store.set_paused(fixture.session.id, true).await.unwrap();
    assert!(!waits(5000).await);
}

async fn a_failed_track_goes_to_another_worker_first(fixture: Fixture) {
    fixture.scan("first", &[file("a", "1"), file("b", "2")]).await;
    let first = fixture.claim_for("w", "t1", T0).await.unwrap();
    fixture.answer(first.job.id, "t1", failure(FailureKind::Passing)).await.unwrap();
    let [due, again] = [RETRY_WAIT_SECONDS[0], RETRY_WAIT_SECONDS[1]].map(|wait| T0.plus_seconds(wait));
    let second = fixture.claim_for("w", "t2", due).await.unwrap();
    assert_eq!(second.track.file, "b", "it passes over its own");
    assert_eq!(fixture.claim_for("w", "t3", Timestamp(again.0 - 1)).await, None);
    let third = fixture.claim_for("v", "t4", due).await.unwrap();
    assert_eq!(third.job.id, first.job.id, "others need not wait so long");
    fixture.answer(third.job.id, "t4", failure(FailureKind::Passing)).await.unwrap();
    let last = T0.plus_seconds(RETRY_WAIT_SECONDS[2]);
    assert_eq!(fixture.claim_for("v", "t5", Timestamp(last.0 - 1)).await, None);
    assert_eq!(fixture.claim_for("v", "t5", last).await.unwrap().job.id, first.job.id, "nobody else has come");
}

async fn a_last_try_is_passed_over_by_those_it_is_not_for(fixture: Fixture) {
    fixture.scan("first", &[file("a", "1"), file("b", "2")]).await;
    for number in 1..MAX_ATTEMPTS {
        let token = format!("t{number}");
        let lost = fixture.claim(&token, LATER).await.unwrap();
        let lose = |job: &mut Job| job.lose(&token, number, "gone", T0);
        fixture.store.decide(fixture.session.id, lost.job.id, lose).await.unwrap().unwrap();
    }
    let fresh = Claim { takes_last_tries: false, ..claim("fresh", "t8") };
    let claims = [fresh.clone(), Claim { lease: "t9".into(), ..fresh }, claim("proven", "t10")];
    let rows = fixture.claim_all(fixture.session.id, &claims, LATER).await;
    let files: Vec<_> = rows.iter().map(|row| row.as_ref().map(|row| row.track.file.as_str())).collect();
    assert_eq!(files, [Some("b"), None, Some("a")]);

    let release = |job: &mut Job| job.release("t10", LATER);
    fixture.store.decide(fixture.session.id, rows[2].as_ref().unwrap().job.id, release).await.unwrap().unwrap();
    let waits_for = async |claim: &Claim<'_>| {
        fixture.store.has_waiting(fixture.session.id, 1000, claim.max_attempts(), LATER).await.unwrap()
    };
    assert_eq!((waits_for(&claims[0]).await, waits_for(&claims[2]).await), (false, true));
}

async fn what_cannot_be_served_here_stays_as_it_is_and_ends_the_claiming(fixture: Fixture) {
    let (store, session) = (&fixture.store, fixture.session.id);
    fixture.scan("first", &[file("a", "1"), file("b", "2"), file("c", "3")]).await;
    let before = store.jobs(session, Some(JobState::Queued), 1, 1).await.unwrap();
    let claims = [claim("w", "t1"), claim("v", "t2"), claim("u", "t3")];
    let has_all_but_b = |row: &JobRow| row.track.file != "b";
    let Claimed { rows, unserved } = store.claim(session, &claims, has_all_but_b, T0).await.unwrap();
    let files: Vec<_> = rows.iter().map(|row| row.as_ref().map(|row| row.track.file.as_str())).collect();
    assert_eq!(files, [Some("a"), None, None], "what was leased before it stands");
    assert_eq!(unserved.as_ref(), before.first());
    assert_eq!(store.jobs(session, Some(JobState::Queued), 0, 1).await.unwrap(), before, "it has cost no try");
    let Claimed { rows, unserved } = store.claim(session, &claims, has_all_but_b, T0).await.unwrap();
    assert_eq!((rows, unserved.as_ref()), (vec![None; 3], before.first()), "it is still the first");
    assert_eq!(fixture.counts().await, Counts { queued: 2, leased: 1, ..Counts::default() });

    // Another coordinator can serve it.
    let other = fixture.another().await;
    let Claimed { rows, unserved } = other.claim(session, &claims, |_| true, T0).await.unwrap();
    let files: Vec<_> = rows.iter().map(|row| row.as_ref().map(|row| row.track.file.as_str())).collect();
    assert_eq!((files, unserved), (vec![Some("b"), Some("c"), None], None));
}

async fn nothing_is_claimed_from_a_paused_or_ended_session(fixture: Fixture) {
    let id = fixture.session.id;
    fixture.scan("first", &[file("a", "1"), file("b", "2")]).await;
    let held = fixture.claim("t1", T0).await.unwrap();
    fixture.store.set_paused(id, true).await.unwrap();
    assert_eq!(fixture.claim("t2", T0).await, None);
    fixture.store.set_paused(id, false).await.unwrap();
    fixture.store.end_session(id, T0).await.unwrap();
    assert_eq!(fixture.claim("t3", T0).await, None);
    assert_eq!(fixture.store.job(held.job.id).await.unwrap(), None, "its lease has been taken back");
    assert_eq!(fixture.counts().await, Counts::default());
    assert_eq!(fixture.store.begin_scan(id, order("x"), T0).await.unwrap(), Err(NoScan::SessionEnded));
    let other = fixture.store.create_session(new_session(2), 10).await.unwrap().unwrap();
    assert_eq!(fixture.scan_for(&other, "first", &[file("a", "1")]).await, queued(1), "others may have what it wanted");
}

async fn workers_that_claim_at_once_never_get_the_same_job(fixture: Fixture) {
    const JOBS: usize = 60;
    let files: Vec<_> = (0..JOBS).map(|i| file(&format!("{i:03}"), &format!("{i}"))).collect();
    fixture.scan("first", &files).await;
    let mut claims = tokio::task::JoinSet::new();
    for process in 0..4 {
        let (store, session) = (fixture.another().await, fixture.session.id);
        claims.spawn(async move {
            let mut got = Vec::new();
            loop {
                let names = [0, 1, 2].map(|turn| format!("{process}-{turn}-{}", got.len()));
                let claims = names.each_ref().map(|name| claim("w", name));
                let rows = store.claim(session, &claims, |_| true, T0).await.unwrap().rows;
                got.extend(rows.iter().flatten().map(|row| row.job.id));
                if rows.contains(&None) {
                    return got;
                }
            }
        });
    }
    let got: Vec<_> = claims.join_all().await.concat();
    let different: std::collections::HashSet<_> = got.iter().collect();
    assert_eq!((got.len(), different.len()), (JOBS, JOBS));
    assert_eq!(fixture.counts().await, Counts { leased: JOBS as u64, ..Counts::default() });
}

async fn leases_are_renewed_together(fixture: Fixture) {
    fixture.scan("first", &[file("a", "1"), file("b", "2"), file("c", "3")]).await;
    let mut held = Vec::new();
    for token in ["t1", "t2", "t3"] {
        held.push(JobRef { job: fixture.claim(token, T0).await.unwrap().job.id, lease: token.into() });
    }
    held[1].lease = "forged".into();
    let nobodys = JobRef { job: held[2].job + 100, lease: "t1".into() };
    let deadline = T0.plus_seconds(2 * LEASE_SECONDS);
    let renewals: Vec<_> = held.iter().chain([&nobodys]).map(|job| Renewal { job: job.clone(), deadline }).collect();
    let refused = fixture.store.renew_leases(fixture.session.id, &renewals).await.unwrap();
    assert_eq!(refused, [(held[1].clone(), NotYourLease.into()), (nobodys, Refusal::UnknownJob)]);
    let expired = fixture.store.expired(T0.plus_seconds(LEASE_SECONDS)).await.unwrap();
    assert_eq!(expired.iter().map(|(_, job)| job.job).collect::<Vec<_>>(), [held[1].job]);
    assert_eq!(fixture.store.expired(deadline).await.unwrap().len(), 3);
}

async fn jobs_answer_only_to_their_own_session_and_lease(fixture: Fixture) {
    fixture.scan("first", &[file("a", "1")]).await;
    let held = fixture.claim("t1", T0).await.unwrap();
    let other = fixture.store.create_session(new_session(2), 10).await.unwrap().unwrap();
    let decided = fixture.store.decide(other.id, held.job.id, |job| job.release("t1", T0)).await.unwrap();
    assert_eq!(decided.unwrap_err(), Refusal::UnknownJob);
    let id = held.job.id;
    assert_eq!(fixture.answer(id, "forged", Outcome::Done(vector())).await, Err(Refusal::NotYourLease(NotYourLease)));
    assert_eq!(fixture.answer(id + 1, "t1", Outcome::Done(vector())).await, Err(Refusal::UnknownJob));
    assert_eq!(fixture.answer(id, "t1", Outcome::Done(vector())).await, Ok(Answer::Stored));
    assert_eq!(fixture.answer(id, "t1", Outcome::Done(vector())).await, Ok(Answer::Repeated));
}

async fn an_invalid_vector_is_a_passing_failure(fixture: Fixture) {
    fixture.scan("first", &[file("a", "1")]).await;
    let held = fixture.claim("t1", T0).await.unwrap();
    let bad = Vector { embedding: vec![0.0; 3], ..vector() };
    let forged = fixture.answer(held.job.id, "forged", Outcome::Done(bad.clone())).await;
    assert_eq!(forged, Err(Refusal::NotYourLease(NotYourLease)), "a stranger's vector is not even judged");
    let refusal = fixture.answer(held.job.id, "t1", Outcome::Done(bad)).await.unwrap_err();
    let Refusal::InvalidVector(InvalidVector::Length { actual: 3, .. }, returned) = refusal else {
        panic!("{refusal}")
    };
    assert_eq!((returned.1, returned.0.job.attempts), (Answer::Requeued, 1));
    assert_eq!(fixture.store.vectors("first", 0, 10).await.unwrap(), []);
}

async fn a_result_that_comes_second_completes_its_job_and_changes_nothing(fixture: Fixture) {
    let (a, b) = (tagged("a", "1", "x", "y"), tagged("b", "2", "X", "Y"));
    fixture.scan("first", &[a]).await;
    let held = fixture.claim("t1", T0).await.unwrap();
    let failure = Failure { kind: FailureKind::Permanent, message: "not audio".into() };
    fixture.answer(held.job.id, "t1", Outcome::Failed(failure)).await.unwrap();
    // The first job fails, so the second may be queued; then its content is completed elsewhere first.
    fixture.scan("first", &[b]).await;
    let second = fixture.claim("t2", T0).await.unwrap();
    fixture.store.decide(fixture.session.id, second.job.id, |job| job.release("t2", T0)).await.unwrap().unwrap();
    let session = fixture.session.id;
    let other = fixture.store.create_session(new_session(2), 10).await.unwrap().unwrap();
    fixture.scan_for(&other, "second", &[tagged("c", "2", "x", "y")]).await;
    let third = fixture.claim_all(other.id, &[claim("w", "t3")], T0).await.remove(0).unwrap();
    let held = JobRef { job: third.job.id, lease: "t3".into() };
    fixture.store.answer(other.id, &held, Outcome::Done(vector()), &maker(), T0).await.unwrap().unwrap();
    fixture.scan_for(&other, "first", &[file("d", "2")]).await;
    assert_eq!(fixture.store.count_vectors("first").await.unwrap(), Some(1), "copied from the second collection");

    let held = JobRef { job: fixture.claim("t4", T0).await.unwrap().job.id, lease: "t4".into() };
    let late = Vector { seconds: 99.0, ..vector() };
    let answered = fixture.store.answer(session, &held, Outcome::Done(late), &maker(), T0).await.unwrap().unwrap();
    assert_eq!((answered.answer, answered.duplicate), (Answer::Stored, true));
    assert_eq!(fixture.counts().await, Counts { done: 1, failed: 1, ..Counts::default() });
    let stored = fixture.store.vectors("first", 0, 10).await.unwrap();
    assert_eq!((stored.len(), stored[0].seconds), (1, 12.5), "what was there stays");
}

async fn results_for_one_content_that_come_at_once_make_one_vector(fixture: Fixture) {
    const ROUNDS: usize = 10;
    // The index prevents two open jobs for one content. But a vector may also arrive from another collection while a job is
    // running, and two jobs are the simplest way to test that.
    fixture.run("DROP INDEX chaarfm.jobs_once_by_content").await;
    let other = fixture.store.create_session(new_session(2), 10).await.unwrap().unwrap();
    let stores = [fixture.another().await, fixture.another().await];
    for round in 0..ROUNDS {
        let mut held = Vec::new();
        for session in [&fixture.session, &other] {
            let name = format!("{round}-{}", session.id);
            assert_eq!(fixture.scan_for(session, "first", &[file(&name, &round.to_string())]).await, queued(1));
            let row = fixture.claim_all(session.id, &[claim("w", &name)], T0).await.remove(0).unwrap();
            held.push((session.id, JobRef { job: row.job.id, lease: name.as_str().into() }));
        }
        let mut answers = tokio::task::JoinSet::new();
        for ((session, held), store) in held.into_iter().zip(stores.clone()) {
            answers.spawn(async move {
                store.answer(session, &held, Outcome::Done(vector()), &maker(), T0).await.unwrap().unwrap()
            });
        }
        let answers = answers.join_all().await;
        assert!(answers.iter().all(|answered| answered.answer == Answer::Stored), "{answers:?}");
        assert_eq!(answers.iter().filter(|answered| answered.duplicate).count(), 1, "{answers:?}");
    }
    assert_eq!(fixture.store.count_vectors("first").await.unwrap(), Some(ROUNDS as u64));
}
