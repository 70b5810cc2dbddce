//! Running other programs, and where things are.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::LazyLock,
    time::Instant,
};

use anyhow::{Context, bail};

/// When the first step began.
static STARTED: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The repository's root.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("this crate lies two folders below the root")
}

/// Where cargo builds: `CARGO_TARGET_DIR` where it is set.
pub(crate) fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir))
}

/// The executables of the development profile.
pub(crate) fn bin_dir() -> PathBuf {
    target_dir().join("debug")
}

/// A cargo command in the root.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    program("cargo", arguments)
}

/// A command in the root.
pub(crate) fn program(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(root());
    command
}

/// Says what follows, and since when the command runs.
pub(crate) fn step(what: &str) {
    println!("\n== {what} ({:.0} s so far)", STARTED.elapsed().as_secs_f32());
}

/// Runs a command to its end, shows what and for how long.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    let line = describe(command);
    println!("$ {line}");
    let start = Instant::now();
    let status = command.status().with_context(|| format!("cannot start {line}"))?;
    println!("  {:.0} s", start.elapsed().as_secs_f32());
    if !status.success() {
        bail!("{line}: {status}");
    }
    Ok(())
}

/// What a command prints; none when it fails or is not there.
pub(crate) fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

pub(crate) fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
