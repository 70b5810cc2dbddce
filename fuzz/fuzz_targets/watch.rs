//! Checks of every target besides crashes: panics in this project's code, and memory.

use std::{alloc::System, panic, process};

use cap::Cap;

/// Maximum number of live bytes: the limit for a decoder or a scan on any file, plus libFuzzer's own needs.
const MAX_BYTES: usize = 80 << 20;

/// An allocation beyond the limit fails, which ends the process.
#[global_allocator]
static MEMORY: Cap<System> = Cap::new(System, MAX_BYTES);

/// Ends the process on a panic in the given folder. libFuzzer's own hook would also end it on panics that are caught.
pub(crate) fn panics_in(folder: &'static str) {
    panic::set_hook(Box::new(move |info| {
        if info.location().is_some_and(|location| location.file().contains(folder)) {
            eprintln!("{info}");
            process::abort();
        }
    }));
}
