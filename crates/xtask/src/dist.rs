//! What trunk built, made ready to be served: the browser workers in a folder named after their content, so that browsers
//! keep them for ever, and everything compressed, so that nobody compresses it again for each visitor.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use flate2::{Compression, write::GzEncoder};
use sha2::{Digest, Sha256};

use crate::run::root;

/// Files of the browser workers begin like this; trunk puts no hash into their names.
const WORKER: &str = "chaarfm-worker-web";

/// Where the page looks up the workers' folder, as written in `web/index.html`.
const FOLDER_MARK: &str = "name=\"browser-worker\" content=\"/\"";

/// Kinds of files that compression makes smaller.
const COMPRESSED: [&str; 5] = ["html", "js", "wasm", "css", "svg"];

/// Brotli's window, as a power of two: the largest that every browser takes.
const BROTLI_WINDOW_BITS: u32 = 22;

/// Size in bytes of what a tab fetches at first, compressed: page, script, style, program and weights.
const MAX_CPU_TAB_BYTES: u64 = 5_000_000;
const MAX_GPU_TAB_BYTES: u64 = 8_000_000;

/// Size in bytes of the native worker with its weights.
const MAX_NATIVE_WORKER_BYTES: u64 = 40_000_000;

/// Finishes `dist/`. `release` compresses as well as possible, which takes a while.
pub(crate) fn finish(release: bool) -> anyhow::Result<()> {
    name_workers()?;
    for file in files(&folder())? {
        if file.extension().is_some_and(|extension| COMPRESSED.iter().any(|known| extension == *known)) {
            compress(&file, release)?;
        }
    }
    Ok(())
}

/// Fails when a tab or the native worker has grown too large. Judges release builds; others carry what helps to debug.
pub(crate) fn check_sizes(native_worker: &Path) -> anyhow::Result<()> {
    let weights = fs::metadata(root().join("models/msd-musicnn.safetensors"))?.len();
    let (mut shared, mut cpu, mut gpu) = (weights, 0, 0);
    for file in files(&folder())?.into_iter().filter(|file| file.extension().is_some_and(|kind| kind == "br")) {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let bytes = fs::metadata(&file)?.len();
        match name.strip_prefix(WORKER) {
            None => shared += bytes,
            Some(rest) if rest.starts_with("-gpu") => gpu += bytes,
            Some(_) => cpu += bytes,
        }
    }
    let native = fs::metadata(native_worker).with_context(|| format!("{} is missing", native_worker.display()))?.len();
    let checks = [
        ("first download of a CPU tab", shared + cpu, MAX_CPU_TAB_BYTES),
        ("first download of a GPU tab", shared + gpu, MAX_GPU_TAB_BYTES),
        ("chaarfm-worker", native, MAX_NATIVE_WORKER_BYTES),
    ];
    for (what, bytes, limit) in checks {
        println!("{what}: {:.2} MB of at most {:.0} MB", bytes as f64 / 1e6, limit as f64 / 1e6);
    }
    if let Some((what, bytes, limit)) = checks.into_iter().find(|(_, bytes, limit)| bytes > limit) {
        bail!("{what}: {bytes} bytes are more than {limit}");
    }
    Ok(())
}

fn folder() -> PathBuf {
    root().join("dist")
}

/// Moves the workers into a folder of their own and tells the page.
fn name_workers() -> anyhow::Result<()> {
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
    let index = folder().join("index.html");
    let page = fs::read_to_string(&index)?;
    if page.matches(FOLDER_MARK).count() != 1 {
        bail!("web/index.html has no <meta {FOLDER_MARK} />");
    }
    Ok(fs::write(index, page.replace(FOLDER_MARK, &FOLDER_MARK.replace("\"/\"", &format!("\"/{hash}/\""))))?)
}

/// Puts `FILE.br` and `FILE.gz` beside a file.
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

/// Every file in a folder and its folders.
fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
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
