//! Runs other programs, and knows the repository's paths.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::LazyLock,
    time::Instant,
};

use anyhow::{Context, bail};

/// Start of the first step.
static STARTED: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The repository's root.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("this crate lies two folders below the root")
}

/// Cargo's build folder: `CARGO_TARGET_DIR` if set.
pub fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir))
}

/// Folder of the development profile's executables.
pub fn bin_dir() -> PathBuf {
    target_dir().join("debug")
}

/// Compiler flags that replace the paths of the repository, cargo's folder and the toolchain in executables: their bytes
/// then do not depend on the machine, and messages do not reveal who built them.
///
/// # Errors
/// When rustc does not run, or there is no home folder.
pub fn remapped_paths() -> anyhow::Result<Vec<String>> {
    let sysroot = output("rustc", &["--print", "sysroot"]).context("rustc does not answer")?;
    let cargo = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let cargo = cargo.or_else(|| Some(std::env::home_dir()?.join(".cargo"))).context("there is no home folder")?;
    // If several prefixes match, the compiler uses the last.
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
    // Cargo sets these for xtask itself. Some build scripts, such as ring's, rerun when they change, so every cargo
    // command outside of xtask would recompile everything that depends on them.
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")) {
            command.env_remove(name);
        }
    }
    command
}

/// The same command at the lowest priority, if the system has `nice`: concurrent tests have time limits.
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

/// Prints the next step and the time since the start.
pub fn step(what: &str) {
    println!("\n== {what} ({:.0} s so far)", STARTED.elapsed().as_secs_f32());
}

/// Runs a command to its end; prints it and how long it took.
///
/// # Errors
/// When the command cannot be started, or fails.
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

/// Output of a command; none if it fails or does not exist.
pub fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The command line as text.
pub fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
