//! Temporary files of a process in a folder that the program chooses: the system's own is often in memory, and audio is large.
//!
//! Every process has a folder of its own there, and a lock in it as long as it runs. Whoever comes next removes the folders
//! whose processes have ended, however they ended. Leaves out how much room there is.

use std::{
    fs::{self, File, OpenOptions},
    io,
    path::{Path, PathBuf},
};

/// Name of the lock, of a process in its folder, and of whoever makes or removes folders in the place of all.
const LOCK: &str = "lock";

/// What the names of the folders begin with.
const PREFIX: &str = "process-";

/// Where a process makes temporary files; as a rule in the system's folder for them.
#[derive(Debug, Default)]
pub struct Scratch(Option<Own>);

/// A folder of this process alone.
#[derive(Debug)]
struct Own {
    folder: PathBuf,
    /// None when the folder is being removed.
    lock: Option<File>,
}

impl Scratch {
    /// Makes a folder for this process in `place`, which is made when it is missing, and removes what ended processes have left
    /// there. Nothing else may be kept in `place`.
    ///
    /// # Errors
    /// When `place` cannot be written, or its file system has no locks.
    pub fn open(place: &Path) -> io::Result<Self> {
        fs::create_dir_all(place)?;
        // A folder that has no lock yet is not to be taken for one whose process has ended. Nobody holds this for long.
        let turn = File::create(place.join(LOCK))?;
        turn.lock()?;
        remove_abandoned(place)?;
        let folder = tempfile::Builder::new().prefix(PREFIX).tempdir_in(place)?;
        let lock = File::create(folder.path().join(LOCK))?;
        lock.try_lock()?;
        Ok(Self(Some(Own { folder: folder.keep(), lock: Some(lock) })))
    }

    /// A new, empty file that is gone when it is closed.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn file(&self) -> io::Result<File> {
        let Some(Own { folder, .. }) = &self.0 else { return tempfile::tempfile() };
        match tempfile::tempfile_in(folder) {
            // Somebody has tidied up.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(folder)?;
                tempfile::tempfile_in(folder)
            }
            made => made,
        }
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        // Some systems remove no file that is open.
        self.lock = None;
        // What stays, the next process removes.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn remove_abandoned(place: &Path) -> io::Result<()> {
    for entry in place.read_dir()? {
        let entry = entry?;
        let is_folder = entry.file_type()?.is_dir() && entry.file_name().to_string_lossy().starts_with(PREFIX);
        if is_folder && is_abandoned(&entry.path()) {
            // One that cannot be removed is in nobody's way.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    Ok(())
}

/// Whether the process of a folder has ended. When that cannot be told, it has not.
fn is_abandoned(folder: &Path) -> bool {
    match OpenOptions::new().write(true).open(folder.join(LOCK)) {
        Ok(lock) => lock.try_lock().is_ok(),
        // It ended before it had one: whoever makes a folder makes its lock before anybody else looks.
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Seek, Write},
        thread,
    };

    use super::*;

    fn folders(place: &Path) -> Vec<PathBuf> {
        let entries = place.read_dir().unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.is_dir()).collect()
    }

    #[test]
    fn what_ended_processes_left_is_removed_and_nothing_of_running_ones() {
        let root = tempfile::tempdir().unwrap();
        let place = root.path().join("new/tmp");
        let running = Scratch::open(&place).unwrap();
        let own = folders(&place);
        fs::write(own[0].join("audio"), "in use").unwrap();
        // One was killed, another before it had made its lock; the lock of a process that is gone is free.
        for (name, has_lock) in [("process-killed", true), ("process-early", false)] {
            fs::create_dir(place.join(name)).unwrap();
            fs::write(place.join(name).join("audio"), "left").unwrap();
            if has_lock {
                fs::write(place.join(name).join(LOCK), "").unwrap();
            }
        }
        fs::create_dir(place.join("somebody else's")).unwrap();
        let next = Scratch::open(&place).unwrap();
        assert!(own[0].join("audio").exists(), "its process runs");
        assert!(!place.join("process-killed").exists() && !place.join("process-early").exists());
        assert_eq!(folders(&place).len(), 3);
        drop(running);
        assert!(!own[0].exists(), "it has ended in order");
        drop(next);
        assert_eq!(folders(&place), [place.join("somebody else's")]);
    }

    #[test]
    fn processes_that_start_at_once_leave_each_other_alone() {
        let root = tempfile::tempdir().unwrap();
        let open = || Scratch::open(root.path()).unwrap();
        let all: Vec<_> = thread::scope(|scope| {
            let started: Vec<_> = (0..20).map(|_| scope.spawn(open)).collect();
            started.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(folders(root.path()).len(), all.len());
        for scratch in &all {
            scratch.file().unwrap();
        }
    }

    #[test]
    fn a_file_is_in_the_folder_and_leaves_nothing_there() {
        let root = tempfile::tempdir().unwrap();
        let scratch = Scratch::open(root.path()).unwrap();
        let own = folders(root.path()).remove(0);
        let mut file = scratch.file().unwrap();
        file.write_all(b"audio").unwrap();
        file.rewind().unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "audio");
        #[cfg(target_os = "linux")]
        {
            let path = fs::read_link(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file))).unwrap();
            assert!(path.starts_with(own.canonicalize().unwrap()), "{}", path.display());
        }
        drop(file);
        assert_eq!(own.read_dir().unwrap().count(), 1, "the lock");
        fs::remove_dir_all(&own).unwrap();
        scratch.file().expect("somebody has tidied up");
    }
}
