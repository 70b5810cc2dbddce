//! Shared parts of the programs' `doctor` commands: a report of checks, its output, and checks for any machine.
//!
//! Leaves out checks of only one program, such as those of devices or libraries.

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

/// Time limit for probes that answer at once on a working machine.
pub const QUICK: Duration = Duration::from_secs(10);
