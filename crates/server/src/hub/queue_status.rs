//! Why nobody has what is queued, though workers are there: a run that stands still at 99 % is to say what it waits for.
//!
//! Decides nothing: it is told to people, by the rules by which jobs are handed out.

use chaarfm_api::WaitingView;
use chaarfm_protocol::SessionState;
use chaarfm_store::{QueueStatus, SessionRow, StoreError};

use super::{Hub, peer_snapshot::PeerSnapshot};

impl Hub {
    /// Why what is queued waits, if a page has to say so. While jobs flow nothing is looked at: pages ask several times a
    /// second.
    pub(super) async fn waiting(
        &self,
        row: &SessionRow,
        peer_snapshot: &PeerSnapshot,
    ) -> Result<Option<WaitingView>, StoreError> {
        let Some(takers) = peer_snapshot.takers.as_ref().filter(|takers| takers.max_bytes > 0) else { return Ok(None) };
        // A busy worker also holds its next job, as long as there is one for it.
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
