//! One Web Worker's place in a run. Decisions only: `lending` owns the Web Worker itself.

use std::ops::Add;

use chaarfm_worker::Status;

use crate::web_worker::Program;

/// Tracks finished and failed in this tab.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    pub(crate) done: u64,
    pub(crate) failed: u64,
}

impl Add for Counters {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { done: self.done + other.done, failed: self.failed + other.failed }
    }
}

/// The state of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SlotStep {
    /// Its Web Worker's program is loading, or will be in a moment.
    Loading,
    /// Its Web Worker is running; the status says more.
    Working,
    /// Permanently empty.
    Over,
}

/// A place for a Web Worker. A lost one may be replaced; the place keeps the totals.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Slot {
    program: Program,
    step: SlotStep,
    status: Option<Status>,
    /// The tracks of lost Web Workers.
    earlier: Counters,
    /// Web Workers lost since a track was last finished.
    losses: u32,
    /// Number of consecutive checks without a message.
    silent_looks: u32,
}

impl Slot {
    /// A place in which a Web Worker with this program is about to start.
    pub(crate) fn new(program: Program) -> Self {
        Self {
            program,
            step: SlotStep::Loading,
            status: None,
            earlier: Counters::default(),
            losses: 0,
            silent_looks: 0,
        }
    }

    /// The program of its Web Worker.
    pub(crate) fn program(&self) -> Program {
        self.program
    }

    /// The state of the slot.
    pub(crate) fn step(&self) -> SlotStep {
        self.step
    }

    /// The last status of its Web Worker.
    pub(crate) fn status(&self) -> Option<&Status> {
        self.status.as_ref()
    }

    /// The tracks of this slot, including those of lost Web Workers.
    pub(crate) fn counters(&self) -> Counters {
        let present = self.status.as_ref().map(|status| Counters { done: status.done, failed: status.failed });
        self.earlier + present.unwrap_or_default()
    }

    /// The Web Worker is loaded. Returns true if it must be told to start.
    pub(crate) fn ready(&mut self) -> bool {
        let is_awaited = self.step == SlotStep::Loading;
        if is_awaited {
            self.step = SlotStep::Working;
        }
        is_awaited
    }

    /// The Web Worker sent its status.
    pub(crate) fn hear(&mut self, status: Status) {
        self.silent_looks = 0;
        if status.done > 0 {
            self.losses = 0;
        }
        self.status = Some(status);
    }

    /// A regular check. Returns the number of consecutive checks in which the working Web Worker had sent nothing since
    /// the check before.
    pub(crate) fn look(&mut self) -> u32 {
        if self.step == SlotStep::Working {
            self.silent_looks += 1;
        }
        self.silent_looks
    }

    /// The Web Worker is lost. Returns the number of losses since a track was last finished.
    pub(crate) fn lose(&mut self) -> u32 {
        self.losses += 1;
        self.losses
    }

    /// Prepares the slot for another Web Worker with this program.
    pub(crate) fn refill(&mut self, program: Program) {
        self.close();
        self.program = program;
        self.step = SlotStep::Loading;
    }

    /// Closes the slot permanently.
    pub(crate) fn close(&mut self) {
        self.earlier = self.counters();
        self.status = None;
        self.silent_looks = 0;
        self.step = SlotStep::Over;
    }
}

#[cfg(test)]
mod tests {
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn what_lost_web_workers_did_still_counts() {
        let mut slot = Slot::new(Program::Gpu);
        slot.hear(Status { done: 3, failed: 1, ..Status::starting() });
        slot.refill(Program::Cpu);
        assert_eq!((slot.step(), slot.status()), (SlotStep::Loading, None));
        assert_eq!(slot.counters(), Counters { done: 3, failed: 1 });
        slot.hear(Status { done: 2, ..Status::starting() });
        slot.close();
        slot.close();
        assert_eq!(slot.counters(), Counters { done: 5, failed: 1 });
    }

    #[test]
    fn a_track_that_is_done_makes_up_for_losses() {
        let mut slot = Slot::new(Program::Cpu);
        assert_eq!((slot.lose(), slot.lose()), (1, 2));
        slot.hear(Status { failed: 7, ..Status::starting() });
        assert_eq!(slot.lose(), 3);
        slot.hear(Status { done: 1, ..Status::starting() });
        assert_eq!(slot.lose(), 1);
    }

    #[test]
    fn silence_counts_while_it_is_at_work_until_it_is_heard() {
        let mut slot = Slot::new(Program::Cpu);
        assert_eq!([slot.look(), slot.look()], [0, 0], "its program is loading");
        slot.ready();
        assert_eq!([slot.look(), slot.look()], [1, 2]);
        slot.hear(Status::starting());
        assert_eq!(slot.look(), 1);
        slot.refill(Program::Cpu);
        assert_eq!(slot.look(), 0, "its program is loading");
        slot.ready();
        assert_eq!(slot.look(), 1);
    }

    #[test]
    fn a_web_worker_is_told_to_start_once() {
        let mut slot = Slot::new(Program::Cpu);
        assert!(slot.ready());
        assert!(!slot.ready());
        slot.close();
        assert!(!slot.ready());
    }
}
