//! A library in a local folder.

#[cfg(not(unix))]
use std::time::SystemTime;
use std::{
    fs::{File, Metadata, OpenOptions},
    io::{self, Read, Seek, SeekFrom},
    ops::RangeInclusive,
    path::{Path, PathBuf},
    sync::Arc,
    time::UNIX_EPOCH,
};

use chaarfm_domain::Found;
use futures_util::{StreamExt, future::BoxFuture};
use tokio::{
    io::{AsyncReadExt, AsyncSeekExt},
    sync::mpsc,
    task::spawn_blocking,
};
use tokio_util::{io::ReaderStream, sync::CancellationToken};
use url::Url;
use walkdir::WalkDir;

use super::{
    MAX_FILES, Opened, Source, Unavailable, Visit, WalkEnd, Wanted,
    disguises::{HEAD_BYTES, disguise},
    is_audio, kind_of,
    location::folder_names,
    names, tags, too_large,
};

/// Maximum depth of nested folders. Usually the system's own limit on paths is reached first.
const MAX_DEPTH: usize = 1000;

/// Bytes read at a time for a file's hash.
const HASH_CHUNK_BYTES: usize = 1024 * 1024;

/// Bytes read at a time from each file being sent.
const PIECE_BYTES: usize = 64 * 1024;

/// The kind of a link that is not followed, because its target is outside the library.
const LINK_OUT: &str = "link out of the library";

/// The kind of a pipe, a socket or a device.
const NO_FILE: &str = "no file";

/// One folder.
#[derive(Debug, Clone)]
pub(super) struct Folder {
    root: PathBuf,
}

impl Folder {
    /// # Errors
    /// When it is not a readable folder.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let root = path.canonicalize()?;
        root.read_dir()?;
        Ok(Self { root })
    }

    /// The path of a file, from its text form within the library: see [`names`]. None when that is outside the library.
    pub(super) fn path_of(&self, file: &str) -> Option<PathBuf> {
        names::to_path(file).map(|path| self.root.join(path))
    }

    /// Opens a file of the library. None when it is no longer a regular file (opening a pipe may block forever), or when
    /// links lead out of the library: write access to the library must not give read access to anything else.
    ///
    /// # Errors
    /// When it cannot be read.
    async fn open_file(&self, path: &Path) -> io::Result<Option<(File, Metadata)>> {
        let (folder, path) = (self.clone(), path.to_owned());
        spawn_blocking(move || folder.open_own(&path)).await?
    }

    /// Blocking version of [`Self::open_file`]. Never waits for the writer of a pipe.
    fn open_own(&self, path: &Path) -> io::Result<Option<(File, Metadata)>> {
        // Opening some devices has side effects.
        if !path.metadata()?.is_file() {
            return Ok(None);
        }
        let file = without_waiting(OpenOptions::new().read(true)).open(path)?;
        let metadata = file.metadata()?;
        let real = path.canonicalize()?;
        // Make sure that the opened file is the one at this real path.
        let is_own = real.starts_with(&self.root) && identity(&metadata) == identity(&real.symlink_metadata()?);
        Ok((metadata.is_file() && is_own).then_some((file, metadata)))
    }

    /// Whether a link leads out of the library; a broken link does not.
    fn leads_out(&self, link: &Path) -> bool {
        link.canonicalize().is_ok_and(|real| !real.starts_with(&self.root))
    }

    /// Whether an open file still has the content that the scan found; leaves it at its beginning. Copying or touching a
    /// file does not matter; replacing it with another one of the same size does. Changes while a worker reads it are not
    /// noticed here: the worker reports the hash of what it received.
    ///
    /// # Errors
    /// When it cannot be read.
    async fn is_unchanged(file: &File, metadata: &Metadata, wanted: &Wanted<'_>) -> io::Result<bool> {
        if wanted.version.is_none_or(|then| then == version(metadata)) {
            return Ok(true);
        }
        // Some file systems change a file's number on every access.
        let (mut file, bytes) = (file.try_clone()?, metadata.len());
        let hash = spawn_blocking(move || {
            let hash = hash(&mut file, bytes, &|| false)?;
            file.rewind().map(|()| hash)
        });
        Ok(hash.await??.as_deref() == Some(wanted.content_hash))
    }

    /// Whether the folder contains anything. The mount point of a missing disk is an empty folder.
    async fn holds_something(&self) -> bool {
        let first = async { tokio::fs::read_dir(&self.root).await?.next_entry().await };
        matches!(first.await, Ok(Some(_)))
    }

    /// Passes every file to `visit`, ordered by name, until that returns false. Blocks.
    pub(super) fn walk(&self, mut visit: impl FnMut(Visit) -> bool, is_stopped: impl Fn() -> bool) -> WalkEnd {
        let mut files = 0;
        let walk = WalkDir::new(&self.root).follow_links(true).max_depth(MAX_DEPTH).sort_by_file_name();
        let mut entries = walk.into_iter();
        while let Some(entry) = entries.next() {
            if is_stopped() {
                return WalkEnd::Stopped;
            }
            let next = match entry {
                Err(error) => Visit::Obstacle(error.to_string()),
                Ok(entry) if entry.path_is_symlink() && self.leads_out(entry.path()) => {
                    if entry.file_type().is_dir() {
                        entries.skip_current_dir();
                    }
                    Visit::LeftOut(LINK_OUT.to_owned())
                }
                Ok(entry) if entry.file_type().is_file() && is_audio(entry.path()) => {
                    match self.look_at(entry.path(), &is_stopped) {
                        Some(next) => next,
                        None => return WalkEnd::Stopped,
                    }
                }
                Ok(entry) if entry.file_type().is_file() => Visit::LeftOut(kind_of(entry.path())),
                Ok(entry) if entry.depth() == MAX_DEPTH => {
                    let name = names::shown(entry.file_name());
                    Visit::Obstacle(format!("the folder {name}, which is inside of {MAX_DEPTH} others"))
                }
                Ok(entry) if !entry.file_type().is_dir() => Visit::LeftOut(NO_FILE.to_owned()),
                Ok(_) => continue,
            };
            files += u64::from(matches!(next, Visit::File(_)));
            if files > MAX_FILES {
                return WalkEnd::TooMany;
            }
            if !visit(next) {
                return WalkEnd::Stopped;
            }
        }
        WalkEnd::Complete
    }

    /// Reads a file's metadata; none when stopped.
    fn look_at(&self, path: &Path, is_stopped: &impl Fn() -> bool) -> Option<Visit> {
        let file = names::to_text(path.strip_prefix(&self.root).unwrap_or(path));
        let mut found = Found::unread(file);
        match self.read(path, &mut found, is_stopped) {
            Ok(Look::Audio) => Some(Visit::File(found)),
            Ok(Look::Disguised(kind)) => Some(Visit::LeftOut(kind.to_owned())),
            Ok(Look::Stopped) => None,
            Err(error) => {
                found.content = Err(format!("cannot be read: {error}"));
                Some(Visit::File(found))
            }
        }
    }

    fn read(&self, path: &Path, found: &mut Found, is_stopped: &impl Fn() -> bool) -> io::Result<Look> {
        let Some((mut file, metadata)) = self.open_own(path)? else { return Ok(Look::Disguised(NO_FILE)) };
        found.bytes = metadata.len();
        found.version = Some(version(&metadata));
        if let Some(reason) = too_large(found.bytes) {
            found.content = Err(reason);
            return Ok(Look::Audio);
        }
        let mut head = Vec::with_capacity(HEAD_BYTES);
        file.by_ref().take(HEAD_BYTES as u64).read_to_end(&mut head)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if let Some(kind) = disguise(&name, &head, found.bytes) {
            return Ok(Look::Disguised(kind));
        }
        file.rewind()?;
        let Some(hash) = hash(&mut file, found.bytes, is_stopped)? else { return Ok(Look::Stopped) };
        found.content = Ok(hash);
        file.rewind()?;
        let tags = tags::read(file, &found.track.file);
        tags.describe(found);
        Ok(Look::Audio)
    }
}

impl Source for Folder {
    fn identity(&self) -> String {
        format!("file://{}", self.root.display())
    }

    fn names(&self) -> (Option<String>, Option<String>) {
        folder_names(&self.root)
    }

    fn discover(self: Arc<Self>, visits: mpsc::Sender<Visit>, stop: CancellationToken) -> BoxFuture<'static, WalkEnd> {
        let walk = move || self.walk(|visit| visits.blocking_send(visit).is_ok(), || stop.is_cancelled());
        Box::pin(async { spawn_blocking(walk).await.unwrap_or_else(|panic| WalkEnd::Broken(panic.to_string())) })
    }

    fn resolve<'a>(&'a self, _file: &'a str) -> BoxFuture<'a, Option<Url>> {
        Box::pin(async { None })
    }

    fn open<'a>(
        &'a self,
        wanted: Wanted<'a>,
        part: Option<RangeInclusive<u64>>,
    ) -> BoxFuture<'a, Result<Opened, Unavailable>> {
        Box::pin(self.send(wanted, part))
    }
}

impl Folder {
    async fn send(&self, wanted: Wanted<'_>, part: Option<RangeInclusive<u64>>) -> Result<Opened, Unavailable> {
        let gone = |reason: &str| Unavailable::Gone(reason.to_owned());
        let unreadable = |error| Unavailable::OutOfReach(format!("cannot be read: {error}"));
        let path = self.path_of(wanted.file).ok_or_else(|| gone("is not in its library"))?;
        let (file, metadata) = match self.open_file(&path).await {
            Ok(Some(opened)) => opened,
            Ok(None) => return Err(gone("is no file within its library any more")),
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.holds_something().await => {
                return Err(gone("is not there any more"));
            }
            Err(error) => return Err(unreadable(error)),
        };
        wanted.expect_size(metadata.len())?;
        if !Self::is_unchanged(&file, &metadata, &wanted).await.map_err(unreadable)? {
            return Err(gone("has changed: it has another content than when it was found"));
        }
        let (first, length) = part.map_or((0, wanted.bytes), |part| (*part.start(), part.end() - part.start() + 1));
        let mut file = tokio::fs::File::from_std(file);
        file.seek(SeekFrom::Start(first)).await.map_err(unreadable)?;
        Ok(ReaderStream::with_capacity(file.take(length), PIECE_BYTES).boxed())
    }
}

/// The result of examining a file.
enum Look {
    Audio,
    Disguised(&'static str),
    Stopped,
}

/// Changes when a file is written or replaced: modification time and file number.
fn version(metadata: &Metadata) -> String {
    let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    format!("{}.{:09}-{}", modified.as_secs(), modified.subsec_nanos(), number(metadata))
}

/// Unique among the files that exist at one time.
#[cfg(unix)]
fn identity(metadata: &Metadata) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    (metadata.dev(), metadata.ino())
}

/// As unique as the system allows.
#[cfg(not(unix))]
fn identity(metadata: &Metadata) -> (u64, Option<SystemTime>, Option<SystemTime>) {
    (metadata.len(), metadata.created().ok(), metadata.modified().ok())
}

/// Makes opening a pipe return at once, even without a writer.
#[cfg(unix)]
fn without_waiting(options: &mut OpenOptions) -> &OpenOptions {
    std::os::unix::fs::OpenOptionsExt::custom_flags(options, libc::O_NONBLOCK)
}

/// Folders contain no pipes on these systems.
#[cfg(not(unix))]
fn without_waiting(options: &mut OpenOptions) -> &OpenOptions {
    options
}

#[cfg(unix)]
fn number(metadata: &Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(metadata)
}

#[cfg(not(unix))]
fn number(_metadata: &Metadata) -> u64 {
    0
}

/// BLAKE3 of the file's first `bytes` bytes, in lower-case hexadecimal; none when stopped. If the file grows meanwhile, the
/// change is detected when the file is handed out.
fn hash(file: &mut File, bytes: u64, is_stopped: &impl Fn() -> bool) -> io::Result<Option<String>> {
    let mut file = file.take(bytes);
    let mut hasher = blake3::Hasher::new();
    let mut chunk = vec![0; HASH_CHUNK_BYTES];
    while !is_stopped() {
        match file.read(&mut chunk) {
            Ok(0) => return Ok(Some(hasher.finalize().to_hex().to_string())),
            Ok(count) => hasher.update(&chunk[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn walk(root: &Path) -> Vec<Found> {
        let mut found = Vec::new();
        let visit = |visit| {
            if let Visit::File(file) = visit {
                found.push(file);
            }
            true
        };
        assert_eq!(Folder::open(root).unwrap().walk(visit, || false), WalkEnd::Complete);
        found
    }

    #[test]
    fn finds_audio_in_order_and_knows_equal_contents() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("b")).unwrap();
        for (name, bytes) in [("z.mp3", "same"), ("b/c.FLAC", "same"), ("a.wav", "other"), ("cover.jpg", "no audio")] {
            fs::write(root.path().join(name), bytes).unwrap();
        }
        let found = walk(root.path());
        let names: Vec<_> = found.iter().map(|file| file.track.file.as_str()).collect();
        assert_eq!(names, ["a.wav", "b/c.FLAC", "z.mp3"]);
        assert_eq!(found[1].content, found[2].content);
        assert_ne!(found[0].content, found[1].content);
        assert_eq!(found[0].content.as_ref().unwrap(), &blake3::hash(b"other").to_hex().to_string());
    }

    /// Everything but audio that a walk reports.
    fn others(root: &Path) -> Vec<String> {
        let mut others = Vec::new();
        let visit = |visit| {
            match visit {
                Visit::File(_) => {}
                Visit::LeftOut(kind) => others.push(kind),
                Visit::Obstacle(message) => others.push(message),
            }
            true
        };
        assert_eq!(Folder::open(root).unwrap().walk(visit, || false), WalkEnd::Complete);
        others
    }

    #[test]
    fn what_is_left_out_is_told_by_its_kind() {
        let root = tempfile::tempdir().unwrap();
        for name in ["a.WMA", "b.jpg", "c", "d.what is this?", "e.mp3", ".hidden"] {
            fs::write(root.path().join(name), name).unwrap();
        }
        fs::write(root.path().join("._e.mp3"), [&[0, 5, 22, 7], [0; 4092].as_slice()].concat()).unwrap();
        assert_eq!(walk(root.path()).len(), 1);
        let none = "without an ending";
        assert_eq!(others(root.path()), ["AppleDouble", none, ".wma", ".jpg", none, "with an odd ending"]);
    }

    #[test]
    fn folders_in_folders_are_entered_to_a_limit_that_is_told() {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("d/".repeat(MAX_DEPTH - 1));
        fs::create_dir_all(deep.join("e/f")).unwrap();
        fs::write(deep.join("a.mp3"), "a").unwrap();
        fs::write(deep.join("e/b.mp3"), "b").unwrap();
        let found = walk(root.path());
        assert_eq!(found.iter().map(|file| file.track.label()).collect::<Vec<_>>(), ["a.mp3"]);
        assert_eq!(others(root.path()), [format!("the folder e, which is inside of {MAX_DEPTH} others")]);
    }

    #[cfg(unix)]
    #[test]
    fn names_are_any_bytes_and_stay_on_their_line() {
        use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
        let root = tempfile::tempdir().unwrap();
        for name in [b"Zo\xeb.mp3".as_slice(), b"two\nlines\x1b[31m.mp3"] {
            fs::write(root.path().join(OsStr::from_bytes(name)), name).unwrap();
        }
        let folder = Folder::open(root.path()).unwrap();
        let found = walk(root.path());
        let names: Vec<_> = found.iter().map(|file| file.track.file.as_str()).collect();
        assert_eq!(names, ["Zo%EB.mp3", "two%0Alines%1B[31m.mp3"]);
        for file in &found {
            let bytes = fs::read(folder.path_of(&file.track.file).unwrap()).unwrap();
            assert_eq!(file.content.as_ref().unwrap(), &blake3::hash(&bytes).to_hex().to_string());
        }
    }

    #[test]
    fn a_walk_stops_when_told() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("a.wav"), "a").unwrap();
        let folder = Folder::open(root.path()).unwrap();
        assert_eq!(folder.walk(|_| true, || true), WalkEnd::Stopped);
        assert_eq!(folder.walk(|_| false, || false), WalkEnd::Stopped);
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn links_lead_nowhere_outside_and_only_files_are_opened() {
        use std::os::unix::{fs::symlink, net::UnixListener};
        let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let at = |name: &str| root.path().join(name);
        fs::create_dir_all(outside.path().join("folder")).unwrap();
        fs::create_dir_all(at("folder")).unwrap();
        for path in [outside.path().join("secret.mp3"), outside.path().join("folder/secret.mp3"), at("folder/a.mp3")] {
            fs::write(&path, "a").unwrap();
        }
        symlink(at("folder/a.mp3"), at("absolute.mp3")).unwrap();
        symlink("folder/a.mp3", at("relative.mp3")).unwrap();
        symlink("folder", at("again")).unwrap();
        symlink(outside.path().join("secret.mp3"), at("out.mp3")).unwrap();
        symlink(outside.path().join("folder"), at("outside")).unwrap();
        symlink(outside.path(), at("folder/up")).unwrap();
        symlink("/dev/zero", at("zero.mp3")).unwrap();
        let _socket = UnixListener::bind(at("socket.mp3")).unwrap();
        let names: Vec<_> = walk(root.path()).into_iter().map(|file| file.track.file).collect();
        assert_eq!(names, ["absolute.mp3", "again/a.mp3", "folder/a.mp3", "relative.mp3"]);
        let mut left_out = others(root.path());
        left_out.sort_unstable();
        assert_eq!(left_out, [LINK_OUT, LINK_OUT, LINK_OUT, LINK_OUT, LINK_OUT, NO_FILE]);

        let folder = Folder::open(root.path()).unwrap();
        for (name, is_opened) in [
            ("relative.mp3", true),
            ("absolute.mp3", true),
            ("again/a.mp3", true),
            ("out.mp3", false),
            ("outside/secret.mp3", false),
            ("zero.mp3", false),
            ("folder", false),
        ] {
            assert_eq!(folder.open_file(&at(name)).await.unwrap().is_some(), is_opened, "{name}");
        }
    }

    #[test]
    fn no_path_leads_out_of_a_library() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::open(root.path()).unwrap();
        for path in ["../x", "/etc/passwd", "a/../../x"] {
            assert_eq!(folder.path_of(path), None, "{path}");
        }
    }
}
