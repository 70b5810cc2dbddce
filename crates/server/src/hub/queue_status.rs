//! Explains why queued tracks are not handed out though workers are connected: a run that stalls at 99 % must say why.
//!
//! Decides nothing: it only explains the effect of the dispatch rules.

use chaarfm_api::WaitingView;
use chaarfm_protocol::SessionState;
use chaarfm_store::{QueueStatus, SessionRow, StoreError};

use super::{Hub, peer_snapshot::PeerSnapshot};

impl Hub {
    /// Why queued tracks wait, if a page should say so. Nothing is queried while jobs flow, because pages ask several times
    /// a second.
    pub(super) async fn waiting(
        &self,
        row: &SessionRow,
        peer_snapshot: &PeerSnapshot,
    ) -> Result<Option<WaitingView>, StoreError> {
        let Some(takers) = peer_snapshot.takers.as_ref().filter(|takers| takers.max_bytes > 0) else { return Ok(None) };
        // A busy worker also prefetches its next job while there is one for it.
        let is_slow = row.counts.leased <= peer_snapshot.worker_count;
        if row.flags.state(&row.counts) != SessionState::Running || row.counts.queued == 0 || !is_slow {
            return Ok(None);
        }
        let now = self.now();
        let queue_status = self.store.queue_status(row.id, takers, now).await?;
        Ok(match queue_status {
            QueueStatus { ready: 0, too_large, resting, next_try } if too_large + resting > 0 => Some(WaitingView {
                too_large,
                max_bytes: takers.max_bytes,
                retried: resting,
                next_try_seconds: next_try.map_or(0, |moment| moment.millis_since(now).div_ceil(1000)),
            }),
            _ => None,
        })
    }
}
