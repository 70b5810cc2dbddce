//! Installs, runs and inspects what was made, as far as that is possible on Linux: Debian releases in folders, with
//! their systemd where services are tested; Windows by Wine; macOS by inspecting its files.

mod container;
mod linux;
mod macos;
mod session;
mod signature;
mod texts;
mod windows;

use std::{collections::BTreeMap, env, fs, path::PathBuf};

use anyhow::{Context, bail};
use serde_json::Value;
use xtask::run::{root, step};

use crate::{Target, make, programs::Machine, release::Release, sums};

/// Smallest cosine accepted between a vector and the reference.
const LEAST_COSINE: f64 = 0.9999;

/// Files whose vectors are compared.
const FIXTURES: [&str; 2] = ["band.mp3", "band.flac"];

/// Runs all checks of these systems.
pub(crate) fn check(release: &Release, targets: &[Target]) -> anyhow::Result<()> {
    step("check: texts and lists");
    texts::check(release)?;
    for target in targets {
        step(&format!("check: {target:?}"));
        match target {
            Target::LinuxX86_64 => {
                linux::check(release)?;
                container::check(release)?;
            }
            Target::LinuxArm64 => linux::check_arm64(release)?,
            Target::WindowsX86_64 => windows::check(release)?,
            Target::MacosUniversal => macos::check(release)?,
            Target::Managers => texts::check_managers(release)?,
        }
    }
    step("check: the same again");
    same_again(release, targets)
}

/// Packs everything once more and compares the bytes. The executables are reused: to verify that compiling is
/// reproducible, one has to compile on two machines.
fn same_again(release: &Release, targets: &[Target]) -> anyhow::Result<()> {
    let hashes = || -> anyhow::Result<BTreeMap<PathBuf, String>> {
        release.files()?.into_iter().map(|file| Ok((file.clone(), sums::sha256(&file)?))).collect()
    };
    let first = hashes()?;
    make(release, targets)?;
    let second = hashes()?;
    let differing: Vec<_> = first.iter().filter(|(file, hash)| second.get(*file) != Some(hash)).collect();
    if !differing.is_empty() {
        bail!("these differ from one time to the next: {differing:?}");
    }
    println!("{} files, the same bytes", first.len());
    Ok(())
}

/// The path of a fixture on this machine.
fn fixture(name: &str) -> PathBuf {
    root().join("tests/fixtures/music").join(name)
}

/// Compares what `chaarfm-worker analyze --json` printed with the reference.
fn compare_vectors(printed: &str) -> anyhow::Result<()> {
    let golden: Value = serde_json::from_slice(&fs::read(root().join("tests/fixtures/golden.json"))?)?;
    let lines: Vec<Value> =
        printed.lines().map(serde_json::from_str).collect::<Result<_, _>>().context(printed.to_owned())?;
    if lines.len() != FIXTURES.len() {
        bail!("{} lines for {} files: {printed}", lines.len(), FIXTURES.len());
    }
    for line in lines {
        let path = line["file"].as_str().context("a line names its file")?;
        let name = path.rsplit(['/', '\\']).next().unwrap_or(path);
        let cosine = cosine(&numbers(&line["embedding"])?, &numbers(&golden[name]["embedding"])?);
        println!("{name}: cosine {cosine:.6} to the reference, on {}", line["device"]);
        if cosine.is_nan() || cosine < LEAST_COSINE {
            bail!("{name}: the vector is not the reference's");
        }
    }
    Ok(())
}

fn numbers(list: &Value) -> anyhow::Result<Vec<f64>> {
    let list = list.as_array().with_context(|| format!("{list} is no vector"))?;
    Ok(list.iter().filter_map(Value::as_f64).collect())
}

fn cosine(a: &[f64], b: &[f64]) -> f64 {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// Fails when an executable contains the path where it was built.
fn tells_no_path(name: &str, executable: &[u8]) -> anyhow::Result<()> {
    let home = env::home_dir().context("there is no home folder")?;
    for place in [root().to_owned(), home.join(".cargo"), home.join(".rustup")] {
        let place = place.to_string_lossy().into_owned();
        if executable.windows(place.len()).any(|bytes| bytes == place.as_bytes()) {
            bail!("{name} has {place} inside");
        }
    }
    Ok(())
}

/// The processor that this machine is assumed to have.
const HERE: Machine = Machine::X86_64;
