//! Whether the worker may work now. Pure: the machine and the clock are arguments.

use std::{fmt, time::Duration};

use chrono::{NaiveDateTime, NaiveTime};

use super::settings::Manners;

/// A machine that was too hot is cool enough when it is this much below the limit, so that it does not go to and fro.
const COOLER_DEGREES: f32 = 5.0;

/// What the machine is like at a moment. None is what the system does not tell, or was not asked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Situation {
    /// The clock on the wall.
    pub(crate) local: NaiveDateTime,
    /// Whether the owner has paused the work.
    pub(crate) is_paused: bool,
    /// How long neither mouse nor keyboard was touched.
    pub(crate) idle: Option<Duration>,
    /// Whether it runs on battery; a machine that has none does not.
    pub(crate) is_on_battery: Option<bool>,
    /// Whether the network is paid for by the byte.
    pub(crate) is_metered: Option<bool>,
    /// The hottest sensor.
    pub(crate) celsius: Option<f32>,
    /// Fetched since midnight.
    pub(crate) bytes_today: u64,
}

/// Why the worker does not work, or fetches nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reason {
    /// The owner wants it so.
    Paused,
    /// It is not the time of the day.
    Schedule,
    /// Somebody uses the machine.
    InUse,
    /// The system does not tell whether somebody uses it.
    IdleUnknown,
    /// It has no mains power.
    Battery,
    /// The system does not tell whether it has.
    BatteryUnknown,
    /// It is too hot.
    Hot,
    /// It has no sensor that can be read.
    TemperatureUnknown,
    /// The network is paid for by the byte.
    Metered,
    /// The system does not tell whether it is.
    MeteredUnknown,
    /// The day's share is used up.
    DailyBytes,
}

impl Reason {
    /// Whether it only forbids to fetch: what is here may be computed.
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

/// Whether the worker works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    /// Yes.
    Running,
    /// No, for these reasons; never for none.
    Paused(Vec<Reason>),
}

impl State {
    fn reasons(&self) -> &[Reason] {
        match self {
            Self::Running => &[],
            Self::Paused(reasons) => reasons,
        }
    }

    /// Whether what is here may be computed.
    pub(crate) fn may_compute(&self) -> bool {
        self.reasons().iter().all(|reason| reason.is_about_the_network())
    }

    /// Whether anything may be fetched.
    pub(crate) fn may_fetch(&self) -> bool {
        *self == Self::Running
    }

    /// Whether a track may be begun: not when its audio cannot be had, and what is here is to be finished.
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

    /// A machine at noon that nobody has touched for an hour, on mains, on a network of its own, cool.
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

    /// Everything is asked for.
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
