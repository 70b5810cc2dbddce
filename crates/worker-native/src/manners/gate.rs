//! What all work passes: it lets through, holds back for a while, and says how many threads there are.

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

/// What is allowed at the moment.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Permit {
    pub(crate) state: State,
    pub(crate) max_cpu: Percent,
    pub(crate) low_priority: bool,
}

/// Where the analysis and the downloads wait until they may go on.
#[derive(Debug)]
pub(crate) struct Gate {
    permit: watch::Sender<Permit>,
    /// For the threads that wait. A change is told while this is locked, so that nobody misses it who has just looked.
    turn: Mutex<()>,
    changed: Condvar,
}

impl Gate {
    pub(super) fn new(state: State, manners: &Manners) -> Self {
        let permit = Permit { state, max_cpu: manners.max_cpu, low_priority: manners.low_priority };
        Self { permit: watch::Sender::new(permit), turn: Mutex::new(()), changed: Condvar::new() }
    }

    /// Changes what is allowed, from now on.
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

    /// What is allowed now.
    pub(crate) fn permit(&self) -> Permit {
        self.permit.borrow().clone()
    }

    /// Told of every change, beginning with the next one.
    pub(crate) fn changes(&self) -> watch::Receiver<Permit> {
        self.permit.subscribe()
    }

    /// Blocks a thread that has just computed for `worked` until it may compute again: for its rest, and for as long as the
    /// work is paused. Calls `is_wanted` several times a second meanwhile, and returns when that says no. Returns what is
    /// allowed then; `duty` makes threads and rest of the share.
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

    /// Waits until something may be fetched; calls `meanwhile` several times a second.
    pub(crate) async fn fetching(&self, meanwhile: impl Fn()) {
        let mut changes = self.changes();
        while !changes.borrow_and_update().state.may_fetch() {
            meanwhile();
            // The sender is this gate's.
            let _ = tokio::time::timeout(LOOK, changes.changed()).await;
        }
    }

    /// Waits until everything is allowed.
    pub(crate) async fn running(&self) {
        let mut changes = self.changes();
        // The sender is this gate's.
        drop(changes.wait_for(|permit| permit.state == State::Running).await);
    }
}
