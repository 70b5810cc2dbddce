//! Shared by the repository's commands: running other programs, paths, groups of packages, and installing missing tools.
#![expect(clippy::print_stdout, reason = "a part of command line programs")]

pub mod packages;
pub mod run;
pub mod tools;
