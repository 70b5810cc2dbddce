//! The audit record: who joined, who was refused or set aside, and who gave which command. Noting an event never waits for
//! the database: entries go into a queue, which a loop writes.
//!
//! Strangers can cause entries, so refusals are limited: those beyond the limit are summarised in one entry.

use std::{
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use chaarfm_coordinator::Timestamp;
use chaarfm_domain::{AuditEntry, AuditEvent, SessionId, text};
use chaarfm_store::{Store, StoreError};
use tokio::{sync::mpsc, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::border::network_of;

/// Days that an entry is kept.
const RETENTION_DAYS: u64 = 90;

/// Number of entries kept; the oldest are deleted first.
const MAX_ENTRIES: u64 = 1_000_000;

/// Entries waiting to be written. Ten thousand workers may join at once.
const MAX_QUEUED: usize = 16_384;

/// Entries in one transaction.
const MAX_BATCH: usize = 200;

/// Refusals per minute that get an entry each.
const MAX_REFUSALS_PER_MINUTE: u64 = 60;

/// Wait after a failed write to the database.
const RETRY_SECONDS: u64 = 5;

/// Longest detail, in characters.
const MAX_DETAIL_CHARS: usize = 300;

const MINUTE_MILLIS: u64 = 60 * 1000;

const DAY_MILLIS: u64 = 24 * 60 * MINUTE_MILLIS;

/// The queue of entries.
pub(crate) struct Audit {
    sender: mpsc::Sender<AuditEntry>,
    /// Taken by the writing loop.
    receiver: Mutex<Option<mpsc::Receiver<AuditEntry>>>,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    /// Entries dropped because the queue was full.
    lost: u64,
    /// Start of the minute being counted.
    minute_ms: u64,
    /// Refusals in that minute.
    refusals: u64,
}

/// An event, without its time and kind.
#[derive(Debug, Clone, Default)]
pub(crate) struct Event<'a> {
    pub(crate) session: Option<SessionId>,
    pub(crate) actor: &'a str,
    pub(crate) address: &'a str,
}

impl Audit {
    pub(crate) fn new() -> Self {
        let (sender, receiver) = mpsc::channel(MAX_QUEUED);
        Self { sender, receiver: Mutex::new(Some(receiver)), counts: Mutex::default() }
    }

    /// Notes an event.
    pub(crate) fn note(&self, now: Timestamp, what: AuditEvent, event: &Event<'_>, detail: impl AsRef<str>) {
        let detail = text::cut(detail.as_ref(), MAX_DETAIL_CHARS);
        if what == AuditEvent::Refused && !self.has_room_for_refusal(now) {
            return;
        }
        let &Event { session, actor, address } = event;
        let session = session.map(|session| session.0);
        self.queue(AuditEntry {
            at_ms: now.0,
            event: what,
            session,
            actor: actor.into(),
            address: address.into(),
            detail,
        });
    }

    /// Counts a refusal; false if it gets no entry. The first one of a new minute also notes how many of the previous
    /// minute had no entry.
    fn has_room_for_refusal(&self, now: Timestamp) -> bool {
        let mut counts = self.counts();
        let minute_ms = now.0 - now.0 % MINUTE_MILLIS;
        let left_out = counts.refusals.saturating_sub(MAX_REFUSALS_PER_MINUTE);
        let (ended_ms, is_new) = (counts.minute_ms, counts.minute_ms != minute_ms);
        if is_new {
            (counts.minute_ms, counts.refusals) = (minute_ms, 0);
        }
        counts.refusals += 1;
        let has_room = counts.refusals <= MAX_REFUSALS_PER_MINUTE;
        drop(counts);
        if is_new && left_out > 0 {
            self.queue(summary(ended_ms, AuditEvent::Refused, format!("{left_out} more in the same minute")));
        }
        has_room
    }

    fn queue(&self, entry: AuditEntry) {
        if self.sender.try_send(entry).is_err() {
            self.counts().lost += 1;
        }
    }

    fn counts(&self) -> std::sync::MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes queued entries until shutdown, and then the rest of the queue if the database accepts it.
    pub(crate) async fn run(&self, store: &Store, now: impl Fn() -> Timestamp, shutdown: &CancellationToken) {
        let Some(mut receiver) = self.receiver.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        let mut batch = Vec::with_capacity(MAX_BATCH);
        while shutdown.run_until_cancelled(receiver.recv_many(&mut batch, MAX_BATCH)).await.is_some() {
            let lost = std::mem::take(&mut self.counts().lost);
            if lost > 0 {
                batch.push(summary(now().0, AuditEvent::Lost, format!("{lost} entries, as the database was away")));
            }
            while let Err(error) = store.add_audit(&batch).await {
                tracing::warn!("the audit record cannot be written: {error}");
                if !error.is_passing() {
                    break;
                }
                if shutdown.run_until_cancelled(sleep(Duration::from_secs(RETRY_SECONDS))).await.is_none() {
                    return;
                }
            }
            batch.clear();
        }
        while receiver.try_recv().map(|entry| batch.push(entry)).is_ok() {}
        for part in batch.chunks(MAX_BATCH) {
            if let Err(error) = store.add_audit(part).await {
                tracing::warn!("the end of the audit record is lost: {error}");
                return;
            }
        }
    }
}

/// Deletes entries that are too old or exceed the maximum.
pub(crate) async fn prune(store: &Store, now: Timestamp) -> Result<(), StoreError> {
    let oldest = Timestamp(now.0.saturating_sub(RETENTION_DAYS * DAY_MILLIS));
    store.prune_audit(oldest, MAX_ENTRIES).await
}

/// The form in which addresses are recorded: for IPv6, the network of one customer.
pub(crate) fn address(ip: Option<IpAddr>) -> String {
    ip.map(|ip| network_of(ip).to_string()).unwrap_or_default()
}

fn summary(at_ms: u64, event: AuditEvent, detail: String) -> AuditEntry {
    AuditEntry { at_ms, event, session: None, actor: String::new(), address: String::new(), detail }
}

#[cfg(test)]
mod tests {
    use chaarfm_store::memory::Memory;

    use super::*;

    fn noted(audit: &Audit) -> Vec<AuditEntry> {
        let mut receiver = audit.receiver.lock().unwrap();
        let receiver = receiver.as_mut().unwrap();
        std::iter::from_fn(|| receiver.try_recv().ok()).collect()
    }

    #[test]
    fn a_flood_of_refusals_is_counted_and_not_listed() {
        let audit = Audit::new();
        let at = |second: u64| Timestamp(1_000 * MINUTE_MILLIS + second * 1000);
        for _ in 0..MAX_REFUSALS_PER_MINUTE + 40 {
            audit.note(at(1), AuditEvent::Refused, &Event::default(), "no such code");
        }
        audit.note(at(2), AuditEvent::Joined, &Event { actor: "worker", ..Event::default() }, "by friends");
        audit.note(at(61), AuditEvent::Refused, &Event::default(), "no such code");
        let noted = noted(&audit);
        assert_eq!(noted.len() as u64, MAX_REFUSALS_PER_MINUTE + 3);
        let [.., joined, more, last] = &noted[..] else { unreachable!() };
        assert_eq!((joined.event, joined.actor.as_str()), (AuditEvent::Joined, "worker"));
        assert_eq!((more.at_ms, more.detail.as_str()), (at(0).0, "40 more in the same minute"));
        assert_eq!(last.at_ms, at(61).0);
    }

    #[tokio::test]
    async fn what_the_queue_has_no_room_for_is_counted_and_said() {
        let store = Store::in_memory(Memory::empty());
        let audit = Audit::new();
        let event = Event { session: Some(SessionId(7)), actor: "the token ci", address: "192.0.2.7" };
        for _ in 0..MAX_QUEUED + 5 {
            audit.note(Timestamp(5), AuditEvent::Commanded, &event, "x".repeat(1000));
        }
        let shutdown = CancellationToken::new();
        let writing = audit.run(&store, || Timestamp(6), &shutdown);
        let watching = async {
            while store.audit(None, 1).await.unwrap().first().is_none_or(|(id, _)| *id <= MAX_QUEUED as i64) {
                tokio::task::yield_now().await;
            }
            shutdown.cancel();
        };
        tokio::join!(writing, watching);
        let newest = store.audit(None, 1000).await.unwrap();
        let lost = newest.iter().find(|(_, entry)| entry.event == AuditEvent::Lost);
        assert!(lost.is_none_or(|(_, entry)| entry.detail.starts_with("5 entries")), "{lost:?}");
        let entry = &newest.iter().find(|(_, entry)| entry.event == AuditEvent::Commanded).unwrap().1;
        assert_eq!((entry.session, entry.actor.as_str()), (Some(7), "the token ci"));
        assert!(entry.detail.chars().count() <= MAX_DETAIL_CHARS + 1);
    }
}
