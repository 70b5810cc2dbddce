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

/// Flag: build one target only.
const TARGET: &str = "--target";

/// Targets without a server: they do not need the pages.
const WITHOUT_PAGES: [&str; 2] = ["macos-universal", "managers"];

/// Builds the pages, if a server is among the targets, then everything else.
pub(crate) fn dist(arguments: &[OsString]) -> anyhow::Result<()> {
    let only_says_something = arguments.iter().any(|argument| argument == "--help" || argument == "-h");
    let development = arguments.iter().any(|argument| argument == DEVELOPMENT);
    if arguments.iter().any(|argument| argument == CHECK) {
        // Before the pages of the release, because this builds those for development in the same folder.
        check::test(Some("pages"))?;
        run(&mut cargo(&["clippy", "--package", PACKAGING, "--all-targets", "--", "--deny", "warnings"]))?;
        run(&mut cargo(&["test", "--package", PACKAGING]))?;
    }
    if !(only_says_something || development) && need_pages(arguments) {
        build::pages(true, true)?;
    }
    run(cargo(&["run", "--quiet", "--package", PACKAGING, "--"]).args(arguments))
}

/// Whether one of the targets has a server, which serves the pages.
fn need_pages(arguments: &[OsString]) -> bool {
    let words: Vec<_> = arguments.iter().map(|argument| argument.to_string_lossy()).collect();
    let before = words.windows(2).filter(|pair| pair[0] == TARGET).map(|pair| &*pair[1]);
    let within = words.iter().filter_map(|word| word.strip_prefix(TARGET)?.strip_prefix('='));
    let targets: Vec<_> = before.chain(within).collect();
    targets.is_empty() || targets.iter().any(|target| !WITHOUT_PAGES.contains(target))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_targets_with_a_server_need_the_pages() {
        let need_pages = |words: &str| need_pages(&words.split_whitespace().map(OsString::from).collect::<Vec<_>>());
        assert!(need_pages("--check"));
        assert!(need_pages("--target linux-x86_64"));
        assert!(need_pages("--target macos-universal --target=linux-arm64"));
        assert!(!need_pages("--target macos-universal --check"));
        assert!(!need_pages("--target=macos-universal --target managers"));
    }
}
