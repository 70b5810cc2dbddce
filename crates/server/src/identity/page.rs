//! What a browser shows that is not let in. It needs nothing but itself.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{Html, IntoResponse, Response},
};

/// Why a browser is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Closed {
    /// It has no cookie, or one that has ended.
    NotLetIn,
    /// Its link is good no more.
    LinkUsed,
}

/// The page that says how to get in.
pub(crate) fn closed(why: Closed) -> Response {
    let (status, said) = match why {
        Closed::NotLetIn => (StatusCode::UNAUTHORIZED, "This page is for the owner of this coordinator."),
        Closed::LinkUsed => (StatusCode::GONE, "This link lets nobody in: it has been used, or it is too old."),
    };
    let mut response = (status, Html(PAGE.replace("{said}", said))).into_response();
    response.headers_mut().insert(header::WWW_AUTHENTICATE, CHALLENGE);
    response
}

/// How programs are let in (RFC 6750, section 3).
pub(crate) const CHALLENGE: HeaderValue = HeaderValue::from_static("Bearer realm=\"chaarfm\"");

const PAGE: &str = "<!doctype html>
<html lang=\"en\">
<meta charset=\"utf-8\">
<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">
<title>Who are you? – ChaarFM Worker</title>
<h1>Who are you?</h1>
<p>{said} Are you that? Then open the link that the coordinator printed when it was started, or have it make a new one:</p>
<pre>chaarfm-server token</pre>
<p>Each link is good once. <a href=\"/ingest\">Go on</a> if this browser has just been let in.</p>
<p>Do you want to lend this machine? <a href=\"/join\">Join with a code</a>.</p>
</html>
";
