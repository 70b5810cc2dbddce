//! At most one desktop program for each user: a second one finds the first.

use std::{
    fs::{self, File, TryLockError},
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::json_file::{JsonFile, folders};

/// A newly started program publishes the address of its page within this time.
const PUBLISHED_WITHIN: Duration = Duration::from_secs(5);

/// Interval at which the address is looked for.
const LOOK: Duration = Duration::from_millis(50);

/// A lock that the first instance holds while it runs; the system releases it however the process ends.
pub(super) struct Instance {
    _lock: File,
    address: JsonFile<Option<String>>,
}

/// The folder of the lock and the address.
pub(super) fn folder() -> Option<PathBuf> {
    folders().map(|folders| folders.data_local_dir().to_owned())
}

impl Instance {
    /// Becomes the first instance, or returns the page address of the one that runs.
    ///
    /// # Errors
    /// When there is no folder, or the running instance does not publish its address.
    pub(super) fn claim(folder: Option<PathBuf>) -> Result<Result<Self, String>> {
        let folder = folder.context("this system names no folder for programs' data")?;
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        let path = folder.join("desktop.lock");
        let lock = File::options().create(true).truncate(false).write(true).open(&path);
        let lock = lock.with_context(|| path.display().to_string())?;
        let address = JsonFile::at(Some(folder.join("desktop.json")));
        match lock.try_lock() {
            Ok(()) => {
                // Clears the address of an earlier instance.
                address.write(&None).with_context(|| folder.display().to_string())?;
                Ok(Ok(Self { _lock: lock, address }))
            }
            Err(TryLockError::WouldBlock) => Ok(Err(published(&address)?)),
            Err(TryLockError::Error(error)) => Err(error).with_context(|| path.display().to_string()),
        }
    }

    /// Publishes the address of the page.
    pub(super) fn publish(&self, address: &str) -> Result<()> {
        self.address.write(&Some(address.to_owned())).context("other starts cannot be told where the page is")
    }
}

fn published(address: &JsonFile<Option<String>>) -> Result<String> {
    let start = Instant::now();
    loop {
        if let Some(address) = address.read() {
            return Ok(address);
        }
        if start.elapsed() > PUBLISHED_WITHIN {
            bail!("another worker is running, and does not say where its page is");
        }
        thread::sleep(LOOK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_one_finds_the_first_and_none_finds_one_that_has_ended() {
        let folder = tempfile::tempdir().unwrap();
        let claim = || Instance::claim(Some(folder.path().join("new"))).unwrap();
        let first = claim().ok().unwrap();
        let second = thread::scope(|scope| {
            let second = scope.spawn(claim);
            first.publish("http://127.0.0.1:1/secret/").unwrap();
            second.join().unwrap()
        });
        assert_eq!(second.err().unwrap(), "http://127.0.0.1:1/secret/");
        drop(first);
        let third = claim().ok().unwrap();
        assert_eq!(third.address.read(), None, "the address of one that has ended is of no use");
    }

    #[cfg(unix)]
    #[test]
    fn nobody_else_may_read_the_address() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let instance = Instance::claim(Some(folder.path().to_owned())).unwrap().ok().unwrap();
        instance.publish("http://127.0.0.1:1/secret/").unwrap();
        let mode = fs::metadata(folder.path().join("desktop.json")).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{mode:o}");
    }
}
