//! What coordinators of one database tell and show each other.

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

/// Asks an engine that coordinators share about something between them. `$alone` is the answer when there is only one
/// coordinator.
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
    /// Tells the other coordinators that something has happened in these sessions: there may be work to hand out, or something
    /// else to show.
    pub async fn notify(&self, sessions: &[SessionId]) -> Stored<()> {
        ask_shared!(self, Ok(()), engine => engine.notify(sessions))
    }

    /// The notices that other coordinators send.
    pub fn wakeups(&self) -> Wakeups {
        Wakeups(match &self.engine {
            Engine::Sqlite(_) => Listener::Never,
            Engine::Postgres(engine) => Listener::Postgres(engine.listener()),
            #[cfg(any(test, feature = "memory"))]
            Engine::Memory(engine) => Listener::Memory(engine.listener()),
        })
    }

    /// A fresh number for a worker. With several coordinators no worker has ever had it before; with one, none since that
    /// coordinator was started.
    pub async fn next_worker(&self) -> Stored<WorkerId> {
        match &self.engine {
            Engine::Sqlite(engine) => Ok(engine.next_worker()),
            Engine::Postgres(engine) => within(MAX_ANSWER_SECONDS, engine.next_worker()).await,
            #[cfg(any(test, feature = "memory"))]
            Engine::Memory(engine) => engine.ask("next_worker", engine.next_worker()).await,
        }
    }
}

// What coordinators show each other of their sessions. A single coordinator shows nothing to anybody.

impl Store {
    /// Publishes this coordinator's view of these sessions, each of which is named once. The other coordinators can read a view
    /// until it is replaced or `until` has come. Wakes them.
    pub async fn publish_presence(&self, views: &[(SessionId, String)], until: Timestamp) -> Stored<()> {
        ask_shared!(self, Ok(()), engine => engine.publish_presence(views, until))
    }

    /// Withdraws this coordinator's views of these sessions. Wakes the others.
    pub async fn withdraw_presence(&self, sessions: &[SessionId]) -> Stored<()> {
        ask_shared!(self, Ok(()), engine => engine.withdraw_presence(sessions))
    }

    /// The other coordinators' views of a session, always in the same order.
    pub async fn presence_of_others(&self, session: SessionId, now: Timestamp) -> Stored<Vec<String>> {
        ask_shared!(self, Ok(Vec::new()), engine => engine.presence_of_others(session, now))
    }

    /// Deletes the views of coordinators that have died since.
    pub async fn sweep_presence(&self, now: Timestamp) -> Stored<()> {
        ask_shared!(self, Ok(()), engine => engine.sweep_presence(now))
    }
}
