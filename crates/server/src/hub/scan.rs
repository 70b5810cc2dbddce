//! Turns a library into jobs, in the background.

use std::sync::Arc;

use chaarfm_coordinator::CollectionName;
use chaarfm_protocol::view::{LogLevel, StartRequest};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{CommandError, Hub, Live, now};
use crate::{
    library::{Library, Visit, WalkEnd},
    models,
    store::{Enqueued, Found, NoScan, Scan, StoreError},
};

/// Files that are looked at ahead of being queued, and that are queued in one transaction.
const MAX_BATCH_FILES: usize = 256;

impl Hub {
    /// Begins to scan a library for a session.
    pub(crate) async fn start(self: &Arc<Self>, live: &Arc<Live>, request: StartRequest) -> Result<(), CommandError> {
        let collection: CollectionName = request.collection.parse()?;
        let model = request.model.unwrap_or_else(|| models::default_name().to_owned());
        if !models::exists(&model) {
            return Err(CommandError::UnknownModel(model));
        }
        let library = self.libraries.find(&request.library).ok_or(CommandError::UnknownLibrary(request.library))?;
        let _in_step = live.in_step.lock().await;
        let begun = self.store.begin_scan(live.id, library.name(), collection.as_str(), &model).await?;
        let scan = begun.map_err(|reason| match reason {
            NoScan::AlreadyScanning => CommandError::AlreadyScanning(live.code),
            NoScan::SessionEnded => CommandError::SessionEnded(live.code),
        })?;
        self.spawn_scan(live, scan, library.clone());
        Ok(())
    }

    /// Begins the scans again that were cut off when the coordinator last stopped.
    pub(crate) async fn resume_scans(self: &Arc<Self>) -> Result<(), CommandError> {
        for scan in self.store.unfinished_scans().await? {
            let live = self.session(&scan.code).await?;
            match self.libraries.find(&scan.library) {
                Some(library) => self.spawn_scan(&live, scan, library.clone()),
                None => {
                    let lost = format!("the scan of {} was cut off, and the library is not there now", scan.library);
                    live.log(LogLevel::Error, lost);
                    self.store.finish_scan(&scan).await?;
                }
            }
        }
        Ok(())
    }

    fn spawn_scan(self: &Arc<Self>, live: &Arc<Live>, scan: Scan, library: Library) {
        let (hub, live) = (Arc::clone(self), Arc::clone(live));
        let stop = self.shutdown.child_token();
        live.begin_scan(library.name(), stop.clone());
        live.log(LogLevel::Info, format!("scanning {}", library.name()));
        self.wake();
        self.tasks.spawn(async move {
            let scanned = hub.scan(&live, &scan, library, &stop).await;
            let _in_step = live.in_step.lock().await;
            if stop.is_cancelled() {
                // Its owner has called it off, or the coordinator stops: then the next process begins it again.
                return;
            }
            let finished = hub.store.finish_scan(&scan).await;
            if let Err(error) = scanned.and(finished) {
                live.log(LogLevel::Error, format!("the scan was cut short: {error}"));
            }
            live.stop_scan();
            hub.wake();
        });
    }

    async fn scan(
        &self,
        live: &Live,
        scan: &Scan,
        library: Library,
        stop: &CancellationToken,
    ) -> Result<(), StoreError> {
        let (visits, mut visited) = mpsc::channel(MAX_BATCH_FILES);
        let name = library.name().to_owned();
        let walk_stop = stop.clone();
        let walk = tokio::task::spawn_blocking(move || {
            library.walk(|visit| visits.blocking_send(visit).is_ok(), || walk_stop.is_cancelled())
        });
        let mut sum = Enqueued::default();
        let mut batch = Vec::new();
        while visited.recv_many(&mut batch, MAX_BATCH_FILES).await > 0 {
            let files = readable_files(live, &mut batch);
            // Who has called it off is about to cancel `stop`.
            let Some(queued) = self.store.enqueue(scan, &files, now()).await? else { return Ok(()) };
            sum.queued += queued.queued;
            sum.skipped += queued.skipped;
            sum.failed += queued.failed;
            live.count_scanned(files.len() as u64);
            self.wake();
        }
        match walk.await {
            Ok(WalkEnd::Stopped) => {}
            Ok(WalkEnd::Complete) => live.log(LogLevel::Info, summary(&name, sum)),
            Ok(WalkEnd::TooMany) => {
                live.log(LogLevel::Error, format!("{}; it has more files than one scan takes", summary(&name, sum)));
            }
            Err(panic) => live.log(LogLevel::Error, format!("the scan of {name} broke off: {panic}")),
        }
        Ok(())
    }
}

/// The files of a batch; what stood in a walk's way becomes a notice.
fn readable_files(live: &Live, batch: &mut Vec<Visit>) -> Vec<Found> {
    let mut files = Vec::with_capacity(batch.len());
    for visit in batch.drain(..) {
        match visit {
            Visit::File(found) => {
                if let Err(reason) = &found.content {
                    live.log(LogLevel::Error, format!("{} {reason}", found.track.file));
                }
                files.push(found);
            }
            Visit::Obstacle(message) => live.log(LogLevel::Warning, format!("passed over: {message}")),
        }
    }
    files
}

fn summary(library: &str, sum: Enqueued) -> String {
    let Enqueued { queued, skipped, failed } = sum;
    format!("scanned {library}: {queued} tracks queued, {skipped} known already, {failed} unreadable")
}
