//! Why nobody has what is queued, though workers are there: a run that stands still at 99 % is to say what it waits for.
//!
//! Decides nothing: it is told to people, by the rules by which jobs are handed out.

use chaarfm_api::WaitingView;
use chaarfm_protocol::SessionState;
use chaarfm_store::{Backlog, SessionRow, StoreError};

use super::{Hub, presence::Presence};

impl Hub {
    /// Why what is queued waits, if a page has to say so. While jobs flow nothing is looked at: pages ask several times a
    /// second.
    pub(super) async fn waiting(
        &self,
        row: &SessionRow,
        presence: &Presence,
    ) -> Result<Option<WaitingView>, StoreError> {
        let Some(takers) = presence.takers.as_ref().filter(|takers| takers.max_bytes > 0) else { return Ok(None) };
        // Whoever works has the next job in hand as well, as long as there is one for it.
        let is_slow = row.counts.leased <= presence.worker_count;
        if row.flags.state(&row.counts) != SessionState::Running || row.counts.queued == 0 || !is_slow {
            return Ok(None);
        }
        let now = self.now();
        let backlog = self.store.backlog(row.id, takers, now).await?;
        Ok(match backlog {
            Backlog { ready: 0, too_large, resting, next_try } if too_large + resting > 0 => Some(WaitingView {
                too_large,
                max_bytes: takers.max_bytes,
                retried: resting,
                next_try_seconds: next_try.map_or(0, |moment| moment.millis_since(now).div_ceil(1000)),
            }),
            _ => None,
        })
    }
}
