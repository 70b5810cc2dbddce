//! The views sent to a session's pages: each view is built once for all pages, and only while there are any.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chaarfm_api::SessionView;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tracing::Instrument;

use super::{ActiveSession, CommandError, Hub};
use crate::spans;

/// Minimum time between two views.
const MIN_INTERVAL_MILLIS: u64 = 250;

/// How often to refresh values that change with time alone, mainly the rate.
const REFRESH_SECONDS: u64 = 5;

/// The state of the feed.
#[derive(Debug, Clone, Default)]
enum Shown {
    /// The first view is being built.
    #[default]
    Nothing,
    /// Numbers increase with each view.
    View { number: u64, json: Arc<str> },
    /// No more views will follow.
    Ended,
}

/// The views of a session, while pages watch it.
#[derive(Default)]
pub(super) struct Feed {
    state: Mutex<State>,
    shown: watch::Sender<Shown>,
}

#[derive(Default)]
struct State {
    /// Whether a task builds views.
    is_running: bool,
    /// Number of views started so far.
    begun: u64,
}

/// One page's subscription to a session's views.
pub(crate) struct Views {
    shown: watch::Receiver<Shown>,
    /// Views up to this number were started before the page subscribed, and may lack its user's latest actions.
    outdated: u64,
    last: Option<Arc<str>>,
}

impl Views {
    /// The next [`SessionView`](chaarfm_api::SessionView), as JSON, that differs from the previous one; only the newest if
    /// there were several. None when no more will follow.
    pub(crate) async fn next(&mut self) -> Option<Arc<str>> {
        loop {
            self.shown.changed().await.ok()?;
            match &*self.shown.borrow_and_update() {
                Shown::View { number, json } if *number > self.outdated => {
                    if self.last.as_ref().is_none_or(|last| !Arc::ptr_eq(last, json)) {
                        self.last = Some(Arc::clone(json));
                        return self.last.clone();
                    }
                }
                Shown::Nothing | Shown::View { .. } => {}
                Shown::Ended => return None,
            }
        }
    }
}

impl Feed {
    /// Returns true when the caller must start a task that builds views.
    fn subscribe(&self) -> (Views, bool) {
        let mut state = self.state();
        let begins = !state.is_running;
        if begins {
            self.shown.send_replace(Shown::Nothing);
            state.is_running = true;
        }
        (Views { shown: self.shown.subscribe(), outdated: state.begun, last: None }, begins)
    }

    /// The number for a view about to be built.
    fn begin_view(&self) -> u64 {
        let mut state = self.state();
        state.begun += 1;
        state.begun
    }

    /// Stops building views if nobody watches. It holds the lock, so that a new watcher starts them again.
    fn ends_unwatched(&self) -> bool {
        let mut state = self.state();
        state.is_running = self.shown.receiver_count() > 0;
        !state.is_running
    }

    fn end(&self) {
        let mut state = self.state();
        self.shown.send_replace(Shown::Ended);
        state.is_running = false;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends the feed when its task ends, even by a panic, so that no page waits for ever.
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
    /// Subscribes a page to the session's views, at most four a second.
    pub(crate) fn watch(self: &Arc<Self>, active: &Arc<ActiveSession>) -> Views {
        let (views, begins) = active.feed.subscribe();
        if !begins {
            // The running task builds another view for the new watcher.
            active.has_changed();
        } else {
            let (hub, active) = (Arc::clone(self), Arc::clone(active));
            let span = spans::session(active.id);
            let feeding = async move {
                let mut ending = Ending { feed: &active.feed, is_due: true };
                match hub.shutdown.run_until_cancelled(hub.show(&active)).await {
                    // Another task may be building views by now.
                    Some(Ok(())) => ending.is_due = false,
                    Some(Err(error)) => tracing::error!("the streams of events end: {error}"),
                    None => {}
                }
            };
            self.tasks.spawn(feeding.instrument(span));
        }
        views
    }

    /// Builds views while anybody watches.
    async fn show(&self, active: &ActiveSession) -> Result<(), CommandError> {
        let mut changes = active.changes();
        let mut last: Option<(SessionView, Arc<str>)> = None;
        loop {
            changes.mark_unchanged();
            let number = active.feed.begin_view();
            match self.view(active).await {
                Ok(view) => {
                    let json = match last.take() {
                        Some((before, json)) if before == view => json,
                        _ => serde_json::to_string(&view).expect("views are always JSON").into(),
                    };
                    active.feed.shown.send_replace(Shown::View { number, json: Arc::clone(&json) });
                    last = Some((view, json));
                }
                // Pages keep the last view until there is a new one.
                Err(error) if error.is_passing() && last.is_some() => {}
                Err(error) => return Err(error),
            }
            sleep(Duration::from_millis(MIN_INTERVAL_MILLIS)).await;
            // After a change or a timeout, the view is rebuilt and compared.
            let _ = timeout(Duration::from_secs(REFRESH_SECONDS), changes.changed()).await;
            if active.feed.ends_unwatched() {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use chaarfm_sources::Libraries;
    use chaarfm_store::Store;

    use super::*;
    use crate::{Database, advertised_address::AdvertisedAddress};

    async fn hub(folder: &tempfile::TempDir) -> Arc<Hub> {
        let store = Store::open(&Database::Sqlite(folder.path().join("test.sqlite3"))).await.unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        Arc::new(Hub::new(store, Libraries::default(), None, AdvertisedAddress::of(&listener, None).unwrap()))
    }

    async fn next(views: &mut Views) -> Option<Arc<str>> {
        timeout(Duration::from_secs(10), views.next()).await.expect("there is something to see")
    }

    fn is_paused(view: Option<&Arc<str>>) -> bool {
        view.is_some_and(|json| json.contains(r#""state":"paused""#))
    }

    #[tokio::test]
    async fn all_pages_of_a_session_see_one_view_that_is_made_while_there_are_any() {
        let folder = tempfile::tempdir().unwrap();
        let hub = hub(&folder).await;
        let code = hub.current_session().await.unwrap().code;
        let active = hub.session(&code).await.unwrap();
        let mut pages: Vec<_> = (0..20).map(|_| hub.watch(&active)).collect();
        assert_eq!(hub.tasks.len(), 1, "one task for all of them");
        let first = next(&mut pages[0]).await.unwrap();
        for page in &mut pages[1..] {
            assert!(Arc::ptr_eq(&first, &next(page).await.unwrap()), "the very same view");
        }
        hub.set_paused(&active, true).await.unwrap();
        for page in &mut pages {
            assert!(is_paused(next(page).await.as_ref()));
        }
        drop(pages);
        active.has_changed();
        hub.tasks.close();
        timeout(Duration::from_secs(10), hub.tasks.wait()).await.expect("nobody looks any more");
        hub.tasks.reopen();
        let mut page = hub.watch(&active);
        assert!(is_paused(next(&mut page).await.as_ref()));
        hub.shutdown.cancel();
        assert_eq!(next(&mut page).await, None, "it stops");
    }

    #[tokio::test]
    async fn a_page_sees_nothing_from_before_it_came() {
        let folder = tempfile::tempdir().unwrap();
        let hub = hub(&folder).await;
        let code = hub.current_session().await.unwrap().code;
        let active = hub.session(&code).await.unwrap();
        let mut first = hub.watch(&active);
        for paused in [true, false, true] {
            assert_eq!(is_paused(next(&mut first).await.as_ref()), !paused);
            // No change was signalled, as when another coordinator made the change.
            hub.store.set_paused(active.id, paused).await.unwrap();
            assert_eq!(is_paused(next(&mut hub.watch(&active)).await.as_ref()), paused);
        }
    }
}
