//! Scans, and their results for the files found.

use super::*;

on_engines! {
    all {
        what_is_known_is_not_queued_again
        a_failed_file_is_tried_anew_by_the_next_scan
        a_scan_that_was_cut_off_goes_on_without_counting_twice
        a_scan_that_is_not_renewed_is_abandoned_whoever_began_it
        a_scan_that_is_left_is_anothers_at_once
        the_same_track_is_done_once_however_its_tags_are_written
        tracks_of_one_name_are_the_same_only_if_they_are_as_long
        a_scan_may_take_every_file
        coordinators_that_find_the_same_tracks_at_once_queue_them_once
    }
    databases {}
}

async fn what_is_known_is_not_queued_again(fixture: Fixture) {
    let files = [file("a", "1"), file("b", "2"), file("copy of a", "1")];
    let first = fixture.scan("first", &files).await;
    assert_eq!(first, Enqueued { queued: 2, skipped: 1, ..Enqueued::default() }, "the copy has a job already");
    let held = fixture.claim("t1", T0).await.unwrap();
    fixture.answer(held.job.id, "t1", Outcome::Done(vector())).await.unwrap();

    let again = fixture.scan("first", &files).await;
    assert_eq!(again, Enqueued { skipped: 3, ..Enqueued::default() });
    assert_eq!(fixture.counts().await.skipped, 3, "of the newest scan");

    let elsewhere = fixture.scan("second", &files).await;
    assert_eq!(
        elsewhere,
        Enqueued { queued: 1, skipped: 2, ..Enqueued::default() },
        "the vector that exists is copied"
    );
    assert_eq!(fixture.store.vectors("second", 0, 10).await.unwrap()[0].embedding, vector().embedding);
}

async fn a_failed_file_is_tried_anew_by_the_next_scan(fixture: Fixture) {
    let unreadable = Found { content: Err("cannot be read".into()), ..file("x", "") };
    let files = [file("a", "1"), unreadable];
    assert_eq!(fixture.scan("first", &files).await, Enqueued { queued: 1, failed: 1, ..Enqueued::default() });
    let held = fixture.claim("t1", T0).await.unwrap();
    let failure = Failure { kind: FailureKind::Permanent, message: "not audio".into() };
    assert_eq!(fixture.answer(held.job.id, "t1", Outcome::Failed(failure)).await, Ok(Answer::GivenUp));
    assert_eq!(fixture.counts().await.failed, 2);
    let failed = fixture.store.jobs(fixture.session.id, Some(JobState::Failed), 0, 10).await.unwrap();
    let errors: Vec<_> = failed.iter().map(|row| row.job.error.as_deref().unwrap()).collect();
    assert_eq!(errors, ["not audio", "cannot be read"]);

    assert_eq!(fixture.scan("first", &files).await, Enqueued { queued: 1, failed: 1, ..Enqueued::default() });
    assert_eq!(fixture.counts().await, Counts { queued: 1, failed: 1, ..Counts::default() });
}

async fn a_scan_that_was_cut_off_goes_on_without_counting_twice(fixture: Fixture) {
    let id = fixture.session.id;
    let begun = fixture.store.begin_scan(id, order("first"), T0).await.unwrap().unwrap();
    let second = fixture.store.begin_scan(id, order("first"), T0).await.unwrap();
    assert_eq!(second, Err(NoScan::AlreadyScanning));
    fixture.store.enqueue(&begun, &[file("a", "1"), file("copy of a", "1")], T0).await.unwrap().unwrap();
    assert_eq!(fixture.store.abandoned_scans(T0).await.unwrap(), [], "its process is this one, and lives");

    let next = fixture.another().await;
    let abandoned = next.abandoned_scans(LATER).await.unwrap();
    assert_eq!(abandoned, std::slice::from_ref(&begun));
    assert!(next.take_over_scan(&begun, LATER).await.unwrap());
    assert!(!next.take_over_scan(&begun, LATER).await.unwrap(), "once is enough");
    assert!(!fixture.store.renew_scan(&begun, LATER).await.unwrap(), "it is another's now");
    assert_eq!(fixture.store.enqueue(&begun, &[file("b", "2")], LATER).await.unwrap(), None);
    fixture.store.finish_scan(&begun, &[]).await.unwrap();
    let files = [file("a", "1"), file("copy of a", "1"), file("b", "2")];
    let resumed = next.enqueue(&begun, &files, LATER).await.unwrap().unwrap();
    assert_eq!(resumed, Enqueued { queued: 1, skipped: 1, ..Enqueued::default() });
    assert_eq!(fixture.counts().await, Counts { queued: 2, skipped: 1, ..Counts::default() });

    fixture.store.clear_queue(id).await.unwrap();
    assert!(!next.renew_scan(&begun, LATER).await.unwrap(), "called off is called off");
    assert_eq!(next.enqueue(&begun, &files, LATER).await.unwrap(), None);
    assert_eq!(fixture.another().await.abandoned_scans(LATER).await.unwrap(), []);
}

/// The process may not know that its `begin_scan` succeeded.
async fn a_scan_that_is_not_renewed_is_abandoned_whoever_began_it(fixture: Fixture) {
    let begun = fixture.store.begin_scan(fixture.session.id, order("first"), T0).await.unwrap().unwrap();
    assert!(!fixture.store.take_over_scan(&begun, T0).await.unwrap());
    assert_eq!(fixture.store.abandoned_scans(LATER).await.unwrap(), std::slice::from_ref(&begun));
    assert!(fixture.store.take_over_scan(&begun, LATER).await.unwrap());
    assert_eq!(fixture.store.abandoned_scans(LATER).await.unwrap(), []);
    assert!(fixture.store.renew_scan(&begun, LATER).await.unwrap());
}

async fn a_scan_that_is_left_is_anothers_at_once(fixture: Fixture) {
    let begun = fixture.store.begin_scan(fixture.session.id, order("first"), T0).await.unwrap().unwrap();
    fixture.store.abandon_scan(&begun).await.unwrap();
    let next = fixture.another().await;
    assert_eq!(next.abandoned_scans(T0).await.unwrap(), std::slice::from_ref(&begun));
    assert!(next.take_over_scan(&begun, T0).await.unwrap());
    next.finish_scan(&begun, &[]).await.unwrap();
    assert!(!fixture.store.session(&begun.code).await.unwrap().unwrap().flags.scanning);
}

async fn the_same_track_is_done_once_however_its_tags_are_written(fixture: Fixture) {
    let files = [
        tagged("a.mp3", "1", "Die Ärzte", "Schrei nach Liebe"),
        tagged("a.flac", "2", " DIE  ÄRZTE", "schrei nach liebe "),
        tagged("b.mp3", "3", "Die Ärzte", "Westerland"),
        file("untagged.mp3", "4"),
        file("untagged too.mp3", "5"),
    ];
    let first = fixture.scan("first", &files).await;
    assert_eq!(first, Enqueued { queued: 4, skipped: 1, alike: 1, failed: 0 });
    assert_eq!((fixture.counts().await.skipped, fixture.counts().await.alike), (1, 1));

    let other = fixture.store.create_session(new_session(2), 10).await.unwrap().unwrap();
    let again = fixture.scan_for(&other, "first", &files).await;
    assert_eq!(again, Enqueued { skipped: 5, alike: 1, ..Enqueued::default() }, "another session's job will do");
    let elsewhere = fixture.scan_for(&other, "second", &files[..1]).await;
    assert_eq!(elsewhere, queued(1), "another collection has tracks of its own");
}

async fn tracks_of_one_name_are_the_same_only_if_they_are_as_long(fixture: Fixture) {
    let long = |name: &str, seconds| Found { seconds, ..tagged(name, name, "Die Ärzte", "Westerland") };
    let first = fixture.scan("first", &[long("a", Some(100.0)), long("b", Some(102.1)), long("c", None)]).await;
    assert_eq!(first, queued(3), "one that does not tell its length is none of the others");
    let near = [long("d", Some(98.0)), long("e", Some(104.1)), long("f", Some(97.9)), long("g", None)];
    assert_eq!(fixture.scan("first", &near).await, Enqueued { queued: 2, skipped: 2, alike: 2, failed: 0 });

    // The vector has the exact length.
    let held = fixture.claim("t1", T0).await.unwrap();
    let vector = Vector { seconds: 200.0, ..vector() };
    fixture.answer(held.job.id, "t1", Outcome::Done(vector)).await.unwrap();
    fixture.store.clear_queue(fixture.session.id).await.unwrap();
    let again = fixture.scan("first", &[long("h", Some(100.0)), long("i", Some(201.0))]).await;
    assert_eq!(again, Enqueued { queued: 1, skipped: 1, alike: 1, failed: 0 });
}

async fn a_scan_may_take_every_file(fixture: Fixture) {
    let files = [tagged("a", "1", "x", "y"), tagged("b", "2", "x", "y"), file("copy of a", "1")];
    assert_eq!(fixture.scan("first", &files).await, Enqueued { queued: 1, skipped: 2, alike: 1, failed: 0 });
    let (store, id) = (&fixture.store, fixture.session.id);
    let every = ScanOrder { every_file: true, ..order("first") };
    let scan = store.begin_scan(id, every, T0).await.unwrap().unwrap();
    assert_eq!(fixture.another().await.abandoned_scans(LATER).await.unwrap(), std::slice::from_ref(&scan));
    let queued = store.enqueue(&scan, &files, T0).await.unwrap().unwrap();
    assert_eq!(queued, Enqueued { queued: 1, skipped: 2, ..Enqueued::default() }, "but every content once");
    let left_out = [LeftOutFiles { kind: ".jpg".into(), files: 3 }];
    store.finish_scan(&scan, &left_out).await.unwrap();
    let session = store.session(&fixture.session.code).await.unwrap().unwrap();
    assert_eq!((session.left_out.as_slice(), session.counts.alike), (left_out.as_slice(), 0));

    for token in ["t1", "t2"] {
        let held = fixture.claim(token, T0).await.unwrap();
        assert_eq!(fixture.answer(held.job.id, token, Outcome::Done(vector())).await, Ok(Answer::Stored));
    }
    assert_eq!(store.count_vectors("first").await.unwrap(), Some(2));
    store.begin_scan(id, order("first"), T0).await.unwrap().unwrap();
    assert_eq!(
        store.session(&fixture.session.code).await.unwrap().unwrap().left_out,
        [],
        "the newest has left out nothing"
    );
}

async fn coordinators_that_find_the_same_tracks_at_once_queue_them_once(fixture: Fixture) {
    const TRACKS: usize = 100;
    let mut scans = tokio::task::JoinSet::new();
    for coordinator in 0..3 {
        let row = fixture.store.create_session(new_session(2 + coordinator), 10).await.unwrap().unwrap();
        let store = fixture.another().await;
        let scan = store.begin_scan(row.id, order("first"), T0).await.unwrap().unwrap();
        let found = |i| tagged(&format!("{coordinator}-{i}"), &format!("{i}"), "x", &format!("{i}"));
        let mut files: Vec<_> = (0..TRACKS).map(found).collect();
        if coordinator == 1 {
            // The tracks come in the opposite order, so the scans could deadlock.
            files.reverse();
        }
        scans.spawn(async move { store.enqueue(&scan, &files, T0).await.unwrap().unwrap() });
    }
    let sums = scans.join_all().await;
    assert_eq!(sums.iter().map(|sum| sum.queued).sum::<u64>(), TRACKS as u64, "{sums:?}");
    assert_eq!(sums.iter().map(|sum| sum.skipped).sum::<u64>(), 2 * TRACKS as u64, "{sums:?}");
}
