//! Has the database build the indexes for vector search, in the background.

use std::time::Duration;

use tokio::time::sleep;

use super::Hub;

/// How often to look for collections without an index.
const INTERVAL_SECONDS: u64 = 30;

/// Wait before retrying a failed build: it may have cost the database as much as a complete one.
const RETRY_SECONDS: u64 = 5 * 60;

impl Hub {
    /// Builds missing indexes until the coordinator stops. The database then aborts the current build by itself.
    pub(super) async fn run_indexing(&self) {
        while self.store.is_shared() {
            let Some(built) = self.shutdown.run_until_cancelled(self.store.build_indexes()).await else { return };
            let pause = match built {
                Ok(_) => INTERVAL_SECONDS,
                Err(error) => {
                    tracing::warn!("the index of a collection could not be built: {error}");
                    RETRY_SECONDS
                }
            };
            if self.shutdown.run_until_cancelled(sleep(Duration::from_secs(pause))).await.is_none() {
                return;
            }
        }
    }
}
