//! A folder of this machine as a library.

use std::{
    fs::File,
    io::{self, Read},
    path::{Component, Path, PathBuf},
};

use chaarfm_protocol::Track;
use walkdir::WalkDir;

use super::{MAX_FILES, Visit, WalkEnd, is_audio, tags, too_large};
use crate::store::Found;

/// Folders within folders that a walk enters.
const MAX_DEPTH: usize = 32;

/// Bytes read at a time for a file's hash.
const HASH_CHUNK_BYTES: usize = 1024 * 1024;

/// One folder.
#[derive(Debug, Clone)]
pub(crate) struct Folder {
    root: PathBuf,
}

impl Folder {
    /// # Errors
    /// When it is not a folder that can be read.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let root = path.canonicalize()?;
        root.read_dir()?;
        Ok(Self { root })
    }

    /// Its own name, and that of the folder it is in.
    pub(super) fn names(&self) -> (Option<String>, Option<String>) {
        (last_part(&self.root), self.root.parent().and_then(last_part))
    }

    /// Where a file is, from its path within the library. None when that path leads out of it.
    pub(crate) fn path_of(&self, file: &str) -> Option<PathBuf> {
        let inside = Path::new(file).components().all(|part| matches!(part, Component::Normal(_)));
        inside.then(|| self.root.join(file))
    }

    /// Whether there is anything in it. A folder whose disk is not mounted is there, and empty.
    pub(crate) async fn holds_something(&self) -> bool {
        let first = async { tokio::fs::read_dir(&self.root).await?.next_entry().await };
        matches!(first.await, Ok(Some(_)))
    }

    /// Hands every audio file to `visit`, in the order of their names, until that returns false. Blocks.
    pub(super) fn walk(&self, mut visit: impl FnMut(Visit) -> bool, is_stopped: impl Fn() -> bool) -> WalkEnd {
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
        if let Some(reason) = too_large(found.bytes) {
            found.content = Err(reason);
            return Some(found);
        }
        match hash(path, found.bytes, is_stopped) {
            Ok(hash) => found.content = Ok(hash?),
            Err(error) => found.content = Err(format!("cannot be read: {error}")),
        }
        if let Ok(file) = File::open(path) {
            tags::read(file, &mut found.track);
        }
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

fn last_part(path: &Path) -> Option<String> {
    path.file_name().map(|name| name.to_string_lossy().into_owned())
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

    #[test]
    fn a_walk_stops_when_told() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("a.wav"), "a").unwrap();
        let folder = Folder::open(root.path()).unwrap();
        assert_eq!(folder.walk(|_| true, || true), WalkEnd::Stopped);
        assert_eq!(folder.walk(|_| false, || false), WalkEnd::Stopped);
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
