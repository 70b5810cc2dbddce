//! Downloads a release's executable into a file beside the installed one.

use std::{env::consts::EXE_SUFFIX, fmt::Write as _, path::Path, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use ring::digest;
use tempfile::TempPath;
use tokio::{fs::File, io::AsyncWriteExt, time::timeout};
use url::Url;

use super::release::{Build, plain};
use crate::network::Network;

/// Largest executable, in bytes.
const MAX_BYTES: u64 = 256 << 20;

/// Longest wait for the next piece.
const STALL_LIMIT_SECONDS: u64 = 60;

/// Downloads an executable into a temporary file in `folder`, so that it can replace the installed one in one step. The
/// file is deleted when the path is dropped.
///
/// # Errors
/// When it does not arrive completely, its size or hash differs from the announced one, or there is no room for it.
pub(super) async fn fetch(network: &Network, release: &Url, build: &Build, folder: &Path) -> Result<TempPath> {
    let url = release.join(&build.url).with_context(|| format!("{} is no address", build.url))?;
    ensure!(build.size <= MAX_BYTES, "the executable has {} bytes; the limit is {MAX_BYTES}", build.size);
    let not_kept = || {
        format!(
            "the executable cannot be kept in {}: update as somebody who may write there, or make room",
            folder.display()
        )
    };
    let named = tempfile::Builder::new().prefix(".chaarfm-worker-").suffix(EXE_SUFFIX).tempfile_in(folder);
    let (file, path) = named.with_context(not_kept)?.into_parts();
    let mut file = File::from_std(file);
    let mut hash = digest::Context::new(&digest::SHA256);
    let mut received = 0;
    let limit = Duration::from_secs(STALL_LIMIT_SECONDS);
    let stalled = || format!("{url} stopped arriving for {STALL_LIMIT_SECONDS} s");
    let broken = || format!("{url} did not arrive");
    let request = network.http_following()?.get(url.clone()).send();
    let mut response = timeout(limit, request).await.with_context(stalled)?.map_err(plain).with_context(broken)?;
    if !response.status().is_success() {
        bail!("{url}: the answer was HTTP status {}", response.status());
    }
    while let Some(piece) =
        timeout(limit, response.chunk()).await.with_context(stalled)?.map_err(plain).with_context(broken)?
    {
        received += piece.len() as u64;
        ensure!(received <= build.size, "{url} has more than the {} bytes that the release says", build.size);
        hash.update(&piece);
        file.write_all(&piece).await.with_context(not_kept)?;
    }
    ensure!(received == build.size, "{url} has {received} of the {} bytes that the release says", build.size);
    let hash = hexadecimal(hash.finish().as_ref());
    ensure!(
        hash.eq_ignore_ascii_case(&build.sha256),
        "{url} is not the file that the release says: its SHA-256 is {hash}"
    );
    file.sync_all().await.with_context(not_kept)?;
    // A file that is open for writing cannot be executed.
    drop(file.into_std().await);
    Ok(path)
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes every text");
        text
    })
}
