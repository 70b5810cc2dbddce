//! Deletes sessions that ended long ago, with their jobs. Their vectors are kept.

use std::time::Duration;

use chaarfm_coordinator::Timestamp;
use chaarfm_store::StoreError;
use tokio::time::sleep;

use super::Hub;

/// How often to look for sessions to delete.
const INTERVAL_SECONDS: u64 = 60 * 60;

/// Pause between two batches, so that other writers get a turn.
const PAUSE_MILLIS: u64 = 100;

const MILLIS_PER_DAY: u64 = 24 * 60 * 60 * 1000;

impl Hub {
    /// Deletes sessions that ended at least `days` ago, until the coordinator stops; never deletes when `days` is 0.
    pub(super) async fn run_retention(&self, days: u32) {
        if days == 0 {
            return;
        }
        loop {
            let ended_before = Timestamp(self.now().0.saturating_sub(u64::from(days) * MILLIS_PER_DAY));
            let pruning = async {
                if let Err(error) = self.prune(ended_before).await {
                    tracing::warn!("old jobs could not be deleted: {error}");
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
