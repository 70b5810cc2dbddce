//! Stores lease renewals in batches: with thousands of workers, one transaction each would block all other writers.

use std::time::Duration;

use chaarfm_store::StoreError;
use tokio::time::MissedTickBehavior;

use super::{ActiveSession, Hub, workers::rejection};

/// How often pending lease renewals are stored.
const RENEWAL_INTERVAL_SECONDS: u64 = 1;

/// Maximum number of leases renewed per transaction.
const MAX_RENEWALS: usize = 128;

impl Hub {
    /// Runs until the coordinator stops.
    pub(super) async fn run_renewals(&self) {
        let mut tick = tokio::time::interval(Duration::from_secs(RENEWAL_INTERVAL_SECONDS));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while self.shutdown.run_until_cancelled(tick.tick()).await.is_some() {
            for active in self.active_sessions() {
                if let Err(error) = self.renew_leases(&active).await {
                    self.note_outage(&error);
                    tracing::warn!("leases could not be renewed: {error}");
                }
            }
        }
    }

    async fn renew_leases(&self, active: &ActiveSession) -> Result<(), StoreError> {
        let renewals = active.take_renewals();
        let mut rest = renewals.as_slice();
        while !rest.is_empty() {
            let (batch, later) = rest.split_at(rest.len().min(MAX_RENEWALS));
            let refused = match self.store.renew_leases(active.id, batch).await {
                Ok(refused) => refused,
                Err(error) => {
                    if error.is_passing() {
                        active.put_back_renewals(rest);
                    }
                    return Err(error);
                }
            };
            for (job, refusal) in refused {
                // If the worker has answered in the meantime, it was already notified.
                if let Some((id, _)) = active.take(&job) {
                    active.send(id, rejection(job, &refusal));
                }
            }
            rest = later;
        }
        Ok(())
    }
}
