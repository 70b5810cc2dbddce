//! An icon among those of the system's services, with the few things one wants of a worker that has no window.
//!
//! On Linux it is shown where the desktop has a status notifier; on Windows and macOS it has the program's first thread, which
//! is the one that may have to do with such things there. Built with `desktop`.

#[cfg_attr(all(target_os = "linux", feature = "desktop"), path = "tray/linux.rs")]
#[cfg_attr(all(any(windows, target_os = "macos"), feature = "desktop"), path = "tray/event_loop.rs")]
mod host;
#[cfg(feature = "desktop")]
mod icon;
#[cfg(feature = "desktop")]
mod menu;

pub(crate) use self::host::{Tray, beside};
