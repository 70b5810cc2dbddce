//! Small things that a worker remembers, each in a file of JSON in one of the user's folders. A file that is missing or
//! damaged is one in which nothing was remembered.

use std::{
    fs,
    io::{self, Read},
    marker::PhantomData,
    path::PathBuf,
};

use serde::{Serialize, de::DeserializeOwned};

/// Largest file read, in bytes.
const MAX_BYTES: u64 = 64 * 1024;

/// Where a `T` is remembered; nowhere on a system that has no folder for it.
#[derive(Debug, Clone)]
pub(crate) struct JsonFile<T> {
    path: Option<PathBuf>,
    kind: PhantomData<T>,
}

impl<T: Serialize + DeserializeOwned + Default> JsonFile<T> {
    /// A file that costs no more than time when it is lost.
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

    /// What is in the file; as good as nothing where it cannot be read.
    pub(crate) fn read(&self) -> T {
        self.try_read().unwrap_or_default()
    }

    /// What is in the file; nothing where there is none.
    ///
    /// # Errors
    /// When it is too large, cannot be read, or was not written by this program.
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

    /// By way of another file, which only its owner may read, so that a worker that starts at the same time finds the old one
    /// or the new one whole.
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

/// The worker's folders of this user.
pub(crate) fn folders() -> Option<directories::ProjectDirs> {
    directories::ProjectDirs::from("", "", "chaarfm-worker")
}
