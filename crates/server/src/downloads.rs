//! The worker executables in a folder beside the coordinator, offered on the join page.
//!
//! A file is offered if its name can be parsed as a [`DownloadName`]. Sizes and hashes are computed on request, and again
//! when a file has changed.

use std::{
    collections::HashMap,
    env,
    fmt::Write as _,
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use chaarfm_api::{DownloadName, DownloadView, Packing};
use ring::digest;
use tokio::task::spawn_blocking;

/// Maximum number of files offered.
const MAX_FILES: usize = 200;

/// Bytes read at a time.
const PIECE_BYTES: usize = 256 << 10;

/// The signed description of a release, requested by `chaarfm-worker update`.
const RELEASE: &str = "release.json";

/// File name suffix of a signature.
const SIGNATURE: &str = ".minisig";

/// The folder, if there is one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Downloads {
    folder: Option<PathBuf>,
    known: Arc<Mutex<HashMap<String, Known>>>,
}

/// A file's properties when it was read.
#[derive(Debug, Clone)]
struct Known {
    bytes: u64,
    modified: Option<SystemTime>,
    sha256: String,
}

/// Downloads of a packaged coordinator: in a folder beside the executable, or in the usual place for shared data on Unix.
/// None when neither exists.
#[must_use]
pub fn packaged_downloads() -> Option<PathBuf> {
    let program = env::current_exe().and_then(fs::canonicalize).ok()?;
    let beside = program.parent()?;
    [beside.join("downloads"), beside.join("../share/chaarfm/downloads")].into_iter().find(|folder| folder.is_dir())
}

impl Downloads {
    pub(crate) fn of(folder: Option<PathBuf>) -> Self {
        Self { folder, known: Arc::default() }
    }

    /// All files offered: by system, the easiest to install first.
    ///
    /// # Errors
    /// When the folder or a file cannot be read.
    pub(crate) async fn list(&self) -> io::Result<Vec<DownloadView>> {
        let Self { folder: Some(folder), known } = self.clone() else { return Ok(Vec::new()) };
        spawn_blocking(move || {
            let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
            list(&folder, &mut known)
        })
        .await
        .map_err(io::Error::other)?
    }

    /// Path and media type of the file with this name. None for files that are not offered.
    pub(crate) fn find(&self, name: &str) -> Option<(PathBuf, &'static str)> {
        let plain = name.strip_suffix(SIGNATURE);
        let bare = plain.unwrap_or(name);
        let offered = DownloadName::read(bare);
        if offered.is_none() && bare != RELEASE {
            return None;
        }
        let kind = match (plain, offered) {
            (Some(_), _) => "text/plain; charset=utf-8",
            (None, None) => "application/json",
            (None, Some(offered)) => media_type(bare, offered.packing),
        };
        let path = self.folder.as_ref()?.join(name);
        path.is_file().then_some((path, kind))
    }
}

fn list(folder: &Path, known: &mut HashMap<String, Known>) -> io::Result<Vec<DownloadView>> {
    let mut found = Vec::new();
    let mut seen = HashMap::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let Some((name, offered)) =
            entry.file_name().to_str().and_then(|name| Some((name.to_owned(), DownloadName::read(name)?)))
        else {
            continue;
        };
        // Follows symbolic links.
        let file = fs::metadata(entry.path())?;
        if !file.is_file() || found.len() == MAX_FILES {
            continue;
        }
        let (bytes, modified) = (file.len(), file.modified().ok());
        let unchanged = known.remove(&name).filter(|known| (known.bytes, known.modified) == (bytes, modified));
        let now = match unchanged {
            Some(known) => known,
            None => Known { bytes, modified, sha256: sha256(&entry.path())? },
        };
        found.push(DownloadView {
            url: format!("/downloads/{name}"),
            version: offered.version,
            system: offered.system,
            processor: offered.processor.map(str::to_owned),
            packing: offered.packing,
            bytes,
            sha256: now.sha256.clone(),
            name: name.clone(),
        });
        seen.insert(name, now);
    }
    *known = seen;
    found.sort_by(|a, b| (a.system, a.packing, &a.name).cmp(&(b.system, b.packing, &b.name)));
    Ok(found)
}

fn sha256(path: &Path) -> io::Result<String> {
    let (mut file, mut hash) = (File::open(path)?, digest::Context::new(&digest::SHA256));
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        match file.read(&mut piece)? {
            0 => break,
            length => hash.update(&piece[..length]),
        }
    }
    Ok(hash.finish().as_ref().iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes every text");
        text
    }))
}

/// The list in the format of `sha256sum --check`.
pub(crate) fn checksums(list: &[DownloadView]) -> String {
    list.iter().map(|file| format!("{}  {}\n", file.sha256, file.name)).collect()
}

fn media_type(name: &str, packing: Packing) -> &'static str {
    match packing {
        Packing::Setup => "application/vnd.microsoft.portable-executable",
        Packing::Executable if name.ends_with(".exe") => "application/vnd.microsoft.portable-executable",
        Packing::Executable => "application/octet-stream",
        Packing::Msi => "application/x-msi",
        Packing::Dmg => "application/x-apple-diskimage",
        Packing::AppImage => "application/vnd.appimage",
        Packing::Deb => "application/vnd.debian.binary-package",
        Packing::Rpm => "application/x-rpm",
        Packing::Archive if name.ends_with(".zip") => "application/zip",
        Packing::Archive if name.ends_with(".gz") => "application/gzip",
        Packing::Archive if name.ends_with(".xz") => "application/x-xz",
        Packing::Archive => "application/zstd",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn offers_what_is_a_program_for_workers_and_notices_changes() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
        put("chaarfm-worker-0.2.0-linux-x86_64.deb", b"abc");
        put("chaarfm-worker-0.2.0-linux-x86_64.deb.minisig", b"signature");
        put("chaarfm-worker-0.2.0-windows-x86_64-setup.exe", b"");
        put("release.json", b"{}");
        put("notes.txt", b"private");
        fs::create_dir(folder.path().join("chaarfm-worker-0.2.0-macos-universal.dmg")).unwrap();
        let downloads = Downloads::of(Some(folder.path().to_owned()));
        let listed = downloads.list().await.unwrap();
        let names: Vec<&str> = listed.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(names, ["chaarfm-worker-0.2.0-windows-x86_64-setup.exe", "chaarfm-worker-0.2.0-linux-x86_64.deb"]);
        // FIPS 180-4's example.
        let of_abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!((listed[1].bytes, listed[1].sha256.as_str()), (3, of_abc));
        assert_eq!(checksums(&listed[1..]), format!("{of_abc}  chaarfm-worker-0.2.0-linux-x86_64.deb\n"));
        put("chaarfm-worker-0.2.0-linux-x86_64.deb", b"abcd");
        assert_ne!(downloads.list().await.unwrap()[1].sha256, of_abc);

        for (name, kind) in [
            ("chaarfm-worker-0.2.0-linux-x86_64.deb", Some("application/vnd.debian.binary-package")),
            ("chaarfm-worker-0.2.0-linux-x86_64.deb.minisig", Some("text/plain; charset=utf-8")),
            ("release.json", Some("application/json")),
            ("chaarfm-worker-0.2.0-macos-universal.dmg", None),
            ("chaarfm-worker-0.3.0-linux-x86_64.deb", None),
            ("notes.txt", None),
            ("../release.json", None),
            ("", None),
        ] {
            assert_eq!(downloads.find(name).map(|(_, kind)| kind), kind, "{name}");
        }
    }

    #[tokio::test]
    async fn without_a_folder_there_is_nothing_and_a_lost_one_is_an_error() {
        let none = Downloads::of(None);
        assert!(none.list().await.unwrap().is_empty() && none.find("release.json").is_none());
        let lost = Downloads::of(Some("/there/is/no/such/folder".into()));
        assert_eq!(lost.list().await.unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
