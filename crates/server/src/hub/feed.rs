//! What all pages of a session are shown: its view is made once, however many pages there are, and only while there are any.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tracing::Instrument;

use super::{CommandError, Hub, Live};
use crate::spans;

/// Shortest time between two views.
const MIN_INTERVAL_MILLIS: u64 = 250;

/// What changes by the passing of time alone, the rate above all, is looked at this often.
const REFRESH_SECONDS: u64 = 5;

/// What a page sees.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Shown {
    /// The first view is being made.
    #[default]
    Nothing,
    /// A [`SessionView`](chaarfm_protocol::view::SessionView) as JSON.
    View(Arc<str>),
    /// No more can be made.
    Ended,
}

/// The views of a session, as long as pages look at it.
#[derive(Default)]
pub(super) struct Feed {
    /// Whether a task makes views.
    is_running: Mutex<bool>,
    shown: watch::Sender<Shown>,
}

impl Feed {
    /// True when a task has to be started that makes views.
    fn subscribe(&self) -> (watch::Receiver<Shown>, bool) {
        let mut is_running = self.is_running.lock().unwrap_or_else(PoisonError::into_inner);
        let begins = !*is_running;
        if begins {
            // Whatever was shown last is out of date.
            self.shown.send_replace(Shown::Nothing);
            *is_running = true;
        }
        (self.shown.subscribe(), begins)
    }

    /// Ends the making of views if nobody looks. Under the lock, so that whoever comes at this moment starts it anew.
    fn ends_unwatched(&self) -> bool {
        let mut is_running = self.is_running.lock().unwrap_or_else(PoisonError::into_inner);
        *is_running = self.shown.receiver_count() > 0;
        !*is_running
    }

    fn end(&self) {
        let mut is_running = self.is_running.lock().unwrap_or_else(PoisonError::into_inner);
        self.shown.send_replace(Shown::Ended);
        *is_running = false;
    }
}

/// Ends what pages see, by a panic too: nobody is to wait for views that nobody makes.
struct Ending<'a> {
    feed: &'a Feed,
    is_due: bool,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        if self.is_due {
            self.feed.end();
        }
    }
}

impl Hub {
    /// What pages see of the session from now on, at most four times a second.
    pub(crate) fn watch(self: &Arc<Self>, live: &Arc<Live>) -> watch::Receiver<Shown> {
        let (shown, begins) = live.feed.subscribe();
        if begins {
            let (hub, live) = (Arc::clone(self), Arc::clone(live));
            let span = spans::session(live.id);
            let feeding = async move {
                let mut ending = Ending { feed: &live.feed, is_due: true };
                match hub.shutdown.run_until_cancelled(hub.show(&live)).await {
                    // Another task may make views by now.
                    Some(Ok(())) => ending.is_due = false,
                    Some(Err(error)) => tracing::error!("the streams of events end: {error}"),
                    None => {}
                }
            };
            self.tasks.spawn(feeding.instrument(span));
        }
        shown
    }

    /// Makes views as long as somebody looks.
    async fn show(&self, live: &Live) -> Result<(), CommandError> {
        let mut changes = live.changes();
        let mut last = None;
        loop {
            changes.mark_unchanged();
            match self.view(live).await {
                Ok(view) if last.as_ref() == Some(&view) => {}
                Ok(view) => {
                    let json = serde_json::to_string(&view).expect("views are always JSON");
                    live.feed.shown.send_replace(Shown::View(json.into()));
                    last = Some(view);
                }
                // Pages keep what they have seen until there is more to see.
                Err(error) if error.is_passing() && last.is_some() => {}
                Err(error) => return Err(error),
            }
            sleep(Duration::from_millis(MIN_INTERVAL_MILLIS)).await;
            // Whether it was a change or the time: the view is made anew and compared.
            let _ = timeout(Duration::from_secs(REFRESH_SECONDS), changes.changed()).await;
            if live.feed.ends_unwatched() {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Database, library::Libraries, reach::Reach, store::Store};

    async fn hub(folder: &tempfile::TempDir) -> Arc<Hub> {
        let store = Store::open(&Database::Sqlite(folder.path().join("test.sqlite3"))).await.unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        Arc::new(Hub::new(store, Libraries::default(), None, Reach::of(&listener, None).unwrap()))
    }

    async fn next(shown: &mut watch::Receiver<Shown>) -> Arc<str> {
        let is_view = |shown: &Shown| matches!(shown, Shown::View(_));
        match &*timeout(Duration::from_secs(10), shown.wait_for(is_view)).await.unwrap().unwrap() {
            Shown::View(json) => Arc::clone(json),
            _ => panic!("no view"),
        }
    }

    #[tokio::test]
    async fn all_pages_of_a_session_see_one_view_that_is_made_while_there_are_any() {
        let folder = tempfile::tempdir().unwrap();
        let hub = hub(&folder).await;
        let code = hub.current_session().await.unwrap().code;
        let live = hub.session(&code).await.unwrap();
        let mut pages: Vec<_> = (0..20).map(|_| hub.watch(&live)).collect();
        assert_eq!(hub.tasks.len(), 1, "one task for all of them");
        let first = next(&mut pages[0]).await;
        for page in &mut pages {
            assert!(Arc::ptr_eq(&first, &next(page).await), "the very same view");
            page.mark_unchanged();
        }
        hub.set_paused(&live, true).await.unwrap();
        for page in &mut pages {
            timeout(Duration::from_secs(10), page.changed()).await.unwrap().unwrap();
            assert!(next(page).await.contains(r#""state":"paused""#));
        }
        drop(pages);
        live.has_changed();
        hub.tasks.close();
        timeout(Duration::from_secs(10), hub.tasks.wait()).await.expect("nobody looks any more");
        hub.tasks.reopen();
        let mut page = hub.watch(&live);
        assert_eq!(*page.borrow(), Shown::Nothing, "what was shown before is out of date");
        assert!(next(&mut page).await.contains(r#""state":"paused""#));
        hub.shutdown.cancel();
        let ended = timeout(Duration::from_secs(10), page.wait_for(|shown| *shown == Shown::Ended)).await;
        ended.unwrap().unwrap();
    }
}
