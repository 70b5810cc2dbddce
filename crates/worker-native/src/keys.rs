//! The keys by which coordinators recognise this machine: one for each invitation, in a file that only its owner may
//! read. All devices of the machine share a key, so that a replaced or new device does not have to be let in again.

use std::sync::{Arc, Mutex, PoisonError};

use chaarfm_protocol::{PairingCode, WorkerKey};
use chaarfm_worker::Address;
use serde::{Deserialize, Serialize};

use crate::json_file::JsonFile;

/// Most keys kept; beyond that the least recently used one is dropped.
const MAX_KEYS: usize = 100;

/// All of this machine's keys.
#[derive(Debug, Clone)]
pub(crate) struct Keys(Arc<Mutex<Kept>>);

#[derive(Debug)]
struct Kept {
    file: JsonFile<Vec<Known>>,
    /// Keys made or used by this process, in case the file is not accessible.
    asked: Vec<Known>,
}

/// A key, and the coordinator and invitation it belongs to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Known {
    coordinator: String,
    code: String,
    key: WorkerKey,
}

impl Known {
    fn is_for_the_same(&self, other: &Self) -> bool {
        (&self.coordinator, &self.code) == (&other.coordinator, &other.code)
    }
}

impl Keys {
    pub(crate) fn of_user() -> Self {
        Self::at(JsonFile::data("keys.json"))
    }

    fn at(file: JsonFile<Vec<Known>>) -> Self {
        Self(Arc::new(Mutex::new(Kept { file, asked: Vec::new() })))
    }

    /// The key for an invitation; a new one if there is none.
    pub(crate) fn key(&self, address: &Address, code: PairingCode) -> WorkerKey {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = Known {
            coordinator: address.to_string(),
            code: code.to_string(),
            key: WorkerKey::from_random(rand::random()),
        };
        if let Some(known) = kept.asked.iter().find(|known| known.is_for_the_same(&wanted)) {
            return known.key.clone();
        }
        // An unreadable file is left as it is: it has the keys of other invitations.
        let (mut all, is_readable) = match kept.file.try_read() {
            Ok(all) => (all, true),
            Err(error) => {
                tracing::warn!("the keys of earlier times cannot be read, so that this is another worker: {error}");
                (Vec::new(), false)
            }
        };
        let known = all.iter().position(|known| known.is_for_the_same(&wanted)).map(|index| all.remove(index));
        let chosen = known.unwrap_or(wanted);
        all.insert(0, chosen.clone());
        all.truncate(MAX_KEYS);
        if is_readable && let Err(error) = kept.file.write(&all) {
            tracing::warn!("the key cannot be kept, so that this is another worker the next time: {error}");
        }
        let key = chosen.key.clone();
        kept.asked.push(chosen);
        key
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_for_one_invitation_and_outlives_the_process() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.json");
        let keys = || Keys::at(JsonFile::at(Some(path.clone())));
        let (address, code) = ("http://host".parse().unwrap(), "K7Q-M4X-WDP".parse().unwrap());
        let first = keys().key(&address, code);
        assert_eq!(keys().key(&address, code), first);
        for (address, code) in [("http://host", "AAA-AAA-AAA"), ("http://other", "K7Q-M4X-WDP")] {
            assert_ne!(keys().key(&address.parse().unwrap(), code.parse().unwrap()), first);
        }
        assert_eq!(keys().0.lock().unwrap().file.read().len(), 3);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn a_key_that_cannot_be_kept_is_good_for_the_process() {
        let keys = Keys::at(JsonFile::at(None));
        let (address, code) = ("http://host".parse().unwrap(), "K7Q-M4X-WDP".parse().unwrap());
        assert_eq!(keys.key(&address, code), keys.key(&address, code));
    }

    #[test]
    fn a_file_of_keys_that_cannot_be_read_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.json");
        std::fs::write(&path, "written by a later version").unwrap();
        let keys = Keys::at(JsonFile::at(Some(path.clone())));
        let (address, code) = ("http://host".parse().unwrap(), "K7Q-M4X-WDP".parse().unwrap());
        assert_eq!(keys.key(&address, code), keys.key(&address, code));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "written by a later version");
    }
}
