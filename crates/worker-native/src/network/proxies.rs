//! The proxies configured in the environment and in the system.

use std::{env, sync::Arc};

use base64::{Engine, prelude::BASE64_STANDARD};
use http::Uri;
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use url::{Host, Url};

/// Default port of SOCKS proxies.
pub(super) const SOCKS_PORT: u16 = 1080;

/// Environment variables that may contain a proxy's address; lower case works as well.
const VARIABLES: [&str; 3] = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"];

/// Chooses proxies according to `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`, also in lower case, and to the
/// settings of Windows and macOS. This machine itself is always reached directly.
pub(crate) struct Proxies(Matcher);

impl Proxies {
    pub(crate) fn of_system() -> Self {
        Self(Matcher::from_system())
    }

    #[cfg(test)]
    pub(super) fn new(matcher: Matcher) -> Self {
        Self(matcher)
    }

    /// The proxy for an address; none if it is reached directly.
    pub(crate) fn for_url(&self, url: &Url) -> Option<Intercept> {
        if is_this_machine(url) { None } else { self.0.intercept(&destination(url)?) }
    }
}

/// Environment variables that are set but contain no proxy address; they are ignored.
pub(crate) fn misspelt_variables() -> Vec<&'static str> {
    let value = |name: &str| env::var(name).or_else(|_| env::var(name.to_ascii_lowercase())).unwrap_or_default();
    VARIABLES.into_iter().filter(|name| is_misspelt(&value(name))).collect()
}

fn is_misspelt(address: &str) -> bool {
    let somewhere = Uri::from_static("http://music.example/");
    !address.is_empty() && Matcher::builder().all(address).build().intercept(&somewhere).is_none()
}

/// The same proxies, for the download client.
pub(super) fn for_downloads(proxies: &Arc<Proxies>) -> reqwest::Proxy {
    let proxies = Arc::clone(proxies);
    reqwest::Proxy::custom(move |url| with_credentials(&proxies.for_url(url)?))
}

/// A proxy's address without its credentials, for people.
pub(crate) fn name(proxy: &Intercept) -> String {
    proxy.uri().to_string().trim_end_matches('/').to_owned()
}

/// The host and port of an address, as `http://host:port/` or `https://host:port/`.
pub(super) fn destination(url: &Url) -> Option<Uri> {
    let scheme = if matches!(url.scheme(), "https" | "wss") { "https" } else { "http" };
    let authority = format!("{}:{}", url.host_str()?, url.port_or_known_default()?);
    Uri::builder().scheme(scheme).authority(authority).path_and_query("/").build().ok()
}

fn is_this_machine(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.to_canonical().is_loopback(),
        None => false,
    }
}

/// A proxy's address with its credentials. None if it is not a valid address.
fn with_credentials(proxy: &Intercept) -> Option<Url> {
    let mut url: Url = proxy.uri().to_string().parse().ok()?;
    if url.scheme().starts_with("socks") && url.port().is_none() {
        url.set_port(Some(SOCKS_PORT)).ok()?;
    }
    let credentials = match (proxy.raw_auth(), proxy.basic_auth()) {
        (Some((user, password)), _) => Some((user.to_owned(), password.to_owned())),
        (None, Some(header)) => {
            let encoded = header.as_bytes().strip_prefix(b"Basic ")?;
            let plain = String::from_utf8(BASE64_STANDARD.decode(encoded).ok()?).ok()?;
            plain.split_once(':').map(|(user, password)| (user.to_owned(), password.to_owned()))
        }
        (None, None) => None,
    };
    if let Some((user, password)) = credentials {
        url.set_username(&user).ok()?;
        url.set_password(Some(&password)).ok()?;
    }
    Some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(proxies: &Proxies, url: &str) -> Option<String> {
        proxies.for_url(&url.parse().unwrap()).as_ref().map(name)
    }

    #[test]
    fn sockets_and_downloads_go_the_same_way() {
        let matcher =
            Matcher::builder().http("plain:3128").https("http://u:p%40@safe:3129").no("home.example, 10.0.0.0/8");
        let proxies = Proxies::new(matcher.build());
        for (urls, by) in [
            (["ws://music.example/x", "http://music.example/y"], Some("http://plain:3128")),
            (["wss://music.example/x", "https://music.example:8443/y"], Some("http://safe:3129")),
            (["wss://home.example/x", "https://a.home.example/y"], None),
            (["ws://10.1.2.3:8080/x", "http://10.1.2.3:8080/y"], None),
        ] {
            for url in urls {
                assert_eq!(way(&proxies, url).as_deref(), by, "{url}");
            }
        }
        let safe = proxies.for_url(&"wss://music.example".parse().unwrap()).unwrap();
        assert_eq!(with_credentials(&safe).unwrap().as_str(), "http://u:p%40@safe:3129/");
        assert!(!name(&safe).contains('@'));
    }

    #[test]
    fn an_address_that_is_none_is_noticed() {
        for address in ["", "proxy:3128", "http://me:pw@proxy:3128/", "socks5h://proxy"] {
            assert!(!is_misspelt(address), "{address}");
        }
        for address in ["ftp://proxy:3128", "http//proxy:3128", "http://pro xy", "direct://"] {
            assert!(is_misspelt(address), "{address}");
        }
    }

    #[test]
    fn this_machine_is_reached_without() {
        let proxies = Proxies::new(Matcher::builder().all("http://proxy:1").build());
        for host in ["localhost", "music.localhost", "127.0.0.1", "127.9.9.9", "[::1]", "[::ffff:127.0.0.1]"] {
            assert_eq!(way(&proxies, &format!("ws://{host}:8080/")), None, "{host}");
        }
        assert!(way(&proxies, "ws://192.168.1.20:8080/").is_some());
    }

    #[test]
    fn credentials_of_socks_are_kept() {
        let proxies = Proxies::new(Matcher::builder().all("socks5h://me:pw@proxy").build());
        let proxy = proxies.for_url(&"wss://music.example".parse().unwrap()).unwrap();
        assert_eq!(with_credentials(&proxy).unwrap().as_str(), "socks5h://me:pw@proxy:1080/");
    }
}
