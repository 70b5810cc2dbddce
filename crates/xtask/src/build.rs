//! Building: the pages with the browser worker, the executables, the models.

use std::{path::Path, process::Command, thread};

use crate::{
    bundle, first_look,
    packages::{BINDGEN, WEB_CRATES, native},
    run::{cargo, program, remapped_paths, root, run, step},
    sizes, tools,
};

/// Features of [`WEB_CRATES`] with which there is a program of the browser worker each.
pub(crate) const WEB_FEATURES: [&str; 2] = ["chaarfm-web/cpu", "chaarfm-web/gpu"];

/// Where cargo looks for what the compiler of the browser's programs is told.
const WASM_FLAGS: &str = "CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS";

/// Has cargo see the programs that measure as well.
pub(crate) const MEASURE: [&str; 2] = ["--features", "chaarfm-tests/measure"];

/// The coordinator, and the native worker without what takes long to compile.
const FOR_A_FIRST_LOOK: [&str; 5] =
    ["--package", "chaarfm-server", "--package", "chaarfm-worker-native", "--no-default-features"];

/// The pages, a coordinator and a worker for it; with `gpu` also the programs for graphics cards, and the pages by trunk.
pub(crate) fn for_a_first_look(gpu: bool) -> anyhow::Result<()> {
    tools::install_wasm_target()?;
    if gpu {
        step("1 of 2: the coordinator and the worker, also for the GPU; meanwhile trunk, which packs the pages");
        side_by_side(tools::install_build_tools, || first_look_programs(&["--features", "chaarfm-worker-native/gpu"]))?;
        step("2 of 2: the pages and the browser worker, also for the GPU");
        pages(false, true)?;
        return Ok(());
    }
    step("1 of 3: the coordinator and the worker");
    first_look_programs(&["--package", BINDGEN])?;
    step("2 of 3: the pages and the browser worker");
    run(&mut web("build", WEB_FEATURES[0]))?;
    step("3 of 3: all that packed");
    first_look::pages()
}

fn first_look_programs(features: &[&str]) -> anyhow::Result<()> {
    run(cargo(&["build"]).args(FOR_A_FIRST_LOOK).args(features))
}

/// Two things of which neither keeps all cores busy.
pub(crate) fn side_by_side(
    one: impl FnOnce() -> anyhow::Result<()> + Send,
    other: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    thread::scope(|scope| {
        let one = scope.spawn(one);
        let other = other();
        other.and(one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

/// The pages, then the executables, which carry them in a release.
pub(crate) fn build(release: bool) -> anyhow::Result<()> {
    pages(release, true)?;
    if !release {
        return run(&mut native(&["build", "--bins"]));
    }
    run(&mut native_release(&["build", "--release", "--bin", "chaarfm-server"]))?;
    // Alone, or it would carry what only the server wants of the libraries that both have.
    run(&mut without_symbols(cargo(&["build", "--release", "--package", "chaarfm-worker-native"])))?;
    sizes::check()
}

/// The pages and the browser worker, into `dist/`.
pub(crate) fn pages(release: bool, gpu: bool) -> anyhow::Result<()> {
    tools::install_build_tools()?;
    trunk(release, &[])?;
    if gpu {
        trunk(release, &["web/gpu.html", "--dist", bundle::GPU])?;
    }
    bundle::finish(release, gpu)
}

fn trunk(release: bool, arguments: &[&str]) -> anyhow::Result<()> {
    let mut command = program("trunk", &["build"]);
    command.args(arguments);
    if release {
        // In addition to those in `.cargo/config.toml`.
        command.arg("--release").env(WASM_FLAGS, remapped_paths()?.join(" "));
    }
    // trunk takes NO_COLOR for a flag of its own and stops at "1".
    run(command.env("PATH", tools::path()?).env_remove("NO_COLOR"))
}

/// A cargo command for the browser's crates.
pub(crate) fn web(subcommand: &str, features: &str) -> Command {
    let mut command = cargo(&[subcommand, "--target", tools::WASM]);
    command.args(WEB_CRATES.iter().flat_map(|name| ["--package", name])).args(["--features", features]);
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
