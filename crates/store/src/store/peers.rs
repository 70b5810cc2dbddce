//! Notices and views that coordinators of one database exchange.

use chaarfm_coordinator::{Timestamp, WorkerId};
use chaarfm_domain::SessionId;

use super::{Engine, Store};
#[cfg(any(test, feature = "memory"))]
use crate::memory;
use crate::{
    common::{MAX_ANSWER_SECONDS, within},
    error::Stored,
    peers::News,
    postgres,
};

/// The notices of other coordinators. The stream never ends.
pub struct Wakeups(Listener);

enum Listener {
    /// There are no other coordinators.
    Never,
    Postgres(postgres::Listener),
    #[cfg(any(test, feature = "memory"))]
    Memory(memory::Listener),
}

impl Wakeups {
    /// The next notice. None means that notices may have been lost, so that something may have happened in any session.
    pub async fn next(&mut self) -> Option<News> {
        match &mut self.0 {
            Listener::Never => std::future::pending().await,
            Listener::Postgres(listener) => listener.next().await,
            #[cfg(any(test, feature = "memory"))]
            Listener::Memory(listener) => listener.next().await,
        }
    }
}

/// Calls an engine that coordinators share. `$alone` is the answer if there is only one coordinator.
macro_rules! ask_shared {
    ($store:ident, $alone:expr, $engine:ident => $asked:ident.$operation:ident($($argument:expr),*)) => {
        match &$store.engine {
            Engine::Sqlite(_) => $alone,
            Engine::Postgres($engine) => within(MAX_ANSWER_SECONDS, $asked.$operation($($argument),*)).await,
            #[cfg(any(test, feature = "memory"))]
            Engine::Memory($engine) => $engine.ask(stringify!($operation), $asked.$operation($($argument),*)).await,
        }
    };
}

impl Store {
    /// Tells the other coordinators that something has changed in these sessions: there may be work to hand out, or
    /// something new to show.
    pub async fn notify(&self, sessions: &[SessionId]) -> Stored<()> {
        ask_shared!(self, Ok(()), engine => engine.notify(sessions))
    }

    /// Notices from other coordinators.
    pub fn wakeups(&self) -> Wakeups {
        Wakeups(match &self.engine {
            Engine::Sqlite(_) => Listener::Never,
            Engine::Postgres(engine) => Listener::Postgres(engine.listener()),
            #[cfg(any(test, feature = "memory"))]
            Engine::Memory(engine) => Listener::Memory(engine.listener()),
        })
    }

    /// A new number for a worker. With several coordinators it is never reused; with one, not until that coordinator
    /// restarts.
    pub async fn next_worker(&self) -> Stored<WorkerId> {
        match &self.engine {
            Engine::Sqlite(engine) => Ok(engine.next_worker()),
            Engine::Postgres(engine) => within(MAX_ANSWER_SECONDS, engine.next_worker()).await,
            #[cfg(any(test, feature = "memory"))]
            Engine::Memory(engine) => engine.ask("next_worker", engine.next_worker()).await,
        }
    }
}

// The coordinators' views of their sessions. A single coordinator publishes none.

impl Store {
    /// Publishes this coordinator's views of these sessions, each of which is listed once, and wakes the other
    /// coordinators. They can read a view until it is replaced or `until` is reached.
    pub async fn publish_presence(&self, views: &[(SessionId, String)], until: Timestamp) -> Stored<()> {
        ask_shared!(self, Ok(()), engine => engine.publish_presence(views, until))
    }

    /// Withdraws this coordinator's views of these sessions, and wakes the others.
    pub async fn withdraw_presence(&self, sessions: &[SessionId]) -> Stored<()> {
        ask_shared!(self, Ok(()), engine => engine.withdraw_presence(sessions))
    }

    /// The other coordinators' views of a session, always in the same order.
    pub async fn presence_of_others(&self, session: SessionId, now: Timestamp) -> Stored<Vec<String>> {
        ask_shared!(self, Ok(Vec::new()), engine => engine.presence_of_others(session, now))
    }

    /// Deletes the views of coordinators that have died.
    pub async fn sweep_presence(&self, now: Timestamp) -> Stored<()> {
        ask_shared!(self, Ok(()), engine => engine.sweep_presence(now))
    }
}
