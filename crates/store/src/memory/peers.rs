//! Notices and views that coordinators exchange.

use std::{
    collections::BTreeMap,
    future::pending,
    sync::{MutexGuard, atomic::Ordering},
};

use chaarfm_coordinator::{Timestamp, WorkerId};
use chaarfm_domain::SessionId;
use tokio::sync::broadcast;

use super::Memory;
use crate::{error::Stored, peers::News};

/// Receives the notices of other processes.
pub struct Listener {
    owner: String,
    news: broadcast::Receiver<(String, News)>,
}

impl Listener {
    pub(crate) async fn next(&mut self) -> Option<News> {
        loop {
            match self.news.recv().await {
                Ok((teller, _)) if teller == self.owner => {}
                Ok((_, news)) => return Some(news),
                Err(broadcast::error::RecvError::Lagged(_)) => return None,
                Err(broadcast::error::RecvError::Closed) => pending().await,
            }
        }
    }
}

impl Memory {
    pub(crate) fn listener(&self) -> Listener {
        Listener { owner: self.owner.clone(), news: self.beside.news.subscribe() }
    }

    fn tell(&self, news: News) {
        // There may be no listener.
        let _ = self.beside.news.send((self.owner.clone(), news));
    }

    fn presence(&self) -> MutexGuard<'_, BTreeMap<(SessionId, String), (Timestamp, String)>> {
        self.beside.presence.lock().expect("nothing panics while it is held")
    }

    pub(crate) async fn next_worker(&self) -> Stored<WorkerId> {
        Ok(self.beside.workers.fetch_add(1, Ordering::Relaxed) + 1)
    }

    pub(crate) async fn notify(&self, sessions: &[SessionId]) -> Stored<()> {
        sessions.iter().for_each(|session| self.tell(News::Work(*session)));
        Ok(())
    }

    pub(crate) async fn publish_presence(&self, views: &[(SessionId, String)], until: Timestamp) -> Stored<()> {
        for (session, view) in views {
            self.presence().insert((*session, self.owner.clone()), (until, view.clone()));
            self.tell(News::Presence(*session));
        }
        Ok(())
    }

    pub(crate) async fn withdraw_presence(&self, sessions: &[SessionId]) -> Stored<()> {
        for session in sessions {
            if self.presence().remove(&(*session, self.owner.clone())).is_some() {
                self.tell(News::Presence(*session));
            }
        }
        Ok(())
    }

    pub(crate) async fn presence_of_others(&self, session: SessionId, now: Timestamp) -> Stored<Vec<String>> {
        let presence = self.presence();
        let others =
            presence.iter().filter(|((of, owner), (until, _))| *of == session && *owner != self.owner && *until > now);
        Ok(others.map(|(_, (_, view))| view.clone()).collect())
    }

    pub(crate) async fn sweep_presence(&self, now: Timestamp) -> Stored<()> {
        self.presence().retain(|_, (until, _)| *until > now);
        Ok(())
    }
}
