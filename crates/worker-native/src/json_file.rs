//! Small data that a worker remembers, each in a JSON file in one of the user's folders. A missing or damaged file
//! counts as empty.

use std::{
    fs,
    io::{self, Read},
    marker::PhantomData,
    path::PathBuf,
};

use serde::{Serialize, de::DeserializeOwned};

/// Largest file read, in bytes.
const MAX_BYTES: u64 = 64 * 1024;

/// The file that holds a `T`; none on a system without a folder for it.
#[derive(Debug, Clone)]
pub(crate) struct JsonFile<T> {
    path: Option<PathBuf>,
    kind: PhantomData<T>,
}

impl<T: Serialize + DeserializeOwned + Default> JsonFile<T> {
    /// A file whose loss costs only time.
    pub(crate) fn cache(name: &str) -> Self {
        Self::at(folders().map(|folders| folders.cache_dir().join(name)))
    }

    /// A file of this machine that its owner would miss.
    pub(crate) fn data(name: &str) -> Self {
        Self::at(folders().map(|folders| folders.data_local_dir().join(name)))
    }

    pub(crate) fn at(path: Option<PathBuf>) -> Self {
        Self { path, kind: PhantomData }
    }

    /// The file's content; the default if it cannot be read.
    pub(crate) fn read(&self) -> T {
        self.try_read().unwrap_or_default()
    }

    /// The file's content; the default if there is no file.
    ///
    /// # Errors
    /// When the file is too large, cannot be read, or was not written by this program.
    pub(crate) fn try_read(&self) -> io::Result<T> {
        let Some(path) = &self.path else { return Ok(T::default()) };
        let file = match fs::File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(T::default()),
            file => file?,
        };
        let bytes = file.metadata()?.len();
        if bytes > MAX_BYTES {
            let message = format!("{} has {bytes} bytes; the limit is {MAX_BYTES}", path.display());
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
        }
        Ok(serde_json::from_reader(io::BufReader::new(file.take(MAX_BYTES)))?)
    }

    /// Writes a second file, readable only by its owner, and renames it, so that a worker that starts at the same time
    /// finds either the old or the new content, complete.
    ///
    /// # Errors
    /// When the folder or the file cannot be written.
    pub(crate) fn write(&self, value: &T) -> io::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        let folder = path.parent().unwrap_or(path);
        fs::create_dir_all(folder)?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        serde_json::to_writer_pretty(&mut file, value)?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    }
}

/// This user's folders for the worker.
pub(crate) fn folders() -> Option<directories::ProjectDirs> {
    directories::ProjectDirs::from("", "", "chaarfm-worker")
}
