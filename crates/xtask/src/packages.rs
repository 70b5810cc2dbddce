//! Groups of packages that are built together.

use std::process::Command;

use crate::run::cargo;

/// Crates only for the browser.
pub const WEB_CRATES: [&str; 2] = ["chaarfm-web", "chaarfm-worker-web"];

/// Has many libraries that no other crate needs. `cargo xtask dist --check` lints and tests it.
pub const PACKAGING: &str = "chaarfm-packaging";

/// Replaces wasm-bindgen's program for first looks.
pub const BINDGEN: &str = "chaarfm-bindgen";

/// Built by one command: test-only dependencies may change features, and cargo would then compile the programs' libraries
/// twice.
pub const PROGRAMS_AND_TESTS: [&str; 3] = ["build", "--bins", "--tests"];

/// A cargo command for everything but the browser's crates, [`BINDGEN`] and [`PACKAGING`]. All native commands select the same
/// packages, so that cargo unifies features the same way and compiles each dependency once.
pub fn native(arguments: &[&str]) -> Command {
    let (subcommand, arguments) = arguments.split_first().unwrap_or((&"test", &[]));
    let mut command = cargo(&[subcommand]);
    let others = WEB_CRATES.iter().chain([&BINDGEN, &PACKAGING]);
    command.arg("--workspace").args(others.flat_map(|name| ["--exclude", name])).args(arguments);
    command
}
