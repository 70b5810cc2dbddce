//! The version of a database.

use super::*;

on_engines! {
    all {}
    databases {
        a_database_of_a_newer_program_is_left_alone
    }
}

async fn a_database_of_a_newer_program_is_left_alone(fixture: Fixture) {
    fixture.become_newer().await;
    let error = Store::open(fixture.database()).await.unwrap_err();
    let StoreError::Newer { database, program } = error else { panic!("{error}") };
    assert!((1..database).contains(&program), "{error}");
    assert!(error.to_string().contains(&format!("version {database}")), "{error}");
}

impl Fixture {
    async fn become_newer(&self) {
        let insert = |table| {
            let version = super::sqlite::MIGRATIONS.len() + 1;
            sqlx::AssertSqlSafe(format!(
                "INSERT INTO {table} (version, description, success, checksum, execution_time)
                VALUES ({version}, 'x', TRUE, '', 0)"
            ))
        };
        match &self.store.engine {
            store::Engine::Sqlite(engine) => {
                sqlx::query(insert("_sqlx_migrations")).execute(&engine.writer).await.map(drop).unwrap();
            }
            store::Engine::Postgres(engine) => {
                sqlx::query(insert("chaarfm._sqlx_migrations")).execute(&engine.pool).await.map(drop).unwrap();
            }
            store::Engine::Memory(_) => panic!("it has no version"),
        }
    }
}
