//! Scans. There is no second process, so a scan of another owner was left by a dead process.

use chaarfm_coordinator::Timestamp;
use chaarfm_domain::{Found, LeftOutFiles, SessionId};
use sqlx::SqliteConnection;

use super::Sqlite;
use crate::{
    changes::{Jobs, Work},
    common::{millis, signed},
    error::Stored,
    rows::{left_out_json, scan_deadline},
    scans::{Enqueued, NoScan, Scan, ScanOrder},
};

impl Sqlite {
    pub(crate) async fn begin_scan(
        &self,
        id: SessionId,
        order: ScanOrder<'_>,
        now: Timestamp,
    ) -> Stored<Result<Scan, NoScan>> {
        let mut tx = self.begin().await?;
        let begun = sqlx::query_as(
            "UPDATE sessions SET scanning = ?, collection = ?, model = ?, scan = scan + 1, skipped = 0, alike = 0,
                left_out = '[]', paused = 0, scan_owner = ?, scan_deadline_ms = ?, every_file = ?
            WHERE id = ? AND scanning IS NULL AND ended = 0
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
            let ended = sqlx::query_scalar("SELECT ended FROM sessions WHERE id = ?").bind(id.0);
            let ended: Option<bool> = ended.fetch_optional(&mut *tx).await?;
            return Ok(Err(if ended == Some(false) { NoScan::AlreadyScanning } else { NoScan::SessionEnded }));
        };
        tx.commit().await?;
        Ok(Ok(scan))
    }

    pub(crate) async fn abandoned_scans(&self, now: Timestamp) -> Stored<Vec<Scan>> {
        let query = sqlx::query_as(
            "SELECT id, code, scanning, collection, model, scan, every_file FROM sessions
            WHERE scanning IS NOT NULL AND ended = 0 AND (scan_owner IS NOT ? OR scan_deadline_ms <= ?)",
        );
        Ok(query.bind(&self.owner).bind(millis(now)).fetch_all(&self.reader).await?)
    }

    pub(crate) async fn take_over_scan(&self, scan: &Scan, now: Timestamp) -> Stored<bool> {
        let query = sqlx::query(
            "UPDATE sessions SET skipped = 0, alike = 0, scan_owner = ?1, scan_deadline_ms = ?2
            WHERE id = ?3 AND scan = ?4 AND scanning IS NOT NULL AND ended = 0
                AND (scan_owner IS NOT ?1 OR scan_deadline_ms <= ?5)",
        );
        let query = query.bind(&self.owner).bind(scan_deadline(now)).bind(scan.session.0).bind(scan.number);
        let query = query.bind(millis(now));
        Ok(query.execute(&self.writer).await?.rows_affected() > 0)
    }

    pub(crate) async fn renew_scan(&self, scan: &Scan, now: Timestamp) -> Stored<bool> {
        Ok(self.renew(&mut *self.writer.acquire().await?, scan, now).await?)
    }

    async fn renew(&self, connection: &mut SqliteConnection, scan: &Scan, now: Timestamp) -> sqlx::Result<bool> {
        let query = sqlx::query(
            "UPDATE sessions SET scan_deadline_ms = ?
            WHERE id = ? AND scan = ? AND scanning IS NOT NULL AND scan_owner = ?",
        );
        let query = query.bind(scan_deadline(now)).bind(scan.session.0).bind(scan.number).bind(&self.owner);
        Ok(query.execute(connection).await?.rows_affected() > 0)
    }

    pub(crate) async fn abandon_scan(&self, scan: &Scan) -> Stored<()> {
        let query = sqlx::query("UPDATE sessions SET scan_owner = NULL WHERE id = ? AND scan = ? AND scan_owner = ?");
        query.bind(scan.session.0).bind(scan.number).bind(&self.owner).execute(&self.writer).await?;
        Ok(())
    }

    pub(crate) async fn finish_scan(&self, scan: &Scan, left_out: &[LeftOutFiles]) -> Stored<()> {
        let query = sqlx::query(
            "UPDATE sessions SET scanning = NULL, left_out = ? WHERE id = ? AND scan = ? AND scan_owner = ?",
        );
        let query = query.bind(left_out_json(left_out)).bind(scan.session.0).bind(scan.number);
        query.bind(&self.owner).execute(&self.writer).await?;
        Ok(())
    }

    pub(crate) async fn enqueue(&self, scan: &Scan, files: &[Found], now: Timestamp) -> Stored<Option<Enqueued>> {
        let mut tx = self.begin().await?;
        if !self.renew(&mut tx, scan, now).await? {
            return Ok(None);
        }
        let mut sum = Enqueued::default();
        for file in files {
            sum.count(tx.enqueue(scan, file, now).await?);
        }
        let skipped = sqlx::query("UPDATE sessions SET skipped = skipped + ?, alike = alike + ? WHERE id = ?");
        let skipped = skipped.bind(signed(sum.skipped)).bind(signed(sum.alike)).bind(scan.session.0);
        skipped.execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(Some(sum))
    }
}
