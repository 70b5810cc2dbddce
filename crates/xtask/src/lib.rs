//! What the repository's commands share: running other programs, where things are, which packages are built together, and
//! installing what is missing.
#![expect(clippy::print_stdout, reason = "a part of command line programs")]

pub mod packages;
pub mod run;
pub mod tools;
