//! Which libraries there are, each under a name of its own.

use std::{
    io,
    ops::RangeInclusive,
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
};

use chaarfm_scratch::Scratch;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::{
    LibraryLocation, Opened, Source, StorageSettings, Unavailable, Visit, WalkEnd, Wanted, bucket::Bucket,
    folder::Folder,
};

/// Libraries that a coordinator offers at most: pages list them all.
const MAX_LIBRARIES: usize = 1000;

/// The libraries the coordinator offers, each under a name of its own.
#[derive(Debug, Default)]
pub struct Libraries {
    offered: RwLock<Vec<Library>>,
    settings: StorageSettings,
    /// Where scans of buckets make temporary files.
    scratch: Arc<Scratch>,
}

/// One library.
#[derive(Debug, Clone)]
pub struct Library {
    name: String,
    source: Arc<dyn Source>,
}

/// Why a library cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LibraryError {
    /// It is not a folder that can be read.
    #[error("the library {path} is not a folder that can be read: {reason}")]
    Folder {
        /// As it was given.
        path: PathBuf,
        /// What the system says.
        reason: io::Error,
    },
    /// The storage does not say what is in it.
    #[error("the library {location} cannot be listed: {reason}")]
    Bucket {
        /// As it was given.
        location: LibraryLocation,
        /// What the storage says.
        reason: String,
    },
    /// It is offered under a name.
    #[error("{location} is the library {name} already")]
    AlreadyOffered {
        /// As it was given.
        location: LibraryLocation,
        /// Its name.
        name: String,
    },
    /// There are as many as can be.
    #[error("there are {MAX_LIBRARIES} libraries already, which is as many as can be offered")]
    TooMany,
}

impl Libraries {
    /// Names the libraries after the last part of where they are; where that is taken, with the part before it or a
    /// number. The same locations in the same order get the same names on every coordinator.
    ///
    /// # Errors
    /// When one is not a folder that can be read, or a bucket that can be listed.
    pub async fn open(
        locations: &[LibraryLocation],
        settings: &StorageSettings,
        scratch: &Arc<Scratch>,
    ) -> Result<Self, LibraryError> {
        let (settings, scratch) = (settings.clone(), Arc::clone(scratch));
        let libraries = Self { offered: RwLock::default(), settings, scratch };
        for location in locations {
            libraries.offer(libraries.source(location).await?)?;
        }
        Ok(libraries)
    }

    /// Offers one more library.
    ///
    /// # Errors
    /// As [`Self::open`], when it is offered already, and when there are too many.
    pub async fn add(&self, location: &LibraryLocation) -> Result<String, LibraryError> {
        let source = self.source(location).await?;
        let identity = source.identity();
        let same = self.pick(|library| (library.source.identity() == identity).then(|| library.name.clone()));
        if let Some(name) = same {
            return Err(LibraryError::AlreadyOffered { location: location.clone(), name });
        }
        self.offer(source)
    }

    /// One library of files that a test has thought up.
    #[cfg(any(test, feature = "listed"))]
    #[must_use]
    pub fn listed(name: &str, listed: &Arc<super::Listed>) -> Self {
        let library = Library { name: name.to_owned(), source: Arc::<super::Listed>::clone(listed) };
        Self { offered: RwLock::new(vec![library]), ..Self::default() }
    }

    async fn source(&self, location: &LibraryLocation) -> Result<Arc<dyn Source>, LibraryError> {
        let source: Arc<dyn Source> = match location {
            LibraryLocation::Folder(path) => {
                let folder = Folder::open(path);
                Arc::new(folder.map_err(|reason| LibraryError::Folder { path: path.clone(), reason })?)
            }
            LibraryLocation::Bucket { bucket, prefix } => {
                let bucket = Bucket::open(bucket, prefix, &self.settings, &self.scratch).await;
                Arc::new(bucket.map_err(|reason| LibraryError::Bucket { location: location.clone(), reason })?)
            }
        };
        Ok(source)
    }

    fn offer(&self, source: Arc<dyn Source>) -> Result<String, LibraryError> {
        let mut offered = self.offered.write().unwrap_or_else(PoisonError::into_inner);
        if offered.len() >= MAX_LIBRARIES {
            return Err(LibraryError::TooMany);
        }
        let (own, around) = source.names();
        let own = own.unwrap_or_else(|| "library".to_owned());
        let inside = around.map(|around| format!("{own} ({around})"));
        let numbered = (2..).map(|number| format!("{own} ({number})"));
        let mut names = std::iter::once(own.clone()).chain(inside).chain(numbered);
        let name = names.find(|name| offered.iter().all(|library| library.name != *name));
        let name = name.expect("numbers do not run out");
        offered.push(Library { name: name.clone(), source });
        Ok(name)
    }

    /// The library of that name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<Library> {
        self.pick(|library| (library.name == name).then(|| library.clone()))
    }

    /// The origins of the storages that hand out files themselves, such as `https://tunes.s3.amazonaws.com`.
    #[must_use]
    pub fn storages(&self) -> Vec<String> {
        let offered = self.offered.read().unwrap_or_else(PoisonError::into_inner);
        let mut origins: Vec<_> =
            offered.iter().filter_map(|library| library.source.origin()).map(str::to_owned).collect();
        origins.dedup();
        origins
    }

    /// The name of every library.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let offered = self.offered.read().unwrap_or_else(PoisonError::into_inner);
        offered.iter().map(|library| library.name.clone()).collect()
    }

    /// The first that `pick` finds something in.
    fn pick<T>(&self, pick: impl FnMut(&Library) -> Option<T>) -> Option<T> {
        self.offered.read().unwrap_or_else(PoisonError::into_inner).iter().find_map(pick)
    }
}

impl Library {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// See [`Source::discover`].
    pub async fn discover(self, visits: mpsc::Sender<Visit>, stop: CancellationToken) -> WalkEnd {
        self.source.discover(visits, stop).await
    }

    /// See [`Source::resolve`].
    pub async fn resolve(&self, file: &str) -> Option<Url> {
        self.source.resolve(file).await
    }

    /// See [`Source::open`].
    ///
    /// # Errors
    /// When the file is not to be had, or is another one by now.
    pub async fn open(&self, wanted: Wanted<'_>, part: Option<RangeInclusive<u64>>) -> Result<Opened, Unavailable> {
        self.source.open(wanted, part).await
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    async fn open(roots: &[PathBuf]) -> Result<Libraries, LibraryError> {
        let locations: Vec<_> = roots.iter().cloned().map(LibraryLocation::Folder).collect();
        Libraries::open(&locations, &StorageSettings::default(), &Arc::new(Scratch::default())).await
    }

    #[tokio::test]
    async fn libraries_of_one_name_are_told_apart() {
        let root = tempfile::tempdir().unwrap();
        let roots = ["x/music", "y/music"].map(|path| root.path().join(path));
        for path in &roots {
            fs::create_dir_all(path).unwrap();
        }
        let libraries = open(&roots).await.unwrap();
        assert_eq!(libraries.names(), ["music", "music (y)"]);
        let second = libraries.find("music (y)").unwrap();
        assert!(second.source.identity().ends_with("y/music"), "{second:?}");
        let missing = open(&[root.path().join("z")]).await.unwrap_err().to_string();
        assert!(missing.contains(root.path().join("z").to_str().unwrap()), "{missing}");
    }

    #[tokio::test]
    async fn a_library_can_be_added_once() {
        let root = tempfile::tempdir().unwrap();
        let libraries = open(&[]).await.unwrap();
        let location = LibraryLocation::Folder(root.path().to_owned());
        let added = libraries.add(&location).await.unwrap();
        assert_eq!(libraries.names(), std::slice::from_ref(&added));
        assert!(libraries.find(&added).is_some());
        // By another way to the same folder.
        let again = libraries.add(&LibraryLocation::Folder(root.path().join("."))).await.unwrap_err();
        assert!(again.to_string().ends_with(&format!("is the library {added} already")), "{again}");
        libraries.add(&LibraryLocation::Folder(root.path().join("nowhere"))).await.unwrap_err();
        assert_eq!(libraries.names().len(), 1);
    }

    #[tokio::test]
    async fn a_walk_ends_when_nobody_listens_or_it_is_called_off() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("a.wav"), "a").unwrap();
        let libraries = open(&[root.path().to_owned()]).await.unwrap();
        let (visits, visited) = mpsc::channel(1);
        drop(visited);
        let library = libraries.find(&libraries.names()[0]).unwrap();
        assert_eq!(library.clone().discover(visits, CancellationToken::new()).await, WalkEnd::Stopped);
        let (visits, _visited) = mpsc::channel(1);
        let stop = CancellationToken::new();
        stop.cancel();
        assert_eq!(library.discover(visits, stop).await, WalkEnd::Stopped);
    }
}
