//! The ways for workers to join the session: the code, the link, its QR code, the command line.

use chaarfm_api::AdvertisedAddressView;
use chaarfm_protocol::KeyPin;
use fast_qr::{ECL, QRBuilder};
use leptos::prelude::*;

use super::Control;
use crate::parts::{CopyField, Notice};

/// Light modules that a QR code needs around itself.
const QUIET_ZONE_MODULES: usize = 4;

#[component]
pub(crate) fn Invite() -> impl IntoView {
    let control = expect_context::<Control>();
    let origin = location().origin().expect("a page has an origin");
    let host = location().hostname().unwrap_or_default();
    let port = location().port().ok().filter(|port| !port.is_empty()).unwrap_or_else(|| "80".into());
    let code = Memo::new(move |_| control.shared().map(|invitation| invitation.code.to_string()).unwrap_or_default());
    let is_nobody_invited = move || code.with(String::is_empty);
    let way_in = control.pick(move |view| way_in(&host, view.advertised.as_ref()));
    let base = Memo::new(move |_| match way_in.get() {
        WayIn::Elsewhere(origin) => origin,
        WayIn::Here | WayIn::Unknown(_) | WayIn::Nowhere(_) => origin.clone(),
    });
    let pin = control.pick(|view| pin_suffix(view.advertised.as_ref()));
    let link = Memo::new(move |_| vec![base.get(), join_path(&code.get()), pin.get()]);
    let command = Signal::derive(move || {
        let url = format!("--url {}{} ", base.get(), pin.get());
        vec!["chaarfm-worker ".into(), url, format!("--code {}", code.get())]
    });
    let note = move || match way_in.get() {
        WayIn::Here => None,
        // With TLS, browsers on all machines may use the GPU.
        WayIn::Elsewhere(origin) if origin.starts_with("https:") => None,
        WayIn::Elsewhere(_) => Some(view! { <ThisComputerNote code /> }.into_any()),
        WayIn::Unknown(host) => Some(view! { <AddressNote host port=port.clone() /> }.into_any()),
        WayIn::Nowhere(host) => Some(view! { <LoopbackNote host port=port.clone() /> }.into_any()),
    };
    view! {
        <section class="card invite">
            <h2>"Invite workers"</h2>
            <Show when=is_nobody_invited>
                <Notice tone="info">
                    <p id="nobody-invited">"No invitation lets in anybody new: make one below, or give one a new code."</p>
                </Notice>
            </Show>
            <div class="code-display">
                <CopyField label="Pairing code" id="session-code" pieces=Signal::derive(move || vec![code.get()]) />
            </div>
            <div class="invite-link">
                <div class="qr">{move || qr(&link.get().concat())}</div>
                <p class="hint">"Scan it with a phone, or open the link in any browser. Nothing needs installing."</p>
            </div>
            <CopyField label="Join link" id="join-link" pieces=link />
            <CopyField label="Native worker" id="worker-command" pieces=command />
            {note}
        </section>
    }
}

/// The address at which workers on other machines reach the coordinator.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
enum WayIn {
    /// The address of this page.
    #[default]
    Here,
    /// Another address, because this page's host name (such as localhost) works on this computer only.
    Elsewhere(String),
    /// An address that the coordinator does not know.
    Unknown(String),
    /// None: the coordinator listens to this computer only.
    Nowhere(String),
}

fn way_in(host: &str, reach: Option<&AdvertisedAddressView>) -> WayIn {
    match reach {
        _ if !is_loopback(host) => WayIn::Here,
        Some(AdvertisedAddressView { origin: Some(origin), .. }) => WayIn::Elsewhere(origin.clone()),
        Some(AdvertisedAddressView { loopback_only: false, .. }) => WayIn::Unknown(host.to_owned()),
        // An older coordinator does not say; most of those listen to this computer only.
        Some(_) | None => WayIn::Nowhere(host.to_owned()),
    }
}

/// The end of a link by which native workers recognise a self-signed certificate.
fn pin_suffix(reach: Option<&AdvertisedAddressView>) -> String {
    let pin = reach.and_then(|reach| reach.pin.as_ref());
    pin.map(|pin| format!("#{}{pin}", KeyPin::LINK_NAME)).unwrap_or_default()
}

fn join_path(code: &str) -> String {
    format!("/join/{code}")
}

/// Browsers deny GPU and threads to pages over plain HTTP, unless they come from the computer itself.
#[component]
fn ThisComputerNote(code: Memo<String>) -> impl IntoView {
    view! {
        <p class="hint">
            "To lend this computer, "
            <a id="join-here" href=move || join_path(&code.get()) target="_blank">"join from here"</a>
            ": by the link above its browser would not use the GPU."
        </p>
    }
}

/// Warns that the address works on this computer only, before it is scanned.
#[component]
fn LoopbackNote(host: String, port: String) -> impl IntoView {
    view! {
        <Notice tone="info">
            <p id="loopback-note">
                "Phones and other machines cannot reach " <code>{host}</code> ". Start the server with "
                <code class="piece">{format!("--listen 0.0.0.0:{port}")}</code> " and open this page by the machine’s own address, such as "
                <code class="piece">{example(&port)}</code> "."
            </p>
        </Notice>
    }
}

/// The same warning, with the address at which the server could be reached.
#[component]
fn AddressNote(host: String, port: String) -> impl IntoView {
    view! {
        <Notice tone="info">
            <p id="address-note">
                "Phones and other machines cannot reach " <code>{host}</code> ". Open this page by the machine’s own address, such as "
                <code class="piece">{example(&port)}</code> "."
            </p>
        </Notice>
    }
}

fn example(port: &str) -> String {
    format!("http://192.168.1.20:{port}/ingest")
}

/// The link as a QR code. Always dark on light, because some scanners cannot read the reverse.
fn qr(text: &str) -> Option<impl IntoView + use<>> {
    let (modules, path) = qr_path(text)?;
    let size = modules + 2 * QUIET_ZONE_MODULES;
    Some(view! {
        <svg viewBox=format!("0 0 {size} {size}") role="img" aria-label="QR code of the join link" shape-rendering="crispEdges">
            <rect width=size height=size fill="#fff" />
            <path d=path fill="#1d1814" />
        </svg>
    })
}

/// Modules a side, and the dark ones as an SVG path: one stroke of 1 module's height for each run in a row.
/// None for a text too long for a QR code.
fn qr_path(text: &str) -> Option<(usize, String)> {
    let code = QRBuilder::new(text).ecl(ECL::M).build().ok()?;
    let mut path = String::new();
    for y in 0..code.size {
        let row = &code[y];
        let mut x = 0;
        while x < code.size {
            let run = row[x..code.size].iter().take_while(|module| module.value()).count();
            if run > 0 {
                path += &format!("M{} {}h{run}v1h-{run}z", x + QUIET_ZONE_MODULES, y + QUIET_ZONE_MODULES);
            }
            x += run + 1;
        }
    }
    Some((code.size, path))
}

/// Whether a host name means this computer itself.
fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.ends_with(".localhost") || host.starts_with("127.") || host == "[::1]"
}

#[cfg(test)]
mod tests {
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn loopback_addresses_are_known() {
        for host in ["localhost", "music.localhost", "127.0.0.1", "127.1.2.3", "[::1]"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["192.168.1.20", "music.example", "localhost.example", "0.0.0.0"] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn the_link_is_one_that_works_on_other_machines_where_there_is_one() {
        let reach = |loopback_only, origin: Option<&str>| AdvertisedAddressView {
            loopback_only,
            origin: origin.map(str::to_owned),
            pin: None,
        };
        let (known, unknown) = (reach(false, Some("http://192.168.1.20:8080")), reach(false, None));
        assert_eq!(way_in("localhost", Some(&known)), WayIn::Elsewhere("http://192.168.1.20:8080".into()));
        assert_eq!(way_in("music.example", Some(&known)), WayIn::Here, "a proxy's address is better");
        assert_eq!(way_in("localhost", Some(&unknown)), WayIn::Unknown("localhost".into()));
        for reach in [None, Some(&reach(true, None))] {
            assert_eq!(way_in("127.0.0.1", reach), WayIn::Nowhere("127.0.0.1".into()));
        }
    }

    /// Converts the path back into modules and compares them with the library's.
    #[test]
    fn the_path_paints_exactly_the_dark_modules() {
        let text = "http://192.168.1.20:8080/join/K7Q-M4X-WDP";
        let (size, path) = qr_path(text).unwrap();
        let mut painted = vec![vec![false; size]; size];
        for stroke in path.split('z').filter(|stroke| !stroke.is_empty()) {
            let (at, lengths) = stroke[1..].split_once('h').unwrap();
            let (x, y) = at.split_once(' ').unwrap();
            let run: usize = lengths.split('v').next().unwrap().parse().unwrap();
            let (x, y): (usize, usize) = (x.parse().unwrap(), y.parse().unwrap());
            for module in &mut painted[y - QUIET_ZONE_MODULES][x - QUIET_ZONE_MODULES..][..run] {
                assert!(!*module, "painted twice");
                *module = true;
            }
        }
        let code = QRBuilder::new(text).ecl(ECL::M).build().unwrap();
        for (y, row) in painted.iter().enumerate() {
            for (x, module) in row.iter().enumerate() {
                assert_eq!(*module, code[y][x].value(), "module {x} {y}");
            }
        }
    }

    #[test]
    fn a_text_that_no_qr_code_holds_has_none() {
        assert_eq!(qr_path(&"x".repeat(10_000)), None);
    }
}
