//! macOS tells of the last input. Whether the network is metered it tells programs in Swift and Objective-C only.

use std::time::Duration;

use user_idle2::UserIdle;

#[derive(Default)]
pub(super) struct Session;

impl Session {
    pub(super) fn idle(&mut self) -> Option<Duration> {
        UserIdle::get_time().ok().map(|idle| idle.duration())
    }

    pub(super) fn is_metered(&mut self) -> Option<bool> {
        None
    }
}
