//! The page for a browser that is not logged in. It is self-contained.

use axum::{
    http::{StatusCode, header},
    response::{Html, IntoResponse, Response},
};

use crate::{border::of_plain_page, error::CHALLENGE};

/// Why a browser is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Closed {
    /// The browser has no cookie, or an expired one.
    NotLetIn,
    /// The link is no longer valid.
    LinkUsed,
}

/// The page that explains how to log in.
pub(crate) fn closed(why: Closed) -> Response {
    let (status, title) = match why {
        Closed::NotLetIn => (StatusCode::UNAUTHORIZED, "This page is for the coordinator\u{2019}s owner"),
        Closed::LinkUsed => (StatusCode::GONE, "This link has been used or has expired"),
    };
    let page = PAGE.replace("{title}", title).replace("{style}", STYLE);
    let mut response = (status, Html(page)).into_response();
    response.headers_mut().insert(header::WWW_AUTHENTICATE, CHALLENGE);
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, of_plain_page(STYLE));
    response
}

const PAGE: &str = "<!doctype html>
<html lang=\"en\">
<meta charset=\"utf-8\">
<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">
<title>{title} – ChaarFM Worker</title>
<style>{style}</style>
<main>
<h1>{title}</h1>
<p>Are you the owner? Open the link that the coordinator printed when it started. Each link works once. For a new one, run this
where the coordinator runs, with the options that it was started with before the word token:</p>
<pre>chaarfm-server token</pre>
<p>If this browser has just been let in, <a href=\"/ingest\">go on to the control page</a>.</p>
<p>Do you want to lend this machine instead? <a href=\"/join\">Join with a code</a>.</p>
</main>
</html>
";

/// The same colours as the other pages.
const STYLE: &str = "body{margin:0;background:#faf5ee;color:#2b211c;font:1rem/1.5 system-ui,sans-serif}\
main{max-width:34rem;margin:3rem auto;padding:1.5rem;background:#fffdf9;border:1px solid #e8ddd0;border-radius:12px}\
h1{font-size:1.3rem;margin-top:0}pre{padding:.75rem 1rem;background:#f5eae0;border-radius:8px}a{color:#a63d27}";
