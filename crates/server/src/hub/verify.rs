//! Verifies results: the patches must support the vector, and some are recomputed.

use chaarfm_coordinator::{VerifyShare, WorkerId};
use chaarfm_domain::{Evidence, InvalidVector, LogLevel, Unproven, compare};
use chaarfm_protocol::{JobRef, Vector};
use chaarfm_store::{Maker, StoreError};

use super::{ActiveSession, Hub};
use crate::metrics::Verification;

impl Hub {
    /// The error in a worker's vector, if any. A worker whose recomputed patches differ is set aside.
    pub(super) async fn verify(
        &self,
        active: &ActiveSession,
        id: WorkerId,
        maker: &Maker,
        job: &JobRef,
        vector: &Vector,
        evidence: Option<Evidence>,
    ) -> Result<Option<InvalidVector>, StoreError> {
        let share = self.verifier.share();
        if share == VerifyShare::None {
            return Ok(None);
        }
        let unproven = Unproven::Count { expected: vector.patches, actual: 0 };
        let proven = evidence.as_ref().ok_or(unproven).and_then(|evidence| evidence.proves(vector));
        let Some(evidence) = evidence.filter(|_| proven.is_ok()) else {
            active.doubt(id);
            return Ok(proven.err().map(InvalidVector::from));
        };
        if self.environment.random_share() >= share.of(&active.check_record(id)) {
            return Ok(None);
        }
        let row = self.store.job(job.job).await?.filter(|row| row.job.is_leased_under(&job.lease));
        // The store reports what is wrong with such a result.
        let Some(row) = row else { return Ok(None) };
        let sample = evidence.into_sample();
        let indices = sample.iter().map(|patch| patch.index).collect();
        let wrong = match self.verifier.recompute(&self.libraries, &row, indices).await {
            Err(reason) => {
                self.metrics.verified(Verification::Impossible);
                tracing::debug!("a result of worker {id} could not be computed again: {reason}");
                return Ok(None);
            }
            Ok(recheck) if recheck.patches != vector.patches => {
                Some(InvalidVector::Patches { expected: recheck.patches, actual: vector.patches })
            }
            Ok(recheck) => compare(&sample, &recheck.embeddings).err().map(InvalidVector::from),
        };
        match &wrong {
            None => {
                self.metrics.verified(Verification::Confirmed);
                active.confirm(id);
            }
            Some(wrong) => {
                self.metrics.verified(Verification::Refuted);
                active.set_aside(&maker.key, true);
                let reason = format!("its result for job {} is wrong: {wrong}", row.job.id);
                self.make_verdict_hold(active, &maker.key, true, &reason).await;
                let label = row.track.label();
                let notice =
                    format!("worker {id} is set aside: its result for {label} was computed again, and {wrong}");
                active.log(LogLevel::Error, notice);
            }
        }
        Ok(wrong)
    }

    /// Whether a track that a worker calls broken can be read here. `content_hash` says what the worker has received.
    pub(super) async fn can_read(
        &self,
        id: WorkerId,
        job: &JobRef,
        content_hash: Option<&str>,
    ) -> Result<bool, StoreError> {
        if !self.verifier.share().checks_failures() {
            return Ok(false);
        }
        let row = self.store.job(job.job).await?.filter(|row| row.job.is_leased_under(&job.lease));
        let Some(row) = row.filter(|row| !row.is_about_another(content_hash)) else { return Ok(false) };
        let recheck = self.verifier.recompute(&self.libraries, &row, Vec::new()).await;
        let recheck = recheck.inspect_err(|reason| tracing::debug!("worker {id} calls a track broken; here: {reason}"));
        // A track that is too short has no patches.
        Ok(recheck.is_ok_and(|recheck| recheck.patches > 0))
    }
}
