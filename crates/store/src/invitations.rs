//! Invitations, by which workers join, and the keys of workers that have joined.

use chaarfm_coordinator::Timestamp;
use chaarfm_domain::{InvitationId, InvitationLimits, PairingCode, SessionId};

use crate::common::unsigned;

/// Days for which the code of an invitation is valid by default.
pub const INVITATION_DAYS: u32 = 7;

/// Maximum number of invitations of a session, including expired and revoked ones.
pub(crate) const MAX_INVITATIONS: i64 = 100;

/// Maximum number of workers that may ever join by one invitation, whatever its own limits: each leaves a row behind.
pub(crate) const MAX_USES: i64 = 100_000;

/// Name of a session's first invitation.
pub(crate) const FIRST_NAME: &str = "first";

/// A stored invitation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invitation {
    /// Its number.
    pub id: InvitationId,
    /// The session that it admits to.
    pub session: SessionId,
    /// Its code.
    pub code: PairingCode,
    /// The name given by its owner.
    pub name: String,
    /// When it was created.
    pub created: Timestamp,
    /// When it stops admitting new workers.
    pub expires: Timestamp,
    /// It admits no worker any more, known or new.
    pub is_revoked: bool,
    /// Its limits.
    pub limits: InvitationLimits,
    /// Workers that have joined by it, each counted once.
    pub uses: u64,
    /// Bytes of audio that its workers have been given.
    pub bytes: u64,
}

impl Invitation {
    /// Whether it admits a new worker.
    pub fn is_open(&self, now: Timestamp) -> bool {
        let max_uses = self.limits.max_uses.unwrap_or(u64::MAX).min(unsigned(MAX_USES));
        !self.is_revoked && now < self.expires && self.uses < max_uses
    }

    /// Bytes of audio that its workers may still be given: 0 once it is revoked, `None` without a limit.
    pub(crate) fn allowance(&self) -> Option<u64> {
        let max_bytes = if self.is_revoked { Some(0) } else { self.limits.max_bytes };
        max_bytes.map(|max_bytes| max_bytes.saturating_sub(self.bytes))
    }
}

/// An invitation to create.
#[derive(Debug, Clone, Copy)]
pub struct FreshInvitation<'a> {
    /// The session that it admits to.
    pub session: SessionId,
    /// Its code.
    pub code: PairingCode,
    /// The name given by its owner.
    pub name: &'a str,
    /// Its limits.
    pub limits: InvitationLimits,
    /// The current time.
    pub now: Timestamp,
    /// When it stops admitting new workers.
    pub expires: Timestamp,
}

/// A worker admitted by its code or its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invited {
    /// The invitation that admits it.
    pub invitation: Invitation,
    /// Code of the session.
    pub session: PairingCode,
    /// Whether its key admits it, rather than the code.
    pub is_known: bool,
    /// If it has been set aside: whether it has lied.
    pub set_aside: Option<bool>,
}

/// Origin of a worker.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    /// The invitation by which it joined.
    pub invitation: InvitationId,
    /// Its network address; empty if unknown.
    pub address: String,
}

/// Generates the operations of one engine, given its pools for reading and writing and the prefix of its tables. Both
/// databases use the same statements.
macro_rules! invitations {
    ($engine:ty, $row:ty, $connection:ty, $read:ident, $write:ident, $schema:literal) => {
        impl $engine {
            pub(crate) async fn invited(&self, code: &str, key: &str, now: Timestamp) -> Stored<Option<Invited>> {
                let known: Option<$row> = sqlx::query(concat!(
                    "SELECT i.*, s.code AS session_code, k.has_lied FROM ",
                    $schema,
                    "worker_keys k JOIN ",
                    $schema,
                    "invitations i ON i.id = k.invitation JOIN ",
                    $schema,
                    "sessions s ON s.id = i.session WHERE k.hash = $1 AND i.revoked_ms IS NULL AND NOT s.ended"
                ))
                .bind(key)
                .fetch_optional(&self.$read)
                .await?;
                // Queried in any case, so that timing does not reveal whether the key exists.
                let new: Option<$row> = sqlx::query(concat!(
                    "SELECT i.*, s.code AS session_code, CAST(NULL AS BOOLEAN) AS has_lied FROM ",
                    $schema,
                    "invitations i JOIN ",
                    $schema,
                    "sessions s ON s.id = i.session WHERE i.code = $1 AND NOT s.ended"
                ))
                .bind(code)
                .fetch_optional(&self.$read)
                .await?;
                let read = |row: &$row, is_known| {
                    let session = row.try_get::<String, _>("session_code")?.parse();
                    let session = session.map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
                    let (invitation, set_aside) = (sqlx::FromRow::from_row(row)?, row.try_get("has_lied")?);
                    Ok::<_, sqlx::Error>(Invited { invitation, session, is_known, set_aside })
                };
                if let Some(row) = &known {
                    return Ok(Some(read(row, true)?));
                }
                let new = new.as_ref().map(|row| read(row, false)).transpose()?;
                Ok(new.filter(|new| new.invitation.is_open(now)))
            }

            pub(crate) async fn use_invitation(
                &self,
                id: InvitationId,
                key: &str,
                address: &str,
                now: Timestamp,
            ) -> Stored<bool> {
                let mut tx = Jobs::begin(self).await?;
                // Two connections of one key may join at once.
                let there = sqlx::query(concat!(
                    "SELECT 1 FROM ",
                    $schema,
                    "worker_keys k JOIN ",
                    $schema,
                    "invitations i ON i.id = k.invitation WHERE k.hash = $1 AND i.id = $2 AND i.revoked_ms IS NULL"
                ));
                if there.bind(key).bind(id).fetch_optional(&mut *tx).await?.is_some() {
                    return Ok(true);
                }
                let used = sqlx::query(concat!(
                    "UPDATE ",
                    $schema,
                    "invitations SET uses = uses + 1 WHERE id = $1 AND revoked_ms IS NULL AND expires_ms > $2 ",
                    "AND uses < $3 AND (max_uses IS NULL OR uses < max_uses)"
                ));
                let used = used.bind(id).bind(millis(now)).bind(MAX_USES).execute(&mut *tx).await?;
                if used.rows_affected() == 0 {
                    return Ok(false);
                }
                let noted = sqlx::query(concat!(
                    "INSERT INTO ",
                    $schema,
                    "worker_keys (hash, invitation, created_ms, address) VALUES ($1, $2, $3, $4) ON CONFLICT (hash) ",
                    "DO UPDATE SET invitation = excluded.invitation, address = excluded.address"
                ));
                noted.bind(key).bind(id).bind(millis(now)).bind(address).execute(&mut *tx).await?;
                tx.commit().await?;
                Ok(true)
            }

            pub(crate) async fn invitations(&self, session: SessionId) -> Stored<Vec<Invitation>> {
                let query = concat!("SELECT * FROM ", $schema, "invitations WHERE session = $1 ORDER BY id");
                Ok(sqlx::query_as(query).bind(session.0).fetch_all(&self.$read).await?)
            }

            pub(crate) async fn add_invitation(&self, fresh: FreshInvitation<'_>) -> Stored<Option<Invitation>> {
                let mut tx = Jobs::begin(self).await?;
                let there = concat!("SELECT COUNT(*) FROM ", $schema, "invitations WHERE session = $1");
                let there: i64 = sqlx::query_scalar(there).bind(fresh.session.0).fetch_one(&mut *tx).await?;
                if there >= MAX_INVITATIONS {
                    return Ok(None);
                }
                let added = Self::invite(&mut tx, fresh).await?;
                tx.commit().await?;
                Ok(Some(added))
            }

            /// Adds an invitation.
            pub(super) async fn invite(tx: &mut $connection, fresh: FreshInvitation<'_>) -> sqlx::Result<Invitation> {
                let added = sqlx::query_as(concat!(
                    "INSERT INTO ",
                    $schema,
                    "invitations (session, code, name, created_ms, expires_ms, max_workers, max_uses, max_bytes) ",
                    "VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING *"
                ));
                let InvitationLimits { max_workers, max_uses, max_bytes } = fresh.limits;
                let added = added.bind(fresh.session.0).bind(fresh.code.to_string()).bind(fresh.name);
                let added = added.bind(millis(fresh.now)).bind(millis(fresh.expires));
                let added = added.bind(max_workers.map(signed)).bind(max_uses.map(signed)).bind(max_bytes.map(signed));
                added.fetch_one(tx).await
            }

            pub(crate) async fn rotate_invitation(
                &self,
                session: SessionId,
                id: InvitationId,
                code: PairingCode,
                expires: Timestamp,
            ) -> Stored<bool> {
                let rotated = sqlx::query(concat!(
                    "UPDATE ",
                    $schema,
                    "invitations SET code = $1, expires_ms = $2 WHERE session = $3 AND id = $4 AND revoked_ms IS NULL"
                ));
                let rotated = rotated.bind(code.to_string()).bind(millis(expires)).bind(session.0).bind(id);
                Ok(rotated.execute(&self.$write).await?.rows_affected() > 0)
            }

            pub(crate) async fn revoke_invitation(
                &self,
                session: SessionId,
                id: InvitationId,
                now: Timestamp,
            ) -> Stored<bool> {
                let revoked = sqlx::query(concat!(
                    "UPDATE ",
                    $schema,
                    "invitations SET revoked_ms = $1 WHERE session = $2 AND id = $3 AND revoked_ms IS NULL"
                ));
                let revoked = revoked.bind(millis(now)).bind(session.0).bind(id);
                Ok(revoked.execute(&self.$write).await?.rows_affected() > 0)
            }

            pub(crate) async fn origin(&self, key: &str) -> Stored<Option<Origin>> {
                let query = concat!("SELECT invitation, address FROM ", $schema, "worker_keys WHERE hash = $1");
                let origin: Option<(i64, String)> = sqlx::query_as(query).bind(key).fetch_optional(&self.$read).await?;
                Ok(origin.map(|(invitation, address)| Origin { invitation, address }))
            }

            pub(crate) async fn set_key_aside(&self, key: &str, has_lied: bool) -> Stored<()> {
                let set_aside = sqlx::query(concat!(
                    "UPDATE ",
                    $schema,
                    "worker_keys SET has_lied = COALESCE(has_lied, FALSE) OR $1 WHERE hash = $2"
                ));
                set_aside.bind(has_lied).bind(key).execute(&self.$write).await?;
                Ok(())
            }

            pub(crate) async fn keys_set_aside(&self, session: SessionId) -> Stored<BTreeMap<String, bool>> {
                let query = sqlx::query_as(concat!(
                    "SELECT k.hash, k.has_lied FROM ",
                    $schema,
                    "invitations i JOIN ",
                    $schema,
                    "worker_keys k ON k.invitation = i.id WHERE i.session = $1 AND k.has_lied IS NOT NULL"
                ));
                let keys: Vec<(String, bool)> = query.bind(session.0).fetch_all(&self.$read).await?;
                Ok(keys.into_iter().collect())
            }

            /// Bytes of audio that the workers of an invitation may still be given; none without a limit.
            pub(super) async fn allowance(tx: &mut $connection, id: InvitationId) -> sqlx::Result<Option<u64>> {
                let query = concat!("SELECT * FROM ", $schema, "invitations WHERE id = $1");
                let invitation: Option<Invitation> = sqlx::query_as(query).bind(id).fetch_optional(tx).await?;
                Ok(invitation.and_then(|found| found.allowance()))
            }

            /// Counts bytes of audio given to the workers of an invitation.
            pub(super) async fn count_bytes(tx: &mut $connection, id: InvitationId, bytes: u64) -> sqlx::Result<()> {
                let query = concat!("UPDATE ", $schema, "invitations SET bytes = bytes + $1 WHERE id = $2");
                sqlx::query(query).bind(signed(bytes)).bind(id).execute(tx).await?;
                Ok(())
            }

            /// Deletes the invitations of a session, and the keys of the workers that joined by them.
            pub(super) async fn forget_invitations(tx: &mut $connection, session: SessionId) -> sqlx::Result<()> {
                let keys = concat!(
                    "DELETE FROM ",
                    $schema,
                    "worker_keys WHERE invitation IN (SELECT id FROM ",
                    $schema,
                    "invitations WHERE session = $1)"
                );
                sqlx::query(keys).bind(session.0).execute(&mut *tx).await?;
                let invitations = concat!("DELETE FROM ", $schema, "invitations WHERE session = $1");
                sqlx::query(invitations).bind(session.0).execute(tx).await?;
                Ok(())
            }
        }

        impl sqlx::FromRow<'_, $row> for Invitation {
            fn from_row(row: &$row) -> sqlx::Result<Self> {
                let number = |column: &str| row.try_get::<i64, _>(column).map(unsigned);
                let bound = |column: &str| row.try_get::<Option<i64>, _>(column).map(|bound| bound.map(unsigned));
                let code = row.try_get::<&str, _>("code")?.parse();
                Ok(Self {
                    id: row.try_get("id")?,
                    session: SessionId(row.try_get("session")?),
                    code: code.map_err(|error| sqlx::Error::Decode(Box::new(error)))?,
                    name: row.try_get("name")?,
                    created: Timestamp(number("created_ms")?),
                    expires: Timestamp(number("expires_ms")?),
                    is_revoked: row.try_get::<Option<i64>, _>("revoked_ms")?.is_some(),
                    limits: InvitationLimits {
                        max_workers: bound("max_workers")?,
                        max_uses: bound("max_uses")?,
                        max_bytes: bound("max_bytes")?,
                    },
                    uses: number("uses")?,
                    bytes: number("bytes")?,
                })
            }
        }
    };
}

pub(crate) use invitations;
