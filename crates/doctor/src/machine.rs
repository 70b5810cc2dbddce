//! The system and its memory.

use std::env::consts::{ARCH, OS};

use sysinfo::{MemoryRefreshKind, System};

use crate::{Check, disk::size};

/// With less free memory than this the system may kill the analysis of a track.
const SCARCE_BYTES: u64 = 256 << 20;

/// The system that the program runs on.
#[must_use]
pub fn system() -> Check {
    let name = System::long_os_version().unwrap_or_else(|| OS.to_owned());
    let kernel = System::kernel_version().map(|kernel| format!(", kernel {kernel}")).unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    Check::ok("system", format!("{name}{kernel}, {ARCH}, {cores} cores"))
}

/// Total and free memory.
#[must_use]
pub fn memory() -> Check {
    const NAME: &str = "memory";
    let mut system = System::new();
    system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
    let (total, free) = (system.total_memory(), system.available_memory());
    // A container may have less than the machine it runs on.
    let (total, free) = match system.cgroup_limits() {
        Some(limits) if limits.total_memory < total => (limits.total_memory, limits.free_memory),
        _ => (total, free),
    };
    let found = format!("{} free of {}", size(free), size(total));
    if total == 0 {
        Check::warning(NAME, "unknown", "look at the memory by other means")
    } else if free < SCARCE_BYTES {
        Check::warning(NAME, found, "end programs that take much of it")
    } else {
        Check::ok(NAME, found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_a_system_and_memory() {
        assert!(system().found.contains(ARCH));
        assert!(memory().found.contains(" free of "), "{:?}", memory());
    }
}
