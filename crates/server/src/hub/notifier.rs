//! Coordinators on one database notify each other, so that one can hand out jobs that another has queued or taken back.
//! Notifications say only which session changed; listeners reload it from the database. A coordinator that misses one, because
//! its connection broke, finds the change in its next sweep. Changes that only pages show travel with `peer_snapshot`.

use std::{mem, sync::PoisonError, time::Duration};

use chaarfm_domain::SessionId;
use chaarfm_store::News;

use super::Hub;

/// Minimum time between notifications, however much happens.
const MIN_NEWS_INTERVAL_MILLIS: u64 = 100;

impl Hub {
    /// Schedules a notification to the other coordinators about a session.
    pub(super) fn tell(&self, session: SessionId) {
        self.dirty_for_peers.lock().unwrap_or_else(PoisonError::into_inner).insert(session);
        self.has_news.notify_one();
    }

    /// Sends and receives notifications until the coordinator stops.
    pub(super) async fn run_notifier(&self) {
        if self.store.is_shared() {
            let notifier = async { tokio::join!(self.tell_others(), self.hear_others()) };
            self.shutdown.run_until_cancelled(notifier).await;
        }
    }

    async fn tell_others(&self) {
        loop {
            self.has_news.notified().await;
            let news = mem::take(&mut *self.dirty_for_peers.lock().unwrap_or_else(PoisonError::into_inner));
            let sessions: Vec<_> = news.into_iter().collect();
            if let Err(error) = self.store.notify(&sessions).await {
                tracing::debug!("the other coordinators could not be told: {error}");
            }
            tokio::time::sleep(Duration::from_millis(MIN_NEWS_INTERVAL_MILLIS)).await;
        }
    }

    async fn hear_others(&self) {
        let mut wakeups = self.store.wakeups();
        loop {
            let news = wakeups.next().await;
            for active in self.active_sessions() {
                if news.is_none_or(|news| news.session() == active.id) {
                    if !matches!(news, Some(News::Work(_))) {
                        active.elsewhere.mark_stale();
                    }
                    active.has_changed();
                    if !matches!(news, Some(News::Presence(_))) {
                        self.wake(&active);
                    }
                }
            }
        }
    }
}
