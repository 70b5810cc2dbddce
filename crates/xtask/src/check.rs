//! What continuous integration checks.

use std::{path::Path, process::Command};

use crate::{
    build::{MEASURE, WEB_PROGRAMS, native, pages},
    run::{cargo, root, run},
    sizes,
    tools::{self, WASM},
};

/// Seconds one WASM test may take: the GPU there is emulated on the CPU.
const WASM_TEST_TIMEOUT_SECONDS: u32 = 900;

/// Format, clippy for native and WASM, documentation, sizes of what was built.
pub(crate) fn lint() -> anyhow::Result<()> {
    run(&mut cargo(&["fmt", "--all", "--check"]))?;
    run(native(&["clippy", "--all-targets"]).args(MEASURE).args(["--", "--deny", "warnings"]))?;
    for web_program in WEB_PROGRAMS {
        run(cargo(&["clippy", "--target", WASM, "--all-targets"])
            .args(web_program)
            .args(["--", "--deny", "warnings"]))?;
    }
    run(native(&["doc", "--no-deps"]).args(MEASURE).env("RUSTDOCFLAGS", "--deny warnings"))?;
    sizes::check()
}

/// Lint, then every test. The pages come first: the server carries them.
pub(crate) fn test() -> anyhow::Result<()> {
    run(&mut cargo(&["fmt", "--all", "--check"]))?;
    pages(false)?;
    tools::install_test_tools()?;
    run(&mut native(&["build", "--bins"]))?;
    // Without the examples, which clippy compiles, and the tests in documentation, of which there are none.
    run(&mut native(&["test", "--tests"]))?;
    for web_program in WEB_PROGRAMS {
        let mut command = cargo(&["test", "--target", WASM]);
        command.args(web_program);
        run(&mut in_browser(command)?)?;
    }
    lint()
}

/// Runs WASM tests in headless Chromium; its flags are in each crate's `webdriver.json`.
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
