//! The executables, compiled on Linux for every system.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context;
use xtask::{
    run::{cargo, output, program, remapped_paths, root, run, step, target_dir},
    tools,
};

use crate::{macos, release::Release};

/// One of the two executables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    Worker,
    Server,
}

impl Program {
    /// The program's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Program::Worker => "chaarfm-worker",
            Program::Server => "chaarfm-server",
        }
    }

    /// The crate that contains it.
    pub(crate) fn package(self) -> &'static str {
        match self {
            Program::Worker => "chaarfm-worker-native",
            Program::Server => "chaarfm-server",
        }
    }

    /// A description in one line.
    pub(crate) fn summary(self) -> &'static str {
        match self {
            Program::Worker => "Turns music into MusicNN vectors for a ChaarFM coordinator",
            Program::Server => "Shares out a music library among ChaarFM workers",
        }
    }
}

/// A processor architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Machine {
    X86_64,
    Arm64,
}

impl Machine {
    /// Its name in the file names of a release.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Machine::X86_64 => "x86_64",
            Machine::Arm64 => "arm64",
        }
    }

    /// Its name in compilers and rpm.
    pub(crate) fn gnu(self) -> &'static str {
        match self {
            Machine::X86_64 => "x86_64",
            Machine::Arm64 => "aarch64",
        }
    }

    /// Its name in Debian and in containers.
    pub(crate) fn debian(self) -> &'static str {
        match self {
            Machine::X86_64 => "amd64",
            Machine::Arm64 => "arm64",
        }
    }
}

/// The C library that programs for Linux require: that of Debian 11.
pub(crate) const GLIBC: &str = "2.31";

/// A C compiler and linker for every system in a Python package, and the tool that makes cargo use it.
const ZIG_PACKAGES: [&str; 2] = ["ziglang==0.17.1", "cargo-zigbuild==0.24.1"];

/// Compiles the worker or the server for Linux, against Debian 11's C library. A statically linked program could not
/// load graphics drivers.
pub(crate) fn for_linux(release: &Release, program: Program, machine: Machine) -> anyhow::Result<PathBuf> {
    let triple = format!("{}-unknown-linux-gnu", machine.gnu());
    let mut command = cargo(&["zigbuild", "--target", &format!("{triple}.{GLIBC}")]);
    command.env("PATH", path_with_zig()?);
    compile(command, release, program, &triple, &[])
}

/// Compiles the worker or the server for Windows, with its icon and other resources.
pub(crate) fn for_windows(release: &Release, program: Program, resources: &Path) -> anyhow::Result<PathBuf> {
    let triple = "x86_64-pc-windows-gnu";
    let command = cargo(&["rustc", "--bin", program.name(), "--target", triple]);
    compile(command, release, program, triple, &["-C".to_owned(), format!("link-arg={}", resources.display())])
}

/// Compiles the worker for macOS, with the toolchain's linker and the stubs of the system's libraries.
pub(crate) fn for_macos(release: &Release, program: Program, machine: Machine) -> anyhow::Result<PathBuf> {
    let triple = format!("{}-apple-darwin", machine.gnu());
    let variable = triple.replace('-', "_");
    let tools = macos::tools(machine)?;
    let mut command = cargo(&["rustc", "--bin", program.name(), "--target", &triple]);
    command
        .env("SDKROOT", &tools.libraries)
        .env("MACOSX_DEPLOYMENT_TARGET", macos::MINIMUM)
        .env(format!("CARGO_TARGET_{}_LINKER", variable.to_uppercase()), "rust-lld")
        .env(format!("CC_{variable}"), &tools.compiler)
        .env(format!("AR_{variable}"), &tools.archiver);
    // No limit, so that all missing symbols are named at once.
    let flags =
        ["-adhoc_codesign", "-dead_strip", "--error-limit=0"].map(|flag| ["-C".to_owned(), format!("link-arg={flag}")]);
    compile(command, release, program, &triple, &flags.concat())
}

/// Compiles; `last` are flags for the executable only.
fn compile(
    mut command: Command,
    release: &Release,
    what: Program,
    triple: &str,
    last: &[String],
) -> anyhow::Result<PathBuf> {
    step(&format!("{} for {triple}", what.name()));
    add_standard_library(triple)?;
    // One package at a time, as otherwise cargo would unify the features of their common dependencies.
    command.args(["--package", what.package(), "--locked"]);
    if !release.development {
        command.args(["--release", "--config", "profile.release.strip='symbols'"]);
    }
    let remapped = remapped_paths()?;
    let flags: Vec<_> = remapped.iter().map(String::as_str).collect();
    command.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    command.env("SOURCE_DATE_EPOCH", release.date.to_string());
    if !last.is_empty() {
        command.arg("--").args(last);
    }
    run(&mut command)?;
    let profile = if release.development { "debug" } else { "release" };
    let name = if triple.contains("windows") { format!("{}.exe", what.name()) } else { what.name().to_owned() };
    Ok(target_dir().join(triple).join(profile).join(name))
}

/// Adds a target's standard library, unless it is installed.
fn add_standard_library(triple: &str) -> anyhow::Result<()> {
    let folder = output("rustc", &["--print", "target-libdir", "--target", triple]).context("rustc does not answer")?;
    if !Path::new(folder.trim()).exists() {
        run(&mut program("rustup", &["target", "add", triple]))?;
    }
    Ok(())
}

/// `PATH` with zig and cargo-zigbuild in front; installs them if missing.
fn path_with_zig() -> anyhow::Result<std::ffi::OsString> {
    let old = env::var_os("PATH").unwrap_or_default();
    Ok(env::join_paths(std::iter::once(zig_environment()?.join("bin")).chain(env::split_paths(&old)))?)
}

/// The Python environment with zig.
pub(crate) fn zig_environment() -> anyhow::Result<PathBuf> {
    tools::python_environment("zig", &ZIG_PACKAGES.join("\n"))
}

/// Reads an executable.
pub(crate) fn read(executable: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(executable).with_context(|| format!("{} cannot be read", executable.display()))
}

/// Reads a text file in the repository's root.
pub(crate) fn text(name: &str) -> anyhow::Result<String> {
    fs::read_to_string(root().join(name)).with_context(|| format!("{name} is missing"))
}
