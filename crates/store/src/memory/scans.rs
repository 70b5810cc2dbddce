//! Scans.

use chaarfm_coordinator::Timestamp;
use chaarfm_domain::{Found, LeftOutFiles, SessionId};

use super::{
    Memory,
    rows::{Rows, Session},
};
use crate::{
    changes::{Jobs, Work},
    error::Stored,
    scans::{Enqueued, NoScan, SCAN_TTL_SECONDS, Scan, ScanOrder},
};

impl Memory {
    pub(crate) async fn begin_scan(
        &self,
        id: SessionId,
        order: ScanOrder<'_>,
        now: Timestamp,
    ) -> Stored<Result<Scan, NoScan>> {
        let begin = |rows: &mut Rows| {
            let session = rows.change_session(id).filter(|session| !session.row.flags.ended);
            let session = session.ok_or(NoScan::SessionEnded)?;
            if session.row.flags.scanning {
                return Err(NoScan::AlreadyScanning);
            }
            let row = &mut session.row;
            (row.flags.scanning, row.flags.paused) = (true, false);
            (row.counts.skipped, row.counts.alike, row.left_out) = (0, 0, Vec::new());
            order.collection.clone_into(&mut row.collection);
            order.model.clone_into(&mut row.model);
            session.scan = Scan {
                library: order.library.to_owned(),
                collection: order.collection.to_owned(),
                model: order.model.to_owned(),
                number: session.scan.number + 1,
                every_file: order.every_file,
                ..session.scan
            };
            session.scan_owner = Some(self.owner.clone());
            session.scan_deadline = now.plus_seconds(SCAN_TTL_SECONDS);
            Ok(session.scan.clone())
        };
        Ok(self.write(begin).await)
    }

    /// With only one process, a scan of another owner was left by a dead process.
    fn is_abandoned(&self, session: &Session, now: Timestamp) -> bool {
        let is_of_the_past = !self.is_shared && session.scan_owner.as_ref() != Some(&self.owner);
        session.row.flags.scanning && (is_of_the_past || session.scan_deadline <= now)
    }

    pub(crate) async fn abandoned_scans(&self, now: Timestamp) -> Stored<Vec<Scan>> {
        let rows = self.read().await;
        let abandoned = rows.sessions.values().filter(|session| self.is_abandoned(session, now));
        Ok(abandoned.map(|session| session.scan.clone()).collect())
    }

    pub(crate) async fn take_over_scan(&self, scan: &Scan, now: Timestamp) -> Stored<bool> {
        let take_over = |rows: &mut Rows| {
            let Some(session) = rows.change_session(scan.session) else { return false };
            if session.scan.number != scan.number || !self.is_abandoned(session, now) {
                return false;
            }
            (session.row.counts.skipped, session.row.counts.alike) = (0, 0);
            session.scan_owner = Some(self.owner.clone());
            session.scan_deadline = now.plus_seconds(SCAN_TTL_SECONDS);
            true
        };
        Ok(self.write(take_over).await)
    }

    pub(crate) async fn renew_scan(&self, scan: &Scan, now: Timestamp) -> Stored<bool> {
        Ok(self.write(|rows| rows.renew_scan(scan, &self.owner, now)).await)
    }

    pub(crate) async fn abandon_scan(&self, scan: &Scan) -> Stored<()> {
        let abandon = |rows: &mut Rows| {
            if let Some(session) = rows.scanning(scan, &self.owner) {
                (session.scan_owner, session.scan_deadline) = (None, Timestamp::ZERO);
            }
        };
        self.write(abandon).await;
        Ok(())
    }

    pub(crate) async fn finish_scan(&self, scan: &Scan, left_out: &[LeftOutFiles]) -> Stored<()> {
        let finish = |rows: &mut Rows| {
            if let Some(session) = rows.scanning(scan, &self.owner) {
                session.row.flags.scanning = false;
                session.row.left_out = left_out.to_vec();
            }
        };
        self.write(finish).await;
        Ok(())
    }

    pub(crate) async fn enqueue(&self, scan: &Scan, files: &[Found], now: Timestamp) -> Stored<Option<Enqueued>> {
        let mut tx = self.begin().await?;
        if !tx.rows.renew_scan(scan, &self.owner, now) {
            return Ok(None);
        }
        let mut sum = Enqueued::default();
        for file in files {
            sum.count(tx.enqueue(scan, file, now).await?);
        }
        if let Some(session) = tx.rows.change_session(scan.session) {
            session.row.counts.skipped += sum.skipped;
            session.row.counts.alike += sum.alike;
        }
        tx.commit().await?;
        Ok(Some(sum))
    }
}
