//! Building: the pages with the browser worker, the executables, the models.

use std::{path::Path, process::Command};

use crate::{
    dist,
    run::{cargo, program, root, run},
    sizes, tools,
};

/// Crates for the browser only.
pub(crate) const WEB_CRATES: [&str; 2] = ["chaarfm-web", "chaarfm-worker-web"];

/// The programs for the browser: package and features. The worker is one program for the CPU and one for the GPU.
pub(crate) const WEB_PROGRAMS: [&[&str]; 3] = [
    &["--package", "chaarfm-web"],
    &["--package", "chaarfm-worker-web", "--features", "cpu"],
    &["--package", "chaarfm-worker-web", "--features", "gpu"],
];

/// Has cargo see the programs that measure as well.
pub(crate) const MEASURE: [&str; 2] = ["--features", "chaarfm-tests/measure"];

/// The pages, then the executables that carry them.
pub(crate) fn build(release: bool) -> anyhow::Result<()> {
    pages(release)?;
    if !release {
        return run(&mut native(&["build", "--bins"]));
    }
    run(&mut native_release(&["build", "--release", "--bin", "chaarfm-server"]))?;
    // Alone, or it would carry what only the server wants of the libraries that both have.
    run(&mut without_symbols(cargo(&["build", "--release", "--package", "chaarfm-worker-native"])))?;
    sizes::check()
}

/// The pages and the browser worker, into `dist/`.
pub(crate) fn pages(release: bool) -> anyhow::Result<()> {
    tools::install_build_tools()?;
    let mut command = program("trunk", &["build"]);
    if release {
        command.arg("--release");
    }
    // trunk takes NO_COLOR for a flag of its own and stops at "1".
    run(command.env("PATH", tools::path()?).env_remove("NO_COLOR"))?;
    dist::finish(release)
}

/// A cargo command for everything but the browser's crates. All native commands select the same packages, so that cargo
/// unifies features the same way and compiles each dependency once.
pub(crate) fn native(arguments: &[&str]) -> Command {
    let mut command = cargo(&arguments[..1]);
    command.arg("--workspace").args(WEB_CRATES.iter().flat_map(|name| ["--exclude", name])).args(&arguments[1..]);
    command
}

/// [`native`] in the release profile.
pub(crate) fn native_release(arguments: &[&str]) -> Command {
    without_symbols(native(arguments))
}

/// Not said in the profile itself: WASM needs a section that goes with the symbols.
fn without_symbols(mut command: Command) -> Command {
    command.args(["--config", "profile.release.strip='symbols'"]);
    command
}

/// Rebuilds `models/` from exported checkpoints.
pub(crate) fn models(from: &Path) -> anyhow::Result<()> {
    let from = std::path::absolute(from)?;
    run(cargo(&["run", "--package", "chaarfm-analysis", "--features", "flex", "--example", "convert_models", "--"])
        .arg(from)
        .arg(root().join("models")))
}
