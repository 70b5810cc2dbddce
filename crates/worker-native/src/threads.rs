//! The setting of how many threads analyse.

use std::{num::NonZeroU16, str::FromStr};

use serde::{Deserialize, Serialize};

/// Threads to analyse with, up to [`MAX_THREADS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u16")]
pub(crate) struct Threads(NonZeroU16);

/// Most threads to analyse with.
const MAX_THREADS: u64 = 1024;

impl Threads {
    pub(crate) fn get(self) -> usize {
        self.0.get().into()
    }
}

impl TryFrom<u64> for Threads {
    type Error = String;

    fn try_from(number: u64) -> Result<Self, String> {
        let threads = u16::try_from(number).ok().filter(|_| number <= MAX_THREADS).and_then(NonZeroU16::new);
        threads.map(Self).ok_or_else(|| format!("{number} is not in 1..={MAX_THREADS}"))
    }
}

impl From<Threads> for u16 {
    fn from(threads: Threads) -> Self {
        threads.0.get()
    }
}

impl FromStr for Threads {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse::<u64>().map_err(|error| error.to_string())?.try_into()
    }
}
