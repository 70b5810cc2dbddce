//! Snapshots.

use super::*;

on_engines! {
    all {}
    databases {
        what_is_taken_home_is_what_there_was_at_one_moment
        no_more_snapshots_are_taken_than_there_is_room_for
    }
}

async fn what_is_taken_home_is_what_there_was_at_one_moment(fixture: Fixture) {
    let files: Vec<_> = (1..=4).map(|i| file(&format!("{i}"), &format!("{i}"))).collect();
    fixture.scan("first", &files).await;
    let store_next = async |token: &str| {
        let held = fixture.claim(token, T0).await.unwrap();
        fixture.answer(held.job.id, token, Outcome::Done(vector())).await.unwrap();
        held.job.id
    };
    let mut done = vec![store_next("t1").await, store_next("t2").await];
    let mut snapshot = fixture.store.snapshot().await.unwrap();
    let (extent, length) = (snapshot.extent("first", None).await.unwrap(), vector().embedding.len());
    assert_eq!((extent.rows, extent.models, extent.lengths), (2, 1, (length, length)));
    let first = snapshot.vectors_after("first", None, 0, 1).await.unwrap();
    done.push(store_next("t3").await);
    fixture.store.end_session(fixture.session.id, T0).await.unwrap();
    let rest = snapshot.vectors_after("first", Some(MODEL), first[0].id, 10).await.unwrap();
    assert_eq!((first.len(), rest.len()), (1, 1), "what has come since is not in it");
    let jobs = snapshot.jobs_after(fixture.session.id, None, 0, 10).await.unwrap();
    assert_eq!(jobs.len(), 4, "what has gone since is");
    let finished: Vec<_> = jobs.iter().filter(|row| row.job.state == State::Done).map(|row| row.job.id).collect();
    assert_eq!(finished, done[..2]);
    let next = snapshot.jobs_after(fixture.session.id, Some(JobState::Done), done[0], 1).await.unwrap();
    assert_eq!(next.iter().map(|row| row.job.id).collect::<Vec<_>>(), done[1..2]);
    snapshot.close().await;
    let mut snapshot = fixture.store.snapshot().await.unwrap();
    assert_eq!(snapshot.extent("first", None).await.unwrap().rows, 3);
    assert_eq!(snapshot.jobs_after(fixture.session.id, None, 0, 10).await.unwrap().len(), 3);
}

async fn no_more_snapshots_are_taken_than_there_is_room_for(fixture: Fixture) {
    let mut snapshots = Vec::new();
    for _ in 0..MAX_SNAPSHOTS {
        snapshots.push(fixture.store.snapshot().await.unwrap());
    }
    assert!(matches!(fixture.store.snapshot().await, Err(StoreError::TooManySnapshots)));
    // The queue has connections of its own.
    fixture.scan("first", &[file("a", "1")]).await;
    snapshots.pop();
    fixture.store.snapshot().await.unwrap();
}
