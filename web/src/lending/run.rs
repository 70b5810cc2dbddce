//! A run and its slots: which program, how many Web Workers, what to do after a loss, when it ends. Decisions only:
//! each method is told what happened and returns what to do; `lending` does it.

use std::ops::Range;

use chaarfm_protocol::{PairingCode, Speeds, Trial, WorkerKey};
use chaarfm_worker::{Choice, Phase, Status, tab::ToWebWorker};

use super::{
    slot::{Counters, Slot, SlotStep},
    terms::{DeviceWish, Terms},
};
use crate::web_worker::Program;

/// Most restarts in a slot without a finished track. The last one comes a minute after the first loss.
const MAX_RESTARTS: u32 = 5;

/// Wait before a lost Web Worker is replaced. Doubles with each further loss before a track is finished.
const FIRST_RESTART_WAIT_SECONDS: u32 = 2;

/// Interval of the checks for stuck Web Workers.
pub(super) const LOOK_SECONDS: u32 = 10;

/// A Web Worker that is silent for this long is stuck: it sends its status every ten seconds, changed or not, and even
/// on the slowest phone no step of an analysis takes that long.
pub(super) const SILENCE_LIMIT_SECONDS: u32 = 60;

/// The same as a number of checks. Counting checks instead of time allows for sleeping laptops and browsers that
/// suspend tabs, which stop the checks together with the Web Workers.
const MAX_SILENT_LOOKS: u32 = SILENCE_LIMIT_SECONDS / LOOK_SECONDS;

/// The state of the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// No run yet.
    Idle,
    /// The Web Workers' program is loading.
    Loading,
    /// At least one Web Worker is running; its status says more.
    Working,
    /// The Web Workers were asked to stop.
    Stopping,
    /// The run has ended.
    Over {
        /// The reason, if nobody asked for it.
        reason: Option<String>,
    },
}

/// What to do after the loss of a Web Worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AfterLoss {
    /// Start another one, with this program, after a wait.
    Another {
        /// The program to run.
        program: Program,
        /// The wait.
        seconds: u32,
    },
    /// Leave its slot empty.
    Nothing,
}

/// What is known about the graphics card when a program is chosen.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Known {
    /// Its measured speed, and the CPU's.
    Measured(Speeds),
    /// It is emulated on the CPU.
    Software,
    /// There is no usable one, for this reason.
    Missing(String),
}

/// A run, from Join until its end.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Run {
    terms: Terms,
    /// Empty until a program is chosen. Starts with one; on the CPU the others follow when that one is connected.
    slots: Vec<Slot>,
    /// How the device was chosen.
    trial: Trial,
    is_stopping: bool,
    over: Option<Over>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Over {
    reason: Option<String>,
}

impl Run {
    /// A run without a program.
    pub(crate) fn new(terms: Terms) -> Self {
        Self { terms, slots: Vec::new(), trial: Trial::default(), is_stopping: false, over: None }
    }

    /// The terms it was started with.
    pub(crate) fn terms(&self) -> Terms {
        self.terms
    }

    /// The places of its Web Workers.
    pub(crate) fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// Why the GPU was not chosen, if the choice was free.
    pub(crate) fn note(&self) -> Option<&str> {
        self.trial.note.as_deref()
    }

    /// How the device was chosen.
    pub(crate) fn trial(&self) -> &Trial {
        &self.trial
    }

    /// The state of the run.
    pub(crate) fn step(&self) -> Step {
        match &self.over {
            Some(Over { reason }) => Step::Over { reason: reason.clone() },
            None if self.is_stopping => Step::Stopping,
            None if self.slots.iter().any(|slot| slot.step() == SlotStep::Working) => Step::Working,
            None => Step::Loading,
        }
    }

    /// Whether it has not ended.
    pub(crate) fn is_active(&self) -> bool {
        self.over.is_none()
    }

    /// The tracks of all its Web Workers, including lost ones.
    pub(crate) fn counters(&self) -> Counters {
        self.slots.iter().map(Slot::counters).fold(Counters::default(), |sum, counters| sum + counters)
    }

    /// The statuses of its Web Workers.
    pub(crate) fn statuses(&self) -> impl Iterator<Item = &Status> {
        self.slots.iter().filter_map(Slot::status)
    }

    /// Chooses the programs, from what is known about the graphics card (none if the person asked for the CPU). Returns
    /// the slots to start Web Workers in.
    pub(crate) fn choose(&mut self, gpu: Option<Known>) -> Range<usize> {
        if !self.slots.is_empty() {
            return 0..0;
        }
        let programs: &[Program] = match (self.terms.device, gpu) {
            (DeviceWish::Cpu, _) | (DeviceWish::Auto, None) => &[Program::Cpu],
            (DeviceWish::Gpu, Some(Known::Missing(reason))) => {
                self.over = Some(Over { reason: Some(reason) });
                return 0..0;
            }
            // A person who asks for the GPU gets an emulated one, too.
            (DeviceWish::Gpu, _) => &[Program::Gpu],
            (DeviceWish::Auto, Some(Known::Software)) => {
                self.trial.note =
                    Some("this browser only imitates a graphics card, which is slower than the CPU itself".into());
                &[Program::Cpu]
            }
            (DeviceWish::Auto, Some(Known::Missing(reason))) => {
                self.trial.note = Some(reason);
                &[Program::Cpu]
            }
            (DeviceWish::Auto, Some(Known::Measured(speeds))) => {
                self.trial.speeds = speeds;
                match Choice::of(&speeds) {
                    Choice::Cpu => {
                        self.trial.note = Some("it is faster here than the graphics card".into());
                        &[Program::Cpu]
                    }
                    Choice::Gpu => &[Program::Gpu],
                    Choice::Both => &[Program::Gpu, Program::Cpu],
                }
            }
        };
        self.slots.extend(programs.iter().map(|&program| Slot::new(program)));
        0..self.slots.len()
    }

    /// The code of the invitation.
    pub(crate) fn code(&self) -> PairingCode {
        self.terms.code
    }

    /// A Web Worker is loaded. Returns the message for it.
    pub(crate) fn ready(&mut self, slot: usize, server: String, key: WorkerKey) -> Option<ToWebWorker> {
        let slot = &mut self.slots[slot];
        slot.ready().then(|| ToWebWorker::Start {
            server,
            code: self.terms.code.to_string(),
            key,
            device: slot.program().device().into(),
            trial: self.trial.clone(),
        })
    }

    /// A Web Worker sent its status. Returns the slots to start more in, as soon as the first one is connected: then
    /// program and model are in the browser's cache, and code and device have proved good.
    pub(crate) fn hear(&mut self, slot: usize, status: Status) -> Range<usize> {
        let is_connected = status.phase == Phase::Connected;
        self.slots[slot].hear(status);
        let have = self.slots.len();
        if is_connected && !self.is_stopping && self.slots[slot].program() == Program::Cpu {
            // The Web Worker for the GPU counts as well, because it uses the CPU for decoding.
            let wanted = usize::from(self.terms.web_workers).max(have);
            self.slots.resize(wanted, Slot::new(Program::Cpu));
        }
        have..self.slots.len()
    }

    /// Checks the Web Workers. Returns the slots of those that are stuck and must be replaced.
    pub(crate) fn look(&mut self) -> Vec<usize> {
        if self.is_stopping {
            return Vec::new();
        }
        let hangs = |(number, slot): (usize, &mut Slot)| (slot.look() > MAX_SILENT_LOOKS).then_some(number);
        self.slots.iter_mut().enumerate().filter_map(hangs).collect()
    }

    /// A Web Worker cannot compute on its device. Returns true if one for the CPU must be started in its slot.
    pub(crate) fn no_device(&mut self, slot: usize, reason: String) -> bool {
        let is_free = self.terms.device == DeviceWish::Auto && self.slots[slot].program() == Program::Gpu;
        if is_free && !self.is_stopping {
            self.trial.note = Some(reason);
            self.follow(slot)
        } else {
            self.close(slot, Some(reason));
            false
        }
    }

    /// A Web Worker ended properly.
    pub(crate) fn ended(&mut self, slot: usize, reason: Option<String>) {
        self.close(slot, reason);
    }

    /// A Web Worker ended unexpectedly. If it had been working, one for the CPU follows, because the GPU is the most
    /// likely cause. If it never started, that says nothing about the GPU.
    pub(crate) fn lost(&mut self, slot: usize, reason: &str) -> AfterLoss {
        let losses = self.slots[slot].lose();
        if self.is_stopping || losses > MAX_RESTARTS {
            let reason = format!("the worker was lost {losses} times in a row; the last reason was: {reason}");
            self.close(slot, Some(reason));
            return AfterLoss::Nothing;
        }
        let lost = &mut self.slots[slot];
        if (lost.step(), lost.program()) == (SlotStep::Working, Program::Gpu) {
            self.trial.note = Some("the worker on the graphics card was lost".into());
            if !self.follow(slot) {
                return AfterLoss::Nothing;
            }
        } else {
            lost.refill(lost.program());
        }
        let program = self.slots[slot].program();
        AfterLoss::Another { program, seconds: FIRST_RESTART_WAIT_SECONDS << (losses - 1) }
    }

    /// Lets the CPU take over a slot from the graphics card, unless the CPU is already working in another. Returns true
    /// if a Web Worker must be started there.
    fn follow(&mut self, slot: usize) -> bool {
        let is_at_work = |slot: &Slot| slot.program() == Program::Cpu && slot.step() != SlotStep::Over;
        if self.slots.iter().any(is_at_work) {
            self.close(slot, self.trial.note.clone());
            return false;
        }
        self.slots[slot].refill(Program::Cpu);
        true
    }

    /// The person wants to stop. Running Web Workers must be told, and waited for.
    pub(crate) fn stop(&mut self) {
        self.is_stopping = true;
        for slot in self.slots.iter_mut().filter(|slot| slot.step() == SlotStep::Loading) {
            slot.close();
        }
        self.end_with_its_slots(None);
    }

    /// The time limit for Web Workers that were told to stop has passed.
    pub(crate) fn give_up(&mut self) {
        self.slots.iter_mut().for_each(Slot::close);
        self.end_with_its_slots(None);
    }

    fn close(&mut self, slot: usize, reason: Option<String>) {
        self.slots[slot].close();
        self.end_with_its_slots(reason);
    }

    /// Ends the run if no slot is left, with the reason of the last one.
    fn end_with_its_slots(&mut self, reason: Option<String>) {
        if self.slots.iter().all(|slot| slot.step() == SlotStep::Over) {
            self.over = Some(Over { reason: reason.filter(|_| !self.is_stopping) });
        }
    }
}

#[cfg(test)]
mod tests {
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    fn missing() -> Known {
        Known::Missing("this browser has no WebGPU".into())
    }

    fn measured(cpu: f32, gpu: f32, both: f32) -> Known {
        Known::Measured(Speeds { cpu: Some(cpu), gpu: Some(gpu), both: Some(both) })
    }

    /// A graphics card so fast that the CPU would not help.
    fn fast() -> Known {
        measured(10.0, 900.0, 910.0)
    }

    fn run(device: DeviceWish, web_workers: u8) -> Run {
        Run::new(Terms { code: "K7Q-M4X-WDP".parse().unwrap(), device, web_workers })
    }

    /// A run whose first Web Worker is connected.
    fn connected(device: DeviceWish, web_workers: u8, gpu: Known) -> Run {
        let mut run = run(device, web_workers);
        assert_eq!(run.choose(Some(gpu)), 0..1);
        start(&mut run, 0);
        run.hear(0, status(0));
        run
    }

    /// Loads the Web Worker of a slot. Returns the device and the note in its start message.
    fn start(run: &mut Run, slot: usize) -> (String, Option<String>) {
        match run.ready(slot, "http://localhost".into(), WorkerKey::from_random(7)) {
            Some(ToWebWorker::Start { device, trial, .. }) => (device, trial.note),
            other => panic!("{other:?}"),
        }
    }

    fn status(done: u64) -> Status {
        Status { phase: Phase::Connected, done, ..Status::starting() }
    }

    /// The program started after a loss.
    fn lose(run: &mut Run, slot: usize, reason: &str) -> Option<Program> {
        match run.lost(slot, reason) {
            AfterLoss::Another { program, .. } => Some(program),
            AfterLoss::Nothing => None,
        }
    }

    fn over(reason: &str) -> Step {
        Step::Over { reason: Some(reason.into()) }
    }

    #[test]
    fn the_program_is_what_the_person_and_the_browser_allow() {
        let chosen = |device, gpu| {
            let mut run = run(device, 3);
            run.choose(gpu);
            (run.slots.first().map(Slot::program), run.note().is_some())
        };
        assert_eq!(chosen(DeviceWish::Auto, Some(fast())), (Some(Program::Gpu), false));
        assert_eq!(chosen(DeviceWish::Auto, Some(Known::Software)), (Some(Program::Cpu), true));
        assert_eq!(chosen(DeviceWish::Auto, Some(missing())), (Some(Program::Cpu), true));
        assert_eq!(chosen(DeviceWish::Cpu, None), (Some(Program::Cpu), false));
        assert_eq!(chosen(DeviceWish::Gpu, Some(fast())), (Some(Program::Gpu), false));
        assert_eq!(chosen(DeviceWish::Gpu, Some(Known::Software)), (Some(Program::Gpu), false));
    }

    #[test]
    fn the_faster_device_is_taken_and_both_where_that_is_more() {
        let chosen = |gpu| {
            let mut run = run(DeviceWish::Auto, 3);
            run.choose(Some(gpu));
            run.slots.iter().map(Slot::program).collect::<Vec<_>>()
        };
        assert_eq!(chosen(measured(40.0, 2.0, 42.0)), [Program::Cpu]);
        assert_eq!(chosen(measured(40.0, 900.0, 940.0)), [Program::Gpu]);
        assert_eq!(chosen(measured(40.0, 60.0, 100.0)), [Program::Gpu, Program::Cpu]);
    }

    #[test]
    fn with_the_gpus_own_there_are_as_many_web_workers_as_were_asked_for() {
        let mut run = run(DeviceWish::Auto, 3);
        assert_eq!(run.choose(Some(measured(40.0, 60.0, 100.0))), 0..2);
        start(&mut run, 0);
        start(&mut run, 1);
        assert!(run.hear(0, status(0)).is_empty());
        assert_eq!(run.hear(1, status(0)), 2..3);
        assert_eq!(run.lost(0, "a panic"), AfterLoss::Nothing, "the CPU has Web Workers already");
        assert_eq!((run.step(), run.note()), (Step::Working, Some("the worker on the graphics card was lost")));
    }

    #[test]
    fn whoever_asks_for_a_gpu_that_is_not_there_is_told() {
        let mut run = run(DeviceWish::Gpu, 3);
        assert!(run.choose(Some(missing())).is_empty());
        assert_eq!(run.step(), over("this browser has no WebGPU"));
    }

    #[test]
    fn the_cpu_program_is_told_why_it_is_not_the_gpu() {
        let mut run = run(DeviceWish::Auto, 1);
        run.choose(Some(missing()));
        assert_eq!(start(&mut run, 0), ("flex".into(), Some("this browser has no WebGPU".into())));
    }

    #[test]
    fn a_program_is_chosen_once() {
        let mut run = run(DeviceWish::Auto, 1);
        assert_eq!(run.choose(Some(fast())), 0..1);
        assert!(run.choose(Some(missing())).is_empty());
        assert_eq!(run.slots[0].program(), Program::Gpu);
    }

    #[test]
    fn further_web_workers_follow_a_connected_one() {
        let mut run = run(DeviceWish::Cpu, 3);
        run.choose(None);
        start(&mut run, 0);
        assert!(run.hear(0, Status::starting()).is_empty());
        assert_eq!(run.hear(0, status(0)), 1..3);
        assert!(run.hear(0, status(1)).is_empty());
        start(&mut run, 2);
        assert!(run.hear(2, status(4)).is_empty());
        assert_eq!(run.counters().done, 5);
    }

    #[test]
    fn one_web_worker_keeps_a_gpu_busy() {
        assert_eq!(connected(DeviceWish::Auto, 4, fast()).slots.len(), 1);
    }

    #[test]
    fn a_gpu_that_computes_wrong_numbers_is_followed_by_the_cpu() {
        let mut run = run(DeviceWish::Auto, 2);
        run.choose(Some(fast()));
        assert_eq!(start(&mut run, 0).0, "wgpu");
        assert!(run.no_device(0, "wrong numbers".into()));
        assert_eq!(run.step(), Step::Loading);
        assert_eq!(start(&mut run, 0), ("flex".into(), Some("wrong numbers".into())));
        assert_eq!(run.hear(0, status(0)), 1..2);
    }

    #[test]
    fn whoever_asks_for_a_gpu_that_computes_wrong_numbers_is_told() {
        let mut run = run(DeviceWish::Gpu, 2);
        run.choose(Some(fast()));
        assert_eq!(start(&mut run, 0).0, "wgpu");
        assert!(!run.no_device(0, "wrong numbers".into()));
        assert_eq!(run.step(), over("wrong numbers"));
    }

    #[test]
    fn a_cpu_that_computes_wrong_numbers_ends_the_run() {
        let mut run = run(DeviceWish::Auto, 2);
        run.choose(Some(missing()));
        start(&mut run, 0);
        assert!(!run.no_device(0, "wrong numbers".into()));
        assert_eq!(run.step(), over("wrong numbers"));
    }

    #[test]
    fn a_crash_is_followed_by_the_cpu() {
        for device in [DeviceWish::Auto, DeviceWish::Gpu] {
            let mut run = connected(device, 1, fast());
            assert_eq!(lose(&mut run, 0, "a panic"), Some(Program::Cpu));
            assert_eq!(run.step(), Step::Loading);
            let (device, note) = start(&mut run, 0);
            assert_eq!(device, "flex");
            assert!(note.is_some());
        }
    }

    #[test]
    fn a_program_that_did_not_load_says_nothing_about_the_gpu() {
        let mut run = run(DeviceWish::Auto, 1);
        run.choose(Some(fast()));
        assert_eq!(lose(&mut run, 0, "404"), Some(Program::Gpu));
        assert_eq!(run.note(), None);
        start(&mut run, 0);
        assert_eq!(lose(&mut run, 0, "a panic"), Some(Program::Cpu));
        assert_eq!(lose(&mut run, 0, "404"), Some(Program::Cpu));
    }

    #[test]
    fn a_lost_web_worker_is_replaced_alone() {
        let mut run = connected(DeviceWish::Cpu, 2, missing());
        start(&mut run, 1);
        run.hear(1, status(7));
        assert_eq!(lose(&mut run, 1, "a panic"), Some(Program::Cpu));
        assert_eq!((run.slots[0].step(), run.slots[1].step()), (SlotStep::Working, SlotStep::Loading));
        assert_eq!((run.step(), run.counters().done), (Step::Working, 7));
    }

    #[test]
    fn enough_is_enough_in_a_row() {
        let mut run = connected(DeviceWish::Cpu, 2, missing());
        for _ in 0..MAX_RESTARTS {
            assert_eq!(lose(&mut run, 0, "a panic"), Some(Program::Cpu));
        }
        assert_eq!(run.lost(0, "a panic"), AfterLoss::Nothing);
        assert!(run.is_active(), "the other one goes on");
        for _ in 0..MAX_RESTARTS {
            assert_eq!(lose(&mut run, 1, "a panic"), Some(Program::Cpu));
        }
        assert_eq!(run.lost(1, "a panic"), AfterLoss::Nothing);
        assert_eq!(run.step(), over("the worker was lost 6 times in a row; the last reason was: a panic"));
    }

    #[test]
    fn the_waits_grow_until_a_track_is_done() {
        let mut run = connected(DeviceWish::Cpu, 2, missing());
        let wait = |run: &mut Run| match run.lost(0, "a panic") {
            AfterLoss::Another { seconds, .. } => seconds,
            AfterLoss::Nothing => panic!("it was lost too often"),
        };
        assert_eq!([(); MAX_RESTARTS as usize].map(|()| wait(&mut run)), [2, 4, 8, 16, 32]);
        start(&mut run, 0);
        run.hear(1, status(9));
        run.hear(0, status(1));
        assert_eq!([wait(&mut run), wait(&mut run)], [2, 4]);
    }

    #[test]
    fn one_that_hangs_is_found_and_no_other() {
        let mut run = connected(DeviceWish::Cpu, 3, missing());
        start(&mut run, 1);
        for _ in 0..SILENCE_LIMIT_SECONDS / LOOK_SECONDS {
            run.hear(1, status(0));
            assert!(run.look().is_empty());
        }
        assert_eq!(run.look(), [0], "the third is still loading");
        assert_eq!(lose(&mut run, 0, "it hangs"), Some(Program::Cpu));
        assert!(run.look().is_empty(), "its successor is loading");
    }

    #[test]
    fn whoever_stops_is_not_looked_at() {
        let mut run = connected(DeviceWish::Cpu, 1, missing());
        run.stop();
        for _ in 0..100 {
            assert!(run.look().is_empty());
        }
    }

    #[test]
    fn it_is_over_when_every_web_worker_was_sent_home() {
        let mut run = connected(DeviceWish::Cpu, 2, missing());
        start(&mut run, 1);
        run.ended(0, Some("the session has ended".into()));
        assert_eq!(run.step(), Step::Working);
        run.ended(1, Some("the session has ended".into()));
        assert_eq!(run.step(), over("the session has ended"));
    }

    #[test]
    fn stopping_waits_for_those_at_work_only() {
        let mut run = connected(DeviceWish::Cpu, 3, missing());
        start(&mut run, 1);
        run.stop();
        assert_eq!(run.step(), Step::Stopping);
        assert_eq!(run.slots[2].step(), SlotStep::Over);
        assert!(run.hear(0, status(1)).is_empty());
        assert_eq!(run.lost(0, "a panic"), AfterLoss::Nothing);
        run.ended(1, None);
        assert_eq!((run.step(), run.counters().done), (Step::Over { reason: None }, 1));
    }

    #[test]
    fn stopping_ends_at_once_what_has_not_begun() {
        for gpu in [None, Some(fast()), Some(measured(10.0, 10.0, 20.0))] {
            let mut run = run(DeviceWish::Auto, 1);
            if gpu.is_some() {
                run.choose(gpu);
            }
            run.stop();
            assert_eq!(run.step(), Step::Over { reason: None });
        }
    }

    #[test]
    fn stopping_does_not_take_for_ever() {
        let mut run = connected(DeviceWish::Cpu, 2, missing());
        run.stop();
        run.give_up();
        assert_eq!(run.step(), Step::Over { reason: None });
    }
}
