//! The release: what people install, for every system.
//!
//! Leaves out how each of it is made, which is `chaarfm-packaging`'s: its libraries would have every other command wait.

use std::ffi::OsString;

use crate::{
    build,
    packages::PACKAGING,
    run::{cargo, run},
};

/// Asks for executables of the development profile, so that packaging can be tried without an hour of compiling.
const DEVELOPMENT: &str = "--development";

/// Asks for everything to be tried; what makes it as well, which `cargo xtask test` leaves out.
const CHECK: &str = "--check";

/// The pages, which the server carries; then everything else.
pub(crate) fn dist(arguments: &[OsString]) -> anyhow::Result<()> {
    let only_says_something = arguments.iter().any(|argument| argument == "--help" || argument == "-h");
    let development = arguments.iter().any(|argument| argument == DEVELOPMENT);
    if !(only_says_something || development) {
        build::pages(true, true)?;
    }
    if arguments.iter().any(|argument| argument == CHECK) {
        run(&mut cargo(&["clippy", "--package", PACKAGING, "--all-targets", "--", "--deny", "warnings"]))?;
        run(&mut cargo(&["test", "--package", PACKAGING]))?;
    }
    run(cargo(&["run", "--quiet", "--package", PACKAGING, "--"]).args(arguments))
}
