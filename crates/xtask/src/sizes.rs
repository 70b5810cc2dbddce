//! Size limits for downloads. Development builds have separate budgets: they are far larger, but they are what CI builds,
//! and anything that makes a release grow makes them grow as well.

use std::fs;

use anyhow::{Context, bail};

use crate::{
    bundle,
    run::{root, target_dir},
};

/// Sizes in bytes.
struct Budget {
    /// A tab's first download, compressed: page, script, style, program and weights.
    cpu_tab: u64,
    gpu_tab: u64,
    /// `chaarfm-worker` with its weights.
    native_worker: u64,
}

const RELEASE: Budget = Budget { cpu_tab: 5_000_000, gpu_tab: 6_000_000, native_worker: 30_000_000 };
const DEVELOPMENT: Budget = Budget { cpu_tab: 8_000_000, gpu_tab: 11_000_000, native_worker: 180_000_000 };

/// Fails if a tab or the native worker exceeds its budget.
pub(crate) fn check() -> anyhow::Result<()> {
    let Some(built) = bundle::profile() else {
        println!("sizes: nothing has been built yet, so there is nothing to judge");
        return Ok(());
    };
    let budget = if built == bundle::RELEASE_PROFILE { RELEASE } else { DEVELOPMENT };
    let (cpu_tab, gpu_tab) = tabs()?;
    let worker = target_dir().join(&built).join("chaarfm-worker");
    let native = fs::metadata(&worker).with_context(|| format!("{} is missing", worker.display()))?.len();
    let checks = [
        ("first download of a CPU tab", cpu_tab, budget.cpu_tab),
        ("first download of a GPU tab", gpu_tab, budget.gpu_tab),
        ("chaarfm-worker", native, budget.native_worker),
    ];
    for (what, bytes, limit) in checks {
        println!("{built}: {what}: {:.2} MB of at most {:.0} MB", bytes as f64 / 1e6, limit as f64 / 1e6);
    }
    match checks.into_iter().find(|(_, bytes, limit)| bytes > limit) {
        Some((what, bytes, limit)) => bail!("{what}: {bytes} bytes are more than {limit}"),
        None => Ok(()),
    }
}

/// The initial download of a tab that computes on the CPU, and of one that uses the GPU.
fn tabs() -> anyhow::Result<(u64, u64)> {
    let weights = fs::metadata(root().join("models/msd-musicnn.safetensors"))?.len();
    let (mut shared, mut cpu, mut gpu) = (weights, 0, 0);
    for file in bundle::files(&bundle::folder())? {
        if file.extension().is_none_or(|extension| extension != "br") {
            continue;
        }
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let bytes = fs::metadata(&file)?.len();
        match name.strip_prefix(bundle::WORKER) {
            None => shared += bytes,
            Some(rest) if rest.starts_with("-gpu") => gpu += bytes,
            Some(_) => cpu += bytes,
        }
    }
    Ok((shared + cpu, shared + gpu))
}
