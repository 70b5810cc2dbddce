//! macOS tells the time since the last input. Only Swift and Objective-C programs can learn whether the network is
//! metered.

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
