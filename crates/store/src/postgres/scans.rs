//! Scans.

use chaarfm_coordinator::Timestamp;
use chaarfm_domain::{Found, LeftOutFiles, SessionId};
use sqlx::PgConnection;

use super::{EMBEDDING_LENGTH, Postgres, undisturbed, views::publish};
use crate::{
    changes::Work,
    common::{millis, signed},
    error::{StoreError, Stored},
    models::model_spec,
    rows::{left_out_json, scan_deadline},
    scans::{Enqueued, NoScan, Scan, ScanOrder},
};

impl Postgres {
    pub(crate) async fn begin_scan(
        &self,
        id: SessionId,
        order: ScanOrder<'_>,
        now: Timestamp,
    ) -> Stored<Result<Scan, NoScan>> {
        expect_length(order.model)?;
        let mut tx = self.pool.begin().await?;
        publish(&mut tx, order.collection).await?;
        let begun = sqlx::query_as(
            "UPDATE chaarfm.sessions SET scanning = $1, collection = $2, model = $3, scan = scan + 1, skipped = 0,
                alike = 0, left_out = '[]', paused = FALSE, scan_owner = $4, scan_deadline_ms = $5, every_file = $6
            WHERE id = $7 AND scanning IS NULL AND NOT ended
            RETURNING id, code, scanning, collection, model, scan, every_file",
        );
        let begun = begun
            .bind(order.library)
            .bind(order.collection)
            .bind(order.model)
            .bind(&self.owner)
            .bind(scan_deadline(now));
        let begun = begun.bind(order.every_file).bind(id.0);
        let Some(scan) = begun.fetch_optional(&mut *tx).await? else {
            let ended = sqlx::query_scalar("SELECT ended FROM chaarfm.sessions WHERE id = $1").bind(id.0);
            let ended: Option<bool> = ended.fetch_optional(&mut *tx).await?;
            return Ok(Err(if ended == Some(false) { NoScan::AlreadyScanning } else { NoScan::SessionEnded }));
        };
        tx.commit().await?;
        Ok(Ok(scan))
    }

    pub(crate) async fn abandoned_scans(&self, now: Timestamp) -> Stored<Vec<Scan>> {
        let query = sqlx::query_as(
            "SELECT id, code, scanning, collection, model, scan, every_file FROM chaarfm.sessions
            WHERE scanning IS NOT NULL AND NOT ended AND scan_deadline_ms <= $1",
        );
        Ok(query.bind(millis(now)).fetch_all(&self.pool).await?)
    }

    pub(crate) async fn take_over_scan(&self, scan: &Scan, now: Timestamp) -> Stored<bool> {
        let query = sqlx::query(
            "UPDATE chaarfm.sessions SET skipped = 0, alike = 0, scan_owner = $1, scan_deadline_ms = $2
            WHERE id = $3 AND scan = $4 AND scanning IS NOT NULL AND NOT ended AND scan_deadline_ms <= $5",
        );
        let query = query.bind(&self.owner).bind(scan_deadline(now)).bind(scan.session.0).bind(scan.number);
        let query = query.bind(millis(now));
        Ok(query.execute(&self.pool).await?.rows_affected() > 0)
    }

    pub(crate) async fn renew_scan(&self, scan: &Scan, now: Timestamp) -> Stored<bool> {
        Ok(self.renew(&mut *self.pool.acquire().await?, scan, now).await?)
    }

    async fn renew(&self, connection: &mut PgConnection, scan: &Scan, now: Timestamp) -> sqlx::Result<bool> {
        let query = sqlx::query(
            "UPDATE chaarfm.sessions SET scan_deadline_ms = $1
            WHERE id = $2 AND scan = $3 AND scanning IS NOT NULL AND scan_owner = $4",
        );
        let query = query.bind(scan_deadline(now)).bind(scan.session.0).bind(scan.number).bind(&self.owner);
        Ok(query.execute(connection).await?.rows_affected() > 0)
    }

    pub(crate) async fn abandon_scan(&self, scan: &Scan) -> Stored<()> {
        let query = sqlx::query(
            "UPDATE chaarfm.sessions SET scan_owner = NULL, scan_deadline_ms = 0
            WHERE id = $1 AND scan = $2 AND scan_owner = $3",
        );
        query.bind(scan.session.0).bind(scan.number).bind(&self.owner).execute(&self.pool).await?;
        Ok(())
    }

    pub(crate) async fn finish_scan(&self, scan: &Scan, left_out: &[LeftOutFiles]) -> Stored<()> {
        let query = sqlx::query(
            "UPDATE chaarfm.sessions SET scanning = NULL, left_out = $1 WHERE id = $2 AND scan = $3 AND scan_owner = $4",
        );
        let query = query.bind(left_out_json(left_out)).bind(scan.session.0).bind(scan.number);
        query.bind(&self.owner).execute(&self.pool).await?;
        Ok(())
    }

    pub(crate) async fn enqueue(&self, scan: &Scan, files: &[Found], now: Timestamp) -> Stored<Option<Enqueued>> {
        undisturbed(|| self.try_enqueue(scan, files, now)).await
    }

    async fn try_enqueue(&self, scan: &Scan, files: &[Found], now: Timestamp) -> Stored<Option<Enqueued>> {
        let mut tx = self.begin_by_index().await?;
        // One scan of a collection at a time: two scans that find the same tracks in different orders would deadlock
        // repeatedly.
        let turn = sqlx::query("SELECT 1 FROM chaarfm.collections WHERE name = $1 FOR UPDATE").bind(&scan.collection);
        turn.execute(&mut *tx).await?;
        if !self.renew(&mut tx, scan, now).await? {
            return Ok(None);
        }
        let mut sum = Enqueued::default();
        for file in files {
            sum.count(tx.enqueue(scan, file, now).await?);
        }
        let skipped =
            sqlx::query("UPDATE chaarfm.sessions SET skipped = skipped + $1, alike = alike + $2 WHERE id = $3");
        let skipped = skipped.bind(signed(sum.skipped)).bind(signed(sum.alike)).bind(scan.session.0);
        skipped.execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(Some(sum))
    }
}

/// Rejects a model whose embeddings have another length: it would need a table of its own.
fn expect_length(model: &str) -> Stored<()> {
    match model_spec(model) {
        Some(spec) if spec.embedding_length != EMBEDDING_LENGTH => Err(StoreError::VectorLength {
            model: spec.name,
            expected: EMBEDDING_LENGTH,
            actual: spec.embedding_length,
        }),
        _ => Ok(()),
    }
}
