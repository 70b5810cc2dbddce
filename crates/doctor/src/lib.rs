//! What the programs' `doctor` commands share: a report of checks, how it is told, and what there is to check on any machine.
//!
//! Leaves out what only one of the programs has, such as devices or libraries.

mod check;
mod clock;
mod disk;
mod machine;
mod open_files;
mod report;
mod secrets;
mod tools;

pub use check::{Check, State, blocking, within};
pub use clock::{clock, http_date};
pub use disk::folder;
pub use machine::{memory, system};
pub use open_files::open_files;
pub use report::Report;
pub use secrets::Secrets;
pub use tools::tools;

use std::time::Duration;

/// Longest probe of what answers at once on a machine that works.
pub const QUICK: Duration = Duration::from_secs(10);
