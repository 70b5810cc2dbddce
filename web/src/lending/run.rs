//! A run over its slots: which program, how many Web Workers, what follows a loss, when it is over. Decisions only: each
//! method is told what happened and says what to do about it; `lending` does it.

use std::ops::Range;

use chaarfm_protocol::{PairingCode, Speeds, Trial, WorkerKey};
use chaarfm_worker::{Choice, Phase, Status, tab::ToWebWorker};

use super::{
    slot::{Counters, Slot, SlotStep},
    terms::{DeviceWish, Terms},
};
use crate::web_worker::Program;

/// Web Workers started in a slot in place of lost ones before a track is done there. The last one comes a minute after the
/// first loss.
const MAX_RESTARTS: u32 = 5;

/// Wait before a lost Web Worker is replaced. It doubles with each further one that is lost before a track is done.
const FIRST_RESTART_WAIT_SECONDS: u32 = 2;

/// The Web Workers are looked at this often.
pub(super) const LOOK_SECONDS: u32 = 10;

/// A Web Worker that has said nothing for this long hangs: it says how it stands every ten seconds, changed or not, and no
/// step of an analysis, between which it speaks, takes that long on the slowest phone.
pub(super) const SILENCE_LIMIT_SECONDS: u32 = 60;

/// The same in looks. They are counted rather than the time, because a laptop that sleeps, or a browser that halts its
/// tabs, stops the looks together with the Web Workers.
const MAX_SILENT_LOOKS: u32 = SILENCE_LIMIT_SECONDS / LOOK_SECONDS;

/// Where the run stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// None was begun.
    Idle,
    /// The Web Workers' program is on its way.
    Loading,
    /// At least one Web Worker is at it; its status says more.
    Working,
    /// The Web Workers were asked to stop.
    Stopping,
    /// It is over.
    Over {
        /// Why, when nobody asked for it.
        reason: Option<String>,
    },
}

/// What follows the loss of a Web Worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AfterLoss {
    /// Another one, with this program, after a wait.
    Another {
        /// What it runs.
        program: Program,
        /// The wait.
        seconds: u32,
    },
    /// Its slot stays empty.
    Nothing,
}

/// What is known of the graphics card when a program is chosen.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Known {
    /// What it and the CPU have shown.
    Measured(Speeds),
    /// A processor imitates one.
    Software,
    /// There is none that can be used, and this is why.
    Missing(String),
}

/// A run from Join until it is over.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Run {
    terms: Terms,
    /// None before a program is chosen. At first one; on the CPU the others follow when it is connected.
    slots: Vec<Slot>,
    /// How it came to its device.
    trial: Trial,
    is_stopping: bool,
    over: Option<Over>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Over {
    reason: Option<String>,
}

impl Run {
    /// A run that has no program yet.
    pub(crate) fn new(terms: Terms) -> Self {
        Self { terms, slots: Vec::new(), trial: Trial::default(), is_stopping: false, over: None }
    }

    /// What it was begun with.
    pub(crate) fn terms(&self) -> Terms {
        self.terms
    }

    /// Its Web Workers' places.
    pub(crate) fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// Why it does not compute on the GPU, when it was free to.
    pub(crate) fn note(&self) -> Option<&str> {
        self.trial.note.as_deref()
    }

    /// How it came to its device.
    pub(crate) fn trial(&self) -> &Trial {
        &self.trial
    }

    /// Where it stands.
    pub(crate) fn step(&self) -> Step {
        match &self.over {
            Some(Over { reason }) => Step::Over { reason: reason.clone() },
            None if self.is_stopping => Step::Stopping,
            None if self.slots.iter().any(|slot| slot.step() == SlotStep::Working) => Step::Working,
            None => Step::Loading,
        }
    }

    /// Whether it is not over.
    pub(crate) fn is_active(&self) -> bool {
        self.over.is_none()
    }

    /// What all its Web Workers did, lost ones included.
    pub(crate) fn counters(&self) -> Counters {
        self.slots.iter().map(Slot::counters).fold(Counters::default(), |sum, counters| sum + counters)
    }

    /// What its Web Workers say of themselves.
    pub(crate) fn statuses(&self) -> impl Iterator<Item = &Status> {
        self.slots.iter().filter_map(Slot::status)
    }

    /// It is known what the graphics card is good for (nobody asked where the CPU was wished for): chooses the programs.
    /// Returns the slots to start Web Workers in.
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
            // Whoever asks for the GPU gets an imitated one too.
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

    /// A Web Worker is loaded. Returns what to tell it.
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

    /// A Web Worker said how it stands. Returns the slots to start further ones in: as soon as the first one is connected,
    /// because then program and model are in the browser's cache, and the code and the device are known to be good.
    pub(crate) fn hear(&mut self, slot: usize, status: Status) -> Range<usize> {
        let is_connected = status.phase == Phase::Connected;
        self.slots[slot].hear(status);
        let have = self.slots.len();
        if is_connected && !self.is_stopping && self.slots[slot].program() == Program::Cpu {
            // The one for the GPU, which decodes, counts as well.
            let wanted = usize::from(self.terms.web_workers).max(have);
            self.slots.resize(wanted, Slot::new(Program::Cpu));
        }
        have..self.slots.len()
    }

    /// It is time to look at the Web Workers. Returns the slots of those that hang, which are to be taken for lost.
    pub(crate) fn look(&mut self) -> Vec<usize> {
        if self.is_stopping {
            return Vec::new();
        }
        let hangs = |(number, slot): (usize, &mut Slot)| (slot.look() > MAX_SILENT_LOOKS).then_some(number);
        self.slots.iter_mut().enumerate().filter_map(hangs).collect()
    }

    /// A Web Worker cannot compute on its device. True when another one is to be started in its slot, for the CPU.
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

    /// A Web Worker ended in order.
    pub(crate) fn ended(&mut self, slot: usize, reason: Option<String>) {
        self.close(slot, reason);
    }

    /// A Web Worker is gone without a word. After one that had been working comes one for the CPU, because a GPU is the
    /// likeliest reason; one that never came up says nothing about the GPU.
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

    /// Has the CPU follow the graphics card in a slot, unless it is at work already. True when a Web Worker is to be started
    /// there.
    fn follow(&mut self, slot: usize) -> bool {
        let is_at_work = |slot: &Slot| slot.program() == Program::Cpu && slot.step() != SlotStep::Over;
        if self.slots.iter().any(is_at_work) {
            self.close(slot, self.trial.note.clone());
            return false;
        }
        self.slots[slot].refill(Program::Cpu);
        true
    }

    /// The person wants it to end. Web Workers that are at work are to be told, and waited for.
    pub(crate) fn stop(&mut self) {
        self.is_stopping = true;
        for slot in self.slots.iter_mut().filter(|slot| slot.step() == SlotStep::Loading) {
            slot.close();
        }
        self.end_with_its_slots(None);
    }

    /// It waited long enough for Web Workers that were told to stop.
    pub(crate) fn give_up(&mut self) {
        self.slots.iter_mut().for_each(Slot::close);
        self.end_with_its_slots(None);
    }

    fn close(&mut self, slot: usize, reason: Option<String>) {
        self.slots[slot].close();
        self.end_with_its_slots(reason);
    }

    /// It is over when no slot is left, for the last one's reason.
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

    /// A graphics card that is so fast that the CPU is of no use.
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

    /// Loads the Web Worker of a slot. Returns the device and the note that it is started with.
    fn start(run: &mut Run, slot: usize) -> (String, Option<String>) {
        match run.ready(slot, "http://localhost".into(), WorkerKey::from_random(7)) {
            Some(ToWebWorker::Start { device, trial, .. }) => (device, trial.note),
            other => panic!("{other:?}"),
        }
    }

    fn status(done: u64) -> Status {
        Status { phase: Phase::Connected, done, ..Status::starting() }
    }

    /// The program that follows a loss.
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
