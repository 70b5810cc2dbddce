//! What every target watches besides crashes: panics of ours, and memory.

use std::{alloc::System, panic, process};

use cap::Cap;

/// Live bytes at most: what a decoder and the scan may take of any file, and what libFuzzer itself needs.
const MAX_BYTES: usize = 80 << 20;

/// An allocation beyond the limit fails, which ends the process.
#[global_allocator]
static MEMORY: Cap<System> = Cap::new(System, MAX_BYTES);

/// Ends the process at a panic in a folder of ours. libFuzzer's own hook does at every panic, those that are caught included.
pub(crate) fn panics_in(folder: &'static str) {
    panic::set_hook(Box::new(move |info| {
        if info.location().is_some_and(|location| location.file().contains(folder)) {
            eprintln!("{info}");
            process::abort();
        }
    }));
}
