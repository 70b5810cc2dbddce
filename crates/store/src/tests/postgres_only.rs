//! Tests for PostgreSQL only.

use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, PgPool, Row};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, UnixStream},
    sync::watch,
    time::{sleep, timeout},
};

use super::*;
use crate::postgres::{MIGRATIONS, SELECT_ANY_WAITING, SELECT_FIRST_WAITING, SUM_UP_BACKLOG};

fn engine(store: &Store) -> &Postgres {
    match &store.engine {
        store::Engine::Postgres(engine) => engine,
        store::Engine::Sqlite(_) | store::Engine::Memory(_) => panic!("not PostgreSQL"),
    }
}

fn pool(store: &Store) -> &PgPool {
    &engine(store).pool
}

/// PostgreSQL's plan for a query of the queue.
async fn plan(store: &Store, query: &str) -> String {
    let explain = AssertSqlSafe(format!("EXPLAIN (COSTS OFF) {query}"));
    let rows = sqlx::raw_sql(explain).fetch_all(&mut *engine(store).begin_by_index().await.unwrap()).await.unwrap();
    rows.iter().map(|row| row.get::<String, _>(0)).collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn the_first_jobs_are_found_by_the_queues_index() {
    let fixture = fixture(Engine::Postgres).await;
    let fill = "INSERT INTO chaarfm.jobs (session, scan, model, collection, library, file, bytes, content_hash, state)
        SELECT id, 1, 'm', 'c', 'l', n, 1, n, 'queued' FROM chaarfm.sessions, generate_series(1, 20000) AS n";
    sqlx::raw_sql(fill).execute(pool(&fixture.store)).await.unwrap();
    sqlx::raw_sql("ANALYZE chaarfm.jobs").execute(pool(&fixture.store)).await.unwrap();
    assert_eq!(fixture.counts().await.queued, 20_000, "one statement, one count");
    for (query, fourth) in [(SELECT_FIRST_WAITING, "'w'"), (SELECT_ANY_WAITING, "1"), (SUM_UP_BACKLOG, "'w'")] {
        let mut query = query.replace("$4", fourth);
        for (name, value) in [("$1", fixture.session.id.0), ("$2", 1), ("$3", 1), ("$5", 1), ("$6", 1000)] {
            query = query.replace(name, &value.to_string());
        }
        let plan = plan(&fixture.store, &query).await;
        let by_index = ["Index Scan using jobs_waiting", "Index Only Scan using jobs_waiting"];
        assert!(by_index.iter().any(|step| plan.contains(step)), "{plan}");
        assert!(!plan.contains("Sort") && !plan.contains("Seq Scan"), "{plan}");
    }
}

#[tokio::test]
async fn a_sessions_jobs_are_listed_by_their_index() {
    let fixture = fixture(Engine::Postgres).await;
    let small = fixture.store.create_session(new_session(2), 10).await.unwrap().unwrap();
    for (session, first, last) in [(fixture.session.id, 1, 20_000), (small.id, 20_001, 20_100)] {
        let fill = format!(
            "INSERT INTO chaarfm.jobs (session, scan, model, collection, library, file, bytes, content_hash, state)
            SELECT {session}, 1, 'm', 'c', 'l', n, 1, n, 'queued' FROM generate_series({first}, {last}) AS n"
        );
        sqlx::raw_sql(AssertSqlSafe(fill)).execute(pool(&fixture.store)).await.unwrap();
    }
    sqlx::raw_sql("ANALYZE chaarfm.jobs").execute(pool(&fixture.store)).await.unwrap();
    let query = format!("SELECT * FROM chaarfm.jobs WHERE session = {} AND id > 1 ORDER BY id LIMIT 500", small.id);
    let plan = plan(&fixture.store, &query).await;
    assert!(plan.contains("Index Scan using jobs_by_number") && !plan.contains("Sort"), "{plan}");
}

#[tokio::test]
async fn only_the_queue_has_the_planner_keep_to_indexes() {
    let fixture = fixture(Engine::Postgres).await;
    let show = "SELECT name, setting FROM pg_settings
        WHERE name IN ('enable_seqscan', 'enable_sort', 'jit') AND source <> 'default'";
    let mut queue = engine(&fixture.store).begin_by_index().await.unwrap();
    let within: Vec<(String, String)> = sqlx::query_as(show).fetch_all(&mut *queue).await.unwrap();
    assert_eq!(within.len(), 3, "{within:?}");
    assert!(within.iter().all(|(_, setting)| setting == "off"), "{within:?}");
    // The same connection that the transaction has just used.
    queue.rollback().await.unwrap();
    fixture.scan("first", &[file("a", "1")]).await;
    fixture.claim("t1", T0).await.unwrap();
    for _ in 0..pool(&fixture.store).size() {
        let outside: Vec<(String, String)> = sqlx::query_as(show).fetch_all(pool(&fixture.store)).await.unwrap();
        assert_eq!(outside, [], "what is not of the queue is left to the planner");
    }
}

#[tokio::test]
async fn a_session_that_is_just_ending_gets_nothing_queued_again() {
    let fixture = fixture(Engine::Postgres).await;
    fixture.scan("first", &[file("a", "1")]).await;
    let held = fixture.claim("t1", T0).await.unwrap();
    fixture.answer(held.job.id, "t1", failure(FailureKind::Permanent)).await.unwrap();
    // The first step of another coordinator that ends a session.
    let mut ending = pool(&fixture.store).begin().await.unwrap();
    sqlx::query("UPDATE chaarfm.sessions SET ended = TRUE").execute(&mut *ending).await.unwrap();
    let end = async {
        sleep(Duration::from_millis(300)).await;
        ending.commit().await.unwrap();
    };
    let (retried, ()) = tokio::join!(fixture.store.retry_failed(fixture.session.id, None), end);
    assert_eq!(retried.unwrap(), Retried::default());
    assert_eq!(fixture.counts().await, Counts { failed: 1, ..Counts::default() });
}

#[tokio::test]
async fn what_waits_in_a_circle_with_another_is_done_after_it() {
    let fixture = fixture(Engine::Postgres).await;
    fixture.scan("first", &[file("a", "1")]).await;
    fixture.claim("t1", T0).await.unwrap();
    let mut other = pool(&fixture.store).begin().await.unwrap();
    sqlx::query("SELECT 1 FROM chaarfm.jobs FOR UPDATE").execute(&mut *other).await.unwrap();
    let circle = async {
        // By then `end_session` has locked its session, and waits for the job.
        sleep(Duration::from_millis(300)).await;
        sqlx::query("UPDATE chaarfm.sessions SET skipped = 7").execute(&mut *other).await.unwrap();
        other.commit().await.unwrap();
    };
    let (ended, ()) = tokio::join!(fixture.store.end_session(fixture.session.id, T0), circle);
    ended.unwrap();
    let session = fixture.store.session(&fixture.session.code).await.unwrap().unwrap();
    assert!(session.flags.ended, "{session:?}");
    assert_eq!(session.counts, Counts { skipped: 7, ..Counts::default() });
}

#[tokio::test]
async fn an_export_waits_for_nobody_and_nobody_for_it() {
    let fixture = fixture(Engine::Postgres).await;
    fixture.scan("first", &[file("a", "1"), file("b", "2"), file("c", "3")]).await;
    let held = [fixture.claim("t1", T0).await, fixture.claim("t2", T0).await, fixture.claim("t3", T0).await];
    let [first, second, third] = held.map(|row| row.unwrap().job.id);
    fixture.answer(first, "t1", Outcome::Done(vector())).await.unwrap();
    // It has number 2, and becomes visible after number 3.
    let mut slow = pool(&fixture.store).begin().await.unwrap();
    let copy =
        "INSERT INTO chaarfm.vectors (collection, model, content_hash, file, seconds, backend, device, worker, flags,
            stored_ms, embedding, tags)
        SELECT collection, model, 'x', file, seconds, backend, device, worker, flags, stored_ms, embedding, tags
        FROM chaarfm.vectors";
    sqlx::query(copy).execute(&mut *slow).await.unwrap();
    fixture.answer(second, "t2", Outcome::Done(vector())).await.unwrap();
    let mut snapshot = fixture.store.snapshot().await.unwrap();
    assert_eq!(snapshot.extent("first", None).await.unwrap().rows, 2);
    slow.commit().await.unwrap();
    fixture.answer(third, "t3", Outcome::Done(vector())).await.unwrap();
    let numbers: Vec<_> = snapshot.vectors_after("first", None, 0, 10).await.unwrap().iter().map(|v| v.id).collect();
    assert_eq!(numbers, [1, 3], "as many as were counted");
    let locks: Vec<String> = sqlx::query_scalar(
        "SELECT DISTINCT mode FROM pg_locks WHERE locktype = 'relation' AND relation = 'chaarfm.vectors'::REGCLASS",
    )
    .fetch_all(pool(&fixture.store))
    .await
    .unwrap();
    assert_eq!(locks, ["AccessShareLock"]);
}

#[tokio::test]
async fn what_an_older_program_has_stored_is_counted() {
    let Database::Postgres(address) = Database::Postgres(Cluster::shared().database()) else {
        panic!("not PostgreSQL")
    };
    let old = PgPool::connect(&address).await.unwrap();
    let mut migrator = crate::common::migrator(&MIGRATIONS[..3]);
    migrator.create_schema("chaarfm");
    migrator.dangerous_set_table_name("chaarfm._sqlx_migrations");
    migrator.run(&old).await.unwrap();
    let fill =
        "INSERT INTO chaarfm.vectors (collection, model, content_hash, file, seconds, backend, device, worker, flags,
            stored_ms, embedding, tags)
        SELECT CASE WHEN n <= 3 THEN 'few' ELSE 'many' END, 'm', n, 'f', 1, 'flex', 'CPU', 'native', '[]', 0,
            array_fill(1.0, ARRAY[200])::REAL[]::vector, '{}'
        FROM generate_series(1, 1000) AS n";
    sqlx::query(fill).execute(&old).await.unwrap();
    old.close().await;
    let store = Store::open(&Database::Postgres(address)).await.unwrap();
    let counts: Vec<_> = store.collections().await.unwrap().into_iter().map(|row| (row.name, row.vectors)).collect();
    assert_eq!(counts, [("few".to_owned(), 3), ("many".to_owned(), 997)]);
}

#[tokio::test]
async fn a_collection_is_a_view_with_an_index_for_other_programs() {
    let fixture = fixture(Engine::Postgres).await;
    let long = "x-".repeat(32);
    for (collection, view) in [("first", "vectors_first"), (long.as_str(), "vectors_x-x-x")] {
        fixture.scan(collection, &[tagged("a", "1", "An Artist", "A Title")]).await;
        if let Some(held) = fixture.claim("t1", T0).await {
            fixture.answer(held.job.id, "t1", Outcome::Done(vector())).await.unwrap();
        }
        assert_eq!(fixture.store.build_indexes().await.unwrap(), 1);
        let name: String = sqlx::query_scalar("SELECT viewname::TEXT FROM pg_views WHERE starts_with(viewname, $1)")
            .bind(view)
            .fetch_one(pool(&fixture.store))
            .await
            .unwrap();
        assert!(name.len() <= 63, "{name}");
        // The recommender's query.
        let query = format!(
            "SELECT id, artist, title, s3_url, youtube_id, created_at, embedding, embedding <=> '{:?}' AS distance
            FROM \"{name}\" ORDER BY distance LIMIT 5",
            vector().embedding
        );
        let rows = sqlx::raw_sql(AssertSqlSafe(query.clone())).fetch_all(pool(&fixture.store)).await.unwrap();
        assert_eq!(rows.len(), 1, "{name}");
        let (artist, url): (String, Option<String>) = (rows[0].get("artist"), rows[0].get("s3_url"));
        assert_eq!((artist.as_str(), url), ("An Artist", None));
        let mut connection = pool(&fixture.store).acquire().await.unwrap();
        sqlx::raw_sql("SET enable_seqscan = off; SET enable_sort = off").execute(&mut *connection).await.unwrap();
        let explain = AssertSqlSafe(format!("EXPLAIN (COSTS OFF) {query}"));
        let plan = sqlx::raw_sql(explain).fetch_all(&mut *connection).await.unwrap();
        let plan: Vec<String> = plan.iter().map(|row| row.get(0)).collect();
        assert!(
            plan.iter().any(|line| line.contains("Index Scan using \"vectors_cosine_")
                || line.contains("Index Scan using vectors_cosine_")),
            "{plan:?}"
        );
        connection.close().await.unwrap();
    }
}

/// Waits until the database builds an index, and returns the id of the building process.
async fn builder(store: &Store) -> i32 {
    let query = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
        AND query LIKE 'CREATE INDEX CONCURRENTLY%'";
    let found = async {
        loop {
            if let Some(pid) = sqlx::query_scalar(query).fetch_optional(pool(store)).await.unwrap() {
                return pid;
            }
        }
    };
    timeout(Duration::from_secs(MAX_ANSWER_SECONDS), found).await.expect("an index is being built")
}

#[tokio::test]
async fn an_index_is_built_by_one_coordinator_while_everything_goes_on() {
    let fixture = fixture(Engine::Postgres).await;
    let other = fixture.another().await;
    // Another program's long write transaction: the index has to wait for it, and nobody for the index.
    let mut slow = pool(&fixture.store).begin().await.unwrap();
    sqlx::query("LOCK TABLE chaarfm.vectors IN ROW EXCLUSIVE MODE").execute(&mut *slow).await.unwrap();
    let began = Instant::now();
    fixture.scan("first", &[file("a", "1"), file("b", "2")]).await;
    let build = tokio::spawn({
        let store = fixture.store.clone();
        async move { store.build_indexes().await }
    });
    builder(&other).await;
    assert_eq!(other.build_indexes().await.unwrap(), 0, "another one does");
    let held = fixture.claim("t1", T0).await.unwrap();
    fixture.answer(held.job.id, "t1", Outcome::Done(vector())).await.unwrap();
    fixture.scan("second", &[file("c", "3")]).await;
    assert!(began.elapsed() < Duration::from_secs(MAX_ANSWER_SECONDS / 2), "nobody has waited for a lock");
    assert!(!build.is_finished());
    slow.rollback().await.unwrap();
    let first = build.await.unwrap().unwrap();
    assert_eq!(first + other.build_indexes().await.unwrap(), 2);
    assert_eq!(fixture.store.build_indexes().await.unwrap(), 0, "nothing is lacking");
}

#[tokio::test]
async fn an_index_whose_build_was_cut_off_is_built_again() {
    let fixture = fixture(Engine::Postgres).await;
    let other = fixture.another().await;
    fixture.scan("first", &[file("a", "1")]).await;
    let mut slow = pool(&fixture.store).begin().await.unwrap();
    sqlx::query("LOCK TABLE chaarfm.vectors IN ROW EXCLUSIVE MODE").execute(&mut *slow).await.unwrap();
    let end = async {
        let pid = builder(&other).await;
        sqlx::query("SELECT pg_terminate_backend($1)").bind(pid).execute(pool(&other)).await.unwrap();
    };
    let (cut_off, ()) = tokio::join!(fixture.store.build_indexes(), end);
    assert!(matches!(cut_off, Err(StoreError::Unavailable(_))), "{cut_off:?}");
    slow.rollback().await.unwrap();
    let is_valid = async || {
        let query = "SELECT indisvalid FROM pg_index WHERE indexrelid = 'chaarfm.vectors_cosine_first'::REGCLASS";
        sqlx::query_scalar::<_, bool>(query).fetch_one(pool(&other)).await.unwrap()
    };
    assert!(!is_valid().await, "it was left unfinished");
    assert_eq!(other.build_indexes().await.unwrap(), 1);
    assert!(is_valid().await);
}

#[tokio::test]
async fn a_collections_name_is_never_a_part_of_a_statement() {
    let fixture = fixture(Engine::Postgres).await;
    for name in [r#"it's "odd""#, "a'; DROP TABLE chaarfm.jobs; --", "b\\' || 'c"] {
        fixture.scan(name, &[file("a", "1")]).await;
        if let Some(held) = fixture.claim("t1", T0).await {
            fixture.answer(held.job.id, "t1", Outcome::Done(vector())).await.unwrap();
        }
        assert_eq!(fixture.store.build_indexes().await.unwrap(), 1, "{name}");
        let view = format!("vectors_{name}").replace('"', "\"\"");
        let count = AssertSqlSafe(format!("SELECT COUNT(*) FROM \"{view}\""));
        let count: i64 = sqlx::query_scalar(count).fetch_one(pool(&fixture.store)).await.unwrap();
        assert_eq!(count, 1, "{name}");
    }
}

#[tokio::test]
async fn a_table_of_somebody_elses_is_left_alone() {
    let fixture = fixture(Engine::Postgres).await;
    sqlx::raw_sql("CREATE TABLE vectors_theirs (id INT)").execute(pool(&fixture.store)).await.unwrap();
    let error = fixture.store.begin_scan(fixture.session.id, order("theirs"), T0).await.unwrap_err();
    assert!(matches!(&error, StoreError::NameTaken(name) if name == "vectors_theirs"), "{error}");
    assert_eq!(fixture.scan("ours", &[file("a", "1")]).await, queued(1), "the session goes on");
}

#[tokio::test]
async fn coordinators_may_start_at_once() {
    let database = Database::Postgres(Cluster::shared().database());
    let mut opened = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let database = database.clone();
        opened.spawn(async move { Store::open(&database).await.unwrap() });
    }
    let stores = opened.join_all().await;
    let mut made = tokio::task::JoinSet::new();
    for (bits, store) in (1..).zip(stores) {
        made.spawn(async move { store.current_session(new_session(bits)).await.unwrap() });
    }
    let sessions = made.join_all().await;
    assert!(sessions.iter().all(|session| *session == sessions[0]), "they have one session: {sessions:?}");
}

#[tokio::test]
async fn one_scan_is_not_taken_over_while_its_process_lives() {
    let fixture = fixture(Engine::Postgres).await;
    let scan = fixture.store.begin_scan(fixture.session.id, order("first"), T0).await.unwrap().unwrap();
    let other = fixture.another().await;
    let end = T0.plus_seconds(SCAN_TTL_SECONDS);
    let before = Timestamp(end.0 - 1);
    assert_eq!(other.abandoned_scans(before).await.unwrap(), []);
    assert!(!other.take_over_scan(&scan, before).await.unwrap());
    assert!(fixture.store.renew_scan(&scan, before).await.unwrap());
    assert_eq!(other.abandoned_scans(end).await.unwrap(), []);
}

#[tokio::test]
async fn what_one_tells_the_others_hear() {
    let fixture = fixture(Engine::Postgres).await;
    let mut own = fixture.store.wakeups();
    let other = fixture.another().await;
    let mut others = other.wakeups();
    assert_eq!((own.next().await, others.next().await), (None, None), "both listen now");
    fixture.store.notify(&[3, 4].map(SessionId)).await.unwrap();
    assert_eq!(
        (others.next().await, others.next().await),
        (Some(News::Work(SessionId(3))), Some(News::Work(SessionId(4))))
    );
    fixture.store.publish_presence(&[(SessionId(6), "{}".into())], T0).await.unwrap();
    assert_eq!(others.next().await, Some(News::Presence(SessionId(6))));
    fixture.store.withdraw_presence(&[6, 7].map(SessionId)).await.unwrap();
    assert_eq!(others.next().await, Some(News::Presence(SessionId(6))), "of 7 it has shown nothing");
    other.notify(&[SessionId(5)]).await.unwrap();
    assert_eq!(own.next().await, Some(News::Work(SessionId(5))), "what it told itself it does not hear");
}

#[tokio::test]
async fn what_one_shows_the_others_see_until_it_has_run_out() {
    let fixture = fixture(Engine::Postgres).await;
    let (one, two, three) = (&fixture.store, fixture.another().await, fixture.another().await);
    let end = T0.plus_seconds(30);
    let seen_by = async |store: &Store, session, now| {
        let mut seen = store.presence_of_others(SessionId(session), now).await.unwrap();
        seen.sort();
        seen
    };
    one.publish_presence(&[(SessionId(1), "one".into()), (SessionId(2), "elsewhere".into())], end).await.unwrap();
    two.publish_presence(&[(SessionId(1), "two".into())], end.plus_seconds(1)).await.unwrap();
    assert_eq!(seen_by(one, 1, T0).await, ["two"], "not its own");
    assert_eq!(seen_by(&three, 1, T0).await, ["one", "two"]);
    assert_eq!(seen_by(&three, 2, T0).await, ["elsewhere"]);
    // The first coordinator has died.
    assert_eq!(seen_by(&three, 1, Timestamp(end.0 - 1)).await, ["one", "two"]);
    assert_eq!(seen_by(&three, 1, end).await, ["two"]);
    let rows = async || {
        let count = sqlx::query_scalar("SELECT COUNT(*) FROM chaarfm.presence").fetch_one(pool(&three));
        count.await.map(|rows: i64| rows).unwrap()
    };
    assert_eq!(rows().await, 3, "not seen, but there");
    three.sweep_presence(end).await.unwrap();
    assert_eq!(rows().await, 1);
    // The first coordinator was only asleep, and continues.
    one.publish_presence(&[(SessionId(1), "one, again".into())], end.plus_seconds(30)).await.unwrap();
    one.publish_presence(&[(SessionId(1), "changed".into())], end.plus_seconds(30)).await.unwrap();
    assert_eq!(seen_by(&three, 1, end).await, ["changed", "two"]);
    two.withdraw_presence(&[SessionId(1)]).await.unwrap();
    assert_eq!(seen_by(&three, 1, end).await, ["changed"]);
}

#[tokio::test]
async fn no_two_coordinators_give_two_workers_one_number() {
    let fixture = fixture(Engine::Postgres).await;
    let other = fixture.another().await;
    let numbers = [
        fixture.store.next_worker().await.unwrap(),
        other.next_worker().await.unwrap(),
        fixture.store.next_worker().await.unwrap(),
    ];
    assert_eq!(numbers, [1, 2, 3]);
}

#[tokio::test]
async fn a_server_that_was_down_is_used_again_when_it_is_up() {
    let cluster = Cluster::start();
    let database = Database::Postgres(cluster.database());
    let store = Store::open(&database).await.unwrap();
    let mut wakeups = store.wakeups();
    assert_eq!(wakeups.next().await, None);
    let session = store.create_session(new_session(1), 10).await.unwrap().unwrap();
    cluster.stop();
    let error = store.session(&session.code).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    let error = Store::open(&database).await.unwrap_err();
    assert!(error.is_passing() && error.to_string().contains("cannot be used at the moment"), "{error:?}");
    cluster.restart();
    assert_eq!(store.session(&session.code).await.unwrap(), Some(session));
    assert_eq!(wakeups.next().await, None, "it listens again, and knows that it may have missed something");
}

/// Relays between a client and a server until it is cut: then neither receives anything more, nor notices that the other is
/// gone. Later connections are relayed again.
struct Wire {
    database: Database,
    cut: watch::Sender<()>,
}

impl Wire {
    async fn to(database: &Database) -> Self {
        let Database::Postgres(address) = database else { panic!("not PostgreSQL") };
        let (name, rest) = address.strip_prefix("postgres:///").unwrap().split_once('?').unwrap();
        let socket = format!("{}/.s.PGSQL.5432", rest.split_once("host=").unwrap().1);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("postgres://test@{}/{name}", listener.local_addr().unwrap());
        let (cut, is_cut) = watch::channel(());
        tokio::spawn(async move {
            loop {
                let (mut near, _) = listener.accept().await.unwrap();
                let mut far = UnixStream::connect(&socket).await.unwrap();
                let mut is_cut = is_cut.clone();
                is_cut.mark_unchanged();
                tokio::spawn(async move {
                    tokio::select! {
                        _ = copy_bidirectional(&mut near, &mut far) => {}
                        // Both ends stay open.
                        _ = is_cut.changed() => std::future::pending().await,
                    }
                });
            }
        });
        Self { database: Database::Postgres(address), cut }
    }
}

#[tokio::test]
async fn a_host_that_vanishes_is_given_up_and_its_connections_with_it() {
    // More than the pool has connections.
    const CALLS: usize = 15;
    let fixture = fixture(Engine::Postgres).await;
    let wire = Wire::to(fixture.database()).await;
    let store = Store::open(&wire.database).await.unwrap();
    let mut wakeups = store.wakeups();
    assert_eq!(wakeups.next().await, None, "it listens");
    let id = fixture.session.id;
    let mut lock = pool(&fixture.store).begin().await.unwrap();
    sqlx::query("LOCK TABLE chaarfm.sessions").execute(&mut *lock).await.unwrap();
    let call = async |store: Store| {
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..CALLS {
            let store = store.clone();
            calls.spawn(async move { store.set_paused(id, true).await });
        }
        calls.join_all().await
    };
    let cut = async {
        sleep(Duration::from_secs(1)).await;
        wire.cut.send(()).unwrap();
        lock.rollback().await.unwrap();
    };
    let limit = Duration::from_secs(2 * MAX_ANSWER_SECONDS);
    let silence = async {
        let vanished = async { tokio::join!(call(store.clone()), wakeups.next(), cut) };
        timeout(limit, vanished).await.expect("nobody waits for ever")
    };
    let (answers, news, ()) = silence.await;
    for answer in answers {
        assert!(matches!(answer, Err(StoreError::Unavailable(_))), "{answer:?}");
    }
    assert_eq!(news, None, "it listens again, elsewhere");
    for answer in call(store.clone()).await {
        answer.unwrap();
    }
    timeout(Duration::from_secs(MAX_ANSWER_SECONDS), store.close()).await.unwrap();
}
