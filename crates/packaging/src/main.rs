//! `cargo xtask dist`: makes what people install, for every system, from one Linux machine, in the target folder's
//! `dist`.
//!
//! The templates of files installed beside the executables are in the folder `packaging`. The output depends only on
//! the commit: the same inputs give the same bytes.
#![expect(clippy::print_stdout, reason = "a command line program")]

mod check;
mod components;
mod container;
mod icons;
mod linux;
mod macos;
mod managers;
mod programs;
mod release;
mod sums;
mod template;
mod tree;
mod windows;

use clap::{Parser, ValueEnum};
use xtask::run::step;

use crate::{components::Components, programs::Machine, release::Release};

/// Makes everything that people install, for every system.
#[derive(Parser)]
#[command(name = "cargo xtask dist")]
struct Arguments {
    /// For which system, or for which package managers' manifests; may be given several times [default: all].
    #[arg(long = "target", value_enum)]
    targets: Vec<Target>,
    /// Then install, run and read back what was made, as far as Linux can.
    #[arg(long)]
    check: bool,
    /// Check what an earlier run has made.
    #[arg(long, conflicts_with = "check")]
    only_check: bool,
    /// Executables of the development profile, with whatever pages are there: quicker, far too large.
    #[arg(long, hide = true)]
    development: bool,
}

/// What can be made by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Target {
    #[value(name = "linux-x86_64")]
    LinuxX86_64,
    #[value(name = "linux-arm64")]
    LinuxArm64,
    #[value(name = "windows-x86_64")]
    WindowsX86_64,
    #[value(name = "macos-universal")]
    MacosUniversal,
    /// The manifests of package managers, of the files that are there.
    Managers,
}

fn main() -> anyhow::Result<()> {
    let Arguments { targets, check, only_check, development } = Arguments::parse();
    let chosen = if targets.is_empty() { Target::value_variants() } else { &targets };
    let release = Release::new(development)?;
    if !only_check {
        if targets.is_empty() {
            release.clear()?;
        }
        make(&release, chosen)?;
    }
    if check || only_check {
        check::check(&release, chosen)?;
    }
    Ok(())
}

fn make(release: &Release, targets: &[Target]) -> anyhow::Result<()> {
    step("licences and components");
    let components = Components::of_the_workspace()?;
    release.write(&release.file("chaarfm", "third-party-licences.txt"), components.licences(release)?)?;
    components.write_lists(release)?;
    for target in targets {
        match target {
            Target::LinuxX86_64 => linux::make(release, Machine::X86_64)?,
            Target::LinuxArm64 => linux::make(release, Machine::Arm64)?,
            Target::WindowsX86_64 => windows::make(release)?,
            Target::MacosUniversal => macos::make(release)?,
            Target::Managers => managers::make(release)?,
        }
    }
    sums::write(release)?;
    release.show()
}
