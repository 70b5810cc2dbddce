//! Enforces the manners: asks the machine, decides, and opens and closes the gate.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    thread,
    time::{Duration, Instant},
};

use chrono::{Local, NaiveDateTime};
use serde::Serialize;

use super::{
    decide::{Situation, State, decide},
    gate::Gate,
    probe::{Machine, ThisMachine},
    settings::Manners,
    traffic::Traffic,
};
use crate::json_file::JsonFile;

/// Interval at which the clock is read and the machine asked.
const EVERY: Duration = Duration::from_secs(1);

/// An answer of the machine expires after this long: if the next one takes longer, the condition counts as unknown.
const ANSWERS_LAST: Duration = Duration::from_secs(30);

/// The owner's wishes, the known condition of the machine, and the gate.
pub(crate) struct Keeper {
    gate: Gate,
    inner: Mutex<Inner>,
}

struct Inner {
    manners: Manners,
    is_paused: bool,
    answers: Option<(Answers, Instant)>,
    traffic: Traffic,
    state: State,
}

/// The machine's answers to the questions asked.
#[derive(Debug, Clone, Copy, Default)]
struct Answers {
    idle: Option<Duration>,
    is_on_battery: Option<bool>,
    is_metered: Option<bool>,
    celsius: Option<f32>,
}

impl Answers {
    /// Asks only for conditions that the manners depend on.
    fn of(machine: &mut dyn Machine, manners: &Manners) -> Self {
        Self {
            idle: manners.only_when_idle.then(|| machine.idle()).flatten(),
            is_on_battery: manners.not_on_battery.then(|| machine.is_on_battery()).flatten(),
            is_metered: manners.not_on_metered.then(|| machine.is_metered()).flatten(),
            celsius: manners.max_temperature.and_then(|_| machine.celsius()),
        }
    }
}

/// The keeper's state, for people.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Overview {
    /// Whether the worker may work, and if not, why.
    pub(crate) state: String,
    /// Whether the owner has paused the worker.
    pub(crate) is_paused: bool,
    /// The owner's wishes.
    pub(crate) manners: Manners,
    /// Bytes fetched since midnight.
    pub(crate) bytes_today: u64,
}

impl Keeper {
    /// Starts watching this machine, until the keeper is dropped.
    ///
    /// # Errors
    /// When no thread can be started.
    pub(crate) fn start(manners: Manners) -> io::Result<Arc<Self>> {
        Self::start_on(manners, Box::new(ThisMachine::default()), JsonFile::data("traffic.json"))
    }

    /// For tests: allows everything until told otherwise.
    #[cfg(test)]
    pub(crate) fn idle(manners: Manners) -> Arc<Self> {
        Arc::new(Self::new(manners, Traffic::new(JsonFile::at(None))))
    }

    fn start_on(
        manners: Manners,
        mut machine: Box<dyn Machine>,
        file: JsonFile<super::traffic::Day>,
    ) -> io::Result<Arc<Self>> {
        let keeper = Self::new(manners, Traffic::new(file));
        // The first answers, before any work begins.
        let answers = Answers::of(&mut *machine, &keeper.inner().manners);
        keeper.heard(answers);
        let keeper = Arc::new(keeper);
        // Asks in a thread of its own, so that the clock goes on while a machine is slow to answer.
        let asked = Arc::downgrade(&keeper);
        let ask = move || {
            while let Some(keeper) = after_a_while(&asked) {
                let manners = keeper.inner().manners.clone();
                keeper.heard(Answers::of(&mut *machine, &manners));
            }
        };
        thread::Builder::new().name("manners".to_owned()).spawn(ask)?;
        let watched = Arc::downgrade(&keeper);
        let watch = move || {
            while let Some(keeper) = after_a_while(&watched) {
                keeper.change(|_| ());
            }
        };
        thread::Builder::new().name("clock".to_owned()).spawn(watch)?;
        Ok(keeper)
    }

    fn new(manners: Manners, traffic: Traffic) -> Self {
        let gate = Gate::new(State::Running, &manners);
        let inner = Inner { manners, is_paused: false, answers: None, traffic, state: State::Running };
        Self { gate, inner: Mutex::new(inner) }
    }

    /// The gate that work must pass.
    pub(crate) fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Pauses or resumes, at the owner's request.
    pub(crate) fn pause(&self, is_paused: bool) {
        self.change(|inner| inner.is_paused = is_paused);
    }

    /// Changes the owner's wishes. Conditions that were not asked for before are unknown until the machine answers,
    /// within a second or two.
    pub(crate) fn set_manners(&self, manners: Manners) {
        self.change(|inner| inner.manners = manners);
    }

    /// Counts fetched bytes.
    pub(crate) fn fetched(&self, bytes: u64) {
        let today = Local::now().date_naive();
        let reaches_the_limit = {
            let mut inner = self.inner();
            inner.traffic.add(bytes, today);
            inner.manners.max_bytes_per_day.is_some_and(|most| inner.traffic.bytes(today) >= most.0)
        };
        if reaches_the_limit {
            self.change(|_| ());
        }
    }

    /// The current state, for people.
    pub(crate) fn overview(&self) -> Overview {
        let inner = self.inner();
        Overview {
            state: inner.state.to_string(),
            is_paused: inner.is_paused,
            manners: inner.manners.clone(),
            bytes_today: inner.traffic.bytes(Local::now().date_naive()),
        }
    }

    fn heard(&self, answers: Answers) {
        self.change(|inner| inner.answers = Some((answers, Instant::now())));
    }

    /// Applies a change and everything that follows from it.
    fn change(&self, change: impl FnOnce(&mut Inner)) {
        let mut inner = self.inner();
        change(&mut inner);
        let state = decide(&inner.manners, &inner.situation(Local::now().naive_local()), &inner.state);
        if state != inner.state {
            tracing::info!("{state}");
        }
        inner.state = state.clone();
        self.gate.set(state, &inner.manners);
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn situation(&self, local: NaiveDateTime) -> Situation {
        let answers = self.answers.filter(|(_, at)| at.elapsed() <= ANSWERS_LAST);
        let Answers { idle, is_on_battery, is_metered, celsius } =
            answers.map(|(answers, _)| answers).unwrap_or_default();
        let bytes_today = self.traffic.bytes(local.date());
        Situation { local, is_paused: self.is_paused, idle, is_on_battery, is_metered, celsius, bytes_today }
    }
}

/// Waits a second, then returns the keeper if it still exists.
fn after_a_while(keeper: &Weak<Keeper>) -> Option<Arc<Keeper>> {
    thread::sleep(EVERY);
    keeper.upgrade()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::{super::settings::ByteCount, *};

    /// A laptop that a test can unplug.
    struct Laptop(Arc<AtomicBool>);

    impl Machine for Laptop {
        fn idle(&mut self) -> Option<Duration> {
            None
        }

        fn is_on_battery(&mut self) -> Option<bool> {
            Some(self.0.load(Ordering::Relaxed))
        }

        fn is_metered(&mut self) -> Option<bool> {
            panic!("nobody asks for this")
        }

        fn celsius(&mut self) -> Option<f32> {
            panic!("nobody asks for this")
        }
    }

    #[tokio::test]
    async fn a_plug_that_is_pulled_pauses_the_work_and_one_that_is_put_back_resumes_it() {
        let is_unplugged = Arc::new(AtomicBool::new(true));
        let manners = Manners { not_on_battery: true, ..Manners::default() };
        let laptop = Box::new(Laptop(Arc::clone(&is_unplugged)));
        let keeper = Keeper::start_on(manners, laptop, JsonFile::at(None)).unwrap();
        assert_eq!(keeper.overview().state, "paused: the machine runs on battery", "before any work begins");
        is_unplugged.store(false, Ordering::Relaxed);
        keeper.gate().running().await;
        let mut changes = keeper.gate().changes();
        is_unplugged.store(true, Ordering::Relaxed);
        changes.wait_for(|permit| !permit.state.may_compute()).await.unwrap();
    }

    #[test]
    fn a_wish_counts_at_once_and_what_the_machine_has_not_told_yet_is_unknown() {
        let keeper = Keeper::idle(Manners::default());
        assert_eq!(keeper.gate().permit().state, State::Running);
        keeper.pause(true);
        assert!(!keeper.gate().permit().state.may_compute());
        keeper.pause(false);
        keeper.set_manners(Manners { not_on_battery: true, max_cpu: "50".parse().unwrap(), ..Manners::default() });
        let permit = keeper.gate().permit();
        assert_eq!((permit.state.may_compute(), permit.max_cpu.share()), (false, 0.5));
        keeper.heard(Answers { is_on_battery: Some(false), ..Answers::default() });
        assert_eq!(keeper.gate().permit().state, State::Running);
    }

    #[test]
    fn what_may_be_fetched_in_a_day_runs_out_within_a_file() {
        let keeper = Keeper::idle(Manners { max_bytes_per_day: Some(ByteCount(1000)), ..Manners::default() });
        keeper.fetched(999);
        assert!(keeper.gate().permit().state.may_fetch());
        keeper.fetched(1);
        let state = keeper.gate().permit().state;
        assert_eq!((state.may_fetch(), state.may_compute()), (false, true));
        assert_eq!(keeper.overview().bytes_today, 1000);
    }
}
