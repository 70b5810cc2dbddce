//! The audit record: entries are added and deleted, never changed.

/// Generates the operations of one engine, given its pools for reading and writing and the prefix of its tables. Both
/// databases use the same statements.
macro_rules! audit {
    ($engine:ty, $row:ty, $read:ident, $write:ident, $schema:literal) => {
        impl $engine {
            pub(crate) async fn add_audit(&self, entries: &[AuditEntry]) -> Stored<()> {
                let mut tx = self.$write.begin().await?;
                for entry in entries {
                    let added = sqlx::query(concat!(
                        "INSERT INTO ",
                        $schema,
                        "audit (at_ms, event, session, actor, address, detail) VALUES ($1, $2, $3, $4, $5, $6)"
                    ));
                    let added = added.bind(signed(entry.at_ms)).bind(entry.event.name()).bind(entry.session);
                    let added = added.bind(&*entry.actor).bind(&*entry.address).bind(&*entry.detail);
                    added.execute(&mut *tx).await?;
                }
                Ok(tx.commit().await?)
            }

            pub(crate) async fn audit(&self, before: Option<i64>, limit: u32) -> Stored<Vec<(i64, AuditEntry)>> {
                let query = sqlx::query(concat!(
                    "SELECT id, at_ms, event, session, actor, address, detail FROM ",
                    $schema,
                    "audit WHERE id < $1 ORDER BY id DESC LIMIT $2"
                ));
                let rows = query.bind(before.unwrap_or(i64::MAX)).bind(i64::from(limit)).fetch_all(&self.$read).await?;
                let read = |row: &$row| -> sqlx::Result<(i64, AuditEntry)> {
                    let event = row.try_get::<&str, _>("event")?.parse();
                    let entry = AuditEntry {
                        at_ms: unsigned(row.try_get("at_ms")?),
                        event: event.map_err(|error| sqlx::Error::Decode(Box::new(error)))?,
                        session: row.try_get("session")?,
                        actor: row.try_get("actor")?,
                        address: row.try_get("address")?,
                        detail: row.try_get("detail")?,
                    };
                    Ok((row.try_get("id")?, entry))
                };
                Ok(rows.iter().map(read).collect::<sqlx::Result<_>>()?)
            }

            pub(crate) async fn prune_audit(&self, oldest: Timestamp, most: u64) -> Stored<()> {
                let old = concat!("DELETE FROM ", $schema, "audit WHERE at_ms < $1");
                sqlx::query(old).bind(millis(oldest)).execute(&self.$write).await?;
                // Numbers have gaps only where a transaction was rolled back, so this keeps nearly the maximum.
                let excess = concat!(
                    "DELETE FROM ",
                    $schema,
                    "audit WHERE id <= (SELECT COALESCE(MAX(id), 0) FROM ",
                    $schema,
                    "audit) - $1"
                );
                sqlx::query(excess).bind(signed(most)).execute(&self.$write).await?;
                Ok(())
            }
        }
    };
}

pub(crate) use audit;
