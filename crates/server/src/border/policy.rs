//! Content Security Policy (level 3) of the pages.

use axum::http::HeaderValue;
use base64::{Engine, prelude::BASE64_STANDARD};
use ring::digest::{SHA256, digest};

/// Policy of the page: it loads from and sends to this origin only, no other page may frame it, and only those inline
/// scripts run that the build has put into it, identified by their hashes.
pub(crate) fn of_page(page: &str) -> HeaderValue {
    let scripts: String = inline_scripts(page).map(|script| format!(" '{}'", hash(script))).collect();
    policy(&scripts, "")
}

/// Policy of all other answers. A browser worker gets the policy of its program, and may fetch from the storages with these
/// origins, to which its signed addresses lead.
pub(crate) fn of_programs(storages: &[String]) -> HeaderValue {
    policy("", &storages.iter().map(|origin| format!(" {origin}")).collect::<String>())
}

/// Policy of a page without scripts and resources, whose only style is inline.
pub(crate) fn of_plain_page(style: &str) -> HeaderValue {
    let policy = format!(
        "default-src 'none'; style-src '{}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hash(style)
    );
    HeaderValue::from_str(&policy).expect("a hash is fit for a header")
}

/// `wasm-unsafe-eval` permits compiling WebAssembly, and nothing else.
fn policy(scripts: &str, storages: &str) -> HeaderValue {
    let policy = format!(
        "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'{scripts}; worker-src 'self'; style-src 'self'; \
         img-src 'self' data:; connect-src 'self'{storages}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    HeaderValue::from_str(&policy).expect("hashes and origins are fit for a header")
}

fn hash(text: &str) -> String {
    format!("sha256-{}", BASE64_STANDARD.encode(digest(&SHA256, text.as_bytes())))
}

/// Content of each script element without a `src`.
fn inline_scripts(page: &str) -> impl Iterator<Item = &str> {
    page.split("<script").skip(1).filter_map(|rest| {
        let (attributes, rest) = rest.split_once('>')?;
        let (script, _) = rest.split_once("</script>")?;
        (!attributes.contains("src=")).then_some(script)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scripts_of_the_page_run_and_no_others() {
        let page = "<script type=\"module\">let a;</script><script src=\"/b.js\"></script>\n<script>\nc()\n</script>";
        assert_eq!(inline_scripts(page).collect::<Vec<_>>(), ["let a;", "\nc()\n"]);
        let policy = of_page(page);
        let policy = policy.to_str().unwrap();
        // Example from the specification, section 8.3.
        assert_eq!(hash("alert('Hello, world.');"), "sha256-qznLcsROx4GACP2dm0UCKCzCG+HiZ1guq6ZZDob/Tng=");
        assert!(policy.contains(&hash("let a;")) && policy.contains(&hash("\nc()\n")), "{policy}");
        assert!(!policy.contains("unsafe-inline") && !policy.contains("'unsafe-eval'"), "{policy}");
        assert!(policy.contains("connect-src 'self';"), "{policy}");
    }

    #[test]
    fn programs_reach_the_storages_too() {
        let policy = of_programs(&["https://tunes.s3.example".to_owned()]);
        assert!(policy.to_str().unwrap().contains("connect-src 'self' https://tunes.s3.example;"), "{policy:?}");
    }
}
