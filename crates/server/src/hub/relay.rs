//! Coordinators on one database wake each other: what one queues or takes back, another may hand out, and its pages show
//! it. Told is only where something has happened; what, everybody reads from the database. Whoever is not reached, because
//! a connection broke, finds out by its sweep. Of changes that only pages show, `presence` tells by itself.

use std::{mem, sync::PoisonError, time::Duration};

use chaarfm_domain::SessionId;
use chaarfm_store::News;

use super::Hub;

/// Others are told at most this often, however much happens.
const MIN_NEWS_INTERVAL_MILLIS: u64 = 100;

impl Hub {
    /// Notes that the others are to be told about a session, soon.
    pub(super) fn tell(&self, session: SessionId) {
        self.news.lock().unwrap_or_else(PoisonError::into_inner).insert(session);
        self.has_news.notify_one();
    }

    /// Tells and listens until the coordinator stops.
    pub(super) async fn run_relay(&self) {
        if self.store.is_shared() {
            let relay = async { tokio::join!(self.tell_others(), self.hear_others()) };
            self.shutdown.run_until_cancelled(relay).await;
        }
    }

    async fn tell_others(&self) {
        loop {
            self.has_news.notified().await;
            let news = mem::take(&mut *self.news.lock().unwrap_or_else(PoisonError::into_inner));
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
            for live in self.live_sessions() {
                if news.is_none_or(|news| news.session() == live.id) {
                    if !matches!(news, Some(News::Work(_))) {
                        live.elsewhere.mark_stale();
                    }
                    live.has_changed();
                    if !matches!(news, Some(News::Presence(_))) {
                        self.wake(&live);
                    }
                }
            }
        }
    }
}
