//! The store's behaviour, on a real database of each engine and in memory, with a clock of the test's own.

mod audit;
mod credentials;
mod invitations;
mod moving;
mod postgres_only;
mod queue_length;
mod sqlite_only;

use chaarfm_coordinator::{
    Answer, Flags, Job, LEASE_SECONDS, MAX_ATTEMPTS, NotYourLease, RETRY_WAIT_SECONDS, Renewal, State, Timestamp,
};
use chaarfm_domain::{
    Counts, Device, Failure, FailureKind, Found, InvalidVector, InvitationId, InvitationLimits, JobId, JobRef,
    JobState, LeftOutFiles, Outcome, PairingCode, SessionId, Track, Vector, WorkerKind, limits::MAX_WAITING_COUNTED,
};
use chaarfm_test_postgres::Cluster;
use tempfile::TempDir;

use crate::{
    common::MAX_ANSWER_SECONDS, invitations::MAX_INVITATIONS, memory::Memory, postgres::Postgres,
    sessions::MAX_PRUNED_JOBS, snapshot::MAX_SNAPSHOTS, sqlite::Sqlite, transfer::Record, *,
};
use audit::{the_audit_record_is_read_from_its_end_and_pruned_from_its_beginning, who_is_set_aside_stays_so};
use credentials::{
    a_link_lets_one_browser_in, a_token_has_its_name_alone_until_it_is_revoked, what_lets_in_for_a_while_ends,
};
use invitations::{
    a_code_lets_in_until_it_expires_and_a_key_for_longer, a_vector_remembers_who_made_it,
    an_invitation_has_another_code_or_is_revoked_without_the_session, an_invitation_is_used_as_often_as_it_may_be,
    invitations_are_forgotten_with_their_session, the_code_of_a_session_is_its_first_invitation,
    what_a_worker_has_made_can_be_retracted, what_an_invitation_may_have_is_given_and_no_more,
};

const T0: Timestamp = Timestamp(1_000_000);
const MODEL: &str = "msd-musicnn";

/// After whatever a deadline may have been set to.
const LATER: Timestamp = Timestamp(T0.0 * 1000);

#[derive(Debug, Clone, Copy)]
enum Engine {
    Sqlite,
    Postgres,
    Memory,
}

struct Fixture {
    /// None in memory.
    database: Option<Database>,
    store: Store,
    session: SessionRow,
    _folder: TempDir,
}

async fn fixture(engine: Engine) -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let database = match engine {
        Engine::Sqlite => Some(Database::Sqlite(folder.path().join("test.sqlite3"))),
        Engine::Postgres => Some(Database::Postgres(Cluster::shared().database())),
        Engine::Memory => None,
    };
    let store = match &database {
        Some(database) => Store::open(database).await.unwrap(),
        None => Store::in_memory(Memory::empty()),
    };
    let session = store.create_session(new_session(1), 10).await.unwrap().unwrap();
    Fixture { database, store, session, _folder: folder }
}

/// Has every engine pass the same tests, and the databases some more.
macro_rules! on_engines {
    (all { $($test:ident)* } databases { $($more:ident)* }) => {
        on_engines!(sqlite, Sqlite: $($test)* $($more)*);
        on_engines!(postgres, Postgres: $($test)* $($more)*);
        on_engines!(memory, Memory: $($test)*);
    };
    ($module:ident, $engine:ident: $($test:ident)*) => {
        mod $module {
            $(#[tokio::test] async fn $test() { super::$test(super::fixture(super::Engine::$engine).await).await; })*
        }
    };
}

on_engines! {
    all {
        the_queue_keeps_its_order_and_counts_itself
        a_claim_passes_over_what_is_too_large_or_has_to_wait
        the_backlog_says_which_jobs_nobody_may_have
        the_backlog_is_looked_at_from_its_beginning_and_no_further_than_needed
        one_transaction_gives_each_worker_what_it_may_have
        a_failed_track_goes_to_another_worker_first
        a_last_try_is_passed_over_by_those_it_is_not_for
        what_cannot_be_served_here_stays_as_it_is_and_ends_the_claiming
        what_a_worker_failed_is_queued_again_for_others
        a_failed_track_that_has_an_open_job_elsewhere_stays_failed
        a_failed_track_is_not_lost_when_another_session_gives_it_up
        nothing_is_claimed_from_a_paused_or_ended_session
        a_lease_that_runs_out_is_found
        leases_are_renewed_together
        jobs_answer_only_to_their_own_session_and_lease
        a_vector_comes_out_as_it_went_in
        an_invalid_vector_is_a_passing_failure
        what_is_known_is_not_queued_again
        a_failed_file_is_tried_anew_by_the_next_scan
        a_scan_that_was_cut_off_goes_on_without_counting_twice
        the_current_session_is_the_newest_open_one
        open_sessions_are_listed_with_their_jobs_counted
        a_scan_that_is_left_is_anothers_at_once
        a_scan_that_is_not_renewed_is_abandoned_whoever_began_it
        the_same_track_is_done_once_however_its_tags_are_written
        tracks_of_one_name_are_the_same_only_if_they_are_as_long
        a_scan_may_take_every_file
        a_result_that_comes_second_completes_its_job_and_changes_nothing
        failed_jobs_are_listed_and_tried_again_at_the_end_of_the_queue
        workers_that_claim_at_once_never_get_the_same_job
        every_number_of_a_vector_survives
        what_ended_long_ago_is_forgotten_but_no_vector
        nothing_is_tried_again_in_an_ended_session
        a_queue_of_several_batches_is_dropped_and_tried_again_as_a_whole
        coordinators_that_find_the_same_tracks_at_once_queue_them_once
        what_a_coordinator_shows_is_for_the_others
        each_worker_has_a_number_of_its_own
        a_code_lets_in_until_it_expires_and_a_key_for_longer
        an_invitation_has_another_code_or_is_revoked_without_the_session
        an_invitation_is_used_as_often_as_it_may_be
        invitations_are_forgotten_with_their_session
        the_code_of_a_session_is_its_first_invitation
        what_a_worker_has_made_can_be_retracted
        what_an_invitation_may_have_is_given_and_no_more
        the_audit_record_is_read_from_its_end_and_pruned_from_its_beginning
        who_is_set_aside_stays_so
    }
    databases {
        a_vector_remembers_who_made_it
        what_is_taken_home_is_what_there_was_at_one_moment
        vectors_are_counted_as_they_come_and_go
        what_an_older_program_has_ended_is_kept_from_now_on
        no_more_snapshots_are_taken_than_there_is_room_for
        results_for_one_content_that_come_at_once_make_one_vector
        a_database_of_a_newer_program_is_left_alone
        a_token_has_its_name_alone_until_it_is_revoked
        a_link_lets_one_browser_in
        what_lets_in_for_a_while_ends
    }
}

fn new_session(bits: u64) -> NewSession<'static> {
    NewSession { code: PairingCode::from_random(bits), model: MODEL, collection: "first", now: T0 }
}

fn file(name: &str, hash: &str) -> Found {
    let track = Track { file: name.into(), ..Track::default() };
    Found { track, bytes: 100, version: None, seconds: None, content: Ok(hash.into()) }
}

fn maker() -> Maker {
    let device = Device { backend: "flex".into(), name: "CPU".into() };
    Maker { kind: WorkerKind::Native, device, key: "k".into(), invitation: 1 }
}

fn vector() -> Vector {
    let spec = model_spec(MODEL).unwrap();
    Vector {
        model: MODEL.into(),
        embedding: (0..spec.embedding_length).map(|i| i as f32 / 7.0).collect(),
        tags: vec![0.25; spec.tag_count],
        seconds: 12.5,
        patches: 4,
        flags: vec!["silent".into()],
    }
}

fn claim<'a>(worker: &'a str, token: &str) -> Claim<'a> {
    let (kind, max_bytes) = (WorkerKind::Browser, 1000);
    Claim { lease: token.into(), worker, invitation: 1, kind, max_bytes, takes_last_tries: true }
}

fn failure(kind: FailureKind) -> Outcome {
    Outcome::Failed(Failure { kind, message: "no".into() })
}

fn tagged(name: &str, hash: &str, artist: &str, title: &str) -> Found {
    let track = Track { file: name.into(), artist: Some(artist.into()), title: Some(title.into()), album: None };
    // As long as every vector says.
    Found { track, seconds: Some(vector().seconds), ..file(name, hash) }
}

fn order(collection: &str) -> ScanOrder<'_> {
    ScanOrder { library: "lib", collection, model: MODEL, every_file: false }
}

impl Fixture {
    fn database(&self) -> &Database {
        self.database.as_ref().expect("it is not in memory")
    }

    /// The same database, as another process opens it.
    async fn another(&self) -> Store {
        match &self.store.engine {
            crate::store::Engine::Memory(memory) => Store::in_memory(memory.another()),
            crate::store::Engine::Sqlite(_) | crate::store::Engine::Postgres(_) => {
                Store::open(self.database()).await.unwrap()
            }
        }
    }

    async fn scan(&self, collection: &str, files: &[Found]) -> Enqueued {
        self.scan_for(&self.session, collection, files).await
    }

    async fn scan_for(&self, session: &SessionRow, collection: &str, files: &[Found]) -> Enqueued {
        let scan = self.store.begin_scan(session.id, order(collection), T0).await.unwrap().unwrap();
        let queued = self.store.enqueue(&scan, files, T0).await.unwrap().unwrap();
        self.store.finish_scan(&scan, &[]).await.unwrap();
        queued
    }

    /// For a worker that has had nothing before.
    async fn claim(&self, token: &str, now: Timestamp) -> Option<JobRow> {
        self.claim_for(&format!("worker {token}"), token, now).await
    }

    async fn claim_for(&self, worker: &str, token: &str, now: Timestamp) -> Option<JobRow> {
        self.claim_all(self.session.id, &[claim(worker, token)], now).await.remove(0)
    }

    /// Where everything is here that any job needs.
    async fn claim_all(&self, session: SessionId, claims: &[Claim<'_>], now: Timestamp) -> Vec<Option<JobRow>> {
        let claimed = self.store.claim(session, claims, |_| true, now).await.unwrap();
        assert_eq!(claimed.unserved, None);
        claimed.rows
    }

    /// Others are to try what this worker has failed.
    async fn request_second_opinion(&self, worker: &str) -> u64 {
        let queue_again = |job: &mut Job| job.request_second_opinion(worker, T0);
        let failed = self.store.ended_by(self.session.id, worker, JobState::Failed, 0, 10).await.unwrap();
        self.store.request_second_opinions(self.session.id, &failed, queue_again).await.unwrap()
    }

    async fn counts(&self) -> Counts {
        self.store.session(&self.session.code).await.unwrap().unwrap().counts
    }

    async fn answer(&self, job: JobId, token: &str, outcome: Outcome) -> Result<Answer, Refusal> {
        let held = JobRef { job, lease: token.into() };
        let answered = self.store.answer(self.session.id, &held, outcome, &maker(), T0).await.unwrap();
        answered.map(|answered| answered.answer)
    }
}

fn queued(count: u64) -> Enqueued {
    Enqueued { queued: count, ..Enqueued::default() }
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

    // Another coordinator has what it needs.
    let other = fixture.another().await;
    let Claimed { rows, unserved } = other.claim(session, &claims, |_| true, T0).await.unwrap();
    let files: Vec<_> = rows.iter().map(|row| row.as_ref().map(|row| row.track.file.as_str())).collect();
    assert_eq!((files, unserved), (vec![Some("b"), Some("c"), None], None));
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
    // A scan does not know it either.
    let files = [file("x", "1"), tagged("y", "2", "p", "q")];
    assert_eq!(fixture.scan("first", &files).await, Enqueued { skipped: 2, ..Enqueued::default() });
    assert_eq!(failed().await, ["x", "y"]);

    assert_eq!(store.clear_queue(other.id).await.unwrap(), 2);
    assert_eq!(failed().await, ["x", "y"], "they are nowhere else now");
    assert_eq!(store.retry_failed(id, None).await.unwrap(), Retried { queued: 2, known: 0 });
    assert_eq!(fixture.counts().await, Counts { queued: 3, skipped: 2, ..Counts::default() });

    // One that has a vector by now is done, whoever made it.
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

async fn a_lease_that_runs_out_is_found(fixture: Fixture) {
    fixture.scan("first", &[file("a", "1")]).await;
    let held = fixture.claim("t1", T0).await.unwrap();
    let end = T0.plus_seconds(LEASE_SECONDS);
    assert_eq!(fixture.store.expired(Timestamp(end.0 - 1)).await.unwrap(), []);
    let job = JobRef { job: held.job.id, lease: "t1".into() };
    assert_eq!(fixture.store.expired(end).await.unwrap(), [(fixture.session.code, job)]);
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

async fn a_vector_comes_out_as_it_went_in(fixture: Fixture) {
    fixture.scan("first", &[file("a/b.mp3", "1")]).await;
    let held = fixture.claim("t1", T0).await.unwrap();
    fixture.answer(held.job.id, "t1", Outcome::Done(vector())).await.unwrap();
    let stored = &fixture.store.vectors("first", 0, 10).await.unwrap()[0];
    let sent = vector();
    assert_eq!((&stored.embedding, &stored.tags), (&sent.embedding, &sent.tags));
    assert_eq!((stored.seconds, &stored.flags, stored.track.file.as_str()), (12.5, &sent.flags, "a/b.mp3"));
    let Maker { kind, device, .. } = maker();
    assert_eq!((stored.kind, &stored.device, stored.content_hash.as_str()), (kind, &device, "1"));
    assert_eq!(fixture.store.count_vectors("first").await.unwrap(), Some(1));
    assert_eq!(fixture.store.count_vectors("never").await.unwrap(), None);
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

/// Its process may not know that it has begun it.
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

    // A vector's length is the true one.
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

async fn a_result_that_comes_second_completes_its_job_and_changes_nothing(fixture: Fixture) {
    let (a, b) = (tagged("a", "1", "x", "y"), tagged("b", "2", "X", "Y"));
    fixture.scan("first", &[a]).await;
    let held = fixture.claim("t1", T0).await.unwrap();
    let failure = Failure { kind: FailureKind::Permanent, message: "not audio".into() };
    fixture.answer(held.job.id, "t1", Outcome::Failed(failure)).await.unwrap();
    // The first is given up, so the second may be queued; then its content is done elsewhere, and faster.
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

async fn every_number_of_a_vector_survives(fixture: Fixture) {
    fixture.scan("first", &[file("a", "1")]).await;
    let held = fixture.claim("t1", T0).await.unwrap();
    let mut sent = vector();
    let awkward = [0.1, -0.0, f32::MIN_POSITIVE, f32::from_bits(1), f32::MAX, f32::MIN, 1.0 / 3.0, 16_777_217.0];
    sent.embedding[..awkward.len()].copy_from_slice(&awkward);
    fixture.answer(held.job.id, "t1", Outcome::Done(sent.clone())).await.unwrap();
    let stored = &fixture.store.vectors("first", 0, 1).await.unwrap()[0];
    let bits = |numbers: &[f32]| numbers.iter().map(|number| number.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&stored.embedding), bits(&sent.embedding));
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

async fn vectors_are_counted_as_they_come_and_go(fixture: Fixture) {
    let counts = async || {
        let views = fixture.store.collections().await.unwrap();
        for view in &views {
            assert_eq!(fixture.store.count_vectors(&view.name).await.unwrap(), Some(view.vectors), "{view:?}");
        }
        views.into_iter().map(|view| (view.name, view.vectors)).collect::<Vec<_>>()
    };
    let expect =
        |expected: &[(&str, u64)]| expected.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect::<Vec<_>>();
    assert_eq!(counts().await, []);
    fixture.scan("second", &[file("a", "1"), file("b", "2"), file("c", "3")]).await;
    for token in ["t1", "t2"] {
        let held = fixture.claim(token, T0).await.unwrap();
        fixture.answer(held.job.id, token, Outcome::Done(vector())).await.unwrap();
    }
    // Their vectors are copied.
    fixture.scan("first", &[file("a", "1"), file("b", "2")]).await;
    assert_eq!(counts().await, expect(&[("first", 2), ("second", 2)]));
    // What the program does not do, an operator may.
    fixture
        .run("UPDATE chaarfm.vectors SET collection = 'third' WHERE collection = 'first' AND content_hash = '1'")
        .await;
    assert_eq!(counts().await, expect(&[("first", 1), ("second", 2), ("third", 1)]));
    fixture.run("DELETE FROM chaarfm.vectors WHERE collection <> 'second' OR content_hash = '1'").await;
    assert_eq!(counts().await, expect(&[("second", 1)]));
    assert_eq!(fixture.store.count_vectors("third").await.unwrap(), None, "nobody has ever named it");
}

async fn what_ended_long_ago_is_forgotten_but_no_vector(fixture: Fixture) {
    let (store, old) = (&fixture.store, &fixture.session);
    let recent = store.create_session(new_session(2), 10).await.unwrap().unwrap();
    let open = store.create_session(new_session(3), 10).await.unwrap().unwrap();
    // As many as take three batches.
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
    // Of two coordinators that do so at once, none is in the other's way.
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
            // It has what the others want next, and wants what they have.
            files.reverse();
        }
        scans.spawn(async move { store.enqueue(&scan, &files, T0).await.unwrap().unwrap() });
    }
    let sums = scans.join_all().await;
    assert_eq!(sums.iter().map(|sum| sum.queued).sum::<u64>(), TRACKS as u64, "{sums:?}");
    assert_eq!(sums.iter().map(|sum| sum.skipped).sum::<u64>(), 2 * TRACKS as u64, "{sums:?}");
}

async fn results_for_one_content_that_come_at_once_make_one_vector(fixture: Fixture) {
    const ROUNDS: usize = 10;
    // Nothing makes two open jobs for one content, but then a vector may also come from another collection meanwhile.
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

async fn what_a_coordinator_shows_is_for_the_others(fixture: Fixture) {
    let (store, id) = (&fixture.store, fixture.session.id);
    store.publish_presence(&[(id, "{}".into())], LATER).await.unwrap();
    assert_eq!(store.presence_of_others(id, T0).await.unwrap(), [""; 0]);
    store.sweep_presence(T0).await.unwrap();
    store.withdraw_presence(&[id]).await.unwrap();
    store.withdraw_presence(&[]).await.unwrap();
}

async fn each_worker_has_a_number_of_its_own(fixture: Fixture) {
    let clone = fixture.store.clone();
    assert_eq!((fixture.store.next_worker().await.unwrap(), clone.next_worker().await.unwrap()), (1, 2));
}

async fn a_database_of_a_newer_program_is_left_alone(fixture: Fixture) {
    fixture.become_newer().await;
    let error = Store::open(fixture.database()).await.unwrap_err();
    assert!(matches!(error, StoreError::Newer { database: 8, program: 1..8 }), "{error}");
    assert!(error.to_string().contains("version 8"), "{error}");
}

impl Fixture {
    /// Has the database do what the store does not.
    async fn run(&self, sql: &str) {
        match &self.store.engine {
            crate::store::Engine::Sqlite(engine) => {
                let sql = sqlx::AssertSqlSafe(sql.replace("chaarfm.", ""));
                sqlx::raw_sql(sql).execute(&engine.writer).await.map(drop).unwrap();
            }
            crate::store::Engine::Postgres(engine) => {
                let sql = sqlx::AssertSqlSafe(sql.to_owned());
                sqlx::raw_sql(sql).execute(&engine.pool).await.map(drop).unwrap();
            }
            crate::store::Engine::Memory(_) => panic!("it understands no SQL"),
        }
    }

    /// All that waits has failed.
    async fn fail_queued(&self) {
        match &self.store.engine {
            crate::store::Engine::Memory(memory) => memory.write(crate::memory::Rows::fail_queued).await,
            crate::store::Engine::Sqlite(_) | crate::store::Engine::Postgres(_) => {
                self.run("UPDATE chaarfm.jobs SET state = 'failed' WHERE state = 'queued'").await;
            }
        }
    }

    async fn become_newer(&self) {
        let insert = |table| {
            let version = super::sqlite::MIGRATIONS.len() + 1;
            sqlx::AssertSqlSafe(format!(
                "INSERT INTO {table} (version, description, success, checksum, execution_time)
                VALUES ({version}, 'x', TRUE, '', 0)"
            ))
        };
        match &self.store.engine {
            crate::store::Engine::Sqlite(engine) => {
                sqlx::query(insert("_sqlx_migrations")).execute(&engine.writer).await.map(drop).unwrap();
            }
            crate::store::Engine::Postgres(engine) => {
                sqlx::query(insert("chaarfm._sqlx_migrations")).execute(&engine.pool).await.map(drop).unwrap();
            }
            crate::store::Engine::Memory(_) => panic!("it has no version"),
        }
    }
}
