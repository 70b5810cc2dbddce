//! The gate that all work must pass: it lets work through or holds it back, and sets the number of threads.

use std::{
    sync::{Condvar, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::watch;

use super::{
    decide::State,
    duty::Duty,
    settings::{Manners, Percent},
};

/// How often a paused task checks whether its work is still wanted.
const LOOK: Duration = Duration::from_millis(200);

/// What is allowed at a moment.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Permit {
    pub(crate) state: State,
    pub(crate) max_cpu: Percent,
    pub(crate) low_priority: bool,
}

/// Where the analysis and the downloads wait for permission.
#[derive(Debug)]
pub(crate) struct Gate {
    permit: watch::Sender<Permit>,
    /// For waiting threads. Changes are signalled while this is locked, so that a thread that has just checked the
    /// permit does not miss them.
    turn: Mutex<()>,
    changed: Condvar,
}

impl Gate {
    pub(super) fn new(state: State, manners: &Manners) -> Self {
        let permit = Permit { state, max_cpu: manners.max_cpu, low_priority: manners.low_priority };
        Self { permit: watch::Sender::new(permit), turn: Mutex::new(()), changed: Condvar::new() }
    }

    /// Changes the permit, effective at once.
    pub(super) fn set(&self, state: State, manners: &Manners) {
        let permit = Permit { state, max_cpu: manners.max_cpu, low_priority: manners.low_priority };
        self.permit.send_if_modified(|before| {
            let is_new = *before != permit;
            *before = permit;
            is_new
        });
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.changed.notify_all();
    }

    /// The current permit.
    pub(crate) fn permit(&self) -> Permit {
        self.permit.borrow().clone()
    }

    /// Receives every change, beginning with the next one.
    pub(crate) fn changes(&self) -> watch::Receiver<Permit> {
        self.permit.subscribe()
    }

    /// Blocks a thread that has just computed for `worked` until it may compute again: for its rest, and while the work
    /// is paused. Meanwhile calls `is_wanted` several times a second, and returns when that is false. Returns the
    /// current permit; `duty` derives threads and rest from the share.
    pub(crate) fn pass(
        &self,
        worked: Duration,
        duty: impl Fn(Percent) -> Duty,
        mut is_wanted: impl FnMut() -> bool,
    ) -> (Duty, Permit) {
        let start = Instant::now();
        let mut turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let permit = self.permit();
            let duty = duty(permit.max_cpu);
            let left =
                if permit.state.may_compute() { duty.rest_after(worked).saturating_sub(start.elapsed()) } else { LOOK };
            if left.is_zero() || !is_wanted() {
                return (duty, permit);
            }
            turn = self.changed.wait_timeout(turn, left.min(LOOK)).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits until fetching is allowed; calls `meanwhile` several times a second.
    pub(crate) async fn fetching(&self, meanwhile: impl Fn()) {
        let mut changes = self.changes();
        while !changes.borrow_and_update().state.may_fetch() {
            meanwhile();
            // Cannot fail, as the gate owns the sender.
            let _ = tokio::time::timeout(LOOK, changes.changed()).await;
        }
    }

    /// Waits until everything is allowed.
    pub(crate) async fn running(&self) {
        let mut changes = self.changes();
        // Cannot fail, as the gate owns the sender.
        drop(changes.wait_for(|permit| permit.state == State::Running).await);
    }
}
