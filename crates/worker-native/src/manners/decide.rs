//! Whether the worker may work now. Pure: the machine and the clock are arguments.

use std::{fmt, time::Duration};

use chrono::{NaiveDateTime, NaiveTime};

use super::settings::Manners;

/// After overheating, a machine must cool down this far below the limit, so that the state does not flap.
const COOLER_DEGREES: f32 = 5.0;

/// The machine's condition at a moment. None means that the system does not tell, or was not asked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Situation {
    /// Local wall-clock time.
    pub(crate) local: NaiveDateTime,
    /// Whether the owner has paused the work.
    pub(crate) is_paused: bool,
    /// Time since the last mouse or keyboard input.
    pub(crate) idle: Option<Duration>,
    /// Whether it runs on battery; false for a machine without one.
    pub(crate) is_on_battery: Option<bool>,
    /// Whether the network connection is metered.
    pub(crate) is_metered: Option<bool>,
    /// Temperature of the hottest sensor.
    pub(crate) celsius: Option<f32>,
    /// Bytes fetched since midnight.
    pub(crate) bytes_today: u64,
}

/// Why the worker is paused, or fetches nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reason {
    /// Paused by the owner.
    Paused,
    /// Outside the scheduled hours.
    Schedule,
    /// Somebody uses the machine.
    InUse,
    /// The system does not tell whether somebody uses the machine.
    IdleUnknown,
    /// The machine runs on battery.
    Battery,
    /// The system does not tell whether the machine runs on battery.
    BatteryUnknown,
    /// The machine is too hot.
    Hot,
    /// The machine has no readable temperature sensor.
    TemperatureUnknown,
    /// The network connection is metered.
    Metered,
    /// The system does not tell whether the connection is metered.
    MeteredUnknown,
    /// The daily limit of fetched data is reached.
    DailyBytes,
}

impl Reason {
    /// Whether it forbids fetching only; files already fetched may still be computed.
    pub(crate) fn is_about_the_network(self) -> bool {
        matches!(self, Self::Metered | Self::MeteredUnknown | Self::DailyBytes)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Paused => "you paused it",
            Self::Schedule => "it is outside the hours of the schedule",
            Self::InUse => "somebody uses this machine",
            Self::IdleUnknown => "this system does not tell whether somebody uses it",
            Self::Battery => "the machine runs on battery",
            Self::BatteryUnknown => "this system does not tell whether it runs on battery",
            Self::Hot => "the machine is too hot",
            Self::TemperatureUnknown => "this system does not tell how hot it is",
            Self::Metered => "the network is metered",
            Self::MeteredUnknown => "this system does not tell whether the network is metered",
            Self::DailyBytes => "what may be fetched in a day has been fetched",
        })
    }
}

/// Whether the worker may work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    /// Yes.
    Running,
    /// No, for these reasons; the list is never empty.
    Paused(Vec<Reason>),
}

impl State {
    fn reasons(&self) -> &[Reason] {
        match self {
            Self::Running => &[],
            Self::Paused(reasons) => reasons,
        }
    }

    /// Whether files already fetched may be computed.
    pub(crate) fn may_compute(&self) -> bool {
        self.reasons().iter().all(|reason| reason.is_about_the_network())
    }

    /// Whether anything may be fetched.
    pub(crate) fn may_fetch(&self) -> bool {
        *self == Self::Running
    }

    /// Whether a track may be begun. False only if fetching is forbidden but computing is not: then the tracks already
    /// fetched are to be finished.
    pub(crate) fn may_begin(&self) -> bool {
        self.may_fetch() || !self.may_compute()
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::Running {
            return f.write_str("running");
        }
        let reasons: Vec<_> = self.reasons().iter().map(Reason::to_string).collect();
        write!(f, "paused: {}", reasons.join(", "))
    }
}

/// Decides from the owner's wishes, the machine's state and the previous decision.
pub(crate) fn decide(manners: &Manners, situation: &Situation, before: &State) -> State {
    let mut reasons = Vec::new();
    if situation.is_paused {
        reasons.push(Reason::Paused);
    }
    let time: NaiveTime = situation.local.time();
    if !manners.schedule.is_empty() && !manners.schedule.iter().any(|window| window.contains(time)) {
        reasons.push(Reason::Schedule);
    }
    let needed = Duration::from_secs(60 * u64::from(manners.idle_minutes));
    let is_in_use = situation.idle.map(|idle| idle < needed);
    let limit = manners
        .max_temperature
        .map(|limit| f32::from(limit) - if before.reasons().contains(&Reason::Hot) { COOLER_DEGREES } else { 0.0 });
    let is_hot = situation.celsius.map(|celsius| celsius.is_nan() || celsius > limit.unwrap_or(f32::INFINITY));
    for (is_asked, answer, reason, unknown) in [
        (manners.only_when_idle, is_in_use, Reason::InUse, Reason::IdleUnknown),
        (manners.not_on_battery, situation.is_on_battery, Reason::Battery, Reason::BatteryUnknown),
        (limit.is_some(), is_hot, Reason::Hot, Reason::TemperatureUnknown),
        (manners.not_on_metered, situation.is_metered, Reason::Metered, Reason::MeteredUnknown),
    ] {
        match answer {
            _ if !is_asked => {}
            Some(false) => {}
            Some(true) => reasons.push(reason),
            None => reasons.push(unknown),
        }
    }
    if manners.max_bytes_per_day.is_some_and(|most| situation.bytes_today >= most.0) {
        reasons.push(Reason::DailyBytes);
    }
    if reasons.is_empty() { State::Running } else { State::Paused(reasons) }
}

#[cfg(test)]
mod tests {
    use super::{super::settings::ByteCount, *};

    /// At noon, untouched for an hour, on mains, on an unmetered network, cool.
    fn quiet() -> Situation {
        Situation {
            local: "2026-03-04T12:00:00".parse().unwrap(),
            is_paused: false,
            idle: Some(Duration::from_secs(3600)),
            is_on_battery: Some(false),
            is_metered: Some(false),
            celsius: Some(50.0),
            bytes_today: 0,
        }
    }

    /// Manners with every condition switched on.
    fn strict() -> Manners {
        Manners {
            schedule: vec!["11:00-13:00".parse().unwrap(), "22:00-07:00".parse().unwrap()],
            only_when_idle: true,
            not_on_battery: true,
            not_on_metered: true,
            max_bytes_per_day: Some(ByteCount(1000)),
            max_temperature: Some(80),
            ..Manners::default()
        }
    }

    fn paused(reasons: &[Reason]) -> State {
        State::Paused(reasons.to_vec())
    }

    #[test]
    fn each_condition_pauses_by_itself_and_only_when_it_is_asked_for() {
        let at = |time: &str| Situation { local: format!("2026-03-04T{time}").parse().unwrap(), ..quiet() };
        let table = [
            (quiet(), None),
            (Situation { is_paused: true, ..quiet() }, Some(Reason::Paused)),
            (at("10:59:59"), Some(Reason::Schedule)),
            (at("11:00:00"), None),
            (at("12:59:59"), None),
            (at("13:00:00"), Some(Reason::Schedule)),
            (at("23:30:00"), None),
            (at("06:59:59"), None),
            (at("07:00:00"), Some(Reason::Schedule)),
            (Situation { idle: Some(Duration::from_secs(299)), ..quiet() }, Some(Reason::InUse)),
            (Situation { idle: Some(Duration::from_secs(300)), ..quiet() }, None),
            (Situation { idle: None, ..quiet() }, Some(Reason::IdleUnknown)),
            (Situation { is_on_battery: Some(true), ..quiet() }, Some(Reason::Battery)),
            (Situation { is_on_battery: None, ..quiet() }, Some(Reason::BatteryUnknown)),
            (Situation { is_metered: Some(true), ..quiet() }, Some(Reason::Metered)),
            (Situation { is_metered: None, ..quiet() }, Some(Reason::MeteredUnknown)),
            (Situation { celsius: Some(80.0), ..quiet() }, None),
            (Situation { celsius: Some(80.5), ..quiet() }, Some(Reason::Hot)),
            (Situation { celsius: Some(f32::NAN), ..quiet() }, Some(Reason::Hot)),
            (Situation { celsius: None, ..quiet() }, Some(Reason::TemperatureUnknown)),
            (Situation { bytes_today: 999, ..quiet() }, None),
            (Situation { bytes_today: 1000, ..quiet() }, Some(Reason::DailyBytes)),
        ];
        for (situation, reason) in table {
            let expected = reason.map_or(State::Running, |reason| paused(&[reason]));
            assert_eq!(decide(&strict(), &situation, &State::Running), expected, "{situation:?}");
            let unasked = decide(&Manners::default(), &situation, &State::Running);
            let expected = if situation.is_paused { paused(&[Reason::Paused]) } else { State::Running };
            assert_eq!(unasked, expected, "{situation:?}");
        }
    }

    #[test]
    fn all_reasons_are_named_and_work_begins_when_the_last_is_gone() {
        let bad = Situation { is_paused: true, is_on_battery: Some(true), bytes_today: 5000, ..quiet() };
        let state = decide(&strict(), &bad, &State::Running);
        assert_eq!(state, paused(&[Reason::Paused, Reason::Battery, Reason::DailyBytes]));
        let words = "paused: you paused it, the machine runs on battery, what may be fetched in a day has been fetched";
        assert_eq!(state.to_string(), words);
        let better = Situation { is_paused: false, ..bad };
        assert!(!decide(&strict(), &better, &state).may_compute());
        assert_eq!(decide(&strict(), &quiet(), &state), State::Running);
    }

    #[test]
    fn a_network_that_is_forbidden_leaves_what_is_here_to_be_computed() {
        for situation in [
            Situation { is_metered: Some(true), ..quiet() },
            Situation { is_metered: None, ..quiet() },
            Situation { bytes_today: 1000, ..quiet() },
        ] {
            let state = decide(&strict(), &situation, &State::Running);
            assert_eq!((state.may_compute(), state.may_fetch()), (true, false));
            let state = decide(&strict(), &Situation { is_paused: true, ..situation }, &state);
            assert_eq!((state.may_compute(), state.may_fetch()), (false, false));
        }
        assert_eq!((State::Running.may_compute(), State::Running.may_fetch()), (true, true));
    }

    #[test]
    fn a_machine_that_was_too_hot_has_to_cool_down() {
        let at = |celsius| Situation { celsius: Some(celsius), ..quiet() };
        let mut state = State::Running;
        let mut course = Vec::new();
        for celsius in [79.0, 81.0, 79.0, 76.0, 75.0, 79.0] {
            state = decide(&strict(), &at(celsius), &state);
            course.push(state.may_compute());
        }
        assert_eq!(course, [true, false, false, false, true, true]);
    }
}
