//! Tests for SQLite only.

use sqlx::{AssertSqlSafe, Row, sqlite::SqliteConnectOptions};

use super::*;
use crate::sqlite::{
    HAS_WAITING, MIGRATIONS, SELECT_FIRST_WAITING, SELECT_NEWEST_SESSION, SELECT_OPEN_SESSIONS, SUM_UP_BACKLOG,
};

fn engine(store: &Store) -> &Sqlite {
    match &store.engine {
        store::Engine::Sqlite(engine) => engine,
        store::Engine::Postgres(_) | store::Engine::Memory(_) => panic!("not SQLite"),
    }
}

/// SQLite's plan for a query with this many parameters.
async fn plan(store: &Store, query: &str, parameters: usize) -> Vec<String> {
    let explain = AssertSqlSafe(format!("EXPLAIN QUERY PLAN {query}"));
    let mut query = sqlx::query::<sqlx::Sqlite>(explain);
    for _ in 0..parameters {
        query = query.bind(1);
    }
    let steps = query.fetch_all(&engine(store).reader).await.unwrap();
    steps.iter().map(|step| step.get("detail")).collect()
}

#[tokio::test]
async fn the_first_jobs_are_found_by_their_index_alone() {
    let fixture = fixture(Engine::Sqlite).await;
    for (query, parameters) in [(SELECT_FIRST_WAITING, 5), (HAS_WAITING, 4), (SUM_UP_BACKLOG, 6)] {
        let plan = plan(&fixture.store, query, parameters).await;
        let search = "SEARCH jobs USING COVERING INDEX jobs_by_state (session=? AND state=?)";
        assert!(plan.iter().any(|step| step == search), "{plan:?}");
        assert!(!plan.iter().any(|step| step.contains("SCAN jobs") || step.contains("ORDER BY")), "{plan:?}");
    }
}

#[tokio::test]
async fn a_sessions_jobs_are_listed_without_sorting_them() {
    let fixture = fixture(Engine::Sqlite).await;
    let query = "SELECT * FROM jobs WHERE session = ? AND id > ? ORDER BY id LIMIT ?";
    let plan = plan(&fixture.store, query, 3).await;
    assert_eq!(plan, ["SEARCH jobs USING INDEX jobs_by_number (session=? AND rowid>?)"]);
}

#[tokio::test]
async fn open_sessions_are_found_by_their_index() {
    let fixture = fixture(Engine::Sqlite).await;
    for query in [SELECT_NEWEST_SESSION, SELECT_OPEN_SESSIONS] {
        let plan = plan(&fixture.store, query, 0).await;
        assert!(plan.iter().any(|step| step == "SEARCH s USING INDEX sessions_open (ended=?)"), "{plan:?}");
        assert!(!plan.iter().any(|step| step.contains("SCAN") || step.contains("ORDER BY")), "{plan:?}");
    }
}

#[tokio::test]
async fn what_an_older_program_has_stored_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("old.sqlite3");
    let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
    let old = sqlx::SqlitePool::connect_with(options).await.unwrap();
    crate::common::migrator(&MIGRATIONS[..2]).run(&old).await.unwrap();
    let code = new_session(1).code;
    let rows = format!(
        "INSERT INTO sessions (id, code, created_ms, model, collection) VALUES (1, '{code}', 0, '{MODEL}', 'first');
        INSERT INTO vectors (collection, model, content_hash, track_key, artist, title, file, seconds, backend, device,
            worker, flags, stored_ms, embedding, tags)
        VALUES ('first', '{MODEL}', '1', 'x' || char(31) || 'y', 'x', 'y', 'a', 12.5, 'flex', 'CPU', 'native', '[]', 0,
            zeroblob(800), zeroblob(200));
        INSERT INTO jobs (session, scan, model, collection, library, file, bytes, content_hash, track_key, state)
        VALUES (1, 1, '{MODEL}', 'first', 'lib', 'q', 100, '9', 'p' || char(31) || 'q', 'queued')"
    );
    sqlx::raw_sql(AssertSqlSafe(rows)).execute(&old).await.unwrap();
    old.close().await;

    let store = Store::open(&Database::Sqlite(path)).await.unwrap();
    assert_eq!(store.count_vectors("first").await.unwrap(), Some(1));
    let scan = store.begin_scan(SessionId(1), order("first"), T0).await.unwrap().unwrap();
    let found =
        [file("a", "1"), tagged("alike", "2", "X", "Y"), file("queued", "9"), tagged("as queued", "10", "p", "q")];
    let sum = store.enqueue(&scan, &found, T0).await.unwrap().unwrap();
    assert_eq!(sum, Enqueued { queued: 1, skipped: 3, alike: 1, failed: 0 }, "how long the queued one is nobody knows");
}

#[tokio::test]
async fn a_disk_that_fills_while_the_schema_is_changed_is_told() {
    let fixture = fixture(Engine::Sqlite).await;
    let writer = &engine(&fixture.store).writer;
    sqlx::query("PRAGMA max_page_count = 1").execute(writer).await.unwrap();
    let change = async |sql: &'static str| {
        let steps = [MIGRATIONS.as_slice(), &[("more", sql)]].concat();
        let error = crate::common::migrator(&steps).run(writer).await.unwrap_err();
        crate::error::not_migrated(error, Ok(1), steps.len())
    };
    let error = change("CREATE TABLE large (numbers BLOB); INSERT INTO large VALUES (zeroblob(1000000))").await;
    assert!(matches!(error, StoreError::Full(_)), "{error}");
    let error = change("CREATE TABLE jobs (id INTEGER)").await;
    let step = format!("migration {}", MIGRATIONS.len() + 1);
    assert!(matches!(error, StoreError::Migration(_)) && error.to_string().contains(&step), "{error}");
}

#[tokio::test]
async fn a_full_disk_is_told_and_passes_when_there_is_room() {
    let fixture = fixture(Engine::Sqlite).await;
    let limit = async |pages: i64| {
        let pragma = AssertSqlSafe(format!("PRAGMA max_page_count = {pages}"));
        sqlx::query(pragma).execute(&engine(&fixture.store).writer).await.unwrap();
    };
    let scan = fixture.store.begin_scan(fixture.session.id, order("first"), T0).await.unwrap().unwrap();
    // Limited to the current number of pages: the database may not grow.
    limit(1).await;
    let files: Vec<_> = (0..500).map(|i| file(&format!("{i}"), &format!("{i}"))).collect();
    let error = fixture.store.enqueue(&scan, &files, T0).await.unwrap_err();
    assert!(matches!(error, StoreError::Full(_)) && error.is_passing(), "{error}");
    limit(1_000_000).await;
    assert_eq!(fixture.store.enqueue(&scan, &files, T0).await.unwrap(), Some(queued(500)));
}

#[tokio::test]
async fn a_transaction_that_sqlite_undoes_by_itself_is_in_nobodys_way() {
    let fixture = fixture(Engine::Sqlite).await;
    let mut tx = engine(&fixture.store).writer.begin_with("BEGIN IMMEDIATE").await.unwrap();
    // As SQLite does when it cannot write the commit.
    sqlx::raw_sql("ROLLBACK").execute(&mut *tx).await.unwrap();
    drop(tx);
    fixture.scan("first", &[file("a", "1")]).await;
    assert_eq!(fixture.counts().await.queued, 1);
}
