//! Builds a release: everything that users install, for every system.
//!
//! The packages themselves are made by `chaarfm-packaging`, a separate crate because its libraries would delay all other
//! commands.

use std::ffi::OsString;

use crate::{
    build, check,
    packages::PACKAGING,
    run::{cargo, run},
};

/// Flag: package executables of the development profile, so that packaging can be tried without an hour of compiling.
const DEVELOPMENT: &str = "--development";

/// Flag: check everything, including the packaging crate itself, which `cargo xtask test` leaves out.
const CHECK: &str = "--check";

/// Builds the pages, which the server embeds, then everything else.
pub(crate) fn dist(arguments: &[OsString]) -> anyhow::Result<()> {
    let only_says_something = arguments.iter().any(|argument| argument == "--help" || argument == "-h");
    let development = arguments.iter().any(|argument| argument == DEVELOPMENT);
    // First: it builds the pages as well, those for development.
    if arguments.iter().any(|argument| argument == CHECK) {
        check::test(Some("pages"))?;
        run(&mut cargo(&["clippy", "--package", PACKAGING, "--all-targets", "--", "--deny", "warnings"]))?;
        run(&mut cargo(&["test", "--package", PACKAGING]))?;
    }
    if !(only_says_something || development) {
        build::pages(true, true)?;
    }
    run(cargo(&["run", "--quiet", "--package", PACKAGING, "--"]).args(arguments))
}
