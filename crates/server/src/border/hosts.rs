//! Host names under which the coordinator answers.
//!
//! A page of another site can make its own name resolve to this machine after it has loaded (DNS rebinding). The browser
//! then treats its requests as same-origin, and only their `Host` header reveals them. IP addresses and the names of the
//! loopback interface cannot be redirected in this way.

use std::{fmt, net::IpAddr, str::FromStr};

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderMap, StatusCode, Uri, header, uri::Authority},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Redirect, Response},
};
use chaarfm_domain::text;
use serde::{Deserialize, Serialize};
use url::{Host, Url};

use crate::advertised_address::AdvertisedAddress;

/// Longest part of a refused host quoted in the answer, in characters.
const MAX_HOST_CHARS: usize = 100;

/// An address under which people and workers reach the coordinator, such as `https://music.example`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicUrl(Url);

/// Error for a text that is not a public address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is no address like https://music.example: {reason}")]
pub struct PublicUrlError {
    text: String,
    reason: String,
}

impl FromStr for PublicUrl {
    type Err = PublicUrlError;

    fn from_str(text: &str) -> Result<Self, PublicUrlError> {
        let bad = |reason: &str| PublicUrlError { text: text.to_owned(), reason: reason.to_owned() };
        let url = Url::parse(text.trim()).map_err(|error| bad(&error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(bad("it has to begin with http:// or https://"));
        }
        if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
            return Err(bad("it may have a host, a port and a path only"));
        }
        Ok(Self(url))
    }
}

impl TryFrom<String> for PublicUrl {
    type Error = PublicUrlError;

    fn try_from(text: String) -> Result<Self, PublicUrlError> {
        text.parse()
    }
}

impl From<PublicUrl> for String {
    fn from(url: PublicUrl) -> Self {
        url.to_string()
    }
}

impl fmt::Display for PublicUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

/// The accepted hosts.
#[derive(Debug, Clone)]
pub(crate) struct Hosts {
    loopback_only: bool,
    public: Vec<PublicUrl>,
}

impl Hosts {
    pub(crate) fn new(advertised: &AdvertisedAddress, public: &[PublicUrl]) -> Self {
        Self { loopback_only: advertised.is_loopback_only(), public: public.to_vec() }
    }

    /// Whether a request may name this host. A port is ignored, since a proxy may have changed it.
    fn allows(&self, host: &str) -> bool {
        let Some(host) = parsed(host) else { return false };
        let is_public = self.public.iter().any(|url| url.0.host().is_some_and(|public| public.to_owned() == host));
        is_public
            || match host {
                Host::Domain(name) => {
                    // RFC 6761, section 6.3: these resolve to the loopback interface on every resolver.
                    let name = name.trim_end_matches('.');
                    name == "localhost" || name.ends_with(".localhost")
                }
                Host::Ipv4(ip) => self.allows_number(ip.into()),
                Host::Ipv6(ip) => self.allows_number(ip.into()),
            }
    }

    /// The hosts of the public addresses.
    pub(crate) fn public(&self) -> impl Iterator<Item = String> {
        self.public
            .iter()
            .filter_map(|url| url.0.host())
            .map(|host| host.to_string().trim_matches(['[', ']']).to_owned())
    }

    /// Whether this host is a public address with TLS.
    pub(super) fn has_tls(&self, host: Option<&str>) -> bool {
        let Some(host) = host.and_then(parsed) else { return false };
        let is_it = |url: &&PublicUrl| url.0.host().is_some_and(|public| public.to_owned() == host);
        self.public.iter().find(is_it).is_some_and(|url| url.0.scheme() == "https")
    }

    /// Accepts all IP addresses unless only loopback is listened on: behind a router or in a container, the addresses that
    /// other machines use are not known here.
    fn allows_number(&self, ip: IpAddr) -> bool {
        ip.to_canonical().is_loopback() || !self.loopback_only
    }

    /// Whether a page of this origin is the coordinator's own, for a request with this `Host`: the origin is a public
    /// address, or has the host and port of the request. The page may have come over TLS that a proxy terminates. A page
    /// without an origin sends `null`, which does not parse as an address.
    pub(crate) fn is_own(&self, asked: Option<&str>, origin: &str) -> bool {
        let Ok(page) = Url::parse(origin) else { return false };
        if self.public.iter().any(|url| url.0.origin() == page.origin()) {
            return true;
        }
        let asked = asked.and_then(|host| Url::parse(&format!("{}://{host}", page.scheme())).ok());
        asked.is_some_and(|asked| asked.origin() == page.origin())
    }
}

fn parsed(host: &str) -> Option<Host<String>> {
    let authority: Authority = host.parse().ok().filter(|_| !host.contains('@'))?;
    Host::parse(authority.host()).ok()
}

/// Host named by a request. An HTTP/1.0 request may name none, but browsers always name one.
///
/// # Errors
/// When the request names several hosts, or one that is not text.
pub(crate) fn asked_host<'a>(
    headers: &'a HeaderMap,
    authority: Option<&'a Authority>,
) -> Result<Option<&'a str>, NoHost> {
    let mut named = headers.get_all(header::HOST).iter();
    let host = match (authority, named.next()) {
        (Some(authority), _) => Some(authority.as_str()),
        (None, Some(host)) => Some(host.to_str().map_err(|_| NoHost)?),
        (None, None) => None,
    };
    if named.next().is_some() { Err(NoHost) } else { Ok(host) }
}

/// Redirects browsers that come without TLS to the same address with it, for people who leave out `https://`.
pub(crate) fn lead_to_tls(hosts: Hosts) -> Router {
    let lead = async |headers: HeaderMap, uri: Uri| {
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        match asked_host(&headers, uri.authority()) {
            Ok(Some(host)) => Redirect::temporary(&format!("https://{host}{path}")).into_response(),
            Ok(None) | Err(NoHost) => (StatusCode::UPGRADE_REQUIRED, "this coordinator speaks TLS\n").into_response(),
        }
    };
    Router::new().fallback(lead).layer(from_fn_with_state(hosts, refuse_other_hosts))
}

/// A request whose host is missing or ambiguous.
#[derive(Debug)]
pub(crate) struct NoHost;

/// Refuses requests for other hosts.
pub(crate) async fn refuse_other_hosts(State(hosts): State<Hosts>, request: Request, next: Next) -> Response {
    let asked = asked_host(request.headers(), request.uri().authority());
    let refusal = match asked {
        Ok(None) => None,
        Ok(Some(host)) if hosts.allows(host) => None,
        Ok(Some(host)) => {
            let host = text::cut(host, MAX_HOST_CHARS);
            Some(format!(
                "this coordinator does not answer as {host}; if it is to be reached by that name, start it with \
                 --public-url http://{host}, or https:// where there is TLS\n"
            ))
        }
        Err(NoHost) => Some("this request does not say plainly for which host it is\n".to_owned()),
    };
    match refusal {
        None => next.run(request).await,
        Some(words) => (StatusCode::MISDIRECTED_REQUEST, words).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(listen: &str, public: &[&str]) -> Hosts {
        let public: Vec<_> = public.iter().map(|url| url.parse().unwrap()).collect();
        Hosts::new(&AdvertisedAddress::new(listen.parse().unwrap(), true, None), &public)
    }

    #[test]
    fn names_are_those_that_cannot_lead_elsewhere_and_those_that_were_given() {
        let here = hosts("127.0.0.1:8080", &[]);
        for host in ["localhost", "LOCALHOST:1", "a.localhost", "localhost.", "127.0.0.1:8080", "127.9.9.9", "[::1]:80"]
        {
            assert!(here.allows(host), "{host}");
        }
        let others = [
            "evil.example",
            "localhost.evil.example",
            "evillocalhost",
            "127.0.0.1.evil.example",
            "music.example:8080",
            "a@localhost",
            "localhost/x",
            "",
            ":80",
            "192.168.1.20:8080",
            "[fe80::1]",
            "2130706433.evil.example",
            "a b",
        ];
        for host in others {
            assert!(!here.allows(host), "{host}");
        }
        let everywhere = hosts("0.0.0.0:8080", &["https://music.example/chaarfm", "http://coordinator"]);
        for host in
            ["192.168.1.20:8080", "[fd00::1]:8080", "203.0.113.7", "music.example", "MUSIC.example:444", "coordinator"]
        {
            assert!(everywhere.allows(host), "{host}");
        }
        for host in ["www.music.example", "evil.example", "music.example.evil.example", "xn--msic-0ra.example"] {
            assert!(!everywhere.allows(host), "{host}");
        }
    }

    #[test]
    fn own_pages_are_of_the_same_origin_or_public() {
        let hosts = hosts("0.0.0.0:8080", &["https://music.example"]);
        let own = |asked: &str, origin: &str| hosts.is_own(Some(asked), origin);
        assert!(own("192.168.1.20:8080", "http://192.168.1.20:8080") && own("127.0.0.1:8080", "https://music.example"));
        for origin in
            ["http://localhost:3000", "http://music.example:8080", "null", "file://", "", "https://evil.example"]
        {
            assert!(!own("localhost:8080", origin), "{origin}");
        }
        assert!(!hosts.is_own(None, "http://evil.example"));
        assert!(
            hosts.has_tls(Some("Music.example:443")) && !hosts.has_tls(Some("127.0.0.1:8080")) && !hosts.has_tls(None)
        );
    }

    #[test]
    fn a_public_address_is_a_plain_one() {
        let shown = |text: &str| text.parse::<PublicUrl>().map(|url| url.to_string());
        assert_eq!(shown(" https://Music.example/ ").as_deref(), Ok("https://music.example"));
        assert_eq!(shown("http://music.example:8080/a/").as_deref(), Ok("http://music.example:8080/a"));
        for text in ["music.example", "ftp://music.example", "https://", "https://me:pw@music.example", "https://a/?b"]
        {
            let error = shown(text).unwrap_err().to_string();
            assert!(error.starts_with(&format!("'{text}' is no address like https://music.example: ")), "{error}");
        }
    }
}
