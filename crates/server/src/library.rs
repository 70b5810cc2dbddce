//! Folders of audio files: which there are, what is in them, and where a file is.
//!
//! Knows nothing of jobs: [`Library::walk`] hands every audio file to its caller, readable or not.

use std::{
    fs::File,
    io::{self, Read},
    panic,
    path::{Component, Path, PathBuf},
};

use chaarfm_protocol::{
    Track,
    limits::{MAX_AUDIO_BYTES, MAX_TEXT_CHARS},
    view::LibraryView,
};
use lofty::{config::ParseOptions, file::TaggedFileExt, probe::Probe, tag::Accessor};
use walkdir::WalkDir;

use crate::{store::Found, text};

/// Folders within folders that a walk enters.
const MAX_DEPTH: usize = 32;

/// Audio files that one walk looks at.
const MAX_FILES: u64 = 1_000_000;

/// Bytes read at a time for a file's hash.
const HASH_CHUNK_BYTES: usize = 1024 * 1024;

/// File names that end in these are taken for audio; whether they are, the worker finds out.
const EXTENSIONS: [&str; 18] = [
    "aac", "aif", "aifc", "aiff", "alac", "caf", "flac", "m4a", "m4b", "mka", "mp3", "mp4", "oga", "ogg", "opus",
    "wav", "wave", "webm",
];

/// The folders the coordinator was given, each under a name of its own.
#[derive(Debug, Clone, Default)]
pub(crate) struct Libraries(Vec<Library>);

/// One folder.
#[derive(Debug, Clone)]
pub(crate) struct Library {
    name: String,
    root: PathBuf,
}

/// How a walk ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WalkEnd {
    /// Every file was seen.
    Complete,
    /// There are more files than [`MAX_FILES`].
    TooMany,
    /// The visitor wanted no more.
    Stopped,
}

/// What a walk comes across.
#[derive(Debug)]
pub(crate) enum Visit {
    /// An audio file.
    File(Found),
    /// A folder or a link that cannot be followed, and why.
    Obstacle(String),
}

impl Libraries {
    /// Names the folders after their last part; where that is taken, with the part before it or a number.
    ///
    /// # Errors
    /// When one is not a folder that can be read.
    pub(crate) fn open(roots: &[PathBuf]) -> Result<Self, (PathBuf, io::Error)> {
        let mut libraries: Vec<Library> = Vec::new();
        for root in roots {
            let path = root.canonicalize().and_then(|path| path.read_dir().map(|_| path));
            let path = path.map_err(|error| (root.clone(), error))?;
            let own = last_part(&path).unwrap_or_else(|| "library".to_owned());
            let inside = path.parent().and_then(last_part).map(|folder| format!("{own} ({folder})"));
            let numbered = (2..).map(|number| format!("{own} ({number})"));
            let mut names = std::iter::once(own.clone()).chain(inside).chain(numbered);
            let free = names.find(|name| libraries.iter().all(|library| library.name != *name));
            libraries.push(Library { name: free.expect("numbers do not run out"), root: path });
        }
        Ok(Self(libraries))
    }

    /// The library of that name.
    pub(crate) fn find(&self, name: &str) -> Option<&Library> {
        self.0.iter().find(|library| library.name == name)
    }

    /// Every library, as pages know it.
    pub(crate) fn views(&self) -> Vec<LibraryView> {
        self.0.iter().map(|library| LibraryView { name: library.name.clone() }).collect()
    }
}

impl Library {
    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Where a file is, from its path within the library. None when that path leads out of it.
    pub(crate) fn path_of(&self, file: &str) -> Option<PathBuf> {
        let inside = Path::new(file).components().all(|part| matches!(part, Component::Normal(_)));
        inside.then(|| self.root.join(file))
    }

    /// Hands every audio file to `visit`, in the order of their names, until that returns false. Blocks.
    pub(crate) fn walk(&self, mut visit: impl FnMut(Visit) -> bool, is_stopped: impl Fn() -> bool) -> WalkEnd {
        let mut files = 0;
        let entries = WalkDir::new(&self.root).follow_links(true).max_depth(MAX_DEPTH).sort_by_file_name();
        for entry in entries {
            if is_stopped() {
                return WalkEnd::Stopped;
            }
            let next = match entry {
                Err(error) => Visit::Obstacle(error.to_string()),
                Ok(entry) if entry.file_type().is_file() && is_audio(entry.path()) => {
                    files += 1;
                    match self.look_at(entry.path(), &is_stopped) {
                        Some(found) => Visit::File(found),
                        None => return WalkEnd::Stopped,
                    }
                }
                Ok(_) => continue,
            };
            if files > MAX_FILES {
                return WalkEnd::TooMany;
            }
            if !visit(next) {
                return WalkEnd::Stopped;
            }
        }
        WalkEnd::Complete
    }

    /// Reads what there is to know about a file; none when stopped.
    fn look_at(&self, path: &Path, is_stopped: &impl Fn() -> bool) -> Option<Found> {
        let mut found = Found { track: Track::default(), bytes: 0, content: Err(String::new()) };
        match self.name_of(path) {
            Ok(name) => found.track.file = name,
            Err(lossy) => {
                found.content = Err(format!("the name of {lossy} is not valid Unicode"));
                found.track.file = lossy;
                return Some(found);
            }
        }
        match path.metadata() {
            Ok(metadata) => found.bytes = metadata.len(),
            Err(error) => {
                found.content = Err(format!("cannot be read: {error}"));
                return Some(found);
            }
        }
        if found.bytes > MAX_AUDIO_BYTES {
            found.content = Err(format!("has {} bytes; the largest file taken has {MAX_AUDIO_BYTES}", found.bytes));
            return Some(found);
        }
        match hash(path, found.bytes, is_stopped) {
            Ok(hash) => found.content = Ok(hash?),
            Err(error) => found.content = Err(format!("cannot be read: {error}")),
        }
        read_tags(path, &mut found.track);
        Some(found)
    }

    /// The file's path within the library, with `/` between folders; in the error, as much of it as can be shown.
    fn name_of(&self, path: &Path) -> Result<String, String> {
        let relative = path.strip_prefix(&self.root).unwrap_or(path);
        let parts: Vec<_> = relative.components().map(|part| part.as_os_str()).collect();
        let exact: Option<Vec<_>> = parts.iter().map(|part| part.to_str()).collect();
        exact.map(|parts| parts.join("/")).ok_or_else(|| relative.to_string_lossy().into_owned())
    }
}

fn is_audio(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|own| EXTENSIONS.iter().any(|known| own.eq_ignore_ascii_case(known)))
}

/// BLAKE3 of the file's first `bytes` bytes, in lower-case hexadecimal; none when stopped. One that grows meanwhile is
/// found to have changed when it is given out.
fn hash(path: &Path, bytes: u64, is_stopped: &impl Fn() -> bool) -> io::Result<Option<String>> {
    let mut file = File::open(path)?.take(bytes);
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

/// Fills in artist, title and album as far as they can be read. Tags are nothing to fail over, and the library that
/// reads them has panicked on damaged files before.
fn read_tags(path: &Path, track: &mut Track) {
    let read = || {
        let mut options = ParseOptions::new();
        options.read_properties(false).read_cover_art(false);
        Probe::open(path).ok()?.options(options).guess_file_type().ok()?.read().ok()
    };
    let Ok(Some(file)) = panic::catch_unwind(read) else { return };
    let Some(tag) = file.primary_tag().or_else(|| file.first_tag()) else { return };
    let clean = |value: Option<std::borrow::Cow<'_, str>>| {
        let value = text::cut(value?.trim(), MAX_TEXT_CHARS);
        (!value.is_empty()).then_some(value)
    };
    track.artist = clean(tag.artist());
    track.title = clean(tag.title());
    track.album = clean(tag.album());
}

fn last_part(path: &Path) -> Option<String> {
    path.file_name().map(|name| name.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn walk(root: &Path) -> Vec<Found> {
        let libraries = Libraries::open(&[root.to_owned()]).unwrap();
        let mut found = Vec::new();
        let visit = |visit| {
            if let Visit::File(file) = visit {
                found.push(file);
            }
            true
        };
        assert_eq!(libraries.0[0].walk(visit, || false), WalkEnd::Complete);
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

    #[test]
    fn a_walk_stops_when_told() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("a.wav"), "a").unwrap();
        let libraries = Libraries::open(&[root.path().to_owned()]).unwrap();
        assert_eq!(libraries.0[0].walk(|_| true, || true), WalkEnd::Stopped);
        assert_eq!(libraries.0[0].walk(|_| false, || false), WalkEnd::Stopped);
    }

    #[test]
    fn libraries_of_one_name_are_told_apart() {
        let root = tempfile::tempdir().unwrap();
        let roots = ["x/music", "y/music"].map(|path| root.path().join(path));
        for path in &roots {
            fs::create_dir_all(path).unwrap();
        }
        let libraries = Libraries::open(&roots).unwrap();
        assert_eq!(libraries.views().iter().map(|view| &view.name).collect::<Vec<_>>(), ["music", "music (y)"]);
        assert!(libraries.find("music (y)").unwrap().path_of("a/b.mp3").unwrap().ends_with("y/music/a/b.mp3"));
        let missing = Libraries::open(&[root.path().join("z")]).unwrap_err();
        assert!(missing.0.ends_with("z"));
    }

    #[test]
    fn no_path_leads_out_of_a_library() {
        let root = tempfile::tempdir().unwrap();
        let libraries = Libraries::open(&[root.path().to_owned()]).unwrap();
        for path in ["../x", "/etc/passwd", "a/../../x"] {
            assert_eq!(libraries.0[0].path_of(path), None, "{path}");
        }
    }
}
