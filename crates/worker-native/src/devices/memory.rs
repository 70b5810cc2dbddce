//! The measured speeds of devices, kept in a file in the user's cache folder. If the file is missing or damaged, the
//! devices are tried again.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chaarfm_analysis::DeviceInfo;
use chaarfm_protocol::Speeds;
use serde::{Deserialize, Serialize};

use crate::json_file::JsonFile;

/// Most entries kept; the oldest are dropped.
const MAX_ENTRIES: usize = 16;

/// Age at which a device is tried again: cooling, power settings and other programs on the machine may have changed.
const MAX_AGE: Duration = Duration::from_secs(30 * 24 * 3600);

/// A failed device is tried again sooner.
const MAX_AGE_OF_FAILURE: Duration = Duration::from_secs(24 * 3600);

/// The file.
#[derive(Debug, Clone)]
pub(crate) struct Memory(JsonFile<Vec<Entry>>);

/// The conditions that an outcome depends on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Key {
    gpu: String,
    driver: String,
    version: String,
    threads: usize,
}

impl Key {
    pub(super) fn of(gpu: &DeviceInfo) -> Self {
        Self {
            gpu: gpu.name.clone(),
            driver: gpu.driver.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            threads: rayon::current_num_threads(),
        }
    }
}

/// How a trial ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Outcome {
    /// The devices' speeds.
    Measured(Speeds),
    /// The GPU does not work, for this reason.
    Failed(String),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Entry {
    #[serde(flatten)]
    key: Key,
    /// Seconds since 1970.
    at: u64,
    outcome: Outcome,
}

impl Memory {
    /// The file of this user.
    pub(crate) fn of_user() -> Self {
        Self(JsonFile::cache("devices.json"))
    }

    /// A memory that keeps and returns nothing.
    #[cfg(test)]
    pub(crate) fn none() -> Self {
        Self(JsonFile::at(None))
    }

    pub(super) fn recall(&self, key: &Key) -> Option<Outcome> {
        let entry = self.0.read().into_iter().rev().find(|entry| entry.key == *key)?;
        let max_age = match entry.outcome {
            Outcome::Measured(_) => MAX_AGE,
            Outcome::Failed(_) => MAX_AGE_OF_FAILURE,
        };
        // An entry from the future was made with a wrong clock.
        let age = seconds_since_1970().checked_sub(entry.at)?;
        (age <= max_age.as_secs()).then_some(entry.outcome)
    }

    pub(super) fn keep(&self, key: Key, outcome: &Outcome) {
        let mut entries = self.0.read();
        entries.retain(|entry| entry.key != key);
        entries.push(Entry { key, at: seconds_since_1970(), outcome: outcome.clone() });
        entries.drain(..entries.len().saturating_sub(MAX_ENTRIES));
        if let Err(error) = self.0.write(&entries) {
            // The next start takes a little longer, nothing else.
            tracing::debug!("what the devices have shown cannot be kept: {error}");
        }
    }
}

fn seconds_since_1970() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn key(gpu: &str) -> Key {
        Key { gpu: gpu.into(), driver: "1.2".into(), version: "0.1.0".into(), threads: 2 }
    }

    fn measured(gpu: f32) -> Outcome {
        Outcome::Measured(Speeds { cpu: Some(400.0), gpu: Some(gpu), both: None })
    }

    #[test]
    fn what_was_kept_is_recalled_for_the_same_device_only() {
        let folder = tempfile::tempdir().unwrap();
        let memory = Memory(JsonFile::at(Some(folder.path().join("new/devices.json"))));
        assert_eq!(memory.recall(&key("a")), None);
        memory.keep(key("a"), &measured(1.5));
        memory.keep(key("b"), &Outcome::Failed("it is broken".into()));
        memory.keep(key("a"), &measured(2.5));
        assert_eq!(memory.recall(&key("a")), Some(measured(2.5)));
        assert_eq!(memory.recall(&key("b")), Some(Outcome::Failed("it is broken".into())));
        for other in [Key { driver: "1.3".into(), ..key("a") }, Key { threads: 4, ..key("a") }] {
            assert_eq!(memory.recall(&other), None);
        }
        for gpu in 0..MAX_ENTRIES {
            memory.keep(key(&gpu.to_string()), &measured(1.0));
        }
        assert_eq!((memory.recall(&key("a")), memory.0.read().len()), (None, MAX_ENTRIES));
    }

    #[test]
    fn what_is_old_or_damaged_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("devices.json");
        let memory = Memory(JsonFile::at(Some(path.clone())));
        let old = |key, age: Duration, outcome| Entry { key, at: seconds_since_1970() - age.as_secs(), outcome };
        let second = Duration::from_secs(1);
        let entries = vec![
            old(key("a"), MAX_AGE + second, measured(1.0)),
            old(key("b"), MAX_AGE - second, measured(1.0)),
            old(key("c"), MAX_AGE_OF_FAILURE + second, Outcome::Failed(String::new())),
        ];
        memory.0.write(&entries).unwrap();
        assert_eq!(memory.recall(&key("a")), None);
        assert_eq!(memory.recall(&key("b")), Some(measured(1.0)));
        assert_eq!(memory.recall(&key("c")), None);
        fs::write(&path, "[{\"gpu\":").unwrap();
        assert_eq!(memory.recall(&key("b")), None);
        memory.keep(key("b"), &measured(3.0));
        assert_eq!(memory.recall(&key("b")), Some(measured(3.0)));
        assert_eq!(Memory::none().recall(&key("b")), None);
    }
}
