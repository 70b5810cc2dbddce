//! Places that music comes from, and the libraries that a coordinator offers.
//!
//! A [`Source`] says which audio files it has, opens them, and may know an address at which whoever is to read one gets it
//! without the coordinator. There are two kinds: a folder of this machine, and what lies below a prefix in a bucket on S3.
//! [`Libraries`] has each under a name of its own. Leaves out jobs: [`Source::discover`] hands every audio file to its
//! caller, readable or not.

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

/// Audio files that one walk looks at.
const MAX_FILES: u64 = 1_000_000;

/// File names that end in these are taken for audio; whether they are, the worker finds out. All others are left out and
/// counted: formats that no worker decodes, and what is no audio at all.
const EXTENSIONS: [&str; 46] = [
    "3g2", "3gp", "3gpp", "aac", "adts", "aif", "aifc", "aiff", "alac", "ape", "au", "bw64", "caf", "dff", "dsf",
    "flac", "latm", "loas", "m4a", "m4b", "m4r", "m4v", "mka", "mkv", "mov", "mp1", "mp2", "mp3", "mp4", "mpa", "mpga",
    "oga", "ogg", "ogv", "ogx", "opus", "qt", "rf64", "snd", "tta", "w64", "wav", "wave", "weba", "webm", "wv",
];

/// Longest end of a name by which a file that is left out is counted.
const MAX_EXTENSION_CHARS: usize = 12;

/// A place that music comes from.
pub trait Source: fmt::Debug + Send + Sync {
    /// The same for two sources that have the same files, and for no others.
    fn identity(&self) -> String;

    /// What it is called where it is, and what that is called.
    fn names(&self) -> (Option<String>, Option<String>);

    /// Hands every audio file to whoever holds the other end of `visits`, in the order of their names, until that end is
    /// closed or `stop` is cancelled.
    fn discover(self: Arc<Self>, visits: mpsc::Sender<Visit>, stop: CancellationToken) -> BoxFuture<'static, WalkEnd>;

    /// An address at which the storage itself hands out a file for a while, to whoever knows it. None where only the
    /// coordinator can.
    fn resolve<'a>(&'a self, file: &'a str) -> BoxFuture<'a, Option<Url>>;

    /// The origin of the addresses that [`Self::resolve`] gives, such as `https://tunes.s3.amazonaws.com`, if it gives any.
    fn origin(&self) -> Option<&str> {
        None
    }

    /// Opens a file that was found, or a part of it, whose bytes are counted from 0.
    fn open<'a>(
        &'a self,
        wanted: Wanted<'a>,
        part: Option<RangeInclusive<u64>>,
    ) -> BoxFuture<'a, Result<Opened, Unavailable>>;
}

/// The bytes of a file, piece by piece.
pub type Opened = BoxStream<'static, io::Result<Bytes>>;

/// A file as it was when it was found.
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
    /// Refuses a file that is not the one that was found.
    fn expect_size(&self, now: u64) -> Result<(), Unavailable> {
        let then = self.bytes;
        if now == then {
            return Ok(());
        }
        Err(Unavailable::Gone(format!("has changed: it had {then} bytes when it was found and has {now} now")))
    }
}

/// Why a file is not to be had. The texts go on after the file's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// The file that was found will not be had any more.
    #[error("{0}")]
    Gone(String),
    /// It may be had later, or by somebody else.
    #[error("{0}")]
    OutOfReach(String),
}

/// How a walk ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WalkEnd {
    /// Every file was seen.
    Complete,
    /// There are more files than one walk looks at, which is a million.
    TooMany,
    /// The visitor wanted no more, or the walk was called off.
    Stopped,
    /// It could not go on, and why.
    Broken(String),
}

/// What a walk comes across.
#[derive(Debug)]
pub enum Visit {
    /// An audio file.
    File(Found),
    /// A file that is no audio or that no worker decodes: see [`chaarfm_domain::LeftOutFiles::kind`].
    LeftOut(String),
    /// What cannot be followed, and why.
    Obstacle(String),
}

impl Tags {
    /// Notes in what was found what the file says of itself.
    fn describe(self, found: &mut Found) {
        let Self { artist, title, album, seconds } = self;
        found.track = Track { artist, title, album, file: mem::take(&mut found.track.file) };
        found.seconds = seconds;
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
