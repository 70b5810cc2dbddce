//! Running other programs, and where things are.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::LazyLock,
    time::Instant,
};

use anyhow::{Context, bail};

/// When the first step began.
static STARTED: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The repository's root.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("this crate lies two folders below the root")
}

/// Where cargo builds: `CARGO_TARGET_DIR` where it is set.
pub fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir))
}

/// The executables of the development profile.
pub fn bin_dir() -> PathBuf {
    target_dir().join("debug")
}

/// Has the compiler write the same into an executable wherever the repository, cargo's folder and the toolchain are: neither
/// do the bytes depend on the machine then, nor do messages tell who built it.
///
/// # Errors
/// When there is no compiler, or cargo's folder is nowhere.
pub fn remapped_paths() -> anyhow::Result<Vec<String>> {
    let sysroot = output("rustc", &["--print", "sysroot"]).context("rustc does not answer")?;
    let cargo = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let cargo = cargo.or_else(|| Some(std::env::home_dir()?.join(".cargo"))).context("there is no home folder")?;
    // Of several that fit, the compiler takes the last.
    let places = [(cargo, "/cargo"), (PathBuf::from(sysroot.trim()), "/rust"), (root().to_owned(), "/chaarfm")];
    Ok(places.into_iter().map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display())).collect())
}

/// A cargo command in the root.
pub fn cargo(arguments: &[&str]) -> Command {
    program("cargo", arguments)
}

/// A command in the root.
pub fn program(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(root());
    // Cargo sets these for xtask itself. Some build scripts, such as ring's, run again when they change, so that each cargo
    // command outside of xtask would compile all that depends on them anew.
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")) {
            command.env_remove(name);
        }
    }
    command
}

/// The same command at the lowest priority, on systems that have a program for that: tests beside it have time limits.
pub fn gently(command: &Command) -> Command {
    let words = [command.get_program()].into_iter().chain(command.get_args());
    let mut nice = ["nice", "-n", "19"].into_iter().filter(|_| cfg!(unix)).map(OsStr::new).chain(words);
    let mut gentle = Command::new(nice.next().expect("a command has a program"));
    gentle.args(nice).current_dir(root());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => gentle.env(name, value),
            None => gentle.env_remove(name),
        };
    }
    gentle
}

/// Says what follows, and since when the command runs.
pub fn step(what: &str) {
    println!("\n== {what} ({:.0} s so far)", STARTED.elapsed().as_secs_f32());
}

/// Runs a command to its end, shows what and for how long.
///
/// # Errors
/// When it cannot be started, and when it fails.
pub fn run(command: &mut Command) -> anyhow::Result<()> {
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
pub fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The command's words.
pub fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
