//! The machine's condition, as far as the system tells.
//!
//! | | Linux | Windows | macOS |
//! |---|---|---|---|
//! | idle | GNOME's shell, else logind's hint; built with `desktop` | the last input | the last input |
//! | battery | yes | yes | yes |
//! | metered | NetworkManager; built with `desktop` | yes | not told |
//! | temperature | the kernel's sensors | where the firmware tells | yes |

#[cfg_attr(all(target_os = "linux", feature = "desktop"), path = "probe/linux.rs")]
#[cfg_attr(windows, path = "probe/windows.rs")]
#[cfg_attr(target_os = "macos", path = "probe/macos.rs")]
mod session;

use std::time::Duration;

use starship_battery::{Manager, State};
use sysinfo::Components;

use self::session::Session;

/// A machine that can be asked. Each answer is none if the system does not tell; an answer may take a second or two.
pub(crate) trait Machine: Send {
    /// Time since the last mouse or keyboard input.
    fn idle(&mut self) -> Option<Duration>;

    /// Whether it runs on battery now.
    fn is_on_battery(&mut self) -> Option<bool>;

    /// Whether the network connection is metered.
    fn is_metered(&mut self) -> Option<bool>;

    /// Temperature of its hottest sensor.
    fn celsius(&mut self) -> Option<f32>;
}

/// This machine.
#[derive(Default)]
pub(super) struct ThisMachine {
    session: Session,
    sensors: Components,
}

impl Machine for ThisMachine {
    fn idle(&mut self) -> Option<Duration> {
        self.session.idle()
    }

    fn is_on_battery(&mut self) -> Option<bool> {
        let batteries = Manager::new().and_then(|manager| manager.batteries());
        let mut states = batteries.ok()?.map(|battery| battery.map(|battery| battery.state()));
        states.try_fold(false, |any, state| Some(any || state.ok()? == State::Discharging))
    }

    fn is_metered(&mut self) -> Option<bool> {
        self.session.is_metered()
    }

    fn celsius(&mut self) -> Option<f32> {
        let forget_the_vanished = true;
        self.sensors.refresh(forget_the_vanished);
        if self.sensors.list().is_empty() {
            self.sensors = Components::new_with_refreshed_list();
        }
        self.sensors.list().iter().filter_map(|sensor| sensor.temperature()).reduce(f32::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_machine_can_be_asked() {
        let mut machine = ThisMachine::default();
        for _ in 0..2 {
            let celsius = machine.celsius();
            assert!(celsius.is_none_or(|celsius| (-50.0..150.0).contains(&celsius)), "{celsius:?}");
            let told = (machine.idle().is_some(), machine.is_on_battery().is_some(), machine.is_metered().is_some());
            // A condition that was told once must be told again.
            let again = (machine.idle().is_some(), machine.is_on_battery().is_some(), machine.is_metered().is_some());
            assert_eq!(told, again);
        }
    }
}
