//! Sources of music, and the libraries that a coordinator offers.
//!
//! A [`Source`] lists its audio files, opens them, and may have a URL at which clients get a file without the coordinator.
//! There are two kinds: a local folder, and the objects below a prefix in an S3 bucket. [`Libraries`] holds each under a
//! unique name. Leaves out jobs: [`Source::discover`] sends every audio file to its caller, readable or not.

mod bucket;
mod disguises;
mod folder;
#[cfg(any(test, feature = "listed"))]
mod listed;
mod location;
mod names;
mod registry;
mod tags;

use std::{fmt, io, mem, ops::RangeInclusive, path::Path, sync::Arc};

use bytes::Bytes;
use chaarfm_domain::{Found, Track, limits::MAX_AUDIO_BYTES};
use futures_util::{future::BoxFuture, stream::BoxStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use url::Url;

#[cfg(any(test, feature = "listed"))]
pub use self::listed::Listed;
use self::tags::Tags;
pub use self::{
    location::{LibraryLocation, LocationError, NamedLocation, StorageSettings},
    registry::{Added, Libraries, Library, LibraryError, LibraryState, NoLibrary},
};

/// Maximum number of audio files per walk.
const MAX_FILES: u64 = 1_000_000;

/// File name endings treated as audio; the worker finds out whether they really are. All other files are skipped and
/// counted: formats that no worker decodes, and files that are not audio.
const EXTENSIONS: [&str; 46] = [
    "3g2", "3gp", "3gpp", "aac", "adts", "aif", "aifc", "aiff", "alac", "ape", "au", "bw64", "caf", "dff", "dsf",
    "flac", "latm", "loas", "m4a", "m4b", "m4r", "m4v", "mka", "mkv", "mov", "mp1", "mp2", "mp3", "mp4", "mpa", "mpga",
    "oga", "ogg", "ogv", "ogx", "opus", "qt", "rf64", "snd", "tta", "w64", "wav", "wave", "weba", "webm", "wv",
];

/// Longest file name ending under which skipped files are counted.
const MAX_EXTENSION_CHARS: usize = 12;

/// A source of music.
pub trait Source: fmt::Debug + Send + Sync {
    /// Equal for two sources with the same files, and only for those.
    fn identity(&self) -> String;

    /// The source's own name, and that of its parent.
    fn names(&self) -> (Option<String>, Option<String>);

    /// Sends every audio file to `visits`, ordered by name, until the receiver is closed or `stop` is cancelled.
    fn discover(self: Arc<Self>, visits: mpsc::Sender<Visit>, stop: CancellationToken) -> BoxFuture<'static, WalkEnd>;

    /// A URL at which the storage itself temporarily serves a file to anybody who knows it. None when only the coordinator
    /// can serve the file.
    fn resolve<'a>(&'a self, file: &'a str) -> BoxFuture<'a, Option<Url>>;

    /// The origin of the URLs from [`Self::resolve`], such as `https://tunes.s3.amazonaws.com`, if there are any.
    fn origin(&self) -> Option<&str> {
        None
    }

    /// Opens a file from a walk, or a byte range of it, counted from 0.
    fn open<'a>(
        &'a self,
        wanted: Wanted<'a>,
        part: Option<RangeInclusive<u64>>,
    ) -> BoxFuture<'a, Result<Opened, Unavailable>>;
}

/// The bytes of a file, piece by piece.
pub type Opened = BoxStream<'static, io::Result<Bytes>>;

/// A file as a walk found it.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Its path within the library.
    pub file: &'a str,
    /// Its size.
    pub bytes: u64,
    /// See [`Found::version`].
    pub version: Option<&'a str>,
    /// BLAKE3 of its bytes, in lower-case hexadecimal.
    pub content_hash: &'a str,
}

impl Wanted<'_> {
    /// Rejects a file whose size has changed.
    fn expect_size(&self, now: u64) -> Result<(), Unavailable> {
        let then = self.bytes;
        if now == then {
            return Ok(());
        }
        Err(Unavailable::Gone(format!("has changed: it had {then} bytes when it was found and has {now} now")))
    }
}

/// Why a file is unavailable. The texts continue a sentence that begins with the file's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// The file is gone permanently.
    #[error("{0}")]
    Gone(String),
    /// The file may be available later, or to another coordinator.
    #[error("{0}")]
    OutOfReach(String),
}

/// How a walk ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WalkEnd {
    /// Every file was seen.
    Complete,
    /// There are more files than the limit for one walk, a million.
    TooMany,
    /// The receiver was closed, or the walk was cancelled.
    Stopped,
    /// It failed, and why.
    Broken(String),
}

/// An item found by a walk.
#[derive(Debug)]
pub enum Visit {
    /// An audio file.
    File(Found),
    /// A file that is not audio or that no worker decodes: see [`chaarfm_domain::LeftOutFiles::kind`].
    LeftOut(String),
    /// Something that cannot be followed, and why.
    Obstacle(String),
}

impl Tags {
    /// Copies the file's tags into `found`.
    fn describe(self, found: &mut Found) {
        let Self { artist, title, album, seconds } = self;
        found.track = Track { artist, title, album, file: mem::take(&mut found.track.file) };
        found.seconds = seconds;
    }
}

/// Whether a file with this name is treated as audio.
fn is_audio(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|own| EXTENSIONS.iter().any(|known| own.eq_ignore_ascii_case(known)))
}

/// The kind under which a file skipped for its name is counted.
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

/// Why a file of this size is rejected, if it is.
fn too_large(bytes: u64) -> Option<String> {
    let is_too_large = bytes > MAX_AUDIO_BYTES;
    is_too_large.then(|| format!("has {bytes} bytes; the largest file taken has {MAX_AUDIO_BYTES}"))
}
