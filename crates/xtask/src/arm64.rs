//! Tests the analysis and the worker for 64-bit ARM under qemu. It checks correctness, not speed.

use std::process::Command;

use crate::{
    run::{cargo, output, program, run},
    tools,
};

const TARGET: &str = "aarch64-unknown-linux-gnu";

/// Debian packages: a linker with the libraries, and the emulator.
const PACKAGES: [&str; 3] = ["gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross", "qemu-user"];

/// Compares the CPU trunk with the plain one, and every fixture with the peer's vector.
const TESTS: [&str; 2] = ["the_trunk_for_cpus_is_the_plain_one", "flex_agrees_with_the_peer_on_every_file"];

/// Builds and runs the tests.
pub(crate) fn arm64() -> anyhow::Result<()> {
    if output("qemu-aarch64", &["--version"]).is_none() || output("aarch64-linux-gnu-gcc", &["--version"]).is_none() {
        tools::install_packages(&PACKAGES)?;
    }
    run(&mut program("rustup", &["target", "add", TARGET]))?;
    for test in TESTS {
        let arguments = ["test", "--package", "chaarfm-analysis", "--features", "flex", "--tests", "--target", TARGET];
        run(emulated(&mut cargo(&arguments)).args(["--", test, "--nocapture"]))?;
    }
    let worker = ["run", "--package", "chaarfm-worker-native", "--no-default-features", "--target", TARGET, "--"];
    run(emulated(&mut cargo(&worker)).args(["analyze", "--device", "flex", "tests/fixtures/music/band.mp3"]))
}

fn emulated(command: &mut Command) -> &mut Command {
    command
        .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", "aarch64-linux-gnu-gcc")
        .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER", "qemu-aarch64 -L /usr/aarch64-linux-gnu")
        .env("CC_aarch64_unknown_linux_gnu", "aarch64-linux-gnu-gcc")
}
