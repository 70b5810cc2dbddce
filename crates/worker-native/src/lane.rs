//! One device's work for a session; to the coordinator it is a worker of its own. It survives stuck analyses and, where
//! another device is available, the loss of its own.

use std::{cell::RefCell, sync::Arc, time::Duration};

use anyhow::{Result, bail, ensure};
use chaarfm_analysis::Backend;
use chaarfm_domain::LogLevel;
use chaarfm_protocol::{PairingCode, Stage, Trial, WorkerKind, limits::MAX_AUDIO_BYTES};
use chaarfm_worker::{Address, Config, Event, Exit, Status, run as live};

use crate::{
    analyser::{Analyser, Breakdown},
    devices::{self, Place},
    display::{self, Display},
    keys::Keys,
    manners::{Gate, Keeper, SHORT_PAUSE_SECONDS},
    network::Network,
    orders::{Order, Orders, ordered},
    platform::Native,
};

/// Most stuck analyses in a run. Each leaves a thread behind, which may keep a core busy until the end of the process.
/// A lone worker gets the same file three times.
const MAX_STALLS: u32 = 12;

/// Longest wait for a device that is opened again after a stuck analysis. Opening takes a minute at most, or never ends
/// if the device itself is stuck.
const REOPEN_LIMIT_SECONDS: u64 = 120;

/// A device and the coordinator it works for.
pub(crate) struct Lane<'a> {
    /// Its place on the display.
    pub(crate) number: usize,
    pub(crate) network: Network,
    pub(crate) address: Address,
    pub(crate) code: PairingCode,
    pub(crate) keys: Keys,
    pub(crate) course: Course,
    pub(crate) orders: Orders,
    pub(crate) keeper: Arc<Keeper>,
    pub(crate) display: &'a dyn Display,
}

/// Tracks of a lane, and how it ended.
pub(crate) struct End {
    pub(crate) done: u64,
    pub(crate) failed: u64,
    pub(crate) outcome: Result<Leave>,
}

/// How a lane ended properly.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Leave {
    /// It was asked to.
    Stopped,
    /// The coordinator does not want it, for this reason.
    Refused(String),
    /// Its device is lost, and the other one goes on.
    Lost,
}

impl Lane<'_> {
    /// Works until it is asked to stop, refused, or out of devices.
    pub(crate) async fn live(mut self) -> End {
        let (mut done, mut failed) = (0, 0);
        let outcome = loop {
            let (status, end) = self.turn().await;
            (done, failed) = (done + status.done, failed + status.failed);
            match end {
                Ok(Turn::Leave(leave)) => break Ok(leave),
                Ok(Turn::Paused) => {}
                Ok(Turn::Broken(breakdown)) => match self.course.go_on(breakdown) {
                    Ok((line, next)) => {
                        if let Some(lost) = self.course.lost.take() {
                            devices::note_failure(&lost, &line);
                        }
                        self.display.show(self.number, Event::Log(LogLevel::Warning, &line));
                        if next == Next::Leave {
                            break Ok(Leave::Lost);
                        }
                    }
                    Err(error) => break Err(error),
                },
                Err(error) => break Err(error),
            }
        };
        End { done, failed, outcome }
    }

    /// Opens the device and works until the turn ends.
    async fn turn(&mut self) -> (Status, Result<Turn>) {
        let Self { number, display, .. } = *self;
        let show = |event: Event<'_>| display.show(number, event);
        let last = RefCell::new(Status::starting());
        show(Event::Status(&Status::starting()));
        let gate = self.keeper.gate();
        tokio::select! {
            () = gate.running() => {}
            () = ordered(self.orders.clone(), Order::Finish) => {
                return (last.into_inner(), Ok(Turn::Leave(Leave::Stopped)));
            }
        }
        show(Event::Log(LogLevel::Info, "starting the device"));
        let mut stopped = std::pin::pin!(ordered(self.orders.clone(), Order::Stop));
        let started = tokio::select! {
            started = Analyser::start(self.course.place.clone(), Arc::clone(&self.keeper)) => started,
            () = tokio::time::sleep(Duration::from_secs(REOPEN_LIMIT_SECONDS)), if self.course.stalls > 0 => {
                let reason = format!("after an analysis stood still it did not open for {REOPEN_LIMIT_SECONDS} s");
                return (last.into_inner(), Ok(Turn::Broken(Breakdown::Device(reason))));
            }
            () = &mut stopped => return (last.into_inner(), Ok(Turn::Leave(Leave::Stopped))),
        };
        let (analyser, mut broken) = match started {
            Ok(started) => started,
            // This device worked when it was tried.
            Err(error) if self.course.retreat.is_some() => {
                return (last.into_inner(), Ok(Turn::Broken(Breakdown::Device(error.to_string()))));
            }
            Err(error) => return (last.into_inner(), Err(error)),
        };
        let device = analyser.device.clone();
        show(Event::Log(LogLevel::Info, &display::device(Some(&device), &self.course.trial)));
        let platform = Native::new(analyser, Arc::clone(&self.keeper), self.orders.clone(), self.network.clone());
        let config = Config {
            address: self.address.clone(),
            code: self.code,
            key: self.keys.key(&self.address, self.code),
            kind: WorkerKind::Native,
            agent: concat!("chaarfm-worker/", env!("CARGO_PKG_VERSION")).to_owned(),
            device,
            trial: self.course.trial.clone(),
            max_audio_bytes: MAX_AUDIO_BYTES,
        };
        let breakdown = RefCell::new(None);
        let stop = async {
            tokio::select! {
                () = &mut stopped => {}
                Some(found) = broken.recv() => *breakdown.borrow_mut() = Some(found),
                () = long_pause(gate, || last.borrow().jobs.iter().any(|job| job.stage == Stage::Fetching)) => {}
            }
        };
        let exit = live(&platform, config, stop, |event| {
            if let Event::Status(status) = event {
                last.replace(status.clone());
            }
            show(event);
        })
        .await;
        let turn = match (exit, breakdown.into_inner()) {
            (Exit::Refused { message, .. }, _) => Turn::Leave(Leave::Refused(message)),
            (Exit::Stopped, None) if *self.orders.borrow() == Order::Work => Turn::Paused,
            (Exit::Stopped, None) => Turn::Leave(Leave::Stopped),
            (Exit::Stopped, Some(breakdown)) => Turn::Broken(breakdown),
        };
        (last.into_inner(), Ok(turn))
    }
}

/// How a turn ended: one opening of the device.
enum Turn {
    Leave(Leave),
    Broken(Breakdown),
    /// The machine may not work, and the tracks are handed back. The lane joins again when the machine may.
    Paused,
}

/// Resolves when computing, or fetching while `is_fetching`, is forbidden for longer than a short pause. Counts second
/// by second, so that time in which the machine sleeps does not count.
async fn long_pause(gate: &Gate, is_fetching: impl Fn() -> bool) {
    let mut paused_seconds = 0;
    while paused_seconds < SHORT_PAUSE_SECONDS {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let state = gate.permit().state;
        let stands_still = !state.may_compute() || (!state.may_fetch() && is_fetching());
        paused_seconds = if stands_still { paused_seconds + 1 } else { 0 };
    }
}

/// The device to compute on, across all breakdowns of a run.
#[derive(Debug)]
pub(crate) struct Course {
    pub(crate) place: Place,
    pub(crate) trial: Trial,
    /// The alternative when the device stops working; none if a person chose the device, or it is the last.
    pub(crate) retreat: Option<Retreat>,
    /// Number of stuck analyses.
    stalls: u32,
    /// A GPU that has just stopped working.
    lost: Option<Place>,
}

/// The alternative when a device stops working.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Retreat {
    /// The CPU, which is idle so far.
    Cpu,
    /// The lane of the other device.
    OtherLane,
}

/// What a lane does after a breakdown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Begin,
    Leave,
}

impl Course {
    pub(crate) fn new(place: Place, trial: Trial, retreat: Option<Retreat>) -> Self {
        Self { place, trial, retreat, stalls: 0, lost: None }
    }

    /// Decides how to go on after a breakdown, and says so in words. One stuck analysis is no reason to leave the
    /// device.
    ///
    /// # Errors
    /// When the run has to end.
    fn go_on(&mut self, breakdown: Breakdown) -> Result<(String, Next)> {
        match breakdown {
            Breakdown::Stall(reason) => {
                self.stalls += 1;
                if self.stalls > MAX_STALLS && self.retreat == Some(Retreat::OtherLane) {
                    return Ok((format!("{reason}, once too often; the other device goes on"), Next::Leave));
                }
                ensure!(
                    self.stalls <= MAX_STALLS,
                    "more than {MAX_STALLS} analyses have stood still; the last: {reason}"
                );
                Ok((format!("{reason}, so its thread is left behind and a new one started"), Next::Begin))
            }
            Breakdown::Device(reason) => {
                let Some(retreat) = self.retreat.take() else { bail!("the device stopped working: {reason}") };
                if retreat == Retreat::OtherLane {
                    self.lost = Some(self.place.clone());
                    return Ok((format!("a device stopped working, and the other one goes on: {reason}"), Next::Leave));
                }
                self.lost = Some(std::mem::replace(&mut self.place, Place::Cpu(Backend::Flex)));
                self.trial.note = Some(format!("the GPU stopped working: {reason}"));
                Ok((format!("the GPU stopped working, so on with the CPU: {reason}"), Next::Begin))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A lane's course. The device does not matter here.
    fn course(retreat: Option<Retreat>) -> Course {
        Course::new(Place::Cpu(Backend::Ndarray), Trial::default(), retreat)
    }

    fn is_on(course: &Course, wanted: Backend) -> bool {
        matches!(course.place, Place::Cpu(backend) if backend == wanted)
    }

    #[test]
    fn a_file_that_stands_still_neither_ends_the_run_nor_costs_it_the_gpu() {
        let stall = || Breakdown::Stall("song.mp3 stands still".to_owned());
        let mut course = course(Some(Retreat::Cpu));
        for _ in 0..MAX_STALLS {
            let (line, next) = course.go_on(stall()).unwrap();
            assert!(line.starts_with("song.mp3 stands still, so"), "{line}");
            assert_eq!(next, Next::Begin);
        }
        assert!(is_on(&course, Backend::Ndarray));
        assert_eq!((course.retreat, course.trial.note.as_deref()), (Some(Retreat::Cpu), None));
        let end = course.go_on(stall()).unwrap_err().to_string();
        assert!(end.starts_with("more than 12 analyses have stood still"), "{end}");
    }

    #[test]
    fn a_device_that_stops_working_leaves_the_cpu_once() {
        let broken = || Breakdown::Device("lost".to_owned());
        let line = "the GPU stopped working, so on with the CPU: lost".to_owned();
        let mut alone = course(Some(Retreat::Cpu));
        assert_eq!(alone.go_on(broken()).unwrap(), (line, Next::Begin));
        assert!(is_on(&alone, Backend::Flex));
        assert_eq!(alone.trial.note.as_deref(), Some("the GPU stopped working: lost"));
        assert_eq!(alone.go_on(broken()).unwrap_err().to_string(), "the device stopped working: lost");
        let (line, next) = course(Some(Retreat::OtherLane)).go_on(broken()).unwrap();
        assert_eq!(line, "a device stopped working, and the other one goes on: lost");
        assert_eq!(next, Next::Leave);
    }
}
