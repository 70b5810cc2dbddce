//! Notices and views that coordinators exchange.

use std::time::Duration;

use chaarfm_coordinator::{Timestamp, WorkerId};
use chaarfm_domain::SessionId;
use sqlx::{Executor, postgres::PgListener};
use tokio::time::timeout;

use super::{MAX_PING, MAX_WAIT_SECONDS, Postgres, pool};
use crate::{
    common::{millis, unsigned, within},
    error::Stored,
    peers::News,
};

/// The channel on which coordinators wake each other.
const CHANNEL: &str = "chaarfm";

/// Interval at which a listener without a connection tries to get one.
const RECONNECT_SECONDS: u64 = 1;

/// A listener that receives nothing for this long checks its connection, as it would not notice a vanished host.
const MAX_SILENCE_SECONDS: u64 = 20;

impl Postgres {
    pub(crate) async fn notify(&self, sessions: &[SessionId]) -> Stored<()> {
        let query = sqlx::query("SELECT pg_notify($1, $2 || ' ' || session) FROM unnest($3::BIGINT[]) AS session");
        query.bind(CHANNEL).bind(&self.owner).bind(session_numbers(sessions)).execute(&self.pool).await?;
        Ok(())
    }

    pub(crate) fn listener(&self) -> Listener {
        Listener { engine: self.clone(), connection: None }
    }

    /// Listens on a connection outside the pool: if the host vanishes, sqlx holds on to that connection, and the pool must
    /// not lack it.
    async fn listen(&self) -> Stored<PgListener> {
        let pool = pool(1, &self.serves).connect_lazy_with(self.pool.connect_options().as_ref().clone());
        let mut listener = PgListener::connect_with(&pool).await?;
        listener.eager_reconnect(false);
        listener.listen(CHANNEL).await?;
        Ok(listener)
    }

    /// Parses a notice of another coordinator: the sender, the session, and one more word if the notice matters only to
    /// pages. A notice with an unknown word is ignored.
    fn told_by_another(&self, payload: &str) -> Option<News> {
        let (_, news) = payload.split_once(' ').filter(|(owner, _)| *owner != self.owner)?;
        match news.split_once(' ') {
            None => news.parse().ok().map(|session| News::Work(SessionId(session))),
            Some((session, "presence")) => session.parse().ok().map(|session| News::Presence(SessionId(session))),
            Some(_) => None,
        }
    }
}

/// Receives the notices of other coordinators. It never ends, and reconnects by itself.
pub(crate) struct Listener {
    engine: Postgres,
    connection: Option<PgListener>,
}

impl Listener {
    /// The next notice. None means that something may have changed in any session, as notices sent while there was no
    /// connection are lost.
    pub(crate) async fn next(&mut self) -> Option<News> {
        let engine = &self.engine;
        loop {
            let Some(listener) = &mut self.connection else {
                match within(MAX_WAIT_SECONDS, engine.listen()).await {
                    Ok(listener) => {
                        self.connection = Some(listener);
                        return None;
                    }
                    Err(error) => tracing::debug!("other coordinators cannot be listened to: {error}"),
                }
                tokio::time::sleep(Duration::from_secs(RECONNECT_SECONDS)).await;
                continue;
            };
            match timeout(Duration::from_secs(MAX_SILENCE_SECONDS), listener.try_recv()).await {
                Ok(Ok(Some(notification))) => {
                    if let Some(news) = engine.told_by_another(notification.payload()) {
                        return Some(news);
                    }
                }
                Ok(Ok(None)) => self.connection = None,
                Ok(Err(error)) => {
                    tracing::debug!("other coordinators cannot be listened to any more: {error}");
                    self.connection = None;
                }
                Err(_silence) => {
                    if !matches!(timeout(MAX_PING, listener.execute("SELECT 1")).await, Ok(Ok(_))) {
                        self.connection = None;
                    }
                }
            }
        }
    }
}

fn session_numbers(sessions: &[SessionId]) -> Vec<i64> {
    sessions.iter().map(|session| session.0).collect()
}

// Views that coordinators publish for each other.

impl Postgres {
    pub(crate) async fn next_worker(&self) -> Stored<WorkerId> {
        let query = sqlx::query_scalar("SELECT nextval('chaarfm.worker_numbers')");
        Ok(unsigned(query.fetch_one(&self.pool).await?))
    }

    pub(crate) async fn publish_presence(&self, views: &[(SessionId, String)], until: Timestamp) -> Stored<()> {
        let (sessions, views): (Vec<_>, Vec<_>) =
            views.iter().map(|(session, view)| (session.0, view.as_str())).unzip();
        let query = sqlx::query(
            "WITH published AS (
                INSERT INTO chaarfm.presence (session, coordinator, until_ms, view)
                SELECT session, $2::TEXT, $3::BIGINT, view FROM unnest($4::BIGINT[], $5::TEXT[]) AS part (session, view)
                ON CONFLICT (session, coordinator) DO UPDATE SET until_ms = excluded.until_ms, view = excluded.view
                RETURNING session
            )
            SELECT pg_notify($1, $2 || ' ' || session || ' presence') FROM published",
        );
        let query = query.bind(CHANNEL).bind(&self.owner).bind(millis(until)).bind(sessions).bind(views);
        query.execute(&self.pool).await?;
        Ok(())
    }

    pub(crate) async fn withdraw_presence(&self, sessions: &[SessionId]) -> Stored<()> {
        let query = sqlx::query(
            "WITH withdrawn AS (
                DELETE FROM chaarfm.presence WHERE coordinator = $2 AND session = ANY($3) RETURNING session
            )
            SELECT pg_notify($1, $2 || ' ' || session || ' presence') FROM withdrawn",
        );
        query.bind(CHANNEL).bind(&self.owner).bind(session_numbers(sessions)).execute(&self.pool).await?;
        Ok(())
    }

    pub(crate) async fn presence_of_others(&self, session: SessionId, now: Timestamp) -> Stored<Vec<String>> {
        let query = sqlx::query_scalar(
            "SELECT view FROM chaarfm.presence WHERE session = $1 AND coordinator <> $2 AND until_ms > $3
            ORDER BY coordinator",
        );
        Ok(query.bind(session.0).bind(&self.owner).bind(millis(now)).fetch_all(&self.pool).await?)
    }

    pub(crate) async fn sweep_presence(&self, now: Timestamp) -> Stored<()> {
        // Rows that another coordinator is just deleting or renewing are skipped.
        let query = sqlx::query(
            "DELETE FROM chaarfm.presence WHERE (session, coordinator) IN (
                SELECT session, coordinator FROM chaarfm.presence WHERE until_ms <= $1 FOR UPDATE SKIP LOCKED
            )",
        );
        query.bind(millis(now)).execute(&self.pool).await?;
        Ok(())
    }
}
