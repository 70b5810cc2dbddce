//! Turns a library into jobs, in the background.

use std::{cmp::Reverse, collections::BTreeMap, sync::Arc, time::Duration};

use chaarfm_api::StartRequest;
use chaarfm_domain::{CollectionName, Found, LeftOutFiles, LogLevel};
use chaarfm_sources::{Library, Visit, WalkEnd};
use chaarfm_store::{Enqueued, NoScan, SCAN_TTL_SECONDS, Scan, ScanOrder, StoreError};
use tokio::{sync::mpsc, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::{ActiveSession, CommandError, Hub};
use crate::{models, spans};

/// Files that are read ahead and then queued in one transaction. With a single-writer database, the transaction blocks
/// other writers.
const MAX_BATCH_FILES: usize = 64;

/// How often a scan is marked as alive, however long its files take.
const RENEWAL_INTERVAL_SECONDS: u64 = SCAN_TTL_SECONDS / 4;

/// How often to look for scans of coordinators that have died.
const TAKEOVER_INTERVAL_SECONDS: u64 = 10;

/// Wait before retrying a failed database write.
const RETRY_SECONDS: u64 = 2;

/// Maximum number of kinds of skipped files that are distinguished, and the label for the rest.
const MAX_KINDS: usize = 100;
const OTHER_KINDS: &str = "of other kinds";

impl Hub {
    /// Starts scanning a library for a session.
    pub(crate) async fn start(
        self: &Arc<Self>,
        active: &Arc<ActiveSession>,
        request: StartRequest,
    ) -> Result<(), CommandError> {
        let collection: CollectionName = request.collection.parse()?;
        let model = request.model.unwrap_or_else(|| models::default_name().to_owned());
        if !models::exists(&model) {
            return Err(CommandError::UnknownModel(model));
        }
        let library = self.libraries.get(&request.library)?;
        let _transition = active.transition.lock().await;
        let order = ScanOrder {
            library: library.name(),
            collection: collection.as_str(),
            model: &model,
            every_file: request.every_file,
        };
        let begun = self.store.begin_scan(active.id, order, self.now()).await?;
        let scan = begun.map_err(|reason| match reason {
            NoScan::AlreadyScanning => CommandError::AlreadyScanning(active.code),
            NoScan::SessionEnded => CommandError::SessionEnded(active.code),
        })?;
        self.spawn_scan(active, scan, library);
        Ok(())
    }

    /// Looks for abandoned scans until the coordinator stops. Even a single coordinator can abandon a scan: when the
    /// database creates it but its answer is lost.
    pub(super) async fn run_takeovers(self: &Arc<Self>) {
        loop {
            let pause = sleep(Duration::from_secs(TAKEOVER_INTERVAL_SECONDS));
            if self.shutdown.run_until_cancelled(pause).await.is_none() {
                return;
            }
            if let Err(error) = self.resume_scans().await {
                tracing::warn!("abandoned scans could not be looked for: {error}");
            }
        }
    }

    /// Restarts scans that were interrupted when their coordinator stopped. If the database is down, they wait for
    /// [`Hub::run`].
    pub(crate) async fn resume_scans_if_possible(self: &Arc<Self>) -> Result<(), CommandError> {
        match self.resume_scans().await {
            Err(error) if error.is_passing() => {
                tracing::warn!("scans that were cut off have to wait: {error}");
                Ok(())
            }
            resumed => resumed,
        }
    }

    /// A library that is missing here may be on another coordinator.
    async fn resume_scans(self: &Arc<Self>) -> Result<(), CommandError> {
        for scan in self.store.abandoned_scans(self.now()).await? {
            let library = self.libraries.find(&scan.library);
            if library.is_none() && self.store.is_shared() {
                continue;
            }
            // Before the scan becomes this process's own: after that no other process would continue it.
            let active = self.session(&scan.code).await?;
            // The scan is still running here, but the database was down too long to renew it.
            if active.is_scanning(scan.number) {
                continue;
            }
            if !self.store.take_over_scan(&scan, self.now()).await? {
                continue;
            }
            match library {
                Some(library) => self.spawn_scan(&active, scan, library),
                None => {
                    let lost = format!("the scan of {} was cut off, and the library is not there now", scan.library);
                    active.log(LogLevel::Error, lost);
                    while let Err(error) = self.store.finish_scan(&scan, &[]).await {
                        if !(error.is_passing() && wait_out(&error, &self.shutdown).await) {
                            return Err(error.into());
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn spawn_scan(self: &Arc<Self>, active: &Arc<ActiveSession>, scan: Scan, library: Library) {
        let (hub, active) = (Arc::clone(self), Arc::clone(active));
        let stop = self.shutdown.child_token();
        active.begin_scan(scan.number, library.name(), stop.clone());
        active.log(LogLevel::Info, format!("scanning {}", library.name()));
        self.wake_all(&active);
        let span = spans::session(active.id);
        let scanning = async move {
            let mut left_out = LeftOut::default();
            let scanned = hub.scan(&active, &scan, library, &mut left_out, &stop).await;
            let left_out = left_out.views();
            let (finished, _transition) = loop {
                let transition = active.transition.lock().await;
                if stop.is_cancelled() {
                    // The owner has cancelled it, or the coordinator stops: then another process restarts it.
                    if let Err(error) = hub.store.abandon_scan(&scan).await {
                        tracing::warn!("a scan could not be left to others, who will wait for it: {error}");
                    }
                    return;
                }
                match hub.store.finish_scan(&scan, &left_out).await {
                    Err(error) if error.is_passing() => {
                        // Release the session while waiting, however long that takes.
                        drop(transition);
                        wait_out(&error, &stop).await;
                    }
                    finished => break (finished, transition),
                }
            };
            if let Err(error) = scanned.and(finished) {
                active.log(LogLevel::Error, format!("the scan was cut short: {error}"));
            }
            active.end_scan(scan.number);
            hub.wake_all(&active);
        };
        self.tasks.spawn(scanning.instrument(span));
    }

    async fn scan(
        &self,
        active: &ActiveSession,
        scan: &Scan,
        library: Library,
        left_out: &mut LeftOut,
        stop: &CancellationToken,
    ) -> Result<(), StoreError> {
        let (visits, mut visited) = mpsc::channel(MAX_BATCH_FILES);
        let name = library.name().to_owned();
        let walk = tokio::spawn(library.discover(visits, stop.clone()));
        let mut sum = Enqueued::default();
        let mut batch = Vec::new();
        let mut renewal = tokio::time::interval(Duration::from_secs(RENEWAL_INTERVAL_SECONDS));
        loop {
            let count = tokio::select! {
                biased;
                _ = renewal.tick() => match self.store.renew_scan(scan, self.now()).await {
                    Ok(false) => return Ok(()),
                    Ok(true) => continue,
                    Err(error) if error.is_passing() => continue,
                    Err(error) => return Err(error),
                },
                count = visited.recv_many(&mut batch, MAX_BATCH_FILES) => count,
            };
            if count == 0 {
                break;
            }
            let files = sort_out(active, &mut batch, left_out);
            if files.is_empty() {
                continue;
            }
            let queued = loop {
                match self.store.enqueue(scan, &files, self.now()).await {
                    Err(error) if error.is_passing() && wait_out(&error, stop).await => {}
                    queued => break queued?,
                }
            };
            // The caller that stopped the scan is about to cancel `stop`, or did so on another coordinator.
            let Some(queued) = queued else { return Ok(()) };
            sum.queued += queued.queued;
            sum.skipped += queued.skipped;
            sum.alike += queued.alike;
            sum.failed += queued.failed;
            active.count_scanned(files.len() as u64);
            self.wake_all(active);
        }
        match walk.await {
            Ok(WalkEnd::Stopped) => {}
            Ok(WalkEnd::Complete) => active.log(LogLevel::Info, summary(&name, sum, left_out)),
            Ok(WalkEnd::TooMany) => {
                active.log(
                    LogLevel::Error,
                    format!("{}; it has more files than one scan takes", summary(&name, sum, left_out)),
                );
            }
            Ok(WalkEnd::Broken(reason)) => {
                active.log(LogLevel::Error, format!("{}; then it broke off: {reason}", summary(&name, sum, left_out)));
            }
            Err(panic) => active.log(LogLevel::Error, format!("the scan of {name} broke off: {panic}")),
        }
        Ok(())
    }
}

/// Waits until the database may work again. Returns false when the scan was stopped meanwhile.
async fn wait_out(error: &StoreError, stop: &CancellationToken) -> bool {
    tracing::warn!("a scan waits: {error}");
    stop.run_until_cancelled(sleep(Duration::from_secs(RETRY_SECONDS))).await.is_some()
}

/// Number of files that a scan has skipped, by kind.
#[derive(Default)]
struct LeftOut(BTreeMap<String, u64>);

impl LeftOut {
    fn count(&mut self, kind: String) {
        let is_new = !self.0.contains_key(&kind);
        let kind = if is_new && self.0.len() >= MAX_KINDS { OTHER_KINDS.to_owned() } else { kind };
        *self.0.entry(kind).or_default() += 1;
    }

    /// The most frequent kind first.
    fn views(&self) -> Vec<LeftOutFiles> {
        let view = |(kind, files): (&String, &u64)| LeftOutFiles { kind: kind.clone(), files: *files };
        let mut views: Vec<_> = self.0.iter().map(view).collect();
        views.sort_by_key(|view| Reverse(view.files));
        views
    }
}

/// The files of a batch. Counts skipped files, and logs obstacles as notices.
fn sort_out(active: &ActiveSession, batch: &mut Vec<Visit>, left_out: &mut LeftOut) -> Vec<Found> {
    let mut files = Vec::with_capacity(batch.len());
    for visit in batch.drain(..) {
        match visit {
            Visit::File(found) => {
                if let Err(reason) = &found.content {
                    active.log(LogLevel::Error, format!("{} {reason}", found.track.file));
                }
                files.push(found);
            }
            Visit::LeftOut(kind) => left_out.count(kind),
            Visit::Obstacle(message) => active.log(LogLevel::Warning, format!("passed over: {message}")),
        }
    }
    files
}

fn summary(library: &str, sum: Enqueued, left_out: &LeftOut) -> String {
    let Enqueued { queued, skipped, alike, failed } = sum;
    let alike = if alike > 0 { format!(" ({alike} of them by artist, title and length alone)") } else { String::new() };
    let kinds: Vec<_> = left_out.views().iter().map(|view| format!("{} {}", view.files, view.kind)).collect();
    let left_out = if kinds.is_empty() { String::new() } else { format!("; left out: {}", kinds.join(", ")) };
    format!("scanned {library}: {queued} tracks queued, {skipped} known already{alike}, {failed} unreadable{left_out}")
}
