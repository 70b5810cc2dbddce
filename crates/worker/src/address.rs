//! The coordinator's address: parsing what a person types, and deriving all other addresses from it.

use std::{fmt, str::FromStr};

use chaarfm_protocol::{CodeError, KeyPin, PairingCode, PinError, worker_socket_path};
use url::{Url, form_urlencoded};

/// Page names that a pasted address may contain.
const PAGES: [&str; 2] = ["ingest", "join"];

/// Prefix of a link that opens the installed worker.
const PROGRAM_LINK: &str = "chaarfm://join";

/// A coordinator's address, such as `https://music.example/chaarfm/`, and the pairing code when the text was a join link.
///
/// Reads `http`, `https`, `ws` and `wss` addresses with or without a path, and the addresses of the coordinator's
/// pages: `http://host:8080/join/K7Q-M4X-WDP` is the coordinator at `http://host:8080/` and a code. So is
/// `chaarfm://join?url=http%3A%2F%2Fhost%3A8080&code=K7Q-M4X-WDP`, by which pages hand over to the installed worker. Behind a
/// `#` there may be the pin of a coordinator that signs its certificate itself, as in `https://host/join/K7Q-M4X-WDP#pin=…`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// `http` or `https`; the path ends with `/`; no query.
    base: Url,
    code: Option<PairingCode>,
    pin: Option<KeyPin>,
}

/// Why a text is not a coordinator's address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// It does not begin with `http://` or the like.
    #[error(
        "'{0}' does not begin with http://, https://, ws:// or wss://; a coordinator's address is like http://host:8080"
    )]
    Scheme(String),
    /// Not a URL.
    #[error("'{text}' is no address: {reason}")]
    Url {
        /// The text.
        text: String,
        /// The parser's error.
        reason: url::ParseError,
    },
    /// An invalid `chaarfm` link.
    #[error("'{0}' is no link to a session; it is like chaarfm://join?url=https://host&code=K7Q-M4X-WDP")]
    Link(String),
    /// `user:password@` before the host.
    #[error("the address must not contain a user name or a password")]
    Credentials,
    /// A join link whose code is invalid.
    #[error("this join link has no valid code at its end: {0}")]
    Code(#[from] CodeError),
    /// The pin behind the `#` is none.
    #[error("this link has no valid pin at its end: {0}")]
    Pin(#[from] PinError),
}

impl Address {
    /// The pairing code, when the text was a join link.
    #[must_use]
    pub fn code(&self) -> Option<PairingCode> {
        self.code
    }

    /// The host, as the address writes it; without the brackets around a number of IP version 6.
    #[must_use]
    pub fn host(&self) -> &str {
        self.base.host_str().unwrap_or_default().trim_matches(['[', ']'])
    }

    /// What the certificate of the coordinator is recognised by, if no authority has signed it.
    #[must_use]
    pub fn pin(&self) -> Option<KeyPin> {
        self.pin
    }

    /// The same address with this pin.
    #[must_use]
    pub fn with_pin(self, pin: KeyPin) -> Self {
        Self { pin: Some(pin), ..self }
    }

    /// The link that opens the native worker, where it is installed, and has it join with this code.
    #[must_use]
    pub fn program_link(&self, code: &PairingCode) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("url", &self.to_string()).append_pair("code", &code.to_string());
        format!("{PROGRAM_LINK}?{}", query.finish())
    }

    /// The `ws` or `wss` address that a worker with this code connects to.
    #[must_use]
    pub fn socket(&self, code: &PairingCode) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{}", url.path().trim_end_matches('/'), worker_socket_path(code)));
        let scheme = if url.scheme() == "https" { "wss" } else { "ws" };
        url.set_scheme(scheme).expect("http and ws are both special schemes, which may replace each other");
        url
    }

    /// The full address of a path that the coordinator sent, such as `/api/audio/7`.
    ///
    /// # Errors
    /// [`AddressError`] when the path is malformed.
    pub fn resolve(&self, path: &str) -> Result<Url, AddressError> {
        // A text that begins with "./" contains neither a scheme nor a host, so it cannot lead to another server.
        let relative = format!("./{}", path.trim_start_matches('/'));
        self.base.join(&relative).map_err(|reason| AddressError::Url { text: path.to_owned(), reason })
    }

    /// Parses the storage address that the coordinator gave for a direct download. None if the text is not an HTTP
    /// address, contains a user name or a password, or is without TLS although the coordinator has TLS.
    #[must_use]
    pub fn storage(&self, address: &str) -> Option<Url> {
        let url = Url::parse(address).ok()?;
        let is_safe = url.scheme() == "https" || (url.scheme() == "http" && self.base.scheme() == "http");
        let is_plain = url.username().is_empty() && url.password().is_none();
        (is_safe && is_plain).then_some(url)
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let text = text.trim();
        if let Some(link) = link(text) {
            return link;
        }
        let http = match text.split_once("://").map(|(scheme, rest)| (scheme.to_ascii_lowercase(), rest)) {
            Some((scheme, rest)) if scheme == "http" || scheme == "ws" => format!("http://{rest}"),
            Some((scheme, rest)) if scheme == "https" || scheme == "wss" => format!("https://{rest}"),
            _ => return Err(AddressError::Scheme(text.to_owned())),
        };
        let mut base = Url::parse(&http).map_err(|reason| AddressError::Url { text: text.to_owned(), reason })?;
        if !base.username().is_empty() || base.password().is_some() {
            return Err(AddressError::Credentials);
        }
        let pin = base.fragment().and_then(|fragment| fragment.strip_prefix(KeyPin::LINK_NAME));
        let pin = pin.map(KeyPin::from_str).transpose()?;
        base.set_query(None);
        base.set_fragment(None);
        let code = strip_page(&mut base)?;
        Ok(Self { base, code, pin })
    }
}

/// Parses a `chaarfm` link; none for any other text.
fn link(text: &str) -> Option<Result<Address, AddressError>> {
    let url = Url::parse(text).ok().filter(|url| url.scheme() == "chaarfm")?;
    let named = |name: &str| url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
    let is_to_join = url.host_str() == Some("join") && matches!(url.path(), "" | "/");
    // A link inside a link is invalid.
    let inner =
        named("url").filter(|inner| is_to_join && !inner.trim_start().to_ascii_lowercase().starts_with("chaarfm:"));
    let Some(inner) = inner else { return Some(Err(AddressError::Link(text.to_owned()))) };
    Some(inner.parse::<Address>().and_then(|address| match named("code") {
        Some(code) => Ok(Address { code: Some(code.parse()?), ..address }),
        None => Ok(address),
    }))
}

/// Removes the page's name from the path, leaves `/` at its end, and returns the code of a join link.
fn strip_page(url: &mut Url) -> Result<Option<PairingCode>, CodeError> {
    let path = url.path().to_owned();
    let mut segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    let code = match segments[..] {
        [.., "join", last] => Some(last.parse()?),
        _ => None,
    };
    if code.is_some() {
        segments.pop();
    }
    if segments.last().is_some_and(|last| PAGES.contains(last)) {
        segments.pop();
    }
    let folders: String = segments.iter().flat_map(|segment| [segment, "/"]).collect();
    url.set_path(&format!("/{folders}"));
    Ok(code)
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.base.as_str().trim_end_matches('/'))?;
        self.pin.map_or(Ok(()), |pin| write!(f, "#{}{pin}", KeyPin::LINK_NAME))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        text.parse().unwrap()
    }

    fn code() -> PairingCode {
        "K7Q-M4X-WDP".parse().unwrap()
    }

    #[test]
    fn leads_to_the_socket_and_to_files() {
        for (text, socket, file) in [
            ("http://host:8080", "ws://host:8080/api/sessions/K7Q-M4X-WDP/worker", "http://host:8080/api/audio/7"),
            ("wss://host", "wss://host/api/sessions/K7Q-M4X-WDP/worker", "https://host/api/audio/7"),
            (
                " HTTPS://host/music/?a=b#c ",
                "wss://host/music/api/sessions/K7Q-M4X-WDP/worker",
                "https://host/music/api/audio/7",
            ),
            ("ws://[::1]:9/x", "ws://[::1]:9/x/api/sessions/K7Q-M4X-WDP/worker", "http://[::1]:9/x/api/audio/7"),
        ] {
            assert_eq!(address(text).socket(&code()).as_str(), socket);
            assert_eq!(address(text).resolve("/api/audio/7").unwrap().as_str(), file);
        }
    }

    #[test]
    fn understands_links_to_the_pages() {
        let link = address("http://host:8080/join/k7q-m4x-wdp");
        assert_eq!((link.to_string().as_str(), link.code()), ("http://host:8080", Some(code())));
        let nested = address("https://host/music/join/K7Q-M4X-WDP");
        assert_eq!((nested.to_string().as_str(), nested.code()), ("https://host/music", Some(code())));
        let control = address("http://host:8080/ingest");
        assert_eq!((control.to_string().as_str(), control.code()), ("http://host:8080", None));
    }

    #[test]
    fn links_may_say_how_to_recognise_the_coordinator() {
        let pin = "ab".repeat(KeyPin::BYTES);
        let link = address(&format!("https://host/music/join/K7Q-M4X-WDP#pin={pin}"));
        assert_eq!((link.code(), link.pin()), (Some(code()), pin.parse().ok()));
        assert_eq!(link.socket(&code()).as_str(), "wss://host/music/api/sessions/K7Q-M4X-WDP/worker");
        assert_eq!(link.to_string(), format!("https://host/music#pin={pin}"));
        for text in [link.to_string(), link.program_link(&code())] {
            assert_eq!(address(&text).pin(), link.pin(), "{text}");
        }
        assert_eq!(address("https://host").with_pin(link.pin().unwrap()).pin(), link.pin());
        assert!(matches!("https://host#pin=ab".parse::<Address>(), Err(AddressError::Pin(_))));
    }

    #[test]
    fn understands_links_to_the_installed_worker() {
        for text in [
            "chaarfm://join?url=https%3A%2F%2Fhost%2Fmusic&code=K7Q-M4X-WDP",
            "CHAARFM://join/?code=k7qm4xwdp&url=https://host/music",
            "chaarfm://join?url=https%3A%2F%2Fhost%2Fmusic%2Fjoin%2FK7Q-M4X-WDP",
        ] {
            let link = address(text);
            assert_eq!((link.to_string().as_str(), link.code()), ("https://host/music", Some(code())), "{text}");
        }
        for text in ["http://host:8080", "https://host/music", "http://[::1]:9"] {
            let back = address(&address(text).program_link(&code()));
            assert_eq!((back.to_string().as_str(), back.code()), (text, Some(code())));
        }
        let without = address("chaarfm://join?url=http%3A%2F%2Fhost%3A8080");
        assert_eq!((without.to_string().as_str(), without.code()), ("http://host:8080", None));
        let error = |text: &str| text.parse::<Address>().unwrap_err();
        for text in [
            "chaarfm://join",
            "chaarfm://leave?url=http://host",
            "chaarfm:join?url=http://host",
            "chaarfm://join/x?url=http://h",
        ] {
            assert_eq!(error(text), AddressError::Link(text.into()));
        }
        let nested = "chaarfm://join?url=chaarfm%3A%2F%2Fjoin%3Furl%3Dhttp%3A%2F%2Fhost";
        assert_eq!(error(nested), AddressError::Link(nested.into()));
        assert_eq!(error("chaarfm://join?url=file%3A%2F%2F%2Fetc"), AddressError::Scheme("file:///etc".into()));
        assert!(matches!(error("chaarfm://join?url=http://host&code=K7Q"), AddressError::Code(_)));
    }

    #[test]
    fn says_what_is_wrong() {
        let error = |text: &str| text.parse::<Address>().unwrap_err();
        assert_eq!(error("localhost:8080"), AddressError::Scheme("localhost:8080".into()));
        assert_eq!(error("ftp://host"), AddressError::Scheme("ftp://host".into()));
        assert_eq!(error(""), AddressError::Scheme(String::new()));
        assert_eq!(error("http://a:b@host"), AddressError::Credentials);
        assert!(matches!(error("http://"), AddressError::Url { reason: url::ParseError::EmptyHost, .. }));
        assert!(matches!(error("http://host:99999"), AddressError::Url { reason: url::ParseError::InvalidPort, .. }));
        assert!(matches!(error("http://a b"), AddressError::Url { .. }));
        assert_eq!(error("http://host/join/K7Q-M4X-WD"), AddressError::Code(CodeError::Length(8)));
    }

    #[test]
    fn goes_to_a_storage_as_safely_as_to_the_coordinator() {
        let (plain, safe) = (address("http://host"), address("https://host"));
        let signed = "https://s3.example/tunes/a%20b.mp3?X-Amz-Signature=0a%2F";
        for from in [&plain, &safe] {
            assert_eq!(from.storage(signed).unwrap().as_str(), signed);
        }
        assert_eq!(plain.storage("http://10.0.0.1:9000/x").unwrap().as_str(), "http://10.0.0.1:9000/x");
        assert_eq!(safe.storage("http://10.0.0.1:9000/x"), None);
        for address in ["/api/audio/7", "//host/x", "ftp://host/x", "file:///etc/passwd", "https://me:pw@host/x", ""] {
            assert_eq!(plain.storage(address), None, "{address}");
        }
    }

    #[test]
    fn never_leaves_the_coordinator() {
        for path in ["http://evil/x", "//evil/x", "/\\evil/x", "\\\\evil/x", "/\t//evil/x", "../../..//evil/x"] {
            let url = address("http://host").resolve(path).unwrap();
            assert_eq!(url.origin().ascii_serialization(), "http://host", "{path}");
        }
    }
}
