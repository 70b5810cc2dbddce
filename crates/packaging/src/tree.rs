//! Files to be packed, and the archives they are packed into: sorted, all with one date, without an owner's name.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{BufWriter, Write},
    path::Path,
};

use anyhow::Context;
use liblzma::{
    stream::{Check, Filters, LzmaOptions, Stream},
    write::XzEncoder,
};

use crate::{programs::Machine, release::Release};

/// Files by relative path, with `/` as the separator.
#[derive(Default)]
pub(crate) struct Tree {
    entries: BTreeMap<String, Entry>,
}

/// An entry at a path.
pub(crate) enum Entry {
    /// A file, and whether it is executable.
    File { bytes: Vec<u8>, executable: bool },
    /// A symbolic link to this path.
    Link(String),
}

/// xz's highest level, including "extreme".
const XZ_LEVEL: u32 = 9 | (1 << 31);

/// Modes in an archive.
const FOLDER_MODE: u32 = 0o755;
const EXECUTABLE_MODE: u32 = 0o755;
const FILE_MODE: u32 = 0o644;

impl Tree {
    /// Adds a file.
    pub(crate) fn add(&mut self, path: impl Into<String>, bytes: impl Into<Vec<u8>>) {
        self.entries.insert(path.into(), Entry::File { bytes: bytes.into(), executable: false });
    }

    /// Adds an executable file.
    pub(crate) fn add_executable(&mut self, path: impl Into<String>, bytes: impl Into<Vec<u8>>) {
        self.entries.insert(path.into(), Entry::File { bytes: bytes.into(), executable: true });
    }

    /// Adds a symbolic link.
    pub(crate) fn add_link(&mut self, path: impl Into<String>, to: &str) {
        self.entries.insert(path.into(), Entry::Link(to.to_owned()));
    }

    /// Adds the content of a folder on this machine.
    pub(crate) fn add_folder(&mut self, path: &str, folder: &Path) -> anyhow::Result<()> {
        for entry in fs::read_dir(folder).with_context(|| format!("{} cannot be read", folder.display()))? {
            let entry = entry?;
            let path = format!("{path}/{}", entry.file_name().to_string_lossy());
            let kind = entry.file_type()?;
            if kind.is_dir() {
                self.add_folder(&path, &entry.path())?;
            } else if kind.is_symlink() {
                self.add_link(path, &fs::read_link(entry.path())?.to_string_lossy());
            } else if is_executable(&entry.path())? {
                self.add_executable(path, fs::read(entry.path())?);
            } else {
                self.add(path, fs::read(entry.path())?);
            }
        }
        Ok(())
    }

    /// Adds the entries of another tree.
    pub(crate) fn extend(&mut self, other: Tree) {
        self.entries.extend(other.entries);
    }

    /// Every path with its entry, sorted.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.entries.iter().map(|(path, entry)| (path.as_str(), entry))
    }

    /// Every folder in the paths, sorted.
    fn folders(&self) -> BTreeSet<&str> {
        let parents = |path: &'_ str| path.match_indices('/').map(|(at, _)| at).collect::<Vec<_>>();
        self.entries.keys().flat_map(|path| parents(path).into_iter().map(move |at| &path[..at])).collect()
    }

    /// Writes the files into a folder of this machine.
    pub(crate) fn write_into(&self, folder: &Path) -> anyhow::Result<()> {
        for (path, entry) in self.entries() {
            let file = folder.join(path);
            fs::create_dir_all(file.parent().context("a file lies in a folder")?)?;
            match entry {
                Entry::File { bytes, executable } => {
                    fs::write(&file, bytes)?;
                    set_mode(&file, if *executable { EXECUTABLE_MODE } else { FILE_MODE })?;
                }
                Entry::Link(to) => link(to, &file)?,
            }
        }
        for path in self.folders() {
            set_mode(&folder.join(path), FOLDER_MODE)?;
        }
        Ok(())
    }

    /// Writes a `.tar.xz`. The x86 branch filter makes executables for x86 a little smaller; the ARM64 filter is too
    /// new for the xz of Debian 11.
    pub(crate) fn tar_xz(&self, release: &Release, machine: Machine, file: &Path) -> anyhow::Result<()> {
        let mut filters = Filters::new();
        if machine == Machine::X86_64 {
            filters.x86();
        }
        filters.lzma2(&LzmaOptions::new_preset(XZ_LEVEL)?);
        let xz = Stream::new_stream_encoder(&filters, Check::Crc64)?;
        let out = XzEncoder::new_stream(BufWriter::new(File::create(file)?), xz);
        let mut tar = tar::Builder::new(out);
        for path in self.folders() {
            let header = header(tar::EntryType::Directory, 0, FOLDER_MODE, release.date);
            append(&mut tar, header, &format!("{path}/"), &[])?;
        }
        for (path, entry) in self.entries() {
            match entry {
                Entry::File { bytes, executable } => {
                    let mode = if *executable { EXECUTABLE_MODE } else { FILE_MODE };
                    let header = header(tar::EntryType::Regular, bytes.len() as u64, mode, release.date);
                    append(&mut tar, header, path, bytes)?;
                }
                Entry::Link(to) => {
                    let mut header = header(tar::EntryType::Symlink, 0, 0o777, release.date);
                    tar.append_link(&mut header, path, to)?;
                }
            }
        }
        Ok(tar.into_inner()?.finish()?.flush()?)
    }

    /// Writes a `.zip`, packed as tightly as its readers allow; executables for development are too large for that.
    pub(crate) fn zip(&self, release: &Release, file: &Path) -> anyhow::Result<()> {
        let (year, month, day) = release.civil();
        let date = zip::DateTime::from_date_and_time(year, month, day, 0, 0, 0)?;
        let level = if release.development { DEVELOPMENT_LEVEL } else { ZOPFLI_LEVEL };
        let options = zip::write::SimpleFileOptions::default()
            .compression_method(zip::CompressionMethod::Deflated)
            .compression_level(Some(level))
            .last_modified_time(date)
            .system(zip::System::Unix);
        let mut zip = zip::ZipWriter::new(BufWriter::new(File::create(file)?));
        for path in self.folders() {
            zip.add_directory(path, options.unix_permissions(FOLDER_MODE))?;
        }
        for (path, entry) in self.entries() {
            match entry {
                Entry::File { bytes, executable } => {
                    let mode = if *executable { EXECUTABLE_MODE } else { FILE_MODE };
                    zip.start_file(path, options.unix_permissions(mode))?;
                    zip.write_all(bytes)?;
                }
                Entry::Link(to) => zip.add_symlink(path, to, options)?,
            }
        }
        Ok(zip.finish()?.flush()?)
    }
}

/// Levels above 9 are zopfli's iterations plus 9; a few iterations gain almost everything.
const ZOPFLI_LEVEL: i64 = 12;

/// The quickest.
const DEVELOPMENT_LEVEL: i64 = 1;

fn header(kind: tar::EntryType, size: u64, mode: u32, date: u32) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(mode);
    header.set_mtime(date.into());
    header.set_uid(0);
    header.set_gid(0);
    header
}

fn append(tar: &mut tar::Builder<impl Write>, mut header: tar::Header, path: &str, bytes: &[u8]) -> anyhow::Result<()> {
    Ok(tar.append_data(&mut header, path, bytes)?)
}

#[cfg(unix)]
fn is_executable(file: &Path) -> anyhow::Result<bool> {
    use std::os::unix::fs::PermissionsExt;
    Ok(fs::metadata(file)?.permissions().mode() & 0o100 != 0)
}

#[cfg(unix)]
fn set_mode(path: &Path, mode: u32) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(mode))?)
}

#[cfg(unix)]
fn link(to: &str, at: &Path) -> anyhow::Result<()> {
    Ok(std::os::unix::fs::symlink(to, at)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> Tree {
        let mut tree = Tree::default();
        tree.add("a/licence", "text");
        tree.add_executable("a/b/program", "code");
        tree.add_link("a/link", "b/program");
        tree
    }

    #[test]
    fn the_same_files_make_the_same_archives() {
        let release = Release::new(true).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let pack = |name: &str| {
            let (tar, zip) = (folder.path().join(format!("{name}.tar.xz")), folder.path().join(format!("{name}.zip")));
            tree().tar_xz(&release, Machine::X86_64, &tar).unwrap();
            tree().zip(&release, &zip).unwrap();
            (fs::read(tar).unwrap(), fs::read(zip).unwrap())
        };
        assert_eq!(pack("one"), pack("other"));
    }

    #[test]
    fn what_is_packed_comes_out_again() {
        let release = Release::new(true).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.tar.xz");
        tree().tar_xz(&release, Machine::X86_64, &file).unwrap();
        let xz = liblzma::read::XzDecoder::new(File::open(file).unwrap());
        tar::Archive::new(xz).unpack(folder.path()).unwrap();
        let mut unpacked = Tree::default();
        unpacked.add_folder("a", &folder.path().join("a")).unwrap();
        let paths = |tree: &Tree| tree.entries().map(|(path, _)| path.to_owned()).collect::<Vec<_>>();
        assert_eq!(paths(&unpacked), paths(&tree()));
        assert!(
            matches!(&unpacked.entries["a/b/program"], Entry::File { bytes, executable: true } if bytes == b"code")
        );
        assert!(matches!(&unpacked.entries["a/link"], Entry::Link(to) if to == "b/program"));
    }
}
