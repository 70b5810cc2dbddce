//! The native worker as an alternative to the tab: the file for the visitor's system, that system's warning about it,
//! and how it joins. Nothing is shown if the coordinator offers no programs.

use chaarfm_api::{DownloadView, Packing, System};
use chaarfm_protocol::PairingCode;
use chaarfm_worker::Address;
use leptos::prelude::*;

use crate::{api, format, parts::CopyField};

/// Offers the programs, with the join command once the code is valid.
#[component]
pub(super) fn Program(#[prop(into)] code: Signal<Option<PairingCode>>) -> impl IntoView {
    let downloads = LocalResource::new(api::downloads);
    let agent = window().navigator().user_agent().unwrap_or_default();
    // A coordinator that does not answer, or an older one, offers none; the tab does the same work.
    let offered = move || downloads.get().and_then(Result::ok).filter(|list| !list.is_empty());
    move || {
        let own = system_of(&agent);
        offered().map(|list| {
            let (here, elsewhere) = parted(list, own);
            view! {
                <details class="card program" id="program">
                    <summary>"Or install the program: it is faster than a tab, and works in the background"</summary>
                    {(!here.is_empty()).then(|| view! { <Offer files=here code /> })}
                    {others(elsewhere, code)}
                </details>
            }
        })
    }
}

/// The files for other systems, initially hidden.
fn others(files: Vec<Vec<DownloadView>>, code: Signal<Option<PairingCode>>) -> Option<impl IntoView> {
    let offers = files.into_iter().map(|files| view! { <Offer files code /> }).collect_view();
    (!offers.is_empty()).then(|| {
        view! {
            <details class="other-systems">
                <summary>"For other systems"</summary>
                {offers}
            </details>
        }
    })
}

/// The files for one system.
#[component]
fn Offer(files: Vec<DownloadView>, code: Signal<Option<PairingCode>>) -> impl IntoView {
    let first = files[0].clone();
    let system = first.system;
    view! {
        <section class="offer" data-system=system.name()>
            <h2>{format!("For {}", system.name())}</h2>
            <ul class="files">{files.into_iter().map(file).collect_view()}</ul>
            <p class="hint warning-words">{warning(system)}</p>
            <Joining first code />
        </section>
    }
}

fn file(file: DownloadView) -> impl IntoView {
    let processor = file.processor.as_deref().map(processor).unwrap_or_default();
    view! {
        <li>
            <a class="download" href=file.url download rel="external">{packing(file.packing)}</a>
            <span class="hint">{format!("{processor}{}, version {}", format::bytes(file.bytes), file.version)}</span>
            <span class="hint checksum">"SHA-256 " <code>{file.sha256}</code></span>
        </li>
    }
}

/// How the program joins after it is installed.
#[component]
fn Joining(first: DownloadView, code: Signal<Option<PairingCode>>) -> impl IntoView {
    // The link may have brought the pin of the coordinator's certificate behind its `#`.
    let here = location().origin().unwrap_or_default() + &location().hash().unwrap_or_default();
    let address: Option<Address> = here.parse().ok();
    let id = match first.system {
        System::Windows => "command-windows",
        System::Macos => "command-macos",
        System::Linux => "command-linux",
    };
    let command = Signal::derive({
        let url = address.as_ref().map(ToString::to_string).unwrap_or_default();
        move || {
            let code = code.get().map(|code| code.to_string()).unwrap_or_default();
            let start = start(&first);
            let join = [format!("--url {url} "), format!("--code {code}")];
            start.into_iter().chain(join).collect::<Vec<String>>()
        }
    });
    let link = Signal::derive(move || {
        let code = code.get()?;
        Some((address.as_ref()?.program_link(&code), format!("Open the program with {code}")))
    });
    view! {
        <Show
            when=move || code.get().is_some()
            fallback=|| view! { <p class="hint">"Enter the code above, and here will be how the program joins with it."</p> }
        >
            {move || link.get().map(|(link, label)| {
                view! {
                    <p>
                        <a class="button quiet program-link" href=link rel="external">{label}</a>
                    </p>
                }
            })}
            <CopyField label="Or in a terminal" id=id pieces=command />
        </Show>
    }
}

/// Separates the files for the visitor's own system from those for each other system.
fn parted(list: Vec<DownloadView>, own: Option<System>) -> (Vec<DownloadView>, Vec<Vec<DownloadView>>) {
    let (here, elsewhere): (Vec<_>, Vec<_>) = list.into_iter().partition(|file| Some(file.system) == own);
    // The coordinator sends them sorted by system.
    let others = elsewhere.chunk_by(|a, b| a.system == b.system).map(<[DownloadView]>::to_vec).collect();
    (here, others)
}

/// The system in a browser's user agent. None for phones and tablets, for which there are no programs.
fn system_of(agent: &str) -> Option<System> {
    let says = |word| agent.contains(word);
    if says("Android") || says("iPhone") || says("iPad") || says("CrOS") {
        None
    } else if says("Windows") {
        Some(System::Windows)
    } else if says("Macintosh") {
        Some(System::Macos)
    } else {
        says("Linux").then_some(System::Linux)
    }
}

fn packing(packing: Packing) -> &'static str {
    match packing {
        Packing::Setup => "Installer",
        Packing::Msi => "MSI, for administrators",
        Packing::Dmg => "Disk image",
        Packing::AppImage => "AppImage",
        Packing::Deb => "Package for Debian, Ubuntu",
        Packing::Rpm => "Package for Fedora, openSUSE",
        Packing::Archive => "Archive",
        Packing::Executable => "Bare executable",
    }
}

fn processor(name: &str) -> &'static str {
    match name {
        "x86_64" => "for Intel and AMD, ",
        "aarch64" => "for 64-bit ARM, ",
        _ => "",
    }
}

/// The system's warning about a program from an unknown publisher, in its own words, and how to run it nevertheless.
fn warning(system: System) -> &'static str {
    match system {
        System::Windows => {
            "Windows may say “Windows protected your PC: Microsoft Defender SmartScreen prevented an unrecognized app from \
             starting”. Press “More info”, then “Run anyway”. If the browser says that the file “isn’t commonly downloaded”, \
             choose “Keep”."
        }
        System::Macos => {
            "macOS may say “Apple could not verify “ChaarFM Worker” is free of malware that may harm your Mac or compromise \
             your privacy”. Press “Done”, open System Settings → Privacy & Security, and press “Open Anyway” there."
        }
        System::Linux => {
            "Linux does not warn. Compare the SHA-256 with what sha256sum says of the file. An AppImage or a bare executable \
             has to be made one first: chmod +x and its name."
        }
    }
}

/// Beginning of the command: runs a bare file, or names an installed program.
fn start(file: &DownloadView) -> Vec<String> {
    let name = &file.name;
    match (file.system, file.packing) {
        (System::Linux, Packing::AppImage | Packing::Executable) => {
            vec![format!("chmod +x {name} "), format!("&& ./{name} ")]
        }
        (System::Linux, Packing::Deb) => vec![format!("sudo apt install ./{name} "), "&& chaarfm-worker ".into()],
        (System::Linux, Packing::Rpm) => vec![format!("sudo dnf install ./{name} "), "&& chaarfm-worker ".into()],
        (System::Macos, _) => vec!["open -a \"ChaarFM Worker\" ".into(), "--args ".into()],
        (System::Windows, Packing::Executable) => vec![format!(".\\{name} ")],
        _ => vec!["chaarfm-worker ".into()],
    }
}

#[cfg(test)]
mod tests {
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn a_browser_says_its_system() {
        for (agent, system) in [
            ("Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/130.0", Some(System::Windows)),
            ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) Safari/605.1.15", Some(System::Macos)),
            ("Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0", Some(System::Linux)),
            ("Mozilla/5.0 (Linux; Android 14; Pixel 8) Chrome/130.0 Mobile", None),
            ("Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) Mobile", None),
            ("Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) Chrome/130.0", None),
            ("", None),
        ] {
            assert_eq!(system_of(agent), system, "{agent}");
        }
    }

    fn offered(name: &str, system: System, packing: Packing) -> DownloadView {
        DownloadView {
            name: name.into(),
            url: format!("/downloads/{name}"),
            version: "0.2.0".into(),
            system,
            processor: None,
            packing,
            bytes: 1,
            sha256: "00".into(),
        }
    }

    #[test]
    fn the_visitors_own_system_comes_first_and_the_others_each_by_itself() {
        let list = vec![
            offered("a.exe", System::Windows, Packing::Setup),
            offered("b.dmg", System::Macos, Packing::Dmg),
            offered("c.zip", System::Macos, Packing::Archive),
            offered("d.deb", System::Linux, Packing::Deb),
        ];
        let (here, others) = parted(list.clone(), Some(System::Macos));
        assert_eq!((here.len(), others.len()), (2, 2));
        let (here, others) = parted(list, None);
        assert_eq!((here.len(), others.iter().map(Vec::len).collect::<Vec<_>>()), (0, vec![1, 2, 1]));
    }

    #[test]
    fn the_command_fits_the_file() {
        let command = |file: DownloadView| start(&file).concat();
        assert_eq!(command(offered("w-0.2.0", System::Linux, Packing::Executable)), "chmod +x w-0.2.0 && ./w-0.2.0 ");
        assert_eq!(command(offered("w.exe", System::Windows, Packing::Setup)), "chaarfm-worker ");
    }
}
