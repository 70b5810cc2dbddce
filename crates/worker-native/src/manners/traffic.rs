//! Counts the bytes fetched today, across restarts.

use std::time::{Duration, Instant};

use chrono::NaiveDate;
use serde::{Deserialize, Serialize};

use crate::json_file::JsonFile;

/// Shortest interval between two writes of the file; a killed worker forgets at most the bytes fetched in that time.
const SAVED_EVERY: Duration = Duration::from_secs(10);

/// The bytes fetched on a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Day {
    /// The day in wall-clock time; none if nothing was fetched yet.
    date: Option<NaiveDate>,
    bytes: u64,
}

/// The count, and its file.
#[derive(Debug)]
pub(super) struct Traffic {
    file: JsonFile<Day>,
    day: Day,
    saved: Day,
    saved_at: Instant,
}

impl Traffic {
    pub(super) fn new(file: JsonFile<Day>) -> Self {
        let day = file.read();
        Self { file, day, saved: day, saved_at: Instant::now() }
    }

    /// Adds fetched bytes.
    pub(super) fn add(&mut self, bytes: u64, today: NaiveDate) {
        self.day = Day { date: Some(today), bytes: self.bytes(today).saturating_add(bytes) };
        if self.saved_at.elapsed() >= SAVED_EVERY {
            self.save();
        }
    }

    /// Bytes fetched on this day.
    pub(super) fn bytes(&self, today: NaiveDate) -> u64 {
        if self.day.date == Some(today) { self.day.bytes } else { 0 }
    }

    /// Writes the file if the count has changed.
    pub(super) fn save(&mut self) {
        if self.day != self.saved {
            if let Err(error) = self.file.write(&self.day) {
                // After a restart, counting goes on from the last value written.
                tracing::debug!("how much was fetched cannot be kept: {error}");
            }
            self.saved = self.day;
        }
        self.saved_at = Instant::now();
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.save();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_from_midnight_and_over_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let file = || JsonFile::at(Some(folder.path().join("new/traffic.json")));
        let (today, tomorrow) = ("2026-03-04".parse().unwrap(), "2026-03-05".parse().unwrap());
        let mut traffic = Traffic::new(file());
        assert_eq!(traffic.bytes(today), 0);
        traffic.add(10, today);
        traffic.add(5, today);
        drop(traffic);
        let mut traffic = Traffic::new(file());
        assert_eq!((traffic.bytes(today), traffic.bytes(tomorrow)), (15, 0));
        traffic.add(u64::MAX, today);
        assert_eq!(traffic.bytes(today), u64::MAX);
        traffic.add(1, tomorrow);
        assert_eq!((traffic.bytes(today), traffic.bytes(tomorrow)), (0, 1));
    }
}
