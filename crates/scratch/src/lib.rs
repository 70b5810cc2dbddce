//! Temporary files of a process in a folder chosen by the program: the system's own is often in memory, and audio is large.
//!
//! Every process has its own folder there, and holds a lock in it while it runs. The next process removes the folders of
//! processes that have ended, however they ended. Leaves out checks of free space.

use std::{
    fs::{self, File, OpenOptions},
    io,
    path::{Path, PathBuf},
};

/// Name of the lock file: in a process's folder, and in the common folder while folders are created or removed.
const LOCK: &str = "lock";

/// Prefix of the folder names.
const PREFIX: &str = "process-";

/// Where a process creates temporary files; by default the system's temporary folder.
#[derive(Debug, Default)]
pub struct Scratch(Option<Own>);

/// This process's own folder.
#[derive(Debug)]
struct Own {
    folder: PathBuf,
    /// None while the folder is being removed.
    lock: Option<File>,
}

impl Scratch {
    /// Creates a folder for this process in `place`, which is created if missing, and removes the folders of ended
    /// processes. Nothing else may be kept in `place`.
    ///
    /// # Errors
    /// When `place` is not writable, or its file system does not support locks.
    pub fn open(place: &Path) -> io::Result<Self> {
        fs::create_dir_all(place)?;
        // Keeps others from mistaking a new folder without a lock for an abandoned one. Held briefly.
        let turn = File::create(place.join(LOCK))?;
        turn.lock()?;
        remove_abandoned(place)?;
        let folder = tempfile::Builder::new().prefix(PREFIX).tempdir_in(place)?;
        let lock = File::create(folder.path().join(LOCK))?;
        lock.try_lock()?;
        Ok(Self(Some(Own { folder: folder.keep(), lock: Some(lock) })))
    }

    /// Creates an empty file that is deleted when it is closed.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn file(&self) -> io::Result<File> {
        let Some(Own { folder, .. }) = &self.0 else { return tempfile::tempfile() };
        match tempfile::tempfile_in(folder) {
            // The folder was deleted by somebody else.
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
        // Some systems cannot delete open files.
        self.lock = None;
        // The next process removes the rest.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn remove_abandoned(place: &Path) -> io::Result<()> {
    for entry in place.read_dir()? {
        let entry = entry?;
        let is_folder = entry.file_type()?.is_dir() && entry.file_name().to_string_lossy().starts_with(PREFIX);
        if is_folder && is_abandoned(&entry.path()) {
            // A folder that cannot be removed does no harm.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    Ok(())
}

/// Whether the folder's process has ended. If unknown, the process is assumed to run.
fn is_abandoned(folder: &Path) -> bool {
    match OpenOptions::new().write(true).open(folder.join(LOCK)) {
        Ok(lock) => lock.try_lock().is_ok(),
        // The process ended before creating its lock: a running process creates it while holding the common lock.
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
        // One process was killed, another ended before creating its lock; the lock of an ended process is free.
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
