//! What the repository's commands share: running other programs, where things are, and installing what is missing.
#![expect(clippy::print_stdout, reason = "a part of command line programs")]

pub mod run;
pub mod tools;
