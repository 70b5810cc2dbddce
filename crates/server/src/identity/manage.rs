//! Creates and revokes credentials of people and programs, for the HTTP interface and the `token` command.

use std::str::FromStr;

use anyhow::ensure;
use chaarfm_api::TokenView;
use chaarfm_domain::{AuditEntry, AuditEvent, Role, text};
use chaarfm_store::{Credential, CredentialKind, NewCredential, Store, StoreError};

use super::secret::Secret;
use crate::{Database, hub::system_time};

/// Validity of an unused link.
const LINK_HOURS: u64 = 24;

/// How long a browser stays logged in.
pub(super) const BROWSER_DAYS: u64 = 90;

/// Maximum number of tokens.
const MAX_TOKENS: usize = 1000;

/// Longest name of a token.
const MAX_NAME_CHARS: usize = 64;

const HOUR_SECONDS: u64 = 60 * 60;

/// A one-time link that logs in a browser: its secret.
#[derive(Debug)]
pub(crate) struct Link(String);

impl Link {
    /// Its URL below a coordinator's origin.
    pub(crate) fn below(&self, origin: &str) -> String {
        format!("{origin}/enter?token={}", self.0)
    }
}

/// Creates a login link for the owner.
pub(crate) async fn make_link(store: &Store) -> Result<Link, StoreError> {
    let now = system_time();
    let secret = Secret::random();
    let expires = Some(now.plus_seconds(LINK_HOURS * HOUR_SECONDS));
    let hash = secret.hash();
    let fresh = NewCredential { kind: CredentialKind::Link, role: Role::Owner, name: "", hash: &hash, now, expires };
    let id = store.add_credential(fresh).await?.expect("only tokens have names");
    Ok(Link(secret.shown(id)))
}

/// Logs in a browser with a link, and returns the content of its cookie; none when the link is no longer valid.
pub(crate) async fn open_link(store: &Store, link: &str) -> Result<Option<String>, StoreError> {
    let now = system_time();
    let Some((id, secret)) = Secret::read(link) else { return Ok(None) };
    let found = store.credential(id, now).await?;
    let is_right = |found: &Credential| found.kind == CredentialKind::Link && secret.is_behind(&found.hash);
    let Some(found) = found.filter(is_right) else { return Ok(None) };
    let browser = Secret::random();
    let hash = browser.hash();
    let expires = Some(now.plus_seconds(BROWSER_DAYS * 24 * HOUR_SECONDS));
    let fresh = NewCredential { kind: CredentialKind::Browser, role: found.role, name: "", hash: &hash, now, expires };
    Ok(store.use_link(id, fresh).await?.then(|| browser.shown(id)))
}

/// Creates a token.
pub(crate) async fn make_token(store: &Store, name: &TokenName, role: Role) -> Result<String, TokenError> {
    if role == Role::Worker {
        return Err(TokenError::Worker);
    }
    if store.tokens().await?.len() >= MAX_TOKENS {
        return Err(TokenError::TooMany);
    }
    let secret = Secret::random();
    let hash = secret.hash();
    let fresh = NewCredential {
        kind: CredentialKind::Token,
        role,
        name: &name.0,
        hash: &hash,
        now: system_time(),
        expires: None,
    };
    let id = store.add_credential(fresh).await?;
    id.map(|id| secret.shown(id)).ok_or_else(|| TokenError::Taken(name.0.clone()))
}

/// Why a token was not created.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenError {
    #[error("'{0}' is no name for a token: it has 1 to {MAX_NAME_CHARS} letters, digits, spaces and . _ - @")]
    Name(String),
    #[error("there is a token called {0} already; revoke that first")]
    Taken(String),
    #[error("there are {MAX_TOKENS} tokens, as many as may be; revoke one first")]
    TooMany,
    #[error("workers are let in by the code of a session; a token is an owner's or a reader's")]
    Worker,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A token's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TokenName(String);

impl FromStr for TokenName {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let name = text.trim();
        let is_fit = |c: char| c.is_alphanumeric() || " ._-@".contains(c);
        if name.is_empty() || name.chars().count() > MAX_NAME_CHARS || !name.chars().all(is_fit) {
            return Err(TokenError::Name(text::cut(text, MAX_NAME_CHARS)));
        }
        Ok(Self(name.to_owned()))
    }
}

impl TokenName {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// A token for the list.
pub(crate) fn token_view(token: Credential) -> TokenView {
    TokenView { name: token.name, role: token.role, created_at_ms: token.created.0 }
}

// For the command line. A coordinator may be using the database at the same time.

/// Creates a link that logs in a browser as the owner, and returns its URLs below these origins. Earlier links and browsers
/// are revoked, unless they are to be kept.
///
/// # Errors
/// When the database does not exist, or cannot be used.
pub async fn new_link(database: &Database, origins: &[String], keeps_others: bool) -> anyhow::Result<Vec<String>> {
    let store = existing(database).await?;
    if !keeps_others {
        store.end_browsers().await?;
    }
    let link = make_link(&store).await?;
    note(&store, if keeps_others { "a new link" } else { "a new link; the links and browsers from before are ended" })
        .await?;
    store.close().await;
    Ok(origins.iter().map(|origin| link.below(origin)).collect())
}

/// Creates a token, replacing one of the same name if requested, and returns its secret.
///
/// # Errors
/// When the name is taken, the name or the role is not valid for tokens, or the database cannot be used.
pub async fn add_token(database: &Database, name: &str, role: Role, replaces: bool) -> anyhow::Result<String> {
    let name: TokenName = name.parse()?;
    let store = existing(database).await?;
    if replaces {
        store.revoke_token(name.as_str()).await?;
    }
    let token = make_token(&store, &name, role).await?;
    note(&store, &format!("a new token for the role {role}: {}", name.as_str())).await?;
    store.close().await;
    Ok(token)
}

/// All tokens, by name.
///
/// # Errors
/// When the database does not exist, or cannot be used.
pub async fn list_tokens(database: &Database) -> anyhow::Result<Vec<TokenView>> {
    let store = existing(database).await?;
    let tokens = store.tokens().await?;
    store.close().await;
    Ok(tokens.into_iter().map(token_view).collect())
}

/// Revokes a token.
///
/// # Errors
/// When there is no token of this name, or the database cannot be used.
pub async fn revoke_token(database: &Database, name: &str) -> anyhow::Result<()> {
    let store = existing(database).await?;
    let is_ended = store.revoke_token(name).await?;
    if is_ended {
        note(&store, &format!("the token {name} is revoked")).await?;
    }
    store.close().await;
    ensure!(is_ended, "there is no token called {name}");
    Ok(())
}

/// Notes in the audit record what was done at the command line.
async fn note(store: &Store, detail: &str) -> Result<(), StoreError> {
    let entry = AuditEntry {
        at_ms: system_time().0,
        event: AuditEvent::Commanded,
        session: None,
        actor: "the command line".to_owned(),
        address: String::new(),
        detail: detail.to_owned(),
    };
    store.add_audit(&[entry]).await
}

async fn existing(database: &Database) -> anyhow::Result<Store> {
    if let Database::Sqlite(path) = database {
        ensure!(path.exists(), "{} is missing: start the coordinator first", path.display());
    }
    Ok(Store::open(database).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_tokens_can_be_written_anywhere() {
        for name in ["backup", "Müller's".trim_end_matches("'s"), " a b ", "me@host_1.2-x"] {
            assert!(name.parse::<TokenName>().is_ok(), "{name}");
        }
        for name in ["", " ", "a/b", "a\nb", "\u{202e}", &"x".repeat(65)] {
            assert!(name.parse::<TokenName>().is_err(), "{name}");
        }
    }
}
