//! The coordinators that this machine has worked for.

use chaarfm_protocol::PairingCode;
use chaarfm_worker::Address;
use serde::{Deserialize, Serialize};

use crate::json_file::JsonFile;

/// Most coordinators remembered.
const MAX_COORDINATORS: usize = 10;

/// The list, most recent first, and its file.
pub(super) struct Coordinators {
    file: JsonFile<Vec<Coordinator>>,
    list: Vec<Coordinator>,
}

/// A coordinator, with the code of the session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Coordinator {
    pub(super) address: String,
    pub(super) code: String,
}

impl Coordinators {
    pub(super) fn of_user() -> Self {
        Self::at(JsonFile::data("coordinators.json"))
    }

    pub(super) fn at(file: JsonFile<Vec<Coordinator>>) -> Self {
        let mut list = file.read();
        // The file may have been edited by hand, so invalid entries are dropped.
        list.retain(|known| known.address.parse::<Address>().is_ok() && known.code.parse::<PairingCode>().is_ok());
        list.truncate(MAX_COORDINATORS);
        Self { file, list }
    }

    pub(super) fn list(&self) -> &[Coordinator] {
        &self.list
    }

    /// Puts a joined coordinator first.
    pub(super) fn joined(&mut self, address: &Address, code: PairingCode) {
        let joined = Coordinator { address: address.to_string(), code: code.to_string() };
        self.list.retain(|known| known.address != joined.address);
        self.list.insert(0, joined);
        self.list.truncate(MAX_COORDINATORS);
        self.save();
    }

    /// Removes a coordinator.
    pub(super) fn forget(&mut self, address: &str) {
        self.list.retain(|known| known.address != address);
        self.save();
    }

    fn save(&self) {
        if let Err(error) = self.file.write(&self.list) {
            tracing::warn!("the coordinators cannot be remembered: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_one_is_first_and_each_is_there_once() {
        let folder = tempfile::tempdir().unwrap();
        let file = || JsonFile::at(Some(folder.path().join("coordinators.json")));
        let mut known = Coordinators::at(file());
        let codes = ["K7Q-M4X-WDP", "AAA-AAA-AAA"].map(|code| code.parse().unwrap());
        for i in 0..12 {
            known.joined(&format!("http://host-{i}").parse().unwrap(), codes[0]);
        }
        known.joined(&"http://host-5".parse().unwrap(), codes[1]);
        known.forget("http://host-10");
        let known = Coordinators::at(file());
        let first = Coordinator { address: "http://host-5".into(), code: "AAA-AAA-AAA".into() };
        assert_eq!((known.list().len(), &known.list()[0]), (9, &first));
        assert_eq!(known.list()[1].address, "http://host-11");
        let wrong = Coordinator { address: "javascript:alert(1)".into(), code: "K7Q-M4X-WDP".into() };
        file().write(&vec![wrong, first.clone()]).unwrap();
        assert_eq!(Coordinators::at(file()).list(), [first]);
    }
}
