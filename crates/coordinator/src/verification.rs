//! Chooses which results are recomputed.

use std::{fmt, str::FromStr};

/// Checks that a new worker, or one in doubt, must pass before it is checked less often.
const PROBATION_CHECKS: u32 = 3;

/// Minimum share of its results that is checked until then.
const PROBATION_SHARE: f64 = 0.5;

/// After this many passed checks a worker is checked half as often.
const GOOD_CHECKS: u32 = 50;

/// Share of results that is recomputed, chosen at random: `none`, a percentage, or `all`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VerifyShare {
    /// No result: workers are trusted.
    None,
    /// This percentage of an established worker's results; 1 to 99.
    Percent(u8),
    /// Every result.
    All,
}

/// The text is not a valid [`VerifyShare`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no share of results to verify: it is none, a percentage from 1 to 99, or all")]
pub struct VerifyError(String);

/// The results of checks on a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CheckRecord {
    /// Recomputed results that matched since the last doubt.
    confirmed_since_doubt: u32,
}

impl Default for VerifyShare {
    fn default() -> Self {
        Self::Percent(3)
    }
}

impl FromStr for VerifyShare {
    type Err = VerifyError;

    fn from_str(text: &str) -> Result<Self, VerifyError> {
        match text {
            "none" => Ok(Self::None),
            "all" => Ok(Self::All),
            _ => match text.parse() {
                Ok(percent @ 1..=99) => Ok(Self::Percent(percent)),
                Ok(_) | Err(_) => Err(VerifyError(text.chars().take(20).collect())),
            },
        }
    }
}

impl fmt::Display for VerifyShare {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => formatter.write_str("none"),
            Self::Percent(percent) => percent.fmt(formatter),
            Self::All => formatter.write_str("all"),
        }
    }
}

impl VerifyShare {
    /// The share of results to recompute for a worker with this record, 0 to 1.
    #[must_use]
    pub fn of(self, record: &CheckRecord) -> f64 {
        let share = match self {
            Self::None => return 0.0,
            Self::All => return 1.0,
            Self::Percent(percent) => f64::from(percent) / 100.0,
        };
        if record.confirmed_since_doubt < PROBATION_CHECKS {
            share.max(PROBATION_SHARE)
        } else if record.confirmed_since_doubt < GOOD_CHECKS {
            share
        } else {
            share / 2.0
        }
    }
}

impl VerifyShare {
    /// Whether a track that a worker calls broken is looked at before that is believed. Honest workers rarely say so, so all
    /// such answers are checked: one that is false costs the track.
    #[must_use]
    pub fn checks_failures(self) -> bool {
        self != Self::None
    }
}

impl CheckRecord {
    /// Notes a recomputed result that matched.
    pub fn confirm(&mut self) {
        self.confirmed_since_doubt = self.confirmed_since_doubt.saturating_add(1);
    }

    /// Notes something that honest workers rarely do.
    pub fn doubt(&mut self) {
        self.confirmed_since_doubt = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_called_broken_is_looked_at_unless_workers_are_trusted() {
        let shares = [VerifyShare::None, VerifyShare::Percent(1), VerifyShare::All];
        assert_eq!(shares.map(VerifyShare::checks_failures), [false, true, true]);
    }

    #[test]
    fn a_share_is_none_a_percentage_or_all() {
        for text in ["none", "1", "3", "99", "all"] {
            assert_eq!(text.parse::<VerifyShare>().unwrap().to_string(), text);
        }
        for text in ["0", "100", "-1", "3%", "", "some"] {
            let error = text.parse::<VerifyShare>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("{text:?} is no share")), "{error}");
        }
    }

    #[test]
    fn newcomers_and_the_doubted_are_checked_more_and_old_acquaintances_less() {
        let share = VerifyShare::default();
        let mut record = CheckRecord::default();
        assert_eq!(share.of(&record), 0.5);
        (0..PROBATION_CHECKS).for_each(|_| record.confirm());
        assert_eq!(share.of(&record), 0.03);
        (PROBATION_CHECKS..GOOD_CHECKS).for_each(|_| record.confirm());
        assert_eq!(share.of(&record), 0.015);
        record.doubt();
        assert_eq!(share.of(&record), 0.5);
        assert_eq!(VerifyShare::Percent(80).of(&record), 0.8);
        assert_eq!((VerifyShare::None.of(&record), VerifyShare::All.of(&record)), (0.0, 1.0));
    }
}
