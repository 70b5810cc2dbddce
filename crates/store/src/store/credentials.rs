//! The credentials in the store.

use std::time::Instant;

use chaarfm_coordinator::Timestamp;

use super::{Engine, Store};
use crate::{
    common::{MAX_ANSWER_SECONDS, within},
    credentials::{Credential, NewCredential},
    error::Stored,
};

/// Calls the store's database, and records how long the answer takes. There are no credentials in memory.
macro_rules! ask_database {
    ($store:ident.$operation:ident($($argument:expr),*)) => {{
        let began = Instant::now();
        let answer = match &$store.engine {
            Engine::Sqlite(engine) => engine.$operation($($argument),*).await,
            Engine::Postgres(engine) => within(MAX_ANSWER_SECONDS, engine.$operation($($argument),*)).await,
            #[cfg(any(test, feature = "memory"))]
            Engine::Memory(_) => unreachable!("nobody asks for anything where there are no connections"),
        };
        $store.metrics.answered(stringify!($operation), began.elapsed(), &answer);
        answer
    }};
}

impl Store {
    /// Adds a credential and returns its number, and deletes expired ones. None if there is a token of this name.
    pub async fn add_credential(&self, fresh: NewCredential<'_>) -> Stored<Option<i64>> {
        ask_database!(self.add_credential(fresh))
    }

    /// The credential of this number, unless it has expired.
    pub async fn credential(&self, id: i64, now: Timestamp) -> Stored<Option<Credential>> {
        ask_database!(self.credential(id, now))
    }

    /// Turns a link into the credential of the browser that it lets in, under the same number. False if the link has been
    /// used or has expired. If several browsers use a link at once, one of them is let in.
    pub async fn use_link(&self, link: i64, browser: NewCredential<'_>) -> Stored<bool> {
        ask_database!(self.use_link(link, browser))
    }

    /// Deletes the credentials of all links and browsers, and returns how many were deleted.
    pub async fn end_browsers(&self) -> Stored<u64> {
        ask_database!(self.end_browsers())
    }

    /// Whether there is a browser with a valid credential.
    pub async fn has_browsers(&self, now: Timestamp) -> Stored<bool> {
        ask_database!(self.has_browsers(now))
    }

    /// All tokens, by name.
    pub async fn tokens(&self) -> Stored<Vec<Credential>> {
        ask_database!(self.tokens())
    }

    /// Revokes a token. False if there is none of this name.
    pub async fn revoke_token(&self, name: &str) -> Stored<bool> {
        ask_database!(self.revoke_token(name))
    }
}
