//! An icon in the notification area, with the few commands that a worker without a window needs.
//!
//! On Linux the icon appears if the desktop has a status notifier. On Windows and macOS it takes the program's first
//! thread, because only that one may handle such events. Built with `desktop`.

#[cfg_attr(all(target_os = "linux", feature = "desktop"), path = "tray/linux.rs")]
#[cfg_attr(all(any(windows, target_os = "macos"), feature = "desktop"), path = "tray/event_loop.rs")]
mod host;
#[cfg(feature = "desktop")]
mod icon;
#[cfg(feature = "desktop")]
mod menu;

pub(crate) use self::host::{Tray, beside};
