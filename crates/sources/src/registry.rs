//! The libraries, each under a unique name. A library that cannot be used is listed as absent, and retried until it can.

use std::{
    io,
    ops::RangeInclusive,
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Duration,
};

use chaarfm_scratch::Scratch;
use futures_util::TryStreamExt;
use tokio::{
    fs::File,
    io::{AsyncSeekExt, AsyncWriteExt},
    sync::mpsc,
    time::sleep,
};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::{
    LibraryLocation, NamedLocation, Opened, Source, StorageSettings, Unavailable, Visit, WalkEnd, Wanted,
    bucket::Bucket, folder::Folder,
};

/// Maximum number of libraries per coordinator: pages list them all.
const MAX_LIBRARIES: usize = 1000;

/// How often absent libraries are retried.
const LOOK_AGAIN_SECONDS: u64 = 30;

/// The libraries that the coordinator offers, each under a unique name.
#[derive(Debug, Default)]
pub struct Libraries {
    offered: RwLock<Vec<Offered>>,
    settings: StorageSettings,
    /// For the temporary files of bucket scans.
    scratch: Arc<Scratch>,
}

/// A library that is offered.
#[derive(Debug)]
struct Offered {
    name: String,
    location: LibraryLocation,
    /// The source, or why it is absent.
    source: Result<Arc<dyn Source>, String>,
}

/// A library's state, for its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LibraryState {
    /// Its name.
    pub name: String,
    /// Why it is absent, if it is.
    pub problem: Option<String>,
}

/// A library that was added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Added {
    /// Its name.
    pub name: String,
    /// It was configured before, and was absent until now.
    pub was_absent: bool,
}

/// Why no library is available under a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoLibrary {
    /// No library has this name.
    #[error("there is no library called {0}; the coordinator was not given one with --library")]
    Unknown(String),
    /// It cannot be used at the moment.
    #[error("the library {name} is absent: {problem}")]
    Absent {
        /// Its name.
        name: String,
        /// Why.
        problem: String,
    },
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
    /// It is not a readable folder.
    #[error("the library {path} is not a folder that can be read: {reason}")]
    Folder {
        /// The path as given.
        path: PathBuf,
        /// The system's error.
        reason: io::Error,
    },
    /// The storage cannot list it.
    #[error("the library {location} cannot be listed: {reason}")]
    Bucket {
        /// The location as given.
        location: LibraryLocation,
        /// The storage's error.
        reason: String,
    },
    /// It is already offered.
    #[error("{location} is the library {name} already")]
    AlreadyOffered {
        /// The location as given.
        location: LibraryLocation,
        /// Its name.
        name: String,
    },
    /// Two libraries were given the same name.
    #[error("two libraries are given the name {0}")]
    NameTaken(String),
    /// The maximum number of libraries is reached.
    #[error("there are {MAX_LIBRARIES} libraries already, which is as many as can be offered")]
    TooMany,
}

impl Libraries {
    /// For temporary files.
    pub fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    /// Opens libraries. A library without a given name is named after the last part of its location; if that is taken, with
    /// the part before it or a number. A library that cannot be used is absent, and keeps its name.
    ///
    /// # Errors
    /// When two were given the same name, or there are too many.
    pub async fn open(
        given: &[NamedLocation],
        settings: &StorageSettings,
        scratch: &Arc<Scratch>,
    ) -> Result<Self, LibraryError> {
        if given.len() > MAX_LIBRARIES {
            return Err(LibraryError::TooMany);
        }
        let mut names: Vec<String> = Vec::new();
        for name in given.iter().filter_map(|given| given.name.clone()) {
            if names.contains(&name) {
                return Err(LibraryError::NameTaken(name));
            }
            names.push(name);
        }
        let (settings, scratch) = (settings.clone(), Arc::clone(scratch));
        let libraries = Self { offered: RwLock::default(), settings, scratch };
        for NamedLocation { name, location } in given {
            let source = libraries.source(location).await.map_err(|error| error.to_string());
            let name = name.clone().unwrap_or_else(|| {
                let name = free_name(location, source.as_ref().ok(), &names);
                names.push(name.clone());
                name
            });
            if let Err(problem) = &source {
                tracing::warn!("the library {name} is absent: {problem}");
            }
            libraries.write().push(Offered { name, location: location.clone(), source });
        }
        Ok(libraries)
    }

    /// Adds a library, or brings back an absent one.
    ///
    /// # Errors
    /// When it cannot be used, is already offered, or there are too many.
    pub async fn add(&self, location: &LibraryLocation) -> Result<Added, LibraryError> {
        let source = self.source(location).await?;
        let mut offered = self.write();
        let is_this = |one: &&mut Offered| match &one.source {
            Ok(known) => known.identity() == source.identity(),
            Err(_) => one.location == *location,
        };
        if let Some(one) = offered.iter_mut().find(is_this) {
            let name = one.name.clone();
            if one.source.is_ok() {
                return Err(LibraryError::AlreadyOffered { location: location.clone(), name });
            }
            one.source = Ok(source);
            return Ok(Added { name, was_absent: true });
        }
        if offered.len() >= MAX_LIBRARIES {
            return Err(LibraryError::TooMany);
        }
        let names: Vec<_> = offered.iter().map(|one| one.name.clone()).collect();
        let name = free_name(location, Some(&source), &names);
        offered.push(Offered { name: name.clone(), location: location.clone(), source: Ok(source) });
        Ok(Added { name, was_absent: false })
    }

    /// Retries absent libraries periodically until `stop` is cancelled.
    pub async fn watch(&self, stop: &CancellationToken) {
        let look = async {
            loop {
                sleep(Duration::from_secs(LOOK_AGAIN_SECONDS)).await;
                self.look_again().await;
            }
        };
        stop.run_until_cancelled(look).await;
    }

    async fn look_again(&self) {
        let absent: Vec<_> = {
            let offered = self.read();
            let absent = offered.iter().filter(|one| one.source.is_err());
            absent.map(|one| (one.name.clone(), one.location.clone())).collect()
        };
        for (name, location) in absent {
            let source = self.source(&location).await.map_err(|error| error.to_string());
            let mut offered = self.write();
            if let Some(one) = offered.iter_mut().find(|one| one.name == name && one.source.is_err()) {
                if source.is_ok() {
                    tracing::info!("the library {name} is there again");
                }
                one.source = source;
            }
        }
    }

    /// A single library of files invented by a test.
    #[cfg(any(test, feature = "listed"))]
    #[must_use]
    pub fn listed(name: &str, listed: &Arc<super::Listed>) -> Self {
        let source: Arc<dyn Source> = Arc::<super::Listed>::clone(listed);
        let location = LibraryLocation::Folder(PathBuf::new());
        let library = Offered { name: name.to_owned(), location, source: Ok(source) };
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

    /// The library with that name, if available.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<Library> {
        self.get(name).ok()
    }

    /// The library with that name.
    ///
    /// # Errors
    /// When no library has that name, or it is absent.
    pub fn get(&self, name: &str) -> Result<Library, NoLibrary> {
        let offered = self.read();
        let one = offered.iter().find(|one| one.name == name);
        let one = one.ok_or_else(|| NoLibrary::Unknown(name.to_owned()))?;
        match &one.source {
            Ok(source) => Ok(Library { name: name.to_owned(), source: Arc::clone(source) }),
            Err(problem) => Err(NoLibrary::Absent { name: name.to_owned(), problem: problem.clone() }),
        }
    }

    /// The origins of the storages that serve files themselves, such as `https://tunes.s3.amazonaws.com`.
    #[must_use]
    pub fn storages(&self) -> Vec<String> {
        let offered = self.read();
        let present = offered.iter().filter_map(|one| one.source.as_ref().ok());
        let mut origins: Vec<_> = present.filter_map(|source| source.origin()).map(str::to_owned).collect();
        origins.dedup();
        origins
    }

    /// Every library, in the order they were given.
    #[must_use]
    pub fn states(&self) -> Vec<LibraryState> {
        let state =
            |one: &Offered| LibraryState { name: one.name.clone(), problem: one.source.as_ref().err().cloned() };
        self.read().iter().map(state).collect()
    }

    fn read(&self) -> RwLockReadGuard<'_, Vec<Offered>> {
        self.offered.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Vec<Offered>> {
        self.offered.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A name derived from a library's location that is not in `taken`.
fn free_name(location: &LibraryLocation, source: Option<&Arc<dyn Source>>, taken: &[String]) -> String {
    let (own, around) = source.map_or_else(|| location.names(), |source| source.names());
    let own = own.unwrap_or_else(|| "library".to_owned());
    let inside = around.map(|around| format!("{own} ({around})"));
    let numbered = (2..).map(|number| format!("{own} ({number})"));
    let mut names = std::iter::once(own.clone()).chain(inside).chain(numbered);
    names.find(|name| !taken.contains(name)).expect("numbers do not run out")
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

    /// Copies a file to a temporary file, positioned at its beginning.
    ///
    /// # Errors
    /// When the file is unavailable or has changed.
    pub async fn copy(&self, wanted: Wanted<'_>, scratch: &Scratch) -> Result<std::fs::File, Unavailable> {
        let failed = |error: io::Error| Unavailable::OutOfReach(format!("cannot be copied: {error}"));
        let mut pieces = self.source.open(wanted, None).await?;
        let mut copy = File::from_std(scratch.file().map_err(failed)?);
        let mut hasher = blake3::Hasher::new();
        while let Some(piece) = pieces.try_next().await.map_err(failed)? {
            hasher.update(&piece);
            copy.write_all(&piece).await.map_err(failed)?;
        }
        if hasher.finalize().to_hex().as_str() != wanted.content_hash {
            return Err(Unavailable::Gone("has changed: it has another content than when it was found".to_owned()));
        }
        copy.flush().await.map_err(failed)?;
        copy.rewind().await.map_err(failed)?;
        Ok(copy.into_std().await)
    }

    /// See [`Source::open`].
    ///
    /// # Errors
    /// When the file is unavailable or has changed.
    pub async fn open(&self, wanted: Wanted<'_>, part: Option<RangeInclusive<u64>>) -> Result<Opened, Unavailable> {
        self.source.open(wanted, part).await
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    async fn open(given: &[NamedLocation]) -> Result<Libraries, LibraryError> {
        Libraries::open(given, &StorageSettings::default(), &Arc::new(Scratch::default())).await
    }

    fn named(name: &str, path: &Path) -> NamedLocation {
        NamedLocation { name: Some(name.to_owned()), ..path.to_owned().into() }
    }

    fn names(libraries: &Libraries) -> Vec<String> {
        libraries.states().into_iter().map(|state| state.name).collect()
    }

    #[tokio::test]
    async fn libraries_of_one_name_are_told_apart() {
        let root = tempfile::tempdir().unwrap();
        let roots = ["x/music", "y/music"].map(|path| root.path().join(path));
        for path in &roots {
            fs::create_dir_all(path).unwrap();
        }
        let libraries = open(&roots.map(NamedLocation::from)).await.unwrap();
        assert_eq!(names(&libraries), ["music", "music (y)"]);
        let second = libraries.find("music (y)").unwrap();
        assert!(second.source.identity().ends_with("y/music"), "{second:?}");
        assert_eq!(libraries.get("music (z)").unwrap_err(), NoLibrary::Unknown("music (z)".into()));
    }

    #[tokio::test]
    async fn a_name_that_was_given_stays_whatever_else_there_is() {
        let root = tempfile::tempdir().unwrap();
        let [x, y] = ["x/music", "y/music"].map(|path| root.path().join(path));
        for path in [&x, &y] {
            fs::create_dir_all(path).unwrap();
        }
        let libraries = open(&[x.clone().into(), named("music", &y)]).await.unwrap();
        assert_eq!(names(&libraries), ["music (x)", "music"], "the one that was given goes first");
        assert!(libraries.find("music").unwrap().source.identity().ends_with("y/music"));
        let twice = open(&[named("jazz", &x), named("jazz", &y)]).await.unwrap_err().to_string();
        assert_eq!(twice, "two libraries are given the name jazz");
    }

    #[tokio::test]
    async fn one_that_is_absent_keeps_its_name_until_it_is_there() {
        let root = tempfile::tempdir().unwrap();
        let [x, y] = ["x/music", "y/music"].map(|path| root.path().join(path));
        fs::create_dir_all(&y).unwrap();
        let libraries = open(&[x.clone().into(), y.into()]).await.unwrap();
        assert_eq!(names(&libraries), ["music", "music (y)"]);
        assert!(libraries.find("music").is_none() && libraries.find("music (y)").is_some());
        let problem = libraries.get("music").unwrap_err().to_string();
        assert!(problem.starts_with("the library music is absent: ") && problem.contains("x/music"), "{problem}");
        libraries.look_again().await;
        assert!(libraries.find("music").is_none());
        fs::create_dir_all(&x).unwrap();
        libraries.look_again().await;
        assert!(libraries.find("music").unwrap().source.identity().ends_with("x/music"));
        assert!(libraries.states().iter().all(|state| state.problem.is_none()));
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_link_is_called_as_what_it_leads_to_whether_that_is_there_or_not() {
        let root = tempfile::tempdir().unwrap();
        let (link, target) = (root.path().join("link"), root.path().join("disk/tunes"));
        std::os::unix::fs::symlink("disk/tunes", &link).unwrap();
        assert_eq!(names(&open(&[link.clone().into()]).await.unwrap()), ["tunes"]);
        fs::create_dir_all(target).unwrap();
        assert_eq!(names(&open(&[link.into()]).await.unwrap()), ["tunes"]);
    }

    #[tokio::test]
    async fn a_library_can_be_added_once() {
        let root = tempfile::tempdir().unwrap();
        let absent = root.path().join("disk");
        let libraries = open(&[named("jazz", &absent)]).await.unwrap();
        let location = LibraryLocation::Folder(root.path().to_owned());
        let Added { name: added, was_absent } = libraries.add(&location).await.unwrap();
        assert!(!was_absent);
        assert!(libraries.find(&added).is_some());
        // A different path to the same folder.
        let again = libraries.add(&LibraryLocation::Folder(root.path().join("."))).await.unwrap_err();
        assert!(again.to_string().ends_with(&format!("is the library {added} already")), "{again}");
        libraries.add(&absent.clone().into()).await.unwrap_err();
        fs::create_dir(&absent).unwrap();
        let again = Added { name: "jazz".into(), was_absent: true };
        assert_eq!(libraries.add(&absent.into()).await.unwrap(), again, "it is there again, under its name");
        assert_eq!(names(&libraries), ["jazz".to_owned(), added]);
    }

    #[tokio::test]
    async fn a_walk_ends_when_nobody_listens_or_it_is_called_off() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("a.wav"), "a").unwrap();
        let libraries = open(&[named("a", root.path())]).await.unwrap();
        let (visits, visited) = mpsc::channel(1);
        drop(visited);
        let library = libraries.find("a").unwrap();
        assert_eq!(library.clone().discover(visits, CancellationToken::new()).await, WalkEnd::Stopped);
        let (visits, _visited) = mpsc::channel(1);
        let stop = CancellationToken::new();
        stop.cancel();
        assert_eq!(library.discover(visits, stop).await, WalkEnd::Stopped);
    }
}
