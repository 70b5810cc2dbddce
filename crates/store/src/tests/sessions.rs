//! Sessions, and the deletion of ended ones.

use super::*;

on_engines! {
    all {
        the_current_session_is_the_newest_open_one
        open_sessions_are_listed_with_their_jobs_counted
        what_ended_long_ago_is_forgotten_but_no_vector
    }
    databases {
        what_an_older_program_has_ended_is_kept_from_now_on
    }
}

async fn the_current_session_is_the_newest_open_one(fixture: Fixture) {
    let newer = fixture.store.create_session(new_session(2), 10).await.unwrap().unwrap();
    assert_eq!(fixture.store.current_session(new_session(3)).await.unwrap(), newer);
    fixture.store.end_session(newer.id, T0).await.unwrap();
    assert_eq!(fixture.store.current_session(new_session(3)).await.unwrap(), fixture.session);
    fixture.store.end_session(fixture.session.id, T0).await.unwrap();
    assert_eq!(fixture.store.current_session(new_session(3)).await.unwrap().code, new_session(3).code);
    assert_eq!(
        fixture.store.create_session(new_session(4), 1).await.unwrap(),
        None,
        "one is open, and that is the limit"
    );
}

async fn open_sessions_are_listed_with_their_jobs_counted(fixture: Fixture) {
    let other = fixture.store.create_session(new_session(2), 10).await.unwrap().unwrap();
    fixture.scan("first", &[file("a", "1"), file("b", "2"), file("c", "3")]).await;
    fixture.claim("t1", T0).await.unwrap();
    let open = fixture.store.open_sessions().await.unwrap();
    let seen: Vec<_> = open.iter().map(|session| (session.id, session.counts.queued, session.counts.leased)).collect();
    assert_eq!(seen, [(fixture.session.id, 2, 1), (other.id, 0, 0)]);
    fixture.store.end_session(fixture.session.id, T0).await.unwrap();
    assert_eq!(fixture.store.open_sessions().await.unwrap(), [other]);
}

async fn what_ended_long_ago_is_forgotten_but_no_vector(fixture: Fixture) {
    let (store, old) = (&fixture.store, &fixture.session);
    let recent = store.create_session(new_session(2), 10).await.unwrap().unwrap();
    let open = store.create_session(new_session(3), 10).await.unwrap().unwrap();
    // Enough for three batches.
    let count = 2 * MAX_PRUNED_JOBS + 1;
    for (session, jobs) in [(old.id, count), (recent.id, 1), (open.id, 1)] {
        let files: Vec<_> = (1..=jobs).map(|i| file(&format!("{i}"), &format!("{session}/{i}"))).collect();
        let session = [old, &recent, &open].into_iter().find(|row| row.id == session).unwrap();
        fixture.scan_for(session, "first", &files).await;
    }
    let held = fixture.claim("t1", T0).await.unwrap();
    fixture.answer(held.job.id, "t1", Outcome::Done(vector())).await.unwrap();
    fixture.fail_queued().await;
    let end = T0.plus_seconds(1000);
    store.end_session(old.id, T0).await.unwrap();
    store.end_session(recent.id, Timestamp(T0.0 + 1)).await.unwrap();
    let jobs = async |session| store.jobs(session, None, 0, 10_000).await.unwrap().len() as i64;
    assert!(!store.prune(Timestamp(T0.0 - 1), end).await.unwrap(), "nothing has ended by then");
    let left = [count - MAX_PRUNED_JOBS, count - 2 * MAX_PRUNED_JOBS, 0];
    for left in left {
        assert!(store.prune(T0, end).await.unwrap());
        assert_eq!(jobs(old.id).await, left);
    }
    assert!(!store.prune(T0, end).await.unwrap());
    assert_eq!(store.session(&old.code).await.unwrap(), None);
    assert_eq!([jobs(recent.id).await, jobs(open.id).await], [1, 1]);
    assert_eq!(store.count_vectors("first").await.unwrap(), Some(1));
    // Two coordinators that prune at once do not interfere.
    let other = if store.is_shared() { fixture.another().await } else { store.clone() };
    let (one, two) = tokio::join!(store.prune(end, end), other.prune(end, end));
    assert!(one.unwrap() | two.unwrap());
    assert_eq!((store.session(&recent.code).await.unwrap(), jobs(recent.id).await), (None, 0));
    // The newest session keeps its number.
    store.end_session(open.id, T0).await.unwrap();
    assert!(store.prune(end, end).await.unwrap());
    assert!(!store.prune(end, end).await.unwrap());
    let kept = store.session(&open.code).await.unwrap().unwrap();
    assert_eq!((kept.counts, jobs(open.id).await), (Counts::default(), 0));
    let next = store.create_session(new_session(4), 10).await.unwrap().unwrap();
    assert!(next.id > open.id);
    assert!(store.prune(end, end).await.unwrap());
    assert_eq!(store.session(&open.code).await.unwrap(), None);
    assert_eq!(store.count_vectors("first").await.unwrap(), Some(1));
}

async fn what_an_older_program_has_ended_is_kept_from_now_on(fixture: Fixture) {
    fixture.store.create_session(new_session(2), 10).await.unwrap().unwrap();
    fixture.run("UPDATE chaarfm.sessions SET ended = TRUE WHERE id = (SELECT MIN(id) FROM chaarfm.sessions)").await;
    let noticed = T0.plus_seconds(1000);
    assert!(!fixture.store.prune(T0, noticed).await.unwrap());
    assert!(!fixture.store.prune(Timestamp(noticed.0 - 1), LATER).await.unwrap());
    assert!(fixture.store.prune(noticed, LATER).await.unwrap());
    assert_eq!(fixture.store.session(&fixture.session.code).await.unwrap(), None);
}
