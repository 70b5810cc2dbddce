//! This tab's run as a worker, from Join to Stop: it owns the Web Worker, replaces a lost one and keeps the log.
//!
//! Lives beside the pages, so that leaving `/join` for another page does not end the work. Leaves out how it looks:
//! that is `join`.

use std::{collections::VecDeque, time::Duration};

use chaarfm_protocol::{
    PairingCode,
    view::{LogLevel, LogLine},
};
use chaarfm_worker::{
    Status,
    tab::{FromWebWorker, ToWebWorker},
};
use leptos::prelude::*;

use crate::{
    wake_lock::WakeLock,
    web_worker::{DeviceWish, MAX_RESTARTS, Restarts, WebWorker},
};

/// The Web Worker's program is 4 MB and has to be loaded and compiled; after this long it is taken for lost.
const READY_TIMEOUT_SECONDS: u64 = 180;

/// How long a Web Worker has to hand back its jobs and say goodbye.
const STOP_TIMEOUT_SECONDS: u64 = 10;

/// Wait before a lost Web Worker is replaced.
const RESTART_WAIT_SECONDS: u64 = 2;

/// Log lines kept.
const MAX_LOG_LINES: usize = 200;

/// Where the run stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// None was begun.
    Idle,
    /// The Web Worker's program is on its way.
    Loading,
    /// The Web Worker is at it; its status says more.
    Working,
    /// It was asked to stop.
    Stopping,
    /// It is over.
    Over {
        /// Why, when nobody asked for it.
        reason: Option<String>,
    },
}

/// Tracks of this run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) done: u64,
    pub(crate) failed: u64,
}

/// The run, as signals that pages read.
#[derive(Clone, Copy)]
pub(crate) struct Lending {
    /// Where it stands.
    pub(crate) step: RwSignal<Step>,
    /// What the Web Worker last said of itself.
    pub(crate) status: RwSignal<Option<Status>>,
    /// The newest line first.
    pub(crate) log: RwSignal<VecDeque<LogLine>>,
    /// The code it was begun with, and what to compute on: what the page offers for the next run.
    pub(crate) begun_with: RwSignal<Option<(PairingCode, DeviceWish)>>,
    /// What Web Workers did that were lost since.
    earlier: RwSignal<Tally>,
    run: StoredValue<Option<Run>, LocalStorage>,
}

/// What is dropped, and thereby ended, with the run.
struct Run {
    worker: Option<WebWorker>,
    /// Counts the Web Workers, so that a word of an earlier one is told from one of the present one.
    number: u32,
    restarts: Restarts,
    /// The one wait that is under way: for `Ready`, for the replacement, or for `Ended`.
    wait: Option<TimeoutHandle>,
    _awake: WakeLock,
}

impl Drop for Run {
    fn drop(&mut self) {
        self.end_wait();
    }
}

impl Run {
    fn end_wait(&mut self) {
        if let Some(wait) = self.wait.take() {
            wait.clear();
        }
    }
}

impl Lending {
    /// No run yet.
    pub(crate) fn new() -> Self {
        Self {
            step: RwSignal::new(Step::Idle),
            status: RwSignal::new(None),
            log: RwSignal::new(VecDeque::new()),
            begun_with: RwSignal::new(None),
            earlier: RwSignal::new(Tally::default()),
            run: StoredValue::new_local(None),
        }
    }

    /// Whether a Web Worker is there or on its way.
    pub(crate) fn is_active(&self) -> bool {
        self.step.with(|step| matches!(step, Step::Loading | Step::Working | Step::Stopping))
    }

    /// What this run has done, lost Web Workers included.
    pub(crate) fn tally(&self) -> Tally {
        let earlier = self.earlier.get();
        self.status.with(|status| match status {
            Some(status) => Tally { done: earlier.done + status.done, failed: earlier.failed + status.failed },
            None => earlier,
        })
    }

    /// Begins a run. Does nothing while one is under way.
    pub(crate) fn start(self, code: PairingCode, device: DeviceWish) {
        if untrack(|| self.is_active()) {
            return;
        }
        self.begun_with.set(Some((code, device)));
        self.earlier.set(Tally::default());
        self.log.update(VecDeque::clear);
        self.run.set_value(Some(Run {
            worker: None,
            number: 0,
            restarts: Restarts::new(device),
            wait: None,
            _awake: WakeLock::acquire(),
        }));
        self.note(LogLevel::Info, format!("Joining {code}."));
        self.launch();
    }

    /// Ends the run in order: what is held is handed back first.
    pub(crate) fn stop(self) {
        match self.step.get_untracked() {
            Step::Idle | Step::Stopping | Step::Over { .. } => {}
            Step::Loading => self.over(None),
            Step::Working => {
                self.step.set(Step::Stopping);
                self.say(&ToWebWorker::Stop);
                self.wait(STOP_TIMEOUT_SECONDS, |lending| {
                    let text = format!(
                        "The worker had not stopped after {STOP_TIMEOUT_SECONDS} s, so it was closed. \
                         The coordinator gives its track to somebody else."
                    );
                    lending.note(LogLevel::Warning, text);
                    lending.over(None);
                });
            }
        }
    }

    /// Starts the next Web Worker of this run.
    fn launch(self) {
        self.step.set(Step::Loading);
        self.status.set(None);
        let Some(number) = self.with_run(|run| {
            run.number += 1;
            run.number
        }) else {
            return;
        };
        let started = WebWorker::start(move |message| {
            if self.with_run(|run| run.number) == Some(number) {
                self.hear(message);
            }
        });
        match started {
            Ok(worker) => {
                self.with_run(|run| run.worker = Some(worker));
                self.wait(READY_TIMEOUT_SECONDS, |lending| {
                    lending.lost(&format!("its program was not loaded after {READY_TIMEOUT_SECONDS} s"));
                });
            }
            Err(reason) => self.lost(&reason),
        }
    }

    fn hear(self, message: FromWebWorker) {
        match message {
            FromWebWorker::Ready => self.begin_work(),
            FromWebWorker::Status { status } => self.status.set(Some(status)),
            FromWebWorker::Log { level, message } => self.note(level, message),
            FromWebWorker::Ended { reason } => self.over(reason),
            FromWebWorker::Crashed { message } => self.lost(&message),
        }
    }

    fn begin_work(self) {
        let device = self.with_run(|run| {
            run.end_wait();
            run.restarts.device()
        });
        if let (Step::Loading, Some((code, _)), Some(device)) =
            (self.step.get_untracked(), self.begun_with.get_untracked(), device)
        {
            self.step.set(Step::Working);
            let server = location().origin().expect("a page has an origin");
            self.say(&ToWebWorker::Start { server, code: code.to_string(), device: device.name().into() });
        }
    }

    /// The Web Worker is gone without an `Ended`.
    fn lost(self, reason: &str) {
        let step = self.step.get_untracked();
        self.keep_tally();
        let again = self.with_run(|run| {
            run.worker = None;
            run.number += 1;
            run.end_wait();
            run.restarts.again(step == Step::Working).then(|| run.restarts.device())
        });
        self.note(LogLevel::Warning, format!("The worker was lost: {reason}."));
        match again.flatten() {
            _ if step == Step::Stopping => self.over(None),
            Some(device) => {
                let on = if device == DeviceWish::Cpu { " on the CPU" } else { "" };
                self.note(LogLevel::Info, format!("Starting another one{on} in {RESTART_WAIT_SECONDS} s."));
                self.step.set(Step::Loading);
                self.wait(RESTART_WAIT_SECONDS, Self::launch);
            }
            None => {
                let losses = u32::from(MAX_RESTARTS) + 1;
                self.over(Some(format!("the worker was lost {losses} times; the last reason was: {reason}")));
            }
        }
    }

    /// Ends the run at once.
    fn over(self, reason: Option<String>) {
        self.keep_tally();
        self.run.set_value(None);
        let text = match &reason {
            Some(reason) => format!("Over: {}.", reason.trim_end_matches('.')),
            None => "Stopped.".into(),
        };
        self.note(if reason.is_some() { LogLevel::Error } else { LogLevel::Info }, text);
        self.step.set(Step::Over { reason });
    }

    /// Moves what the present Web Worker did to the run's account before its status goes.
    fn keep_tally(self) {
        let tally = untrack(|| self.tally());
        self.status.set(None);
        self.earlier.set(tally);
    }

    fn say(self, message: &ToWebWorker) {
        self.with_run(|run| {
            if let Some(worker) = &run.worker {
                worker.say(message);
            }
        });
    }

    /// Calls `then` after a while unless another wait, or the run's end, comes first.
    fn wait(self, seconds: u64, then: impl Fn(Self) + 'static) {
        let handle = set_timeout_with_handle(
            move || {
                self.with_run(|run| run.wait = None);
                then(self);
            },
            Duration::from_secs(seconds),
        );
        self.with_run(|run| {
            run.end_wait();
            run.wait = handle.ok();
        });
    }

    fn with_run<T>(self, f: impl FnOnce(&mut Run) -> T) -> Option<T> {
        self.run.try_update_value(|run| run.as_mut().map(f)).flatten()
    }

    fn note(self, level: LogLevel, message: String) {
        let at_ms = js_sys::Date::now() as u64;
        self.log.update(|log| {
            log.push_front(LogLine { at_ms, level, message });
            log.truncate(MAX_LOG_LINES);
        });
    }
}
