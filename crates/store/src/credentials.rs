//! Credentials, which let people and programs in. Only the hash of each secret is stored; secrets are checked elsewhere.

use chaarfm_coordinator::Timestamp;
use chaarfm_domain::Role;

/// The kinds of credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CredentialKind {
    /// An address that lets one browser in.
    Link,
    /// The cookie of a browser that was let in.
    Browser,
    /// The token of a program, or of a person using one.
    Token,
}

impl CredentialKind {
    pub(crate) const ALL: [Self; 3] = [Self::Link, Self::Browser, Self::Token];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Link => "link",
            Self::Browser => "browser",
            Self::Token => "token",
        }
    }
}

/// A stored credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// Its number.
    pub id: i64,
    /// Its kind.
    pub kind: CredentialKind,
    /// The role that it grants.
    pub role: Role,
    /// Name of a token; empty for other kinds.
    pub name: String,
    /// BLAKE3 of the secret, in lower-case hexadecimal.
    pub hash: String,
    /// When it was created.
    pub created: Timestamp,
}

/// A credential to add.
#[derive(Debug, Clone, Copy)]
pub struct NewCredential<'a> {
    /// Its kind.
    pub kind: CredentialKind,
    /// The role that it grants.
    pub role: Role,
    /// Name of a token; empty for other kinds.
    pub name: &'a str,
    /// BLAKE3 of the secret, in lower-case hexadecimal.
    pub hash: &'a str,
    /// The current time.
    pub now: Timestamp,
    /// When it becomes invalid.
    pub expires: Option<Timestamp>,
}

/// Generates the operations of one engine, given its pools for reading and writing and the prefix of its tables. Both
/// databases use the same statements.
macro_rules! credentials {
    ($engine:ty, $row:ty, $read:ident, $write:ident, $schema:literal) => {
        impl $engine {
            pub(crate) async fn add_credential(&self, fresh: NewCredential<'_>) -> Stored<Option<i64>> {
                let expired = sqlx::query(concat!("DELETE FROM ", $schema, "credentials WHERE expires_ms <= $1"));
                expired.bind(millis(fresh.now)).execute(&self.$write).await?;
                let added = sqlx::query_scalar(concat!(
                    "INSERT INTO ",
                    $schema,
                    "credentials (kind, role, name, hash, created_ms, expires_ms) ",
                    "VALUES ($1, $2, $3, $4, $5, $6) RETURNING id"
                ));
                let added = added.bind(fresh.kind.name()).bind(fresh.role.name()).bind(fresh.name).bind(fresh.hash);
                let added = added.bind(millis(fresh.now)).bind(fresh.expires.map(millis));
                match added.fetch_one(&self.$write).await {
                    Ok(id) => Ok(Some(id)),
                    Err(error) if is_taken(&error) => Ok(None),
                    Err(error) => Err(error.into()),
                }
            }

            pub(crate) async fn credential(&self, id: i64, now: Timestamp) -> Stored<Option<Credential>> {
                let query = sqlx::query_as(concat!(
                    "SELECT id, kind, role, name, hash, created_ms FROM ",
                    $schema,
                    "credentials ",
                    "WHERE id = $1 AND (expires_ms IS NULL OR expires_ms > $2)"
                ));
                Ok(query.bind(id).bind(millis(now)).fetch_optional(&self.$read).await?)
            }

            pub(crate) async fn use_link(&self, link: i64, browser: NewCredential<'_>) -> Stored<bool> {
                let used = sqlx::query(concat!(
                    "UPDATE ",
                    $schema,
                    "credentials SET kind = $1, role = $2, name = $3, hash = $4, created_ms = $5, ",
                    "expires_ms = $6 WHERE id = $7 AND kind = 'link' AND expires_ms > $5"
                ));
                let used = used.bind(browser.kind.name()).bind(browser.role.name()).bind(browser.name);
                let used = used.bind(browser.hash).bind(millis(browser.now)).bind(browser.expires.map(millis));
                Ok(used.bind(link).execute(&self.$write).await?.rows_affected() > 0)
            }

            pub(crate) async fn end_browsers(&self) -> Stored<u64> {
                let ended =
                    sqlx::query(concat!("DELETE FROM ", $schema, "credentials WHERE kind IN ('link', 'browser')"));
                Ok(ended.execute(&self.$write).await?.rows_affected())
            }

            pub(crate) async fn has_browsers(&self, now: Timestamp) -> Stored<bool> {
                let query = sqlx::query_scalar(concat!(
                    "SELECT EXISTS (SELECT 1 FROM ",
                    $schema,
                    "credentials WHERE kind = 'browser' AND expires_ms > $1)"
                ));
                Ok(query.bind(millis(now)).fetch_one(&self.$read).await?)
            }

            pub(crate) async fn tokens(&self) -> Stored<Vec<Credential>> {
                let query = sqlx::query_as(concat!(
                    "SELECT id, kind, role, name, hash, created_ms FROM ",
                    $schema,
                    "credentials ",
                    "WHERE kind = 'token' ORDER BY name"
                ));
                Ok(query.fetch_all(&self.$read).await?)
            }

            pub(crate) async fn revoke_token(&self, name: &str) -> Stored<bool> {
                let revoked =
                    sqlx::query(concat!("DELETE FROM ", $schema, "credentials WHERE kind = 'token' AND name = $1"));
                Ok(revoked.bind(name).execute(&self.$write).await?.rows_affected() > 0)
            }
        }

        impl sqlx::FromRow<'_, $row> for Credential {
            fn from_row(row: &$row) -> sqlx::Result<Self> {
                let kind: String = row.try_get("kind")?;
                let kind = CredentialKind::ALL.into_iter().find(|known| known.name() == kind);
                Ok(Self {
                    id: row.try_get("id")?,
                    kind: kind.ok_or_else(|| sqlx::Error::Decode("a credential of no known kind".into()))?,
                    role: row
                        .try_get::<String, _>("role")?
                        .parse()
                        .map_err(|error| sqlx::Error::Decode(Box::new(error)))?,
                    name: row.try_get("name")?,
                    hash: row.try_get("hash")?,
                    created: Timestamp(unsigned(row.try_get("created_ms")?)),
                })
            }
        }
    };
}

pub(crate) use credentials;
