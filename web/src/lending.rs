//! This tab's run as a worker, from Join to Stop: owns the Web Workers, replaces lost ones and keeps the log.
//!
//! Independent of the pages, so that leaving `/join` for another page does not end the work. `run` makes the decisions,
//! and this module carries them out. Not here: the display (`join`).

mod keys;
mod run;
mod slot;
mod terms;
mod trial;

use std::{collections::VecDeque, ops::Range, pin::pin};

use chaarfm_api::LogLine;
use chaarfm_domain::LogLevel;
use chaarfm_protocol::Speeds;
use chaarfm_worker::tab::{FromWebWorker, ToWebWorker};
use futures_channel::oneshot;
use futures_util::future::{Either, select};
use gloo_timers::callback::{Interval, Timeout};
use leptos::{prelude::*, task::spawn_local};

use self::run::{AfterLoss, Known, LOOK_SECONDS, SILENCE_LIMIT_SECONDS};
pub(crate) use self::{
    run::{Run, Step},
    slot::{Counters, Slot, SlotStep},
    terms::{DeviceWish, MAX_WEB_WORKERS, Terms, default_web_workers, read_web_workers},
};
use crate::{
    gpu::{self, Gpu},
    wake_lock::WakeLock,
    web_worker::WebWorker,
};

/// A Web Worker's program is up to 8 MB and must be loaded and compiled; after this long it counts as lost.
const READY_TIMEOUT_SECONDS: u32 = 180;

/// Time for the Web Workers to hand back their jobs and say goodbye.
const STOP_TIMEOUT_SECONDS: u32 = 10;

/// Most log lines kept.
const MAX_LOG_LINES: usize = 100;

/// Equal messages of several Web Workers within this time are logged once.
const ECHO_SECONDS: u64 = 3;

/// The run, as signals that pages read.
#[derive(Clone, Copy)]
pub(crate) struct Lending {
    /// The current or last run.
    pub(crate) run: RwSignal<Option<Run>>,
    /// The newest line first.
    pub(crate) log: RwSignal<VecDeque<LogLine>>,
    held: StoredValue<Option<Held>, LocalStorage>,
}

/// Resources of the run; dropping them ends it.
struct Held {
    /// The Web Worker in each slot.
    seats: Vec<Seat>,
    /// The time limit for Web Workers that were told to stop.
    stopping: Option<Timeout>,
    /// Dropping it cancels the trial of the devices.
    trial: Option<oneshot::Sender<()>>,
    _watch: Interval,
    _awake: WakeLock,
}

/// A Web Worker, and its one pending wait: for `Ready`, or before its replacement.
#[derive(Default)]
struct Seat {
    worker: Option<WebWorker>,
    wait: Option<Timeout>,
}

impl Lending {
    /// Creates the state without a run.
    pub(crate) fn new() -> Self {
        Self { run: RwSignal::new(None), log: RwSignal::new(VecDeque::new()), held: StoredValue::new_local(None) }
    }

    /// The state of the run.
    pub(crate) fn step(&self) -> Step {
        self.run.with(|run| run.as_ref().map_or(Step::Idle, Run::step))
    }

    /// Whether a Web Worker is running or starting.
    pub(crate) fn is_active(&self) -> bool {
        self.run.with(|run| run.as_ref().is_some_and(Run::is_active))
    }

    /// The tracks of this run.
    pub(crate) fn counters(&self) -> Counters {
        self.run.with(|run| run.as_ref().map(Run::counters).unwrap_or_default())
    }

    /// Starts a run. Does nothing while one is active.
    pub(crate) fn start(self, terms: Terms) {
        if untrack(|| self.is_active()) {
            return;
        }
        self.log.update(VecDeque::clear);
        self.held.set_value(Some(Held {
            seats: Vec::new(),
            stopping: None,
            trial: None,
            _watch: Interval::new(LOOK_SECONDS * 1000, move || self.look()),
            _awake: WakeLock::acquire(),
        }));
        self.run.set(Some(Run::new(terms)));
        self.note(LogLevel::Info, format!("Joining {}.", terms.code));
        if terms.device == DeviceWish::Cpu {
            self.choose(None);
        } else {
            let (alive, ended) = oneshot::channel::<()>();
            self.with_held(|held| held.trial = Some(alive));
            spawn_local(async move {
                // If the run ends, its trial is cancelled and no answer is needed.
                if let Either::Left((known, _)) = select(pin!(self.look_for_gpu(terms)), ended).await {
                    self.choose(Some(known));
                }
            });
        }
    }

    /// Finds out about the graphics card. Measures it only if the device is to be chosen automatically.
    async fn look_for_gpu(self, terms: Terms) -> Known {
        match gpu::look().await {
            Gpu::Software => Known::Software,
            Gpu::Missing(reason) => Known::Missing(reason.into()),
            Gpu::Real(_) if terms.device == DeviceWish::Gpu => Known::Measured(Speeds::default()),
            Gpu::Real(name) => {
                let say = || self.note(LogLevel::Info, "Trying out the CPU and the graphics card, this once.".into());
                trial::known(&name, terms.web_workers, &server(), say).await
            }
        }
    }

    /// Ends the run properly: jobs are handed back first.
    pub(crate) fn stop(self) {
        if untrack(|| self.step()) == Step::Stopping {
            return;
        }
        self.change(Run::stop);
        self.with_held(|held| {
            for worker in held.seats.iter().filter_map(|seat| seat.worker.as_ref()) {
                worker.say(&ToWebWorker::Stop);
            }
            held.stopping = Some(Timeout::new(STOP_TIMEOUT_SECONDS * 1000, move || self.give_up()));
        });
    }

    fn give_up(self) {
        let text = format!(
            "The worker had not stopped after {STOP_TIMEOUT_SECONDS} s, so it was closed. \
             The coordinator gives its track to somebody else."
        );
        self.note(LogLevel::Warning, text);
        self.change(Run::give_up);
    }

    fn choose(self, gpu: Option<Known>) {
        let slots = self.change(|run| run.choose(gpu)).unwrap_or_default();
        if !slots.is_empty() {
            self.say_why_no_gpu();
        }
        if let Some(speeds) = self.with_run(|run| run.trial().speeds.in_words()).flatten() {
            self.note(LogLevel::Info, format!("{speeds}."));
        }
        self.launch(slots);
    }

    /// Starts Web Workers in these slots.
    fn launch(self, slots: Range<usize>) {
        for slot in slots {
            let Some(program) = self.with_run(|run| run.slots()[slot].program()) else { return };
            match WebWorker::start(program, move |message| self.hear(slot, message)) {
                Ok(worker) => {
                    let late = move || {
                        self.lost(slot, &format!("its program was not loaded after {READY_TIMEOUT_SECONDS} s"));
                    };
                    self.with_seat(slot, |seat| {
                        *seat =
                            Seat { worker: Some(worker), wait: Some(Timeout::new(READY_TIMEOUT_SECONDS * 1000, late)) };
                    });
                }
                Err(reason) => self.lost(slot, &reason),
            }
        }
    }

    fn hear(self, slot: usize, message: FromWebWorker) {
        match message {
            FromWebWorker::Ready => self.ready(slot),
            FromWebWorker::Status { status } => {
                let slots = self.change(|run| run.hear(slot, status));
                self.launch(slots.unwrap_or_default());
            }
            FromWebWorker::Log { level, message } => self.echo(level, message),
            // Only sent in a trial.
            FromWebWorker::Measured { .. } => {}
            FromWebWorker::NoDevice { reason } => self.no_device(slot, reason),
            FromWebWorker::Ended { reason } => {
                self.change(|run| run.ended(slot, reason));
            }
            FromWebWorker::Crashed { message } => self.lost(slot, &message),
        }
    }

    fn ready(self, slot: usize) {
        let start = self.change(|run| run.ready(slot, server(), keys::key(run.code()))).flatten();
        self.with_seat(slot, |seat| {
            seat.wait = None;
            if let (Some(worker), Some(start)) = (&seat.worker, start) {
                worker.say(&start);
            }
        });
    }

    fn no_device(self, slot: usize, reason: String) {
        self.with_seat(slot, |seat| *seat = Seat::default());
        if self.change(|run| run.no_device(slot, reason)) == Some(true) {
            self.say_why_no_gpu();
            self.launch(slot..slot + 1);
        } else if untrack(|| self.is_active()) {
            self.say_why_no_gpu();
        }
    }

    /// Replaces Web Workers that are stuck.
    fn look(self) {
        for slot in self.change(Run::look).unwrap_or_default() {
            self.lost(slot, &format!("it showed no sign of life for {SILENCE_LIMIT_SECONDS} s"));
        }
    }

    /// Handles a Web Worker that ended without `Ended`.
    fn lost(self, slot: usize, reason: &str) {
        self.with_seat(slot, |seat| *seat = Seat::default());
        self.note(LogLevel::Warning, format!("The worker was lost: {}.", reason.trim_end_matches('.')));
        match self.change(|run| run.lost(slot, reason)) {
            Some(AfterLoss::Another { program, seconds }) => {
                self.note(LogLevel::Info, format!("Starting another one on the {} in {seconds} s.", program.name()));
                self.with_seat(slot, |seat| {
                    seat.wait = Some(Timeout::new(seconds * 1000, move || self.launch(slot..slot + 1)));
                });
            }
            Some(AfterLoss::Nothing) if untrack(|| self.step()) == Step::Working => {
                self.note(LogLevel::Info, "There will be no other one in its place; the others go on.".into());
            }
            Some(AfterLoss::Nothing) | None => {}
        }
    }

    /// Reports an event to the active run, then releases resources that are no longer needed.
    fn change<T>(self, happen: impl FnOnce(&mut Run) -> T) -> Option<T> {
        let result = self.run.try_update(|run| run.as_mut().filter(|run| run.is_active()).map(happen)).flatten()?;
        let (step, slots) =
            self.with_run(|run| (run.step(), run.slots().iter().map(Slot::step).collect::<Vec<_>>()))?;
        if let Step::Over { reason } = step {
            self.held.set_value(None);
            match reason {
                Some(reason) => self.note(LogLevel::Error, format!("Over: {}.", reason.trim_end_matches('.'))),
                None => self.note(LogLevel::Info, "Stopped.".into()),
            }
        } else {
            self.with_held(|held| {
                held.seats.resize_with(slots.len(), Seat::default);
                for (seat, slot) in held.seats.iter_mut().zip(&slots) {
                    if *slot == SlotStep::Over {
                        *seat = Seat::default();
                    }
                }
            });
        }
        Some(result)
    }

    fn with_run<T>(self, read: impl FnOnce(&Run) -> T) -> Option<T> {
        self.run.with_untracked(|run| run.as_ref().map(read))
    }

    fn with_held<T>(self, f: impl FnOnce(&mut Held) -> T) -> Option<T> {
        self.held.try_update_value(|held| held.as_mut().map(f)).flatten()
    }

    fn with_seat(self, slot: usize, f: impl FnOnce(&mut Seat)) {
        self.with_held(|held| held.seats.get_mut(slot).map(f));
    }

    fn say_why_no_gpu(self) {
        if let Some(reason) = self.with_run(|run| run.note().map(str::to_owned)).flatten() {
            self.note(LogLevel::Info, format!("The CPU does the work: {reason}."));
        }
    }

    /// Logs a message of a Web Worker, unless another one has just sent the same.
    fn echo(self, level: LogLevel, message: String) {
        let since = now_ms().saturating_sub(ECHO_SECONDS * 1000);
        let is_echo = self.log.with_untracked(|log| {
            let recent = log.iter().take_while(|line| line.at_ms >= since);
            recent.into_iter().any(|line| line.level == level && line.message == message)
        });
        // Two tracks may have the same name, so successes are always logged.
        if !is_echo || level == LogLevel::Success {
            self.note(level, message);
        }
    }

    fn note(self, level: LogLevel, message: String) {
        self.log.update(|log| {
            log.push_front(LogLine { at_ms: now_ms(), level, message });
            log.truncate(MAX_LOG_LINES);
        });
    }
}

/// The coordinator that this page comes from.
fn server() -> String {
    location().origin().expect("a page has an origin")
}

fn now_ms() -> u64 {
    js_sys::Date::now() as u64
}
