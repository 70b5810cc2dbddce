//! Linux tells over D-Bus: GNOME's shell the time since the last input, logind since when none of its sessions has been
//! used, NetworkManager the kind of network.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use zbus::{
    blocking::{Connection, connection::Builder},
    zvariant::OwnedValue,
};

/// A service that does not answer within this time counts as silent.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// NetworkManager's `NMMetered` values, from its API documentation: certain and guessed ones.
const METERED: [u32; 2] = [1, 3];
const NOT_METERED: [u32; 2] = [2, 4];

/// The bus connections, once they are open.
#[derive(Default)]
pub(super) struct Session {
    user: Option<Connection>,
    system: Option<Connection>,
}

impl Session {
    pub(super) fn idle(&mut self) -> Option<Duration> {
        self.idle_in_gnome().or_else(|| self.idle_in_logind())
    }

    fn idle_in_gnome(&mut self) -> Option<Duration> {
        if self.user.is_none() {
            self.user = Builder::session().and_then(|bus| bus.method_timeout(ANSWER_LIMIT).build()).ok();
        }
        let (name, path) = ("org.gnome.Mutter.IdleMonitor", "/org/gnome/Mutter/IdleMonitor/Core");
        let answer = self.user.as_ref()?.call_method(Some(name), path, Some(name), "GetIdletime", &());
        answer.ok()?.body().deserialize().ok().map(Duration::from_millis)
    }

    fn idle_in_logind(&mut self) -> Option<Duration> {
        let manager = ["org.freedesktop.login1", "/org/freedesktop/login1", "org.freedesktop.login1.Manager"];
        if !bool::try_from(self.property(manager, "IdleHint")?).ok()? {
            return Some(Duration::ZERO);
        }
        let since = Duration::from_micros(u64::try_from(self.property(manager, "IdleSinceHint")?).ok()?);
        SystemTime::now().duration_since(UNIX_EPOCH + since).ok()
    }

    pub(super) fn is_metered(&mut self) -> Option<bool> {
        let name = "org.freedesktop.NetworkManager";
        let metered = self.property([name, "/org/freedesktop/NetworkManager", name], "Metered")?;
        let metered = u32::try_from(metered).ok()?;
        if METERED.contains(&metered) {
            Some(true)
        } else if NOT_METERED.contains(&metered) {
            Some(false)
        } else {
            None
        }
    }

    /// A property of an object on the system bus: service, path, interface.
    fn property(&mut self, [service, path, interface]: [&str; 3], name: &str) -> Option<OwnedValue> {
        if self.system.is_none() {
            self.system = Builder::system().and_then(|bus| bus.method_timeout(ANSWER_LIMIT).build()).ok();
        }
        let get = (interface, name);
        let properties = Some("org.freedesktop.DBus.Properties");
        let answer = self.system.as_ref()?.call_method(Some(service), path, properties, "Get", &get);
        answer.ok()?.body().deserialize().ok()
    }
}
