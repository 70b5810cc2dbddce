//! Times of the day.

use std::{fmt, str::FromStr};

use chrono::{NaiveTime, Timelike};
use serde::{Deserialize, Serialize, Serializer, de};

/// A daily window in wall-clock time: on a night when the clocks change, it is an hour shorter or longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    /// Start, in minutes since midnight.
    from: u16,
    /// End, in minutes since midnight; exclusive. Below `from` if the window spans midnight.
    to: u16,
}

const MINUTES_PER_DAY: u16 = 24 * 60;

impl Window {
    /// Whether a time is in the window.
    pub(crate) fn contains(self, time: NaiveTime) -> bool {
        let minute = (time.num_seconds_from_midnight() / 60) as u16;
        if self.from < self.to {
            (self.from..self.to).contains(&minute)
        } else {
            minute >= self.from || minute < self.to
        }
    }
}

impl FromStr for Window {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("'{text}' is no time of the day {why}; it is like 22:00-07:00");
        let (from, to) = text.split_once(['-', '–']).ok_or_else(|| wrong("from … to …"))?;
        let minute = |text: &str| {
            let (hours, minutes) = text.trim().split_once(':')?;
            let is_short = |digits: &str| (1..=2).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
            let (hours, minutes) = (is_short(hours).then_some(hours)?, is_short(minutes).then_some(minutes)?);
            let (hours, minutes): (u16, u16) = (hours.parse().ok()?, minutes.parse().ok()?);
            let minute = 60 * hours + minutes;
            (minutes < 60 && minute <= MINUTES_PER_DAY).then_some(minute)
        };
        let (from, to) = minute(from).zip(minute(to)).ok_or_else(|| wrong("between 00:00 and 24:00"))?;
        if from == to || from == MINUTES_PER_DAY {
            return Err(wrong("that lasts"));
        }
        Ok(Self { from, to })
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to } = self;
        write!(f, "{:02}:{:02}-{:02}:{:02}", from / 60, from % 60, to / 60, to % 60)
    }
}

impl Serialize for Window {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Window {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, FixedOffset};

    use super::*;

    fn contains(window: &str, time: &str) -> bool {
        window.parse::<Window>().unwrap().contains(NaiveTime::parse_from_str(time, "%H:%M:%S").unwrap())
    }

    #[test]
    fn begins_at_its_first_minute_and_has_ended_at_its_last() {
        for (window, within, without) in [
            ("22:00-07:00", ["22:00:00", "23:59:59", "00:00:00", "06:59:59"], ["07:00:00", "21:59:59", "12:00:00"]),
            ("9:30-17:05", ["09:30:00", "12:00:00", "17:04:59", "17:00:00"], ["09:29:59", "17:05:00", "00:00:00"]),
            ("00:00-24:00", ["00:00:00", "12:00:00", "23:59:59", "06:00:00"], ["", "", ""]),
            ("23:00-24:00", ["23:00:00", "23:59:59", "23:30:00", "23:01:00"], ["00:00:00", "22:59:59", "12:00:00"]),
            ("23:00-00:00", ["23:00:00", "23:59:59", "23:30:00", "23:01:00"], ["00:00:00", "22:59:59", "12:00:00"]),
        ] {
            for time in within {
                assert!(contains(window, time), "{window} {time}");
            }
            for time in without.into_iter().filter(|time| !time.is_empty()) {
                assert!(!contains(window, time), "{window} {time}");
            }
        }
    }

    #[test]
    fn the_clock_on_the_wall_counts_when_it_is_put_forward_or_back() {
        // Berlin, in the nights of 2026-03-29 and 2026-10-25, when the clocks change at 01:00 UTC.
        let local = |utc: &str, hours: i32| {
            let offset = FixedOffset::east_opt(hours * 3600).unwrap();
            DateTime::parse_from_rfc3339(utc).unwrap().with_timezone(&offset).time()
        };
        let night: Window = "22:00-07:00".parse().unwrap();
        for (utc, hours, is_within) in [
            ("2026-03-28T20:59:00Z", 1, false),
            ("2026-03-28T21:00:00Z", 1, true),
            ("2026-03-29T04:59:00Z", 2, true),
            ("2026-03-29T05:00:00Z", 2, false),
            ("2026-10-24T20:00:00Z", 2, true),
            ("2026-10-25T05:59:00Z", 1, true),
            ("2026-10-25T06:00:00Z", 1, false),
        ] {
            assert_eq!(night.contains(local(utc, hours)), is_within, "{utc}");
        }
        // An hour that is missing in one night and occurs twice in another.
        let hour: Window = "02:00-03:00".parse().unwrap();
        for minutes in 0..24 * 60 {
            let spring = DateTime::parse_from_rfc3339("2026-03-28T23:00:00Z").unwrap();
            let utc = spring + chrono::Duration::minutes(minutes);
            let hours = if utc < DateTime::parse_from_rfc3339("2026-03-29T01:00:00Z").unwrap() { 1 } else { 2 };
            assert!(!hour.contains(local(&utc.to_rfc3339(), hours)), "{utc}");
        }
        let autumn = [("2026-10-25T00:30:00Z", 2), ("2026-10-25T01:30:00Z", 1)];
        assert!(autumn.into_iter().all(|(utc, hours)| hour.contains(local(utc, hours))));
    }

    #[test]
    fn says_what_is_no_window() {
        for text in [
            "",
            "22:00",
            "22-7",
            "25:00-26:00",
            "24:01-25:00",
            "22:60-23:00",
            "07:00-07:00",
            "-1:00-2:00",
            "+1:00-2:00",
        ] {
            let error = text.parse::<Window>().unwrap_err();
            assert!(error.contains(text) && error.contains("22:00-07:00"), "{error}");
        }
        let window: Window = " 9:05 - 7:00 ".parse().unwrap();
        assert_eq!(window.to_string(), "09:05-07:00");
    }
}
