//! What a person asks for when joining: the code, the device, the number of Web Workers.

use chaarfm_protocol::PairingCode;

/// Most Web Workers that may be requested. Each is a separate worker to the coordinator, and takes some 100 MB.
pub(crate) const MAX_WEB_WORKERS: u8 = 16;

/// Most Web Workers started by default: more would make a laptop's fans loud.
const MAX_DEFAULT_WEB_WORKERS: u8 = 4;

/// The device that the person wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeviceWish {
    Auto,
    Gpu,
    Cpu,
}

impl DeviceWish {
    /// All of them, in display order.
    pub(crate) const ALL: [Self; 3] = [Self::Auto, Self::Gpu, Self::Cpu];

    /// Its name in messages to Web Workers and in the page's address.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Gpu => "wgpu",
            Self::Cpu => "flex",
        }
    }

    /// Parses a name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|wish| wish.name() == name)
    }
}

/// The terms of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Terms {
    pub(crate) code: PairingCode,
    pub(crate) device: DeviceWish,
    /// Number of Web Workers on the CPU; a GPU needs only one.
    pub(crate) web_workers: u8,
}

impl Terms {
    /// The query of a page address with the same terms; empty if they are the defaults.
    pub(crate) fn query(&self, default_web_workers: u8) -> String {
        let device = (self.device != DeviceWish::Auto).then(|| format!("device={}", self.device.name()));
        let web_workers = (self.web_workers != default_web_workers).then(|| format!("workers={}", self.web_workers));
        let query = device.into_iter().chain(web_workers).collect::<Vec<_>>().join("&");
        if query.is_empty() { query } else { format!("?{query}") }
    }
}

/// Default number of Web Workers for this many cores: one core is left for the person's own use.
pub(crate) fn default_web_workers(cores: f64) -> u8 {
    // A browser that does not tell is assumed to have two cores.
    (cores.max(2.0) - 1.0).min(f64::from(MAX_DEFAULT_WEB_WORKERS)) as u8
}

/// Parses the number of Web Workers, and clamps it to the possible range.
pub(crate) fn read_web_workers(text: &str) -> Option<u8> {
    let number: u64 = text.trim().parse().ok()?;
    Some(number.clamp(1, u64::from(MAX_WEB_WORKERS)) as u8)
}

#[cfg(test)]
mod tests {
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn wishes_are_read_by_their_names() {
        for wish in DeviceWish::ALL {
            assert_eq!(DeviceWish::named(wish.name()), Some(wish));
        }
        assert_eq!(DeviceWish::named("toaster"), None);
    }

    #[test]
    fn a_core_is_left_for_whoever_sits_there() {
        let defaults = [0.0, 1.0, 2.0, 3.0, 5.0, 64.0, f64::NAN].map(default_web_workers);
        assert_eq!(defaults, [1, 1, 1, 2, 4, 4, 1]);
    }

    #[test]
    fn any_number_of_web_workers_becomes_a_possible_one() {
        assert_eq!(["0", "1", " 7 ", "999"].map(read_web_workers), [Some(1), Some(1), Some(7), Some(MAX_WEB_WORKERS)]);
        assert_eq!(["", "two", "-1", "1.5"].map(read_web_workers), [None; 4]);
    }

    #[test]
    fn an_address_says_only_what_is_not_chosen_unasked() {
        let terms = Terms { code: "K7Q-M4X-WDP".parse().unwrap(), device: DeviceWish::Auto, web_workers: 3 };
        assert_eq!(terms.query(3), "");
        assert_eq!(terms.query(1), "?workers=3");
        assert_eq!(Terms { device: DeviceWish::Cpu, ..terms }.query(3), "?device=flex");
        assert_eq!(Terms { device: DeviceWish::Cpu, ..terms }.query(4), "?device=flex&workers=3");
    }
}
