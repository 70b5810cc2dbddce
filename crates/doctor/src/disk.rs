//! Folders the program writes to: whether they are writable, and how much space is free.

use std::{
    io::{self, Write},
    path::Path,
};

use crate::Check;

/// With less free space than this the program soon stops.
const LITTLE_BYTES: u64 = 64 << 20;

/// With less free space than this the user should be warned.
const SCARCE_BYTES: u64 = 1 << 30;

/// Size of the trial file: more than a full disk reserves for file names.
const TRIAL_BYTES: usize = 256 << 10;

/// Checks a folder by writing into it. If the folder does not exist yet, checks the nearest existing parent folder.
#[must_use]
pub fn folder(name: &str, path: &Path) -> Check {
    let Some(place) = path.ancestors().find(|place| place.is_dir()) else {
        return Check::failed(name, format!("{} is nowhere", path.display()), "make the folder, or name another one");
    };
    let found = |words: String| format!("{}: {words}", path.display());
    let room = fs4::available_space(place);
    if let Err(error) = try_to_write(place) {
        let advice = match error.kind() {
            io::ErrorKind::StorageFull => {
                "the disk is full: remove what is not needed, or name a folder on another disk"
            }
            io::ErrorKind::QuotaExceeded => "this user's share of the disk is used up: remove what is not needed",
            io::ErrorKind::PermissionDenied => "let this user write there, or name another folder",
            io::ErrorKind::ReadOnlyFilesystem => "the disk is read-only: name a folder on another one",
            _ => "name a folder that can be written to",
        };
        return Check::failed(name, found(format!("cannot be written to: {error}")), advice);
    }
    match room {
        Ok(bytes) if bytes < LITTLE_BYTES => Check::failed(
            name,
            found(format!("{} free", size(bytes))),
            "the disk is nearly full: remove what is not needed",
        ),
        Ok(bytes) if bytes < SCARCE_BYTES => Check::warning(
            name,
            found(format!("{} free", size(bytes))),
            "the disk is filling up: remove what is not needed",
        ),
        Ok(bytes) => Check::ok(name, found(format!("{} free", size(bytes)))),
        Err(error) => {
            Check::warning(name, found(format!("free space unknown: {error}")), "look at the disk by other means")
        }
    }
}

fn try_to_write(folder: &Path) -> io::Result<()> {
    let mut file = tempfile::tempfile_in(folder)?;
    file.write_all(&vec![0x5a; TRIAL_BYTES])?;
    // Some file systems report a full disk only now.
    file.sync_all()
}

/// A number of bytes in a readable form.
pub(crate) fn size(bytes: u64) -> String {
    let gib = bytes as f64 / f64::from(1 << 30);
    if gib >= 10.0 {
        format!("{gib:.0} GiB")
    } else if gib >= 1.0 {
        format!("{gib:.1} GiB")
    } else {
        format!("{} MiB", bytes >> 20)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, process::Command};

    use super::*;
    use crate::State;

    #[test]
    fn a_folder_with_room_is_fine_also_before_it_is_made() {
        let place = tempfile::tempdir().unwrap();
        for path in [place.path().to_owned(), place.path().join("not/yet")] {
            let check = folder("cache", &path);
            assert!(check.state < State::Failed, "{check:?}");
            assert!(check.found.contains("free"), "{check:?}");
        }
        assert!(fs::read_dir(place.path()).unwrap().next().is_none(), "and nothing is left there");
    }

    /// A 1 MiB file system, which only an administrator can create.
    struct Small(tempfile::TempDir);

    impl Small {
        fn mount() -> Option<Self> {
            let place = tempfile::tempdir().unwrap();
            let mounted =
                Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "chaarfm"]).arg(place.path()).output();
            mounted.is_ok_and(|output| output.status.success()).then_some(Self(place))
        }
    }

    impl Drop for Small {
        fn drop(&mut self) {
            drop(Command::new("umount").arg(self.0.path()).output());
        }
    }

    #[test]
    fn a_full_disk_is_a_failure_that_says_what_to_do() {
        let Some(small) = Small::mount() else {
            eprintln!("left out: this user cannot mount a small file system");
            return;
        };
        let path = small.0.path();
        let nearly = folder("data", path);
        assert_eq!(nearly.state, State::Failed, "{nearly:?}");
        assert!(nearly.advice.unwrap().contains("nearly full"));
        // Fill the file system.
        let filled = fs::write(path.join("filler"), vec![1; 2 << 20]);
        assert_eq!(filled.unwrap_err().kind(), io::ErrorKind::StorageFull);
        let full = folder("data", path);
        assert_eq!(full.state, State::Failed);
        assert!(full.found.contains("cannot be written to"), "{full:?}");
        assert!(full.advice.unwrap().starts_with("the disk is full"));
    }
}
