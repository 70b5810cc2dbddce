//! Moving from one engine to the other and back.

use std::{fs, path::Path};

use super::*;
use crate::{export_database, import_database, transfer::Progress};

/// An unused database of the engine.
fn empty(engine: Engine, folder: &Path) -> Database {
    match engine {
        Engine::Sqlite => Database::Sqlite(folder.join("empty.sqlite3")),
        Engine::Postgres => Database::Postgres(Cluster::shared().database()),
        Engine::Memory => panic!("nothing is moved to memory"),
    }
}

/// A database with rows of every kind.
async fn filled(engine: Engine) -> Fixture {
    let fixture = fixture(engine).await;
    let files = [tagged("a", "1", "Ä", "é"), file("b", "2"), file("c", "3"), file("d", "4"), file("e", "5")];
    fixture.scan("first", &files).await;
    let done = fixture.claim("t1", T0).await.unwrap();
    let mut vector = Vector { seconds: 0.1 + 0.2, ..vector() };
    let awkward = [0.1, -0.0, f32::MIN_POSITIVE, f32::from_bits(1), f32::MAX, 1.0 / 3.0, 16_777_217.0];
    vector.embedding[..awkward.len()].copy_from_slice(&awkward);
    fixture.answer(done.job.id, "t1", Outcome::Done(vector)).await.unwrap();
    let failed = fixture.claim("t2", T0).await.unwrap();
    let not_audio = Failure { kind: FailureKind::Permanent, message: "not \"audio\"\n".into() };
    fixture.answer(failed.job.id, "t2", Outcome::Failed(not_audio)).await.unwrap();
    let doubtful = fixture.claim_for("w", "t3", T0).await.unwrap();
    fixture.answer(doubtful.job.id, "t3", failure(FailureKind::Permanent)).await.unwrap();
    assert_eq!(fixture.request_second_opinion("w").await, 1, "it waits for another opinion");
    fixture.claim_for("w", "t4", T0).await.unwrap();
    let other = fixture.store.create_session(new_session(2), 10).await.unwrap().unwrap();
    assert_eq!(fixture.scan_for(&other, "without vectors", &[file("f", "6")]).await, queued(1));
    fixture.store.end_session(other.id, T0).await.unwrap();
    fixture
}

async fn moves(from: Engine, to: Engine) {
    let fixture = filled(from).await;
    let folder = tempfile::tempdir().unwrap();
    let (path, target) = (folder.path().join("export.jsonl"), empty(to, folder.path()));
    let expected = RecordCounts { sessions: 2, jobs: 5, vectors: 1 };
    assert_eq!(export_database(fixture.database(), &path).await.unwrap(), expected);

    // As if the first attempt had been interrupted after two records.
    let lines = fs::read_to_string(&path).unwrap();
    let export: serde_json::Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    let begun: Vec<Record> = lines.lines().skip(1).take(2).map(|line| serde_json::from_str(line).unwrap()).collect();
    let store = Store::open(&target).await.unwrap();
    let progress = Progress { records: 2, total: expected.records() };
    store.import(export["export"].as_str().unwrap(), &begun, progress).await.unwrap();
    let coordinator = Store::open(&target).await.unwrap();
    let refused = coordinator.serve().await.unwrap_err().to_string();
    coordinator.close().await;
    assert!(refused.contains("an import into the database is unfinished; run import-db again"), "{refused}");
    for attempt in ["to its end", "once more, for nothing"] {
        assert_eq!(import_database(&target, &path).await.unwrap(), expected, "{attempt}");
    }

    let (old, new) = (&fixture.store, &store);
    let id = fixture.session.id;
    assert_eq!(new.session(&fixture.session.code).await.unwrap(), old.session(&fixture.session.code).await.unwrap());
    let jobs = new.jobs(id, None, 0, 10).await.unwrap();
    assert_eq!(jobs, old.jobs(id, None, 0, 10).await.unwrap());
    let not_again_before = T0.plus_seconds(RETRY_WAIT_SECONDS[2]);
    let reopened = State::Queued { not_before: Timestamp::ZERO, not_again_before };
    assert_eq!((jobs[2].job.state, jobs[2].job.reopened), (reopened, 1));
    let (moved, kept) = (new.vectors("first", 0, 10).await.unwrap(), old.vectors("first", 0, 10).await.unwrap());
    assert_eq!(moved, kept);
    let bits = |tracks: &[VectorRow]| tracks[0].embedding.iter().map(|number| number.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&moved), bits(&kept));
    assert_eq!(invitations::maker_of(new).await, (Some(maker().key), None), "invitations stay behind");
    assert_eq!(new.invitations(id).await.unwrap(), [], "a code that has expired lets nobody in at its new place");

    if let store::Engine::Postgres(engine) = &new.engine {
        let views = sqlx::query_scalar("SELECT viewname::TEXT FROM pg_views WHERE viewname LIKE 'vectors%' ORDER BY 1");
        let views: Vec<String> = views.fetch_all(&engine.pool).await.unwrap();
        assert_eq!(views, ["vectors_first", "vectors_without vectors"]);
    }

    let again = Fixture { store, ..fixture };
    // Same length as the vector.
    let copy = Found { seconds: Some(0.3), ..tagged("copy of a", "9", "ä ", "É") };
    let found = [copy, file("f", "6")];
    assert_eq!(
        again.scan("first", &found).await,
        Enqueued { queued: 1, skipped: 1, alike: 1, ..Enqueued::default() },
        "life goes on"
    );
    let error = import_database(again.database(), &path).await.unwrap_err();
    assert!(format!("{error:#}").contains("an import needs an empty one"), "{error:#}");
}

#[tokio::test]
async fn from_sqlite_to_postgres() {
    moves(Engine::Sqlite, Engine::Postgres).await;
}

#[tokio::test]
async fn from_postgres_to_sqlite() {
    moves(Engine::Postgres, Engine::Sqlite).await;
}

#[tokio::test]
async fn nothing_is_imported_while_a_coordinator_is_at_work() {
    let fixture = filled(Engine::Sqlite).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("export.jsonl");
    let expected = export_database(fixture.database(), &path).await.unwrap();
    let target = empty(Engine::Postgres, folder.path());
    let coordinator = Store::open(&target).await.unwrap();
    coordinator.serve().await.unwrap();
    let error = import_database(&target, &path).await.unwrap_err();
    assert!(format!("{error:#}").contains("a coordinator works on the database"), "{error:#}");
    assert_eq!(coordinator.open_sessions().await.unwrap(), [], "nothing has come in");
    coordinator.close().await;
    assert_eq!(import_database(&target, &path).await.unwrap(), expected);
}

#[tokio::test]
async fn a_database_that_is_not_there_is_not_exported() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("mistyped/chaarfm.sqlite3");
    let path = folder.path().join("export.jsonl");
    let error = export_database(&Database::Sqlite(missing.clone()), &path).await.unwrap_err().to_string();
    assert!(error.contains("mistyped/chaarfm.sqlite3 is missing"), "{error}");
    assert!(!missing.parent().unwrap().exists() && !path.exists());
}

#[cfg(unix)]
#[tokio::test]
async fn an_export_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let fixture = filled(Engine::Sqlite).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("export.jsonl");
    fs::write(&path, "an older one, for everybody").unwrap();
    export_database(fixture.database(), &path).await.unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "and leaves nothing beside it");
}

#[tokio::test]
async fn a_damaged_file_is_refused_before_anything_is_written() {
    let fixture = filled(Engine::Sqlite).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("export.jsonl");
    export_database(fixture.database(), &path).await.unwrap();
    let whole = fs::read_to_string(&path).unwrap();
    let end = whole.trim_end().rfind('\n').unwrap() + 1;
    let cases = [
        (whole.replace("16777216", "16777218"), "has been changed"),
        (whole[..end].to_owned(), "ends too early"),
        (whole[..end - 5].to_owned(), "cut off"),
        (whole.replacen(r#""chaarfm_database":1"#, r#""chaarfm_database":2"#, 1), "of version 2"),
        (String::new(), "it is empty"),
        ("{}\n".to_owned(), "no export of a database"),
    ];
    for (content, words) in cases {
        fs::write(&path, content).unwrap();
        let target = empty(Engine::Sqlite, folder.path());
        let error = format!("{:#}", import_database(&target, &path).await.unwrap_err());
        assert!(error.contains(words) && error.contains("export.jsonl"), "{error}");
        let Database::Sqlite(file) = target else { panic!("not SQLite") };
        assert!(!file.exists(), "{words}");
    }
}
