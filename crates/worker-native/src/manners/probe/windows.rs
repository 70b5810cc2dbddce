//! Windows tells the time since the last input, and whether its owner has marked the network as metered.

use std::time::Duration;

use user_idle2::UserIdle;
use windows::Networking::Connectivity::{NetworkCostType, NetworkInformation};

#[derive(Default)]
pub(super) struct Session;

impl Session {
    pub(super) fn idle(&mut self) -> Option<Duration> {
        UserIdle::get_time().ok().map(|idle| idle.duration())
    }

    pub(super) fn is_metered(&mut self) -> Option<bool> {
        let cost = NetworkInformation::GetInternetConnectionProfile().and_then(|profile| profile.GetConnectionCost());
        match cost.and_then(|cost| cost.NetworkCostType()).ok()? {
            NetworkCostType::Unrestricted => Some(false),
            NetworkCostType::Fixed | NetworkCostType::Variable => Some(true),
            _ => None,
        }
    }
}
