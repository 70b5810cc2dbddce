//! All checks of continuous integration, as a whole and in parts.

use std::{path::Path, process::Command};

use anyhow::bail;

use crate::{
    borders,
    build::{MEASURE, WEB_FEATURES, pages, side_by_side, web},
    bundle, cycles, first_look,
    packages::{BINDGEN, PACKAGING, PROGRAMS_AND_TESTS, WEB_CRATES, native},
    run,
    run::{cargo, root, step},
    sizes, suites, tools,
};

/// Time limit of a WASM test in seconds: the GPU is emulated on the CPU.
const WASM_TEST_TIMEOUT_SECONDS: u32 = 900;

/// The end-to-end tests: name of the part, and name of the crate.
const END_TO_END: (&str, &str) = ("end-to-end", "chaarfm-tests");

/// Checks format, the crates' borders, module cycles, licences and sources of all crates, clippy for native and WASM,
/// documentation, and the sizes of the build outputs.
pub(crate) fn lint() -> anyhow::Result<()> {
    run::run(&mut cargo(&["fmt", "--all", "--check"]))?;
    borders::check()?;
    cycles::check()?;
    // Skips the advisories, which need the network; `cargo deny check` includes them.
    match run::output("cargo", &["deny", "--version"]) {
        Some(_) => run::run(&mut cargo(&["deny", "--offline", "check", "licenses", "sources"]))?,
        None => println!("left out: licences and sources, as cargo-deny is not installed"),
    }
    run::run(&mut run::gently(native(&["clippy", "--all-targets"]).args(MEASURE).args(["--", "--deny", "warnings"])))?;
    // The GPU program only adds kernels that the native build also contains, so checking the CPU program suffices.
    run::run(&mut run::gently(web("clippy", WEB_FEATURES[0]).args(["--all-targets", "--", "--deny", "warnings"])))?;
    run::run(&mut run::gently(native(&["doc", "--no-deps"]).args(MEASURE).env("RUSTDOCFLAGS", "--deny warnings")))?;
    sizes::check()
}

/// Tests everything, or one part: `lint`, `pages` (trunk's, compared with those of a first look), `web` (WASM tests in a browser), `end-to-end`, or a crate by its folder's name.
pub(crate) fn test(part: Option<&str>) -> anyhow::Result<()> {
    match part {
        None => everything(),
        Some("lint") => lint(),
        Some("pages") => {
            pages(false, true)?;
            first_look::check()
        }
        Some("web") => {
            tools::install_wasm_target()?;
            tools::install_wasm_bindgen()?;
            tools::install_browser()?;
            web_tests()
        }
        Some(part) if [END_TO_END.0, "tests"].contains(&part) => {
            pages_for_tests()?;
            tools::install_test_tools()?;
            run::run(&mut native(&PROGRAMS_AND_TESTS))?;
            suites::one_by_one(suites::build(native(&[]), |package| package == END_TO_END.1)?)
        }
        Some(part) => {
            let package = package(part)?;
            pages_for_tests()?;
            tools::install_test_tools()?;
            suites::side_by_side(suites::build(native(&[]), |name| name == package)?)
        }
    }
}

/// Runs every test and lint. The pages are built first, because the server serves them.
fn everything() -> anyhow::Result<()> {
    run::run(&mut cargo(&["fmt", "--all", "--check"]))?;
    step("the executables and what browsers run; meanwhile wasm-bindgen and what the tests need");
    tools::install_wasm_target()?;
    let tools = || tools::install_wasm_bindgen().and_then(|()| tools::install_test_tools());
    side_by_side(tools, || {
        run::run(&mut native(&PROGRAMS_AND_TESTS))?;
        run::run(&mut cargo(&["build", "--package", BINDGEN]))?;
        run::run(&mut web("build", WEB_FEATURES[0]))?;
        run::run(web("build", WEB_FEATURES[1]).args(["--bin", first_look::GPU_WORKER]))
    })?;
    step("the pages, packed");
    first_look::pages(true)?;
    step("the tests");
    let suites = suites::build(native(&[]), |_| true)?;
    let (end_to_end, others) = suites.into_iter().partition(|suite| suite.package == END_TO_END.1);
    step(
        "the tests of each crate, then the end-to-end tests; meanwhile lint, as many of them wait more than they work",
    );
    side_by_side(lint, || {
        suites::side_by_side(others)?;
        suites::one_by_one(end_to_end)
    })?;
    step("the tests in a browser");
    web_tests()
}

fn web_tests() -> anyhow::Result<()> {
    let [cpu, gpu] = WEB_FEATURES;
    run::run(&mut in_browser(web("test", cpu))?)?;
    // The pages are the same with both programs, so only the GPU test runs here.
    run::run(in_browser(web("test", gpu))?.args(["--test", "gpu"]))
}

/// The server needs pages to compile; any version will do.
fn pages_for_tests() -> anyhow::Result<()> {
    if bundle::folder().join("index.html").exists() {
        return Ok(());
    }
    tools::install_wasm_target()?;
    run::run(&mut cargo(&["build", "--package", BINDGEN]))?;
    run::run(&mut web("build", WEB_FEATURES[0]))?;
    first_look::pages(false)
}

/// The package in a folder of `crates/` or of the root.
fn package(folder: &str) -> anyhow::Result<String> {
    let is_crate = |path: &str| root().join(path).join(folder).join("Cargo.toml").exists();
    let name = if folder == "xtask" { folder.to_owned() } else { format!("chaarfm-{folder}") };
    if !(is_crate("crates") || is_crate("")) || WEB_CRATES.contains(&&*name) || [BINDGEN, PACKAGING].contains(&&*name) {
        bail!("there is no part {folder}: there are lint, pages, web, {}, and each crate by its folder", END_TO_END.0);
    }
    Ok(name)
}

/// Runs WASM tests in headless Chromium, whose flags are in each crate's `webdriver.json`.
fn in_browser(mut command: Command) -> anyhow::Result<Command> {
    command
        .env("PATH", tools::path()?)
        .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUNNER", "wasm-bindgen-test-runner")
        .env("CHROMEDRIVER", which("chromedriver"))
        .env("WASM_BINDGEN_TEST_TIMEOUT", WASM_TEST_TIMEOUT_SECONDS.to_string())
        .current_dir(root());
    Ok(command)
}

fn which(program: &str) -> String {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths)
        .map(|folder| folder.join(program))
        .find(|path| Path::exists(path))
        .map_or_else(|| program.to_owned(), |path| path.to_string_lossy().into_owned())
}
