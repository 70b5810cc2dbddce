//! Builds the pages with the browser worker, the executables, and the models.

use std::{path::Path, process::Command, thread};

use crate::{
    bundle, first_look,
    packages::{BINDGEN, WEB_CRATES, native},
    run::{cargo, program, remapped_paths, root, run, step},
    sizes, tools,
};

/// Features of [`WEB_CRATES`]; each builds one program of the browser worker.
pub(crate) const WEB_FEATURES: [&str; 2] = ["chaarfm-web/cpu", "chaarfm-web/gpu"];

/// The variable that holds the compiler flags for the browser programs.
const WASM_FLAGS: &str = "CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS";

/// Includes the measuring programs in a cargo command.
pub(crate) const MEASURE: [&str; 2] = ["--features", "chaarfm-tests/measure"];

/// The coordinator, and the native worker without the features that take long to compile.
const FOR_A_FIRST_LOOK: [&str; 5] =
    ["--package", "chaarfm-server", "--package", "chaarfm-worker-native", "--no-default-features"];

/// Builds the pages, a coordinator and a worker. With `gpu`, also builds the programs for graphics cards, and trunk
/// builds the pages.
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
    first_look::pages(false)
}

fn first_look_programs(features: &[&str]) -> anyhow::Result<()> {
    run(cargo(&["build"]).args(FOR_A_FIRST_LOOK).args(features))
}

/// Runs two tasks in parallel; neither keeps all cores busy on its own.
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

/// Builds the pages, then the executables; a release embeds the pages.
pub(crate) fn build(release: bool) -> anyhow::Result<()> {
    pages(release, true)?;
    if !release {
        return run(&mut native(&["build", "--bins"]));
    }
    run(&mut native_release(&["build", "--release", "--bin", "chaarfm-server"]))?;
    // Built separately, because in a joint build the shared libraries would also get features that only the server needs.
    run(&mut without_symbols(cargo(&["build", "--release", "--package", "chaarfm-worker-native"])))?;
    sizes::check()
}

/// Builds the pages and the browser worker into `dist/`.
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
        // Adds to the flags in `.cargo/config.toml`.
        command.arg("--release").env(WASM_FLAGS, remapped_paths()?.join(" "));
    }
    // trunk interprets NO_COLOR as its own flag and rejects "1".
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

/// Not set in the profile itself: WASM needs a section that would be stripped together with the symbols.
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
