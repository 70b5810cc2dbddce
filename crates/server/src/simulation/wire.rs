//! A connection between a worker and a coordinator that can die without either end noticing.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use chaarfm_protocol::{AcceptedAs, ToServer, ToWorker};
use tokio::sync::mpsc;

use super::process::Surroundings;
use crate::worker_socket::{Closing, Heard, Link};

/// The coordinator's end.
pub(super) struct Wired {
    worker: String,
    from_worker: mpsc::UnboundedReceiver<ToServer>,
    to_worker: mpsc::UnboundedSender<ToWorker>,
    is_cut: Arc<AtomicBool>,
    surroundings: Surroundings,
}

/// The worker's end.
#[derive(Debug)]
pub(super) struct Wire {
    to_server: mpsc::UnboundedSender<ToServer>,
    from_server: mpsc::UnboundedReceiver<ToWorker>,
    is_cut: Arc<AtomicBool>,
}

/// The other end has closed.
pub(super) struct Gone;

pub(super) fn wire(worker: &str, surroundings: &Surroundings) -> (Wire, Wired) {
    let (to_server, from_worker) = mpsc::unbounded_channel();
    let (to_worker, from_server) = mpsc::unbounded_channel();
    let is_cut = Arc::new(AtomicBool::new(false));
    let wired = Wired {
        worker: worker.to_owned(),
        from_worker,
        to_worker,
        is_cut: Arc::clone(&is_cut),
        surroundings: surroundings.clone(),
    };
    (Wire { to_server, from_server, is_cut }, wired)
}

impl Wire {
    /// From now on no message gets through, and neither end notices.
    pub(super) fn cut(&self) {
        self.is_cut.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_cut(&self) -> bool {
        self.is_cut.load(Ordering::Relaxed)
    }

    pub(super) fn say(&self, message: ToServer) {
        // If the other end is gone, the next read shows it.
        let _ = self.to_server.send(message);
    }

    /// The next message, if there is one.
    pub(super) fn hear(&mut self) -> Result<Option<ToWorker>, Gone> {
        match self.from_server.try_recv() {
            Ok(message) => Ok(Some(message)),
            Err(mpsc::error::TryRecvError::Empty) => Ok(None),
            Err(mpsc::error::TryRecvError::Disconnected) => Err(Gone),
        }
    }
}

impl Link for Wired {
    async fn hear(&mut self) -> Heard {
        let heard = self.from_worker.recv().await;
        if self.is_cut.load(Ordering::Relaxed) {
            return pending().await;
        }
        let now = self.surroundings.clock.now();
        let mut ledger = self.surroundings.ledger();
        ledger.note(|| format!("{} {} says {heard:?}", now.0, self.worker));
        if matches!(heard, Some(ToServer::Release { .. })) {
            ledger.has_room(&self.worker, now);
        }
        drop(ledger);
        heard.map_or_else(|| Heard::Gone("the connection broke".into()), Heard::Message)
    }

    async fn say(&mut self, message: &ToWorker) -> Result<(), String> {
        let now = self.surroundings.clock.now();
        let mut ledger = self.surroundings.ledger();
        ledger.note(|| format!("{} {} hears {message:?}", now.0, self.worker));
        match message {
            ToWorker::Welcome { .. } | ToWorker::Rejected { .. } => ledger.has_room(&self.worker, now),
            ToWorker::Accepted { outcome, .. } => {
                ledger.has_room(&self.worker, now);
                if *outcome == AcceptedAs::Stored {
                    ledger.count_stored(&self.worker);
                }
            }
            _ => {}
        }
        drop(ledger);
        if self.is_cut.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.to_worker.send(message.clone()).map_err(|_| "the connection broke".to_owned())
    }

    async fn close(self, _closing: Closing) {}
}
