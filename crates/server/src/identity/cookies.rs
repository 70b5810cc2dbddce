//! The cookie that identifies a browser (RFC 6265bis).
//!
//! It is sent to this host only, and never for requests caused by other sites. Browsers send a host's cookies to all its
//! ports, so the cookie's name includes the port: otherwise coordinators on one machine would overwrite each other's.

use axum::http::{HeaderMap, header};
use cookie::{Cookie, SameSite, time::Duration};

use super::manage::BROWSER_DAYS;
use crate::border::asked_host;

/// Its name when the address has no port.
pub(super) const NAME: &str = "chaarfm";

/// The cookie for a browser that was logged in.
pub(crate) fn browser_cookie(headers: &HeaderMap, secret: String, is_secure: bool) -> Cookie<'static> {
    let days = i64::try_from(BROWSER_DAYS).expect("some days");
    Cookie::build((name(headers), secret))
        .path("/")
        .http_only(true)
        .same_site(SameSite::Strict)
        .secure(is_secure)
        .max_age(Duration::days(days))
        .build()
}

/// The credential that a browser sends.
pub(super) fn shown(headers: &HeaderMap) -> Option<String> {
    let name = name(headers);
    let sent = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut cookies = sent.flat_map(Cookie::split_parse).filter_map(Result::ok);
    cookies.find(|cookie| cookie.name() == name).map(|cookie| cookie.value().to_owned())
}

/// The cookie's name for the address used by this request.
fn name(headers: &HeaderMap) -> String {
    let host = asked_host(headers, None).ok().flatten();
    match host.and_then(|host| host.rsplit_once(':')).map(|(_, port)| port).filter(|port| port.parse::<u16>().is_ok()) {
        Some(port) => format!("{NAME}-{port}"),
        None => NAME.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn asked(host: &'static str, cookie: &'static str) -> HeaderMap {
        [(header::HOST, host), (header::COOKIE, cookie)]
            .map(|(name, value)| (name, HeaderValue::from_static(value)))
            .into_iter()
            .collect()
    }

    #[test]
    fn no_script_and_no_other_site_has_the_cookie() {
        let set = |host, is_secure| browser_cookie(&asked(host, ""), "s".into(), is_secure).to_string();
        let plain = set("127.0.0.1:8080", false);
        assert_eq!(plain, "chaarfm-8080=s; HttpOnly; SameSite=Strict; Path=/; Max-Age=7776000");
        let secure = set("music.example", true);
        assert_eq!(secure, "chaarfm=s; HttpOnly; SameSite=Strict; Secure; Path=/; Max-Age=7776000");
    }

    #[test]
    fn each_address_has_its_own() {
        assert_eq!(shown(&asked("h:8080", "a=b; chaarfm-8080=x; chaarfm=y")).as_deref(), Some("x"));
        assert_eq!(shown(&asked("h", "a=b; chaarfm-8080=x; chaarfm=y")).as_deref(), Some("y"));
        assert_eq!(shown(&asked("[::1]", "chaarfm=y")).as_deref(), Some("y"));
        assert_eq!(shown(&asked("[::1]:9", "chaarfm=y;chaarfm-9=x")).as_deref(), Some("x"));
        assert_eq!(shown(&asked("h", "")), None);
    }
}
