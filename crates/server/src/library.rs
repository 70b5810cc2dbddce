//! Libraries of audio files: which there are, what is in them, and where a file is.
//!
//! A library is a folder of this machine, or what lies below a prefix in a bucket on S3. Knows nothing of jobs:
//! [`Library::walk`] hands every audio file to its caller, readable or not.

mod bucket;
mod disguises;
mod folder;
mod location;
mod names;
mod tags;

use std::{
    io, mem,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use chaarfm_api::LibraryView;
use chaarfm_protocol::{Track, limits::MAX_AUDIO_BYTES};
use chaarfm_scratch::Scratch;
use chaarfm_store::Found;
use tokio::{sync::mpsc, task::spawn_blocking};
use tokio_util::sync::CancellationToken;
use url::Url;

pub use self::location::{LibraryLocation, LocationError, StorageSettings};
use self::tags::Tags;
pub(crate) use self::{
    bucket::{Bucket, in_words},
    folder::Folder,
};

/// Audio files that one walk looks at.
const MAX_FILES: u64 = 1_000_000;

/// File names that end in these are taken for audio; whether they are, the worker finds out. All others are left out and
/// counted: formats that no worker decodes, and what is no audio at all.
const EXTENSIONS: [&str; 44] = [
    "3g2", "3gp", "3gpp", "aac", "adts", "aif", "aifc", "aiff", "alac", "ape", "au", "bw64", "caf", "dff", "dsf",
    "flac", "m4a", "m4b", "m4r", "m4v", "mka", "mkv", "mov", "mp1", "mp2", "mp3", "mp4", "mpa", "mpga", "oga", "ogg",
    "ogv", "ogx", "opus", "qt", "rf64", "snd", "tta", "w64", "wav", "wave", "weba", "webm", "wv",
];

/// Longest end of a name by which a file that is left out is counted.
const MAX_EXTENSION_CHARS: usize = 12;

/// Libraries that a coordinator offers at most: pages list them all.
const MAX_LIBRARIES: usize = 1000;

/// The libraries the coordinator offers, each under a name of its own.
#[derive(Debug, Default)]
pub(crate) struct Libraries {
    offered: RwLock<Vec<Library>>,
    settings: StorageSettings,
    /// Where scans of buckets make temporary files.
    scratch: Arc<Scratch>,
}

/// One library.
#[derive(Debug, Clone)]
pub(crate) struct Library {
    name: String,
    place: Place,
}

/// Where a library's files are.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    Folder(Folder),
    Bucket(Bucket),
    #[cfg(test)]
    Listed(Arc<Listed>),
}

/// Files that a test has thought up.
#[cfg(test)]
#[derive(Debug)]
pub(crate) struct Listed {
    pub(crate) files: Vec<Found>,
    /// How long a walk looks for each.
    pub(crate) pause: std::time::Duration,
}

#[cfg(test)]
impl Listed {
    async fn walk(&self, visits: &mpsc::Sender<Visit>) -> WalkEnd {
        for found in &self.files {
            tokio::time::sleep(self.pause).await;
            if visits.send(Visit::File(found.clone())).await.is_err() {
                return WalkEnd::Stopped;
            }
        }
        WalkEnd::Complete
    }
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

/// How a walk ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum WalkEnd {
    /// Every file was seen.
    Complete,
    /// There are more files than [`MAX_FILES`].
    TooMany,
    /// The visitor wanted no more, or the walk was called off.
    Stopped,
    /// It could not go on, and why.
    Broken(String),
}

/// What a walk comes across.
#[derive(Debug)]
pub(crate) enum Visit {
    /// An audio file.
    File(Found),
    /// A file that is no audio or that no worker decodes: see [`chaarfm_domain::LeftOutFiles::kind`].
    LeftOut(String),
    /// What cannot be followed, and why.
    Obstacle(String),
}

impl Libraries {
    /// Names the libraries after the last part of where they are; where that is taken, with the part before it or a
    /// number. The same locations in the same order get the same names on every coordinator.
    ///
    /// # Errors
    /// When one is not a folder that can be read, or a bucket that can be listed.
    pub(crate) async fn open(
        locations: &[LibraryLocation],
        settings: &StorageSettings,
        scratch: &Arc<Scratch>,
    ) -> Result<Self, LibraryError> {
        let (settings, scratch) = (settings.clone(), Arc::clone(scratch));
        let libraries = Self { offered: RwLock::default(), settings, scratch };
        for location in locations {
            libraries.offer(libraries.place(location).await?)?;
        }
        Ok(libraries)
    }

    /// Offers one more library.
    ///
    /// # Errors
    /// As [`Self::open`], when it is offered already, and when there are too many.
    pub(crate) async fn add(&self, location: &LibraryLocation) -> Result<LibraryView, LibraryError> {
        let place = self.place(location).await?;
        let same = self.pick(|library| library.place.is(&place).then(|| library.name.clone()));
        if let Some(name) = same {
            return Err(LibraryError::AlreadyOffered { location: location.clone(), name });
        }
        self.offer(place)
    }

    /// One library of files that a test has thought up.
    #[cfg(test)]
    pub(crate) fn listed(name: &str, listed: &Arc<Listed>) -> Self {
        let library = Library { name: name.to_owned(), place: Place::Listed(Arc::clone(listed)) };
        Self { offered: RwLock::new(vec![library]), ..Self::default() }
    }

    async fn place(&self, location: &LibraryLocation) -> Result<Place, LibraryError> {
        Place::open(location, &self.settings, &self.scratch).await
    }

    fn offer(&self, place: Place) -> Result<LibraryView, LibraryError> {
        let mut offered = self.offered.write().unwrap_or_else(PoisonError::into_inner);
        if offered.len() >= MAX_LIBRARIES {
            return Err(LibraryError::TooMany);
        }
        let (own, around) = place.names();
        let own = own.unwrap_or_else(|| "library".to_owned());
        let inside = around.map(|around| format!("{own} ({around})"));
        let numbered = (2..).map(|number| format!("{own} ({number})"));
        let mut names = std::iter::once(own.clone()).chain(inside).chain(numbered);
        let name = names.find(|name| offered.iter().all(|library| library.name != *name));
        let library = Library { name: name.expect("numbers do not run out"), place };
        let view = library.view();
        offered.push(library);
        Ok(view)
    }

    /// The library of that name.
    pub(crate) fn find(&self, name: &str) -> Option<Library> {
        self.pick(|library| (library.name == name).then(|| library.clone()))
    }

    /// The origins of the storages that hand out files themselves, such as `https://tunes.s3.amazonaws.com`.
    pub(crate) fn storages(&self) -> Vec<String> {
        let offered = self.offered.read().unwrap_or_else(PoisonError::into_inner);
        let mut origins: Vec<_> = offered.iter().filter_map(Library::storage).map(str::to_owned).collect();
        origins.dedup();
        origins
    }

    /// Every library, as pages know it.
    pub(crate) fn views(&self) -> Vec<LibraryView> {
        self.offered.read().unwrap_or_else(PoisonError::into_inner).iter().map(Library::view).collect()
    }

    /// The first that `pick` finds something in.
    fn pick<T>(&self, pick: impl FnMut(&Library) -> Option<T>) -> Option<T> {
        self.offered.read().unwrap_or_else(PoisonError::into_inner).iter().find_map(pick)
    }
}

impl Library {
    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// As pages know it.
    fn view(&self) -> LibraryView {
        LibraryView { name: self.name.clone() }
    }

    /// Where its files are.
    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// The origin of the addresses at which a storage hands out its files itself, if one does.
    fn storage(&self) -> Option<&str> {
        match &self.place {
            Place::Folder(_) => None,
            Place::Bucket(bucket) => bucket.origin(),
            #[cfg(test)]
            Place::Listed(_) => None,
        }
    }

    /// Hands every audio file to whoever holds the other end of `visits`, in the order of their names, until that end is
    /// closed or `stop` is cancelled.
    pub(crate) async fn walk(self, visits: mpsc::Sender<Visit>, stop: CancellationToken) -> WalkEnd {
        match self.place {
            Place::Folder(folder) => {
                let walk = move || folder.walk(|visit| visits.blocking_send(visit).is_ok(), || stop.is_cancelled());
                spawn_blocking(walk).await.unwrap_or_else(|panic| WalkEnd::Broken(panic.to_string()))
            }
            Place::Bucket(bucket) => stop.run_until_cancelled(bucket.walk(&visits)).await.unwrap_or(WalkEnd::Stopped),
            #[cfg(test)]
            Place::Listed(listed) => stop.run_until_cancelled(listed.walk(&visits)).await.unwrap_or(WalkEnd::Stopped),
        }
    }

    /// An address at which the storage itself hands out a file for a while, to whoever knows it. None where only the
    /// coordinator can.
    pub(crate) async fn direct_address(&self, file: &str) -> Option<Url> {
        match &self.place {
            Place::Folder(_) => None,
            Place::Bucket(bucket) => bucket.signed_address(file).await,
            #[cfg(test)]
            Place::Listed(_) => None,
        }
    }
}

impl Place {
    async fn open(
        location: &LibraryLocation,
        settings: &StorageSettings,
        scratch: &Arc<Scratch>,
    ) -> Result<Self, LibraryError> {
        match location {
            LibraryLocation::Folder(path) => {
                let folder = Folder::open(path);
                folder.map(Self::Folder).map_err(|reason| LibraryError::Folder { path: path.clone(), reason })
            }
            LibraryLocation::Bucket { bucket, prefix } => {
                let bucket = Bucket::open(bucket, prefix, settings, scratch).await;
                let bucket = bucket.map(Self::Bucket);
                bucket.map_err(|reason| LibraryError::Bucket { location: location.clone(), reason })
            }
        }
    }

    /// Whether both have the same files.
    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Folder(one), Self::Folder(other)) => one.is(other),
            (Self::Bucket(one), Self::Bucket(other)) => one.is(other),
            _ => false,
        }
    }

    /// What it is called where it is, and what that is called.
    fn names(&self) -> (Option<String>, Option<String>) {
        match self {
            Self::Folder(folder) => folder.names(),
            Self::Bucket(bucket) => bucket.names(),
            #[cfg(test)]
            Self::Listed(_) => (None, None),
        }
    }
}

impl Found {
    /// Takes over what the file says of itself.
    fn take(&mut self, tags: Tags) {
        let Tags { artist, title, album, seconds } = tags;
        self.track = Track { artist, title, album, file: mem::take(&mut self.track.file) };
        self.seconds = seconds;
    }
}

/// Whether a file of this name is taken for audio.
fn is_audio(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|own| EXTENSIONS.iter().any(|known| own.eq_ignore_ascii_case(known)))
}

/// By what a file is counted that is left out for its name.
fn kind_of(path: &Path) -> String {
    match path.extension().map(|extension| extension.to_str()) {
        None => "without an ending".to_owned(),
        Some(Some(extension)) if is_short_word(extension) => format!(".{}", extension.to_lowercase()),
        Some(_) => "with an odd ending".to_owned(),
    }
}

fn is_short_word(text: &str) -> bool {
    text.chars().count() <= MAX_EXTENSION_CHARS && text.chars().all(char::is_alphanumeric)
}

/// Why a file of this size is not taken, if it is not.
fn too_large(bytes: u64) -> Option<String> {
    let is_too_large = bytes > MAX_AUDIO_BYTES;
    is_too_large.then(|| format!("has {bytes} bytes; the largest file taken has {MAX_AUDIO_BYTES}"))
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
        assert_eq!(libraries.views().iter().map(|view| &view.name).collect::<Vec<_>>(), ["music", "music (y)"]);
        let second = libraries.find("music (y)").unwrap();
        let Place::Folder(second) = second.place() else { panic!("it is a folder") };
        assert!(second.path_of("a/b.mp3").unwrap().ends_with("y/music/a/b.mp3"));
        let missing = open(&[root.path().join("z")]).await.unwrap_err().to_string();
        assert!(missing.contains(root.path().join("z").to_str().unwrap()), "{missing}");
    }

    #[tokio::test]
    async fn a_library_can_be_added_once() {
        let root = tempfile::tempdir().unwrap();
        let libraries = open(&[]).await.unwrap();
        let location = LibraryLocation::Folder(root.path().to_owned());
        let added = libraries.add(&location).await.unwrap();
        assert_eq!(libraries.views(), std::slice::from_ref(&added));
        assert!(libraries.find(&added.name).is_some());
        // By another way to the same folder.
        let again = libraries.add(&LibraryLocation::Folder(root.path().join("."))).await.unwrap_err();
        assert!(again.to_string().ends_with(&format!("is the library {} already", added.name)), "{again}");
        libraries.add(&LibraryLocation::Folder(root.path().join("nowhere"))).await.unwrap_err();
        assert_eq!(libraries.views().len(), 1);
    }

    #[tokio::test]
    async fn a_walk_ends_when_nobody_listens_or_it_is_called_off() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("a.wav"), "a").unwrap();
        let libraries = open(&[root.path().to_owned()]).await.unwrap();
        let (visits, visited) = mpsc::channel(1);
        drop(visited);
        let library = libraries.find(&libraries.views()[0].name).unwrap();
        assert_eq!(library.clone().walk(visits, CancellationToken::new()).await, WalkEnd::Stopped);
        let (visits, _visited) = mpsc::channel(1);
        let stop = CancellationToken::new();
        stop.cancel();
        assert_eq!(library.walk(visits, stop).await, WalkEnd::Stopped);
    }
}
