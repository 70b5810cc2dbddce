//! The store's behaviour, on a real database of each engine and in memory, with a simulated clock.

mod audit;
mod changes;
mod credentials;
mod invitations;
mod jobs;
mod migrations;
mod moving;
mod peers;
mod postgres_only;
mod queue_length;
mod scans;
mod sessions;
mod snapshot;
mod sqlite_only;
mod vectors;

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
    sessions::MAX_PRUNED_JOBS, snapshot::MAX_SNAPSHOTS, sqlite::Sqlite, store, transfer::Record, *,
};

const T0: Timestamp = Timestamp(1_000_000);
const MODEL: &str = "msd-musicnn";

/// After any deadline that the tests set.
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

/// Runs tests on every engine, and further tests on the databases only. Each file of tests lists its own.
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

use on_engines;

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
    // Same length as every test vector.
    Found { track, seconds: Some(vector().seconds), ..file(name, hash) }
}

fn order(collection: &str) -> ScanOrder<'_> {
    ScanOrder { library: "lib", collection, model: MODEL, every_file: false }
}

fn queued(count: u64) -> Enqueued {
    Enqueued { queued: count, ..Enqueued::default() }
}

impl Fixture {
    fn database(&self) -> &Database {
        self.database.as_ref().expect("it is not in memory")
    }

    /// The same database, opened by another process.
    async fn another(&self) -> Store {
        match &self.store.engine {
            store::Engine::Memory(memory) => Store::in_memory(memory.another()),
            store::Engine::Sqlite(_) | store::Engine::Postgres(_) => Store::open(self.database()).await.unwrap(),
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

    /// Claims a job for a worker that has not had any.
    async fn claim(&self, token: &str, now: Timestamp) -> Option<JobRow> {
        self.claim_for(&format!("worker {token}"), token, now).await
    }

    async fn claim_for(&self, worker: &str, token: &str, now: Timestamp) -> Option<JobRow> {
        self.claim_all(self.session.id, &[claim(worker, token)], now).await.remove(0)
    }

    /// Claims jobs for a coordinator that can serve all of them.
    async fn claim_all(&self, session: SessionId, claims: &[Claim<'_>], now: Timestamp) -> Vec<Option<JobRow>> {
        let claimed = self.store.claim(session, claims, |_| true, now).await.unwrap();
        assert_eq!(claimed.unserved, None);
        claimed.rows
    }

    /// Queues again, for other workers, the jobs that this worker has failed.
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

    /// Executes a statement that the store does not offer.
    async fn run(&self, sql: &str) {
        match &self.store.engine {
            store::Engine::Sqlite(engine) => {
                let sql = sqlx::AssertSqlSafe(sql.replace("chaarfm.", ""));
                sqlx::raw_sql(sql).execute(&engine.writer).await.map(drop).unwrap();
            }
            store::Engine::Postgres(engine) => {
                let sql = sqlx::AssertSqlSafe(sql.to_owned());
                sqlx::raw_sql(sql).execute(&engine.pool).await.map(drop).unwrap();
            }
            store::Engine::Memory(_) => panic!("it understands no SQL"),
        }
    }

    /// Marks all queued jobs as failed.
    async fn fail_queued(&self) {
        match &self.store.engine {
            store::Engine::Memory(memory) => memory.write(crate::memory::Rows::fail_queued).await,
            store::Engine::Sqlite(_) | store::Engine::Postgres(_) => {
                self.run("UPDATE chaarfm.jobs SET state = 'failed' WHERE state = 'queued'").await;
            }
        }
    }
}
