//! Prepares trunk's output for serving. The browser workers move into a folder named after their content, so that browsers
//! can cache them forever. Everything is compressed in advance, so that the server need not compress it for each visitor.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use flate2::{Compression, write::GzEncoder};
use sha2::{Digest, Sha256};

use crate::run::{root, target_dir};

/// Prefix of the browser workers' files; trunk puts no hash into their names.
pub(crate) const WORKER: &str = "chaarfm-worker-web";

/// Where trunk initially puts the program for the GPU.
pub(crate) const GPU: &str = "dist/gpu";

/// Cargo's folder names for the profiles.
pub(crate) const RELEASE_PROFILE: &str = "release";
const DEVELOPMENT_PROFILE: &str = "debug";

/// Tells the page the workers' folder and the available programs, as written in `web/index.html`.
const FOLDER_MARK: &str = "name=\"browser-worker\" content=\"/\" data-programs=\"flex\"";

/// Kinds of files worth compressing.
const COMPRESSED: [&str; 5] = ["html", "js", "wasm", "css", "svg"];

/// Brotli's window, as a power of two: the largest that every browser accepts.
const BROTLI_WINDOW_BITS: u32 = 22;

/// Finishes `dist/`. With `release`, compression is as strong as possible, which takes a while.
pub(crate) fn finish(release: bool, gpu: bool) -> anyhow::Result<()> {
    name_workers(gpu)?;
    for file in files(&folder())? {
        if file.extension().is_some_and(|extension| COMPRESSED.iter().any(|known| extension == *known)) {
            compress(&file, release)?;
        }
    }
    note_profile(release)
}

/// Records the profile that `dist/` was built with.
fn note_profile(release: bool) -> anyhow::Result<()> {
    fs::create_dir_all(target_dir())?;
    Ok(fs::write(profile_note(), if release { RELEASE_PROFILE } else { DEVELOPMENT_PROFILE })?)
}

/// The profile that `dist/` was built with, [`RELEASE_PROFILE`] or [`DEVELOPMENT_PROFILE`]; none if nothing has been built yet.
pub(crate) fn profile() -> Option<String> {
    fs::read_to_string(profile_note()).ok()
}

fn profile_note() -> PathBuf {
    target_dir().join("pages-profile")
}

/// Where trunk puts the pages.
pub(crate) fn folder() -> PathBuf {
    root().join("dist")
}

/// Moves the workers into their own folder and writes its name into the page.
fn name_workers(gpu: bool) -> anyhow::Result<()> {
    let mut workers: Vec<_> = files(&folder())?;
    workers.retain(|file| file.file_name().is_some_and(|name| name.to_string_lossy().starts_with(WORKER)));
    workers.sort();
    let mut hash = Sha256::new();
    for file in &workers {
        hash.update(fs::read(file)?);
    }
    let hash: String = hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let own = folder().join(&hash);
    fs::create_dir_all(&own)?;
    for file in workers {
        fs::rename(&file, own.join(file.file_name().context("a file has a name")?))?;
    }
    if gpu {
        fs::remove_dir_all(root().join(GPU))?;
    }
    let index = folder().join("index.html");
    let page = fs::read_to_string(&index)?;
    if page.matches(FOLDER_MARK).count() != 1 {
        bail!("web/index.html has no <meta {FOLDER_MARK} />");
    }
    let mark = FOLDER_MARK.replace("\"/\"", &format!("\"/{hash}/\""));
    let mark = if gpu { mark.replace("\"flex\"", "\"flex wgpu\"") } else { mark };
    Ok(fs::write(index, page.replace(FOLDER_MARK, &mark))?)
}

/// Writes `FILE.br` and `FILE.gz` next to a file.
fn compress(file: &Path, release: bool) -> anyhow::Result<()> {
    let bytes = fs::read(file)?;
    let (brotli, gzip) = if release { (11, Compression::best()) } else { (1, Compression::fast()) };
    let beside = |extension: &str| PathBuf::from(format!("{}.{extension}", file.display()));
    let mut packed = Vec::new();
    brotli::CompressorWriter::new(&mut packed, 1 << 16, brotli, BROTLI_WINDOW_BITS).write_all(&bytes)?;
    fs::write(beside("br"), packed)?;
    let mut packed = GzEncoder::new(Vec::new(), gzip);
    packed.write_all(&bytes)?;
    Ok(fs::write(beside("gz"), packed.finish()?)?)
}

/// Every file in a folder and its subfolders.
pub(crate) fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("{} cannot be read", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(self::files(&path)?);
        } else {
            files.push(path);
        }
    }
    Ok(files)
}
