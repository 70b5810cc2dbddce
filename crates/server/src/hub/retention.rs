//! Deletes old audit entries, and sessions that ended long ago, with their jobs. Vectors stay: they are the purpose of the
//! sessions.

use std::time::Duration;

use chaarfm_coordinator::Timestamp;
use chaarfm_store::StoreError;
use tokio::time::sleep;

use super::Hub;
use crate::audit;

/// Wait between two deletions.
const INTERVAL_SECONDS: u64 = 60 * 60;

/// Pause between two batches, so that other writers get a turn.
const PAUSE_MILLIS: u64 = 100;

const MILLIS_PER_DAY: u64 = 24 * 60 * 60 * 1000;

impl Hub {
    /// Deletes old audit entries, and sessions that ended at least `days` ago, until the coordinator stops. Keeps all
    /// sessions if `days` is 0.
    pub(super) async fn run_retention(&self, days: u32) {
        loop {
            let pruning = async {
                if let Err(error) = audit::prune(&self.store, self.now()).await {
                    tracing::warn!("old entries of the audit record could not be deleted: {error}");
                }
                if days > 0 {
                    let ended_before = Timestamp(self.now().0.saturating_sub(u64::from(days) * MILLIS_PER_DAY));
                    if let Err(error) = self.prune(ended_before).await {
                        tracing::warn!("old jobs could not be deleted: {error}");
                    }
                }
                sleep(Duration::from_secs(INTERVAL_SECONDS)).await;
            };
            if self.shutdown.run_until_cancelled(pruning).await.is_none() {
                return;
            }
        }
    }

    async fn prune(&self, ended_before: Timestamp) -> Result<(), StoreError> {
        while self.store.prune(ended_before, self.now()).await? {
            sleep(Duration::from_millis(PAUSE_MILLIS)).await;
        }
        Ok(())
    }
}
