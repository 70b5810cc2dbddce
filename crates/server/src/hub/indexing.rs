//! Has the database build what searches in its vectors need, beside everything else.

use std::time::Duration;

use tokio::time::sleep;

use super::Hub;

/// It is looked for collections without an index this often.
const INTERVAL_SECONDS: u64 = 30;

/// A build that has failed is begun again after this long: it may have cost the database all that a whole one costs.
const RETRY_SECONDS: u64 = 5 * 60;

impl Hub {
    /// Looks for what is to be built until the coordinator stops. The database ends by itself what is being built then.
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
