//! The wishes of a machine's owner.

use std::{fmt, num::NonZeroU8, str::FromStr};

use serde::{Deserialize, Serialize, Serializer, de};

use super::schedule::Window;

/// When the worker may work, and how much of the machine it then takes. A condition that the system does not tell
/// counts as not fulfilled: no wish is silently ignored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Manners {
    /// Whether other programs come first.
    pub(crate) low_priority: bool,
    /// The share of the processor's cores, and of the graphics card's time, in percent.
    pub(crate) max_cpu: Percent,
    /// The daily windows, in local time; always, if empty.
    pub(crate) schedule: Vec<Window>,
    /// Whether to work only while nobody uses the machine.
    pub(crate) only_when_idle: bool,
    /// The machine counts as unused after this many minutes without mouse or keyboard input.
    pub(crate) idle_minutes: u16,
    /// Whether to pause while the machine runs on battery.
    pub(crate) not_on_battery: bool,
    /// Whether to stop fetching over a metered network.
    pub(crate) not_on_metered: bool,
    /// The most bytes to fetch between two midnights.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_bytes_per_day: Option<ByteCount>,
    /// Pause while a sensor shows a higher temperature, in degrees Celsius.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_temperature: Option<u8>,
}

impl Manners {
    /// The names of all settings.
    pub(crate) const KEYS: [&str; 9] = [
        "low_priority",
        "max_cpu",
        "schedule",
        "only_when_idle",
        "idle_minutes",
        "not_on_battery",
        "not_on_metered",
        "max_bytes_per_day",
        "max_temperature",
    ];
}

impl Default for Manners {
    fn default() -> Self {
        Self {
            low_priority: true,
            max_cpu: Percent::FULL,
            schedule: Vec::new(),
            only_when_idle: false,
            idle_minutes: 5,
            not_on_battery: false,
            not_on_metered: false,
            max_bytes_per_day: None,
            max_temperature: None,
        }
    }
}

/// A share, 1 to 100 percent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Percent(NonZeroU8);

impl Percent {
    pub(crate) const FULL: Self = Self(NonZeroU8::new(100).expect("a hundred is not zero"));

    pub(crate) fn new(percent: u64) -> Option<Self> {
        u8::try_from(percent).ok().filter(|percent| *percent <= 100).and_then(NonZeroU8::new).map(Self)
    }

    /// 0.01 to 1.
    pub(crate) fn share(self) -> f64 {
        f64::from(self.0.get()) / 100.0
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Percent {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.trim().trim_end_matches('%').trim_end().parse().ok();
        number.and_then(Self::new).ok_or_else(|| format!("'{text}' is no percentage; it is a whole number, 1 to 100"))
    }
}

impl Serialize for Percent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(self.0.get())
    }
}

impl<'de> Deserialize<'de> for Percent {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = i64::deserialize(deserializer)?;
        let percent = u64::try_from(number).ok().and_then(Self::new);
        percent.ok_or_else(|| de::Error::custom(format!("{number} is not in 1..=100 percent")))
    }
}

/// An amount of data, such as `2 GB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ByteCount(pub(crate) u64);

impl FromStr for ByteCount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let amount = text.parse::<bytesize::ByteSize>();
        let amount = amount.map_err(|_| format!("'{text}' is no amount of data; it is like 500 MB or 2 GiB"))?;
        if amount.0 == 0 { Err("nothing can be done with 0 bytes a day".to_owned()) } else { Ok(Self(amount.0)) }
    }
}

impl fmt::Display for ByteCount {
    /// Uses the largest unit that needs no fraction, so that parsing it gives the same amount.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1_000)];
        let whole = units.into_iter().find(|(_, size)| self.0 >= *size && self.0.is_multiple_of(*size));
        let (unit, size) = whole.unwrap_or(("B", 1));
        write!(f, "{} {unit}", self.0 / size)
    }
}

impl Serialize for ByteCount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ByteCount {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_of_data_are_read_back_as_they_are_written() {
        for (text, bytes, written) in [
            ("2 GB", 2_000_000_000, "2 GB"),
            ("1GiB", 1_073_741_824, "1073741824 B"),
            ("1.5MB", 1_500_000, "1500 kB"),
            ("12", 12, "12 B"),
        ] {
            let amount: ByteCount = text.parse().unwrap();
            assert_eq!((amount.0, amount.to_string().as_str()), (bytes, written));
            assert_eq!(written.parse(), Ok(amount));
        }
        for text in ["", "much", "-1", "0", "1 XB"] {
            assert!(text.parse::<ByteCount>().is_err(), "{text}");
        }
    }

    #[test]
    fn all_have_their_names() {
        let all = Manners { max_bytes_per_day: Some(ByteCount(1)), max_temperature: Some(80), ..Manners::default() };
        let written = serde_json::to_value(all).unwrap();
        let names: Vec<_> = written.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(names.len(), Manners::KEYS.len());
        assert!(names.iter().all(|name| Manners::KEYS.contains(name)), "{names:?}");
    }

    #[test]
    fn percentages_are_whole_and_not_nothing() {
        assert_eq!(["1", "100", "50%"].map(|text| text.parse::<Percent>().unwrap().to_string()), ["1", "100", "50"]);
        for text in ["0", "101", "-5", "1.5", "", "%"] {
            assert!(text.parse::<Percent>().is_err(), "{text}");
        }
    }
}
