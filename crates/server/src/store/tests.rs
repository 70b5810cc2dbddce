//! The store on a real database file, with a clock of the test's own.

use chaarfm_coordinator::RETRY_WAIT_SECONDS;
use chaarfm_protocol::limits::STALL_LIMIT_SECONDS;
use sqlx::AssertSqlSafe;
use tempfile::TempDir;

use super::*;

const T0: Timestamp = Timestamp(1_000_000);
const MODEL: &str = "msd-musicnn";

struct Fixture {
    store: Store,
    session: SessionRow,
    _folder: TempDir,
}

async fn fixture() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("test.sqlite3")).await.unwrap();
    let session = store.create_session(new_session(1), 10).await.unwrap().unwrap();
    Fixture { store, session, _folder: folder }
}

fn new_session(bits: u64) -> NewSession<'static> {
    NewSession { code: PairingCode::from_random(bits), model: MODEL, collection: "first", now: T0 }
}

fn file(name: &str, hash: &str) -> Found {
    let track = Track { file: name.into(), ..Track::default() };
    Found { track, bytes: 100, content: Ok(hash.into()) }
}

fn maker() -> Maker {
    Maker { kind: WorkerKind::Native, device: Device { backend: "flex".into(), name: "CPU".into() } }
}

fn vector() -> Vector {
    let spec = models::spec(MODEL).unwrap();
    Vector {
        model: MODEL.into(),
        embedding: (0..spec.embedding_length).map(|i| i as f32 / 7.0).collect(),
        tags: vec![0.25; spec.tag_count],
        seconds: 12.5,
        patches: 4,
        flags: vec!["silent".into()],
    }
}

impl Fixture {
    async fn scan(&self, collection: &str, files: &[Found]) -> Enqueued {
        let scan = self.store.begin_scan(self.session.id, "lib", collection, MODEL).await.unwrap().unwrap();
        let queued = self.store.enqueue(&scan, files, T0).await.unwrap().unwrap();
        self.store.finish_scan(&scan).await.unwrap();
        queued
    }

    /// For a worker that has had nothing before.
    async fn claim(&self, token: &str, now: Timestamp) -> Option<JobRow> {
        self.claim_for(&format!("worker {token}"), token, now).await
    }

    async fn claim_for(&self, worker: &str, token: &str, now: Timestamp) -> Option<JobRow> {
        self.store.claim(self.session.id, 1000, token.into(), worker, now).await.unwrap()
    }

    async fn counts(&self) -> Counts {
        self.store.session(&self.session.code).await.unwrap().unwrap().counts
    }

    async fn answer(&self, job: JobId, token: &str, outcome: Outcome) -> Result<Answer, Refusal> {
        let held = JobRef { job, lease: token.into() };
        let answered = self.store.answer(self.session.id, &held, outcome, &maker(), T0).await.unwrap();
        answered.map(|(_, answer)| answer)
    }
}

fn queued(count: u64) -> Enqueued {
    Enqueued { queued: count, ..Enqueued::default() }
}

#[tokio::test]
async fn the_queue_keeps_its_order_and_counts_itself() {
    let fixture = fixture().await;
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

#[tokio::test]
async fn a_claim_passes_over_what_is_too_large_or_has_to_wait() {
    let fixture = fixture().await;
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

#[tokio::test]
async fn a_failed_track_goes_to_another_worker_first() {
    let fixture = fixture().await;
    fixture.scan("first", &[file("a", "1"), file("b", "2")]).await;
    let first = fixture.claim_for("w", "t1", T0).await.unwrap();
    let failure = |kind| Outcome::Failed(Failure { kind, message: "no".into() });
    fixture.answer(first.job.id, "t1", failure(FailureKind::Passing)).await.unwrap();
    let [due, again] = [RETRY_WAIT_SECONDS[0], RETRY_WAIT_SECONDS[1]].map(|wait| T0.plus_seconds(wait));
    let second = fixture.claim_for("w", "t2", due).await.unwrap();
    assert_eq!(second.track.file, "b", "it passes over its own");
    assert_eq!(fixture.claim_for("w", "t3", Timestamp(again.0 - 1)).await, None);
    assert_eq!(fixture.claim_for("w", "t3", again).await.unwrap().job.id, first.job.id, "nobody else has come");
    assert_eq!(fixture.answer(first.job.id, "t3", failure(FailureKind::Permanent)).await, Ok(Answer::GivenUp));

    let session = fixture.session.id;
    for (worker, reopened) in [("v", 0), ("w", 1), ("w", 0)] {
        let asked = fixture.store.reopen_failed_of(session, worker, |job| job.ask_others(worker, T0)).await.unwrap();
        assert_eq!(asked, reopened);
    }
    assert_eq!(fixture.claim_for("w", "t4", T0).await, None);
    let reopened = fixture.claim_for("v", "t5", T0).await.unwrap();
    assert_eq!((reopened.job.id, reopened.job.attempts, reopened.job.reopened), (first.job.id, 0, 1));
}

#[tokio::test]
async fn nothing_is_claimed_from_a_paused_or_ended_session() {
    let fixture = fixture().await;
    let id = fixture.session.id;
    fixture.scan("first", &[file("a", "1"), file("b", "2")]).await;
    let held = fixture.claim("t1", T0).await.unwrap();
    fixture.store.set_paused(id, true).await.unwrap();
    assert_eq!(fixture.claim("t2", T0).await, None);
    fixture.store.set_paused(id, false).await.unwrap();
    fixture.store.end_session(id).await.unwrap();
    assert_eq!(fixture.claim("t3", T0).await, None);
    let row = fixture.store.job(held.job.id).await.unwrap().unwrap();
    assert!(!row.job.is_held_under("t1", T0), "its lease has been taken back");
    assert_eq!(fixture.store.begin_scan(id, "lib", "x", MODEL).await.unwrap(), Err(NoScan::SessionEnded));
}

#[tokio::test]
async fn the_first_job_is_found_by_its_index_alone() {
    let fixture = fixture().await;
    let explain = AssertSqlSafe(format!("EXPLAIN QUERY PLAN {SELECT_FIRST_WAITING}"));
    let query = sqlx::query(explain).bind(1).bind(1).bind(1).bind("w");
    let steps = query.fetch_all(&fixture.store.reader).await.unwrap();
    let plan: Vec<String> = steps.iter().map(|step| step.get("detail")).collect();
    assert_eq!(plan, ["SEARCH jobs USING COVERING INDEX jobs_by_state (session=? AND state=?)"], "and in order");
}

#[tokio::test]
async fn a_lease_that_runs_out_is_found() {
    let fixture = fixture().await;
    fixture.scan("first", &[file("a", "1")]).await;
    let held = fixture.claim("t1", T0).await.unwrap();
    let end = T0.plus_seconds(STALL_LIMIT_SECONDS);
    assert_eq!(fixture.store.expired(Timestamp(end.0 - 1)).await.unwrap(), []);
    let job = JobRef { job: held.job.id, lease: "t1".into() };
    assert_eq!(fixture.store.expired(end).await.unwrap(), [(fixture.session.code, job)]);
}

#[tokio::test]
async fn jobs_answer_only_to_their_own_session_and_lease() {
    let fixture = fixture().await;
    fixture.scan("first", &[file("a", "1")]).await;
    let held = fixture.claim("t1", T0).await.unwrap();
    let other = fixture.store.create_session(new_session(2), 10).await.unwrap().unwrap();
    let decided = fixture.store.decide(other.id, held.job.id, |job| job.release("t1")).await.unwrap();
    assert_eq!(decided.unwrap_err(), Refusal::UnknownJob);
    let id = held.job.id;
    assert_eq!(fixture.answer(id, "forged", Outcome::Done(vector())).await, Err(Refusal::NotYourLease(NotYourLease)));
    assert_eq!(fixture.answer(id + 1, "t1", Outcome::Done(vector())).await, Err(Refusal::UnknownJob));
    assert_eq!(fixture.answer(id, "t1", Outcome::Done(vector())).await, Ok(Answer::Stored));
    assert_eq!(fixture.answer(id, "t1", Outcome::Done(vector())).await, Ok(Answer::Repeated));
}

#[tokio::test]
async fn a_vector_comes_out_as_it_went_in() {
    let fixture = fixture().await;
    fixture.scan("first", &[file("a/b.mp3", "1")]).await;
    let held = fixture.claim("t1", T0).await.unwrap();
    fixture.answer(held.job.id, "t1", Outcome::Done(vector())).await.unwrap();
    let stored = &fixture.store.vectors("first", 0, 10).await.unwrap()[0];
    let sent = vector();
    assert_eq!((&stored.embedding, &stored.tags), (&sent.embedding, &sent.tags));
    assert_eq!((stored.seconds, &stored.flags, stored.track.file.as_str()), (12.5, &sent.flags, "a/b.mp3"));
    assert_eq!((&stored.device, stored.worker, stored.content_hash.as_str()), (&maker().device, maker().kind, "1"));
    let extent = fixture.store.extent("first", None).await.unwrap();
    assert_eq!((extent.rows, extent.models, extent.lengths), (1, 1, (sent.embedding.len(), sent.embedding.len())));
    assert_eq!(fixture.store.count_vectors("first").await.unwrap(), Some(1));
    assert_eq!(fixture.store.count_vectors("never").await.unwrap(), None);
}

#[tokio::test]
async fn an_invalid_vector_is_a_passing_failure() {
    let fixture = fixture().await;
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

#[tokio::test]
async fn what_is_known_is_not_queued_again() {
    let fixture = fixture().await;
    let files = [file("a", "1"), file("b", "2"), file("copy of a", "1")];
    let first = fixture.scan("first", &files).await;
    assert_eq!(first, Enqueued { queued: 2, skipped: 1, failed: 0 }, "the copy has a job already");
    let held = fixture.claim("t1", T0).await.unwrap();
    fixture.answer(held.job.id, "t1", Outcome::Done(vector())).await.unwrap();

    let again = fixture.scan("first", &files).await;
    assert_eq!(again, Enqueued { queued: 0, skipped: 3, failed: 0 });
    assert_eq!(fixture.counts().await.skipped, 3, "of the newest scan");

    let elsewhere = fixture.scan("second", &files).await;
    assert_eq!(elsewhere, Enqueued { queued: 1, skipped: 2, failed: 0 }, "the vector that exists is copied");
    assert_eq!(fixture.store.vectors("second", 0, 10).await.unwrap()[0].embedding, vector().embedding);
}

#[tokio::test]
async fn a_failed_file_is_tried_anew_by_the_next_scan() {
    let fixture = fixture().await;
    let unreadable = Found { content: Err("cannot be read".into()), ..file("x", "") };
    let files = [file("a", "1"), unreadable];
    assert_eq!(fixture.scan("first", &files).await, Enqueued { queued: 1, skipped: 0, failed: 1 });
    let held = fixture.claim("t1", T0).await.unwrap();
    let failure = Failure { kind: FailureKind::Permanent, message: "not audio".into() };
    assert_eq!(fixture.answer(held.job.id, "t1", Outcome::Failed(failure)).await, Ok(Answer::GivenUp));
    assert_eq!(fixture.counts().await.failed, 2);
    let failed = fixture.store.jobs(fixture.session.id, Some(JobState::Failed), 0, 10).await.unwrap();
    let errors: Vec<_> = failed.iter().map(|row| row.job.error.as_deref().unwrap()).collect();
    assert_eq!(errors, ["not audio", "cannot be read"]);

    assert_eq!(fixture.scan("first", &files).await, Enqueued { queued: 1, skipped: 0, failed: 1 });
    assert_eq!(fixture.counts().await, Counts { queued: 1, failed: 1, ..Counts::default() });
}

#[tokio::test]
async fn a_scan_that_was_cut_off_goes_on_without_counting_twice() {
    let fixture = fixture().await;
    let begun = fixture.store.begin_scan(fixture.session.id, "lib", "first", MODEL).await.unwrap().unwrap();
    let second = fixture.store.begin_scan(fixture.session.id, "lib", "first", MODEL).await.unwrap();
    assert_eq!(second, Err(NoScan::AlreadyScanning));
    fixture.store.enqueue(&begun, &[file("a", "1"), file("copy of a", "1")], T0).await.unwrap().unwrap();

    let unfinished = fixture.store.unfinished_scans().await.unwrap();
    assert_eq!(unfinished, [begun]);
    let files = [file("a", "1"), file("copy of a", "1"), file("b", "2")];
    let resumed = fixture.store.enqueue(&unfinished[0], &files, T0).await.unwrap().unwrap();
    assert_eq!(resumed, Enqueued { queued: 1, skipped: 1, failed: 0 });
    assert_eq!(fixture.counts().await, Counts { queued: 2, skipped: 1, ..Counts::default() });

    fixture.store.clear_queue(fixture.session.id).await.unwrap();
    assert_eq!(fixture.store.enqueue(&unfinished[0], &files, T0).await.unwrap(), None, "called off is called off");
    assert_eq!(fixture.store.unfinished_scans().await.unwrap(), []);
}

#[tokio::test]
async fn the_current_session_is_the_newest_open_one() {
    let fixture = fixture().await;
    let newer = fixture.store.create_session(new_session(2), 10).await.unwrap().unwrap();
    assert_eq!(fixture.store.current_session(new_session(3)).await.unwrap(), newer);
    fixture.store.end_session(newer.id).await.unwrap();
    assert_eq!(fixture.store.current_session(new_session(3)).await.unwrap(), fixture.session);
    fixture.store.end_session(fixture.session.id).await.unwrap();
    assert_eq!(fixture.store.current_session(new_session(3)).await.unwrap().code, new_session(3).code);
    assert_eq!(
        fixture.store.create_session(new_session(4), 1).await.unwrap(),
        None,
        "one is open, and that is the limit"
    );
}
