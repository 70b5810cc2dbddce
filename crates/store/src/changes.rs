//! Queues, leases, answers and requeues jobs, in the same way on all engines: in one transaction a job's row is loaded, a
//! method of [`Job`] changes it, and it is written back.

use std::collections::{BTreeMap, btree_map::Entry};

use chaarfm_coordinator::{Job, NotLeasable, NotYourLease, Renewal, Said, Timestamp};
use chaarfm_domain::{Embedding, Found, InvitationId, JobId, JobRef, SessionId};

use crate::{
    duplicates::track_key,
    error::Stored,
    jobs::{Answered, Claim, Claimed, JobRow, Refusal},
    scans::{Filed, Scan},
    vectors::Maker,
};

/// A transaction of an engine. Dropping it without a commit rolls it back.
pub(crate) trait Work: Send {
    /// Commits all changes.
    fn commit(self) -> impl Future<Output = sqlx::Result<()>> + Send;

    /// Whether the session is open. It cannot be ended during this transaction, as a job queued in an ended session would
    /// keep every other session from queueing the same content.
    fn keep_open(&mut self, session: SessionId) -> impl Future<Output = sqlx::Result<bool>> + Send;

    /// The first job of a session that may go to the worker: see [`Job::may_go_to`].
    fn first_waiting(
        &mut self,
        session: SessionId,
        claim: &Claim<'_>,
        now: Timestamp,
    ) -> impl Future<Output = sqlx::Result<Option<JobRow>>> + Send;

    /// Loads and locks a job of a session until the transaction ends.
    fn load(&mut self, session: SessionId, id: JobId) -> impl Future<Output = sqlx::Result<Option<JobRow>>> + Send;

    /// Writes a job's row back.
    fn save(&mut self, row: &JobRow) -> impl Future<Output = sqlx::Result<()>> + Send;

    /// [`Work::save`], unless another open job has the same content. False when one has; then nothing is written,
    /// and the transaction goes on.
    fn save_if_free(&mut self, row: &JobRow) -> impl Future<Output = sqlx::Result<bool>> + Send;

    /// Bytes of audio that the workers of an invitation may still be given; none without a limit.
    fn allowance(&mut self, invitation: InvitationId) -> impl Future<Output = sqlx::Result<Option<u64>>> + Send;

    /// Counts bytes of audio given to the workers of an invitation.
    fn count_bytes(&mut self, invitation: InvitationId, bytes: u64) -> impl Future<Output = sqlx::Result<()>> + Send;

    /// Stores a job's vector. False if the collection already has a vector of the same content, which then stays.
    fn insert_vector(
        &mut self,
        row: &JobRow,
        embedding: &Embedding,
        maker: &Maker,
        now: Timestamp,
    ) -> impl Future<Output = sqlx::Result<bool>> + Send;

    /// Deletes, in all collections, the vectors of a job's model and content that the worker has made. False if there are
    /// none.
    fn delete_vectors(&mut self, row: &JobRow, worker: &str) -> impl Future<Output = sqlx::Result<bool>> + Send;

    /// Whether the content of a file has a job or a vector already, or another file of the same track and length has one.
    fn find_known(
        &mut self,
        scan: &Scan,
        file: &Found,
        hash: &str,
        key: Option<&str>,
    ) -> impl Future<Output = sqlx::Result<Option<Filed>>> + Send;

    /// Copies the same content's vector from another collection, since recomputing would give the same numbers. False if
    /// there is none.
    fn copy_vector(
        &mut self,
        scan: &Scan,
        file: &Found,
        hash: &str,
        key: Option<&str>,
        now: Timestamp,
    ) -> impl Future<Output = sqlx::Result<bool>> + Send;

    /// Adds a job, queued or with an `error` as a failed one, in place of earlier failures of the same file. False if there
    /// is an open job for the same content; then the failures stay, as that job may still be dropped.
    fn insert_job(
        &mut self,
        scan: &Scan,
        file: &Found,
        hash: &str,
        key: Option<&str>,
        error: Option<&str>,
    ) -> impl Future<Output = sqlx::Result<bool>> + Send;

    /// Queues a file found by a scan, unless it is known.
    async fn enqueue(&mut self, scan: &Scan, file: &Found, now: Timestamp) -> sqlx::Result<Filed> {
        let key = track_key(&file.track);
        let hash = match &file.content {
            Ok(hash) => hash.as_str(),
            Err(reason) => {
                self.insert_job(scan, file, "", key.as_deref(), Some(reason)).await?;
                return Ok(Filed::Failed);
            }
        };
        let same_track = key.as_deref().filter(|_| !scan.every_file);
        if let Some(known) = self.find_known(scan, file, hash, same_track).await? {
            return Ok(known);
        }
        let has_vector = self.copy_vector(scan, file, hash, key.as_deref(), now).await?;
        if !has_vector && self.insert_job(scan, file, hash, key.as_deref(), None).await? {
            return Ok(Filed::Queued);
        }
        Ok(Filed::Known)
    }
}

/// The [`Store`](crate::Store) operations of the same names.
pub(crate) trait Jobs: Sync {
    type Work: Work;

    fn begin(&self) -> impl Future<Output = Stored<Self::Work>> + Send;

    async fn claim(
        &self,
        session: SessionId,
        claims: &[Claim<'_>],
        can_serve: impl Fn(&JobRow) -> bool,
        now: Timestamp,
    ) -> Stored<Claimed> {
        let mut work = self.begin().await?;
        let (mut rows, mut unserved) = (Vec::with_capacity(claims.len()), None);
        // For each invitation: bytes of audio given to its workers in this transaction, and the maximum allowed.
        let mut audio: BTreeMap<InvitationId, (u64, u64)> = BTreeMap::new();
        for claim in claims {
            let (given, most) = match audio.entry(claim.invitation) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(new) => {
                    let most = work.allowance(claim.invitation).await?;
                    new.insert((0, most.unwrap_or(u64::MAX)))
                }
            };
            if given >= most {
                rows.push(None);
                continue;
            }
            let mut first = work.first_waiting(session, claim, now).await?;
            unserved = first.take_if(|row| !can_serve(row));
            if unserved.is_some() {
                break;
            }
            let leased = first.and_then(|mut row| row.lease(claim, now).ok().map(|()| row));
            if let Some(row) = &leased {
                work.save(row).await?;
                *given += row.bytes;
            }
            rows.push(leased);
        }
        for (invitation, (given, _)) in audio.into_iter().filter(|(_, (given, _))| *given > 0) {
            work.count_bytes(invitation, given).await?;
        }
        work.commit().await?;
        rows.resize(claims.len(), None);
        Ok(Claimed { rows, unserved })
    }

    async fn decide<T>(
        &self,
        session: SessionId,
        id: JobId,
        decide: impl FnOnce(&mut Job) -> Result<T, NotYourLease>,
    ) -> Stored<Result<(JobRow, T), Refusal>> {
        let mut work = self.begin().await?;
        let Some(mut row) = work.load(session, id).await? else { return Ok(Err(Refusal::UnknownJob)) };
        let decision = match decide(&mut row.job) {
            Ok(decision) => decision,
            Err(refusal) => return Ok(Err(refusal.into())),
        };
        work.save(&row).await?;
        work.commit().await?;
        Ok(Ok((row, decision)))
    }

    async fn renew_leases(&self, session: SessionId, renewals: &[Renewal]) -> Stored<Vec<(JobRef, Refusal)>> {
        let mut work = self.begin().await?;
        let mut refused = Vec::new();
        for Renewal { job, deadline } in renewals {
            match work.load(session, job.job).await? {
                None => refused.push((job.clone(), Refusal::UnknownJob)),
                Some(mut row) => match row.job.renew(&job.lease, *deadline) {
                    Ok(()) => work.save(&row).await?,
                    Err(refusal) => refused.push((job.clone(), refusal.into())),
                },
            }
        }
        work.commit().await?;
        Ok(refused)
    }

    async fn request_second_opinions(
        &self,
        session: SessionId,
        ids: &[JobId],
        queue_again: impl Fn(&mut Job) -> Result<(), NotLeasable>,
    ) -> Stored<u64> {
        let mut work = self.begin().await?;
        if !work.keep_open(session).await? {
            return Ok(0);
        }
        let mut reopened = 0;
        for id in ids {
            let Some(mut row) = work.load(session, *id).await? else { continue };
            if queue_again(&mut row.job).is_ok() && work.save_if_free(&row).await? {
                reopened += 1;
            }
        }
        work.commit().await?;
        Ok(reopened)
    }

    async fn retract(&self, session: SessionId, ids: &[JobId], worker: &str, now: Timestamp) -> Stored<u64> {
        let mut work = self.begin().await?;
        if !work.keep_open(session).await? {
            return Ok(0);
        }
        let mut retracted = 0;
        for id in ids {
            let Some(mut row) = work.load(session, *id).await? else { continue };
            if row.job.retract(worker, now).is_ok() && work.delete_vectors(&row, worker).await? {
                // Another session may have queued the same content: then that session's job yields the vector.
                work.save_if_free(&row).await?;
                retracted += 1;
            }
        }
        work.commit().await?;
        Ok(retracted)
    }

    async fn answer(
        &self,
        session: SessionId,
        held: &JobRef,
        said: Said,
        maker: &Maker,
        now: Timestamp,
    ) -> Stored<Result<Answered, Refusal>> {
        let mut work = self.begin().await?;
        let Some(mut row) = work.load(session, held.job).await? else { return Ok(Err(Refusal::UnknownJob)) };
        let taken = match row.take(held, said, now) {
            Ok(taken) => taken,
            Err(refusal) => return Ok(Err(refusal.into())),
        };
        let duplicate = match &taken.embedding {
            Some(embedding) => !work.insert_vector(&row, embedding, maker, now).await?,
            None => false,
        };
        work.save(&row).await?;
        work.commit().await?;
        Ok(row.told(taken.answer, taken.invalid, duplicate))
    }
}
