//! The scans in the store.

use chaarfm_coordinator::Timestamp;
use chaarfm_domain::{Found, LeftOutFiles, SessionId};

use super::{Store, ask};
use crate::{
    error::Stored,
    scans::{Enqueued, NoScan, Scan, ScanOrder},
};

impl Store {
    /// Records that this process scans a library for the session from now on, and for which collection and model.
    pub async fn begin_scan(
        &self,
        id: SessionId,
        order: ScanOrder<'_>,
        now: Timestamp,
    ) -> Stored<Result<Scan, NoScan>> {
        ask!(self, MAX_LONG_ANSWER_SECONDS, engine => engine.begin_scan(id, order, now))
    }

    /// Scans that their processes have not renewed in time. If only one process uses the database, also the scans of its
    /// predecessors.
    pub async fn abandoned_scans(&self, now: Timestamp) -> Stored<Vec<Scan>> {
        ask!(self, engine => engine.abandoned_scans(now))
    }

    /// Makes this process the owner of an abandoned scan, which starts over and counts from 0. False if another process was
    /// faster, or the scan has been cancelled.
    pub async fn take_over_scan(&self, scan: &Scan, now: Timestamp) -> Stored<bool> {
        ask!(self, engine => engine.take_over_scan(scan, now))
    }

    /// Extends the scan's ownership. False if the scan has been cancelled or taken over.
    pub async fn renew_scan(&self, scan: &Scan, now: Timestamp) -> Stored<bool> {
        ask!(self, engine => engine.renew_scan(scan, now))
    }

    /// Gives up the scan, so that another process can take it over at once.
    pub async fn abandon_scan(&self, scan: &Scan) -> Stored<()> {
        ask!(self, engine => engine.abandon_scan(scan))
    }

    /// Records that the scan has finished, and which files it left out.
    pub async fn finish_scan(&self, scan: &Scan, left_out: &[LeftOutFiles]) -> Stored<()> {
        ask!(self, engine => engine.finish_scan(scan, left_out))
    }

    /// Queues the files that a scan has found, except known ones. None if the scan has been cancelled or taken over.
    pub async fn enqueue(&self, scan: &Scan, files: &[Found], now: Timestamp) -> Stored<Option<Enqueued>> {
        ask!(self, engine => engine.enqueue(scan, files, now))
    }
}
