//! The state that the page shows.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chaarfm_domain::LogLevel;
use chaarfm_protocol::PairingCode;
use chaarfm_worker::{Address, Event, JobStatus, Status};
use serde::Serialize;
use tokio::sync::watch;

use super::coordinators::{Coordinator, Coordinators};
use crate::{
    devices::Plan,
    display::{self, Display, Record},
    join::End,
    manners::{Overview, State},
    orders::Order,
};

/// Most log lines shown; the oldest are dropped.
const MAX_LINES: usize = 50;

/// Time for open pages to receive the final state.
const LAST_VIEW: Duration = Duration::from_millis(500);

/// The state to show, and notification of open pages.
pub(crate) struct Board {
    shown: Mutex<Shown>,
    changes: watch::Sender<()>,
}

struct Shown {
    devices: Option<Devices>,
    session: Option<Session>,
    lanes: Vec<Record>,
    /// Tracks done and failed in earlier sessions of this run.
    earlier: (u64, u64),
    end: Option<String>,
    log: VecDeque<String>,
    coordinators: Coordinators,
    is_quitting: bool,
}

/// A snapshot of everything that the page shows.
#[derive(Debug, Serialize)]
pub(super) struct View {
    version: &'static str,
    devices: Option<Devices>,
    session: Option<Session>,
    lanes: Vec<LaneView>,
    done: u64,
    failed: u64,
    tracks_per_minute: f32,
    /// How the last session ended.
    end: Option<String>,
    log: Vec<String>,
    coordinators: Vec<Coordinator>,
    keeper: Overview,
    is_quitting: bool,
}

/// The devices in use.
#[derive(Debug, Clone, Serialize)]
struct Devices {
    names: Vec<String>,
    /// Their measured speeds.
    speeds: Option<String>,
    note: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
struct Session {
    address: String,
    code: String,
    order: &'static str,
}

#[derive(Debug, Serialize)]
struct LaneView {
    state: String,
    device: String,
    jobs: Vec<JobStatus>,
}

impl Board {
    pub(super) fn new(coordinators: Coordinators) -> Self {
        let shown = Shown {
            devices: None,
            session: None,
            lanes: Vec::new(),
            earlier: (0, 0),
            end: None,
            log: VecDeque::new(),
            coordinators,
            is_quitting: false,
        };
        Self { shown: Mutex::new(shown), changes: watch::Sender::new(()) }
    }

    /// The devices have been tried.
    pub(super) fn planned(&self, plan: &Plan) {
        let names = plan.places.iter().map(ToString::to_string).collect();
        let devices = Devices { names, speeds: plan.speeds.in_words(), note: plan.note.clone() };
        self.change(|shown| shown.devices = Some(devices));
    }

    /// Work for a session begins.
    pub(super) fn began(&self, address: &Address, code: PairingCode) {
        self.change(|shown| {
            shown.coordinators.joined(address, code);
            shown.session = Some(Session { address: address.to_string(), code: code.to_string(), order: "work" });
            shown.lanes.clear();
            shown.end = None;
        });
    }

    /// The person has given an order.
    pub(super) fn ordered(&self, order: Order, quits: bool) {
        self.change(|shown| {
            shown.is_quitting = quits;
            if let Some(session) = &mut shown.session {
                session.order = match order {
                    Order::Work => "work",
                    Order::Finish => "finish",
                    Order::Stop => "stop",
                };
            }
        });
    }

    /// Work for a session has ended.
    pub(super) fn ended(&self, end: &End) {
        let line = end.outcome.as_ref().map_or_else(|error| format!("{error:#}"), |()| end.to_string());
        tracing::info!("{line}");
        self.change(|shown| {
            let (done, failed, _) = shown.achieved();
            shown.earlier = (done, failed);
            shown.lanes.clear();
            shown.session = None;
            shown.end = Some(line);
        });
    }

    /// Removes a coordinator from the list.
    pub(super) fn forget(&self, address: &str) {
        self.change(|shown| shown.coordinators.forget(address));
    }

    /// The coordinator joined last.
    pub(super) fn last_coordinator(&self) -> Option<String> {
        self.shown().coordinators.list().first().map(|coordinator| coordinator.address.clone())
    }

    /// Receives every change, beginning with the next one.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// The current snapshot.
    pub(super) fn view(&self, keeper: Overview) -> View {
        let shown = self.shown();
        let (done, failed, tracks_per_minute) = shown.achieved();
        let lane = |record: &Record| {
            let Status { device, trial, jobs, .. } = record.last();
            LaneView {
                state: display::state(record.last()),
                device: display::device(device.as_ref(), trial),
                jobs: jobs.clone(),
            }
        };
        View {
            version: env!("CARGO_PKG_VERSION"),
            devices: shown.devices.clone(),
            session: shown.session.clone(),
            lanes: shown.lanes.iter().map(lane).collect(),
            done,
            failed,
            tracks_per_minute,
            end: shown.end.clone(),
            log: shown.log.iter().cloned().collect(),
            coordinators: shown.coordinators.list().to_vec(),
            keeper,
            is_quitting: shown.is_quitting,
        }
    }

    /// Waits for a moment, so that open pages receive the final state.
    pub(super) async fn last_view_is_seen(&self) {
        if self.changes.receiver_count() > 0 {
            tokio::time::sleep(LAST_VIEW).await;
        }
    }

    fn change(&self, change: impl FnOnce(&mut Shown)) {
        change(&mut self.shown());
        self.changes.send_replace(());
    }

    fn shown(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Display for Board {
    fn show(&self, lane: usize, event: Event<'_>) {
        self.change(|shown| match event {
            Event::Status(status) => {
                if shown.lanes.len() <= lane {
                    shown.lanes.resize_with(lane + 1, Record::new);
                }
                shown.lanes[lane].note(status);
            }
            Event::Log(level, line) => {
                match level {
                    LogLevel::Warning | LogLevel::Error => tracing::warn!("{line}"),
                    LogLevel::Info | LogLevel::Success => tracing::info!("{line}"),
                }
                if shown.log.len() == MAX_LINES {
                    shown.log.pop_front();
                }
                shown.log.push_back(line.to_owned());
            }
        });
    }

    /// Does nothing: each view contains the state.
    fn show_state(&self, _state: &State) {}
}

impl Shown {
    /// Tracks done and failed in this run, and the current tracks a minute.
    fn achieved(&self) -> (u64, u64, f32) {
        let earlier = (self.earlier.0, self.earlier.1, 0.0);
        display::sum(self.lanes.iter().map(Record::achieved).chain([earlier]))
    }
}
