//! The transactions that change jobs.

use std::{mem, sync::Arc};

use chaarfm_coordinator::{Job, State, Timestamp};
use chaarfm_domain::{Embedding, Found, InvitationId, JobId, SessionId};
use tokio::sync::OwnedMutexGuard;

use super::{
    Conditions, Memory,
    rows::{Entry, Kept, Rows, is_of, is_open},
};
use crate::{
    changes::{Jobs, Work},
    duplicates::MAX_LENGTH_DIFFERENCE,
    error::Stored,
    jobs::{Claim, JobRow},
    scans::{Filed, Scan},
    vectors::{Maker, VectorRow},
};

/// A transaction: a copy of all rows, which replaces them on commit. No other transaction can write meanwhile.
pub(crate) struct Transaction {
    pub(super) rows: Rows,
    kept: OwnedMutexGuard<Rows>,
    conditions: Arc<dyn Conditions>,
}

impl Jobs for Memory {
    type Work = Transaction;

    async fn begin(&self) -> Stored<Self::Work> {
        let kept = Arc::clone(&self.rows).lock_owned().await;
        Ok(Transaction { rows: kept.clone(), kept, conditions: Arc::clone(&self.conditions) })
    }
}

impl Work for Transaction {
    async fn commit(mut self) -> sqlx::Result<()> {
        let before = mem::replace(&mut *self.kept, self.rows);
        self.conditions.committed(&before, &self.kept);
        Ok(())
    }

    async fn keep_open(&mut self, session: SessionId) -> sqlx::Result<bool> {
        Ok(self.rows.sessions.get(&session).is_some_and(|session| !session.row.flags.ended))
    }

    async fn first_waiting(
        &mut self,
        session: SessionId,
        claim: &Claim<'_>,
        now: Timestamp,
    ) -> sqlx::Result<Option<JobRow>> {
        let is_meant = |entry: &&Entry| {
            let row = &entry.row;
            row.bytes <= claim.max_bytes && row.job.may_go_to(claim.worker, claim.takes_last_tries, now)
        };
        let is_running = self.rows.is_running(session);
        Ok(self.rows.queued(session).find(is_meant).filter(|_| is_running).map(|entry| entry.row.clone()))
    }

    async fn load(&mut self, session: SessionId, id: JobId) -> sqlx::Result<Option<JobRow>> {
        let entry = self.rows.job(id).filter(|entry| entry.session == session);
        Ok(entry.map(|entry| entry.row.clone()))
    }

    async fn save(&mut self, row: &JobRow) -> sqlx::Result<()> {
        if let Some(entry) = self.rows.job(row.job.id) {
            let entry = Entry { row: row.clone(), ..*entry };
            self.rows.put(entry);
        }
        Ok(())
    }

    async fn save_if_free(&mut self, row: &JobRow) -> sqlx::Result<bool> {
        let is_free = self.rows.open_job_like(row).is_none();
        if is_free {
            self.save(row).await?;
        }
        Ok(is_free)
    }

    async fn allowance(&mut self, invitation: InvitationId) -> sqlx::Result<Option<u64>> {
        Ok(self.rows.guests.allowance(invitation))
    }

    async fn count_bytes(&mut self, invitation: InvitationId, bytes: u64) -> sqlx::Result<()> {
        Arc::make_mut(&mut self.rows.guests).count_bytes(invitation, bytes);
        Ok(())
    }

    async fn insert_vector(
        &mut self,
        row: &JobRow,
        embedding: &Embedding,
        maker: &Maker,
        now: Timestamp,
    ) -> sqlx::Result<bool> {
        let stored = VectorRow {
            id: 0,
            track: row.track.clone(),
            seconds: embedding.seconds(),
            content_hash: row.content_hash.clone(),
            model: embedding.model().to_owned(),
            kind: maker.kind,
            device: maker.device.clone(),
            flags: embedding.flags().to_vec(),
            stored: now,
            embedding: embedding.numbers().to_vec(),
            tags: embedding.tags().to_vec(),
        };
        let (collection, track_key) = (row.collection.clone(), row.track_key.clone());
        Ok(self.rows.insert_vector(Kept { collection, track_key, worker: maker.key.clone(), row: stored }))
    }

    async fn delete_vectors(&mut self, row: &JobRow, worker: &str) -> sqlx::Result<bool> {
        let vectors = Arc::make_mut(&mut self.rows.vectors);
        let before = vectors.len();
        vectors.retain(|kept| {
            kept.row.model != row.model || kept.row.content_hash != row.content_hash || kept.worker != worker
        });
        Ok(vectors.len() < before)
    }

    async fn find_known(
        &mut self,
        scan: &Scan,
        file: &Found,
        hash: &str,
        key: Option<&str>,
    ) -> sqlx::Result<Option<Filed>> {
        let Scan { collection, model, .. } = scan;
        let jobs = || self.rows.jobs.values();
        let own = || jobs().filter(|entry| entry.session == scan.session && entry.row.content_hash == hash);
        let is_seen = |entry: &Arc<Entry>| {
            let row = &entry.row;
            entry.scan == scan.number && row.library == scan.library && row.track.file == file.track.file
        };
        if own().any(is_seen) {
            return Ok(Some(Filed::Seen));
        }
        let is_this = |entry: &Arc<Entry>| {
            let is_tried = entry.row.job.state != State::Failed || entry.scan == scan.number;
            is_of(&entry.row, collection, model, hash) && is_tried
        };
        if own().any(is_this) || self.rows.has_vector(collection, model, hash) {
            return Ok(Some(Filed::Known));
        }
        let (Some(key), Some(seconds)) = (key, file.seconds) else { return Ok(None) };
        let is_as_long = |other: f64| (other - seconds).abs() <= MAX_LENGTH_DIFFERENCE;
        let is_alike = |entry: &Arc<Entry>| {
            let row = &entry.row;
            (&row.collection, &row.model, row.track_key.as_deref()) == (collection, model, Some(key))
                && entry.seconds.is_some_and(is_as_long)
                && is_open(row)
                && row.content_hash != hash
        };
        let is_known = |kept: &Arc<Kept>| {
            (&kept.collection, &kept.row.model, kept.track_key.as_deref()) == (collection, model, Some(key))
                && is_as_long(kept.row.seconds)
        };
        let has_alike = jobs().any(is_alike) || self.rows.vectors.iter().any(is_known);
        Ok(has_alike.then_some(Filed::Alike))
    }

    async fn copy_vector(
        &mut self,
        scan: &Scan,
        file: &Found,
        hash: &str,
        key: Option<&str>,
        now: Timestamp,
    ) -> sqlx::Result<bool> {
        let is_same = |kept: &&Arc<Kept>| kept.row.content_hash == hash && kept.row.model == scan.model;
        let Some(same) = self.rows.vectors.iter().find(is_same) else { return Ok(false) };
        let row = VectorRow { track: file.track.clone(), stored: now, ..same.row.clone() };
        let (collection, worker) = (scan.collection.clone(), same.worker.clone());
        Ok(self.rows.insert_vector(Kept { collection, track_key: key.map(str::to_owned), worker, row }))
    }

    async fn insert_job(
        &mut self,
        scan: &Scan,
        file: &Found,
        hash: &str,
        key: Option<&str>,
        error: Option<&str>,
    ) -> sqlx::Result<bool> {
        let mut job = Job::new(self.rows.last_job + 1);
        if let Some(error) = error {
            (job.state, job.error) = (State::Failed, Some(error.to_owned()));
        }
        let fresh = job.id;
        let row = JobRow {
            job,
            model: scan.model.clone(),
            library: scan.library.clone(),
            track: file.track.clone(),
            bytes: file.bytes,
            version: file.version.clone(),
            holder_kind: None,
            content_hash: hash.to_owned(),
            collection: scan.collection.clone(),
            track_key: key.map(str::to_owned),
        };
        if is_open(&row) && self.rows.open_job_like(&row).is_some() {
            return Ok(false);
        }
        self.rows.last_job = fresh;
        let entry = Entry { row, session: scan.session, scan: scan.number, seconds: file.seconds };
        let is_earlier = |other: &Entry| {
            let row = &other.row;
            row.job.state == State::Failed
                && row.job.id != fresh
                && other.is_for_the_file_of(&entry)
                && (&row.model, &row.collection) == (&scan.model, &scan.collection)
        };
        self.rows.drop_jobs(scan.session, is_earlier);
        self.rows.put(entry);
        Ok(true)
    }
}
