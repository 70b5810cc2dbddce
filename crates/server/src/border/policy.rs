//! What browsers may do with the pages (Content Security Policy, level 3).

use axum::http::HeaderValue;
use base64::{Engine, prelude::BASE64_STANDARD};
use ring::digest::{SHA256, digest};

/// The policy of the page: nothing is loaded from or sent to elsewhere, no other page may frame it, and of the programs
/// written into it only those run that the build put there: they are known by their hash.
pub(crate) fn of_page(page: &str) -> HeaderValue {
    let scripts: String = inline_scripts(page).map(|script| format!(" '{}'", hash(script))).collect();
    policy(&scripts, "")
}

/// The policy of everything else. A browser worker has the policy of its program, and may fetch from the storages, given by
/// their origins, whose signed addresses it is told.
pub(crate) fn of_programs(storages: &[String]) -> HeaderValue {
    policy("", &storages.iter().map(|origin| format!(" {origin}")).collect::<String>())
}

/// The policy of a page that runs nothing and loads nothing, and has its one style written into it.
pub(crate) fn of_plain_page(style: &str) -> HeaderValue {
    let policy = format!(
        "default-src 'none'; style-src '{}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hash(style)
    );
    HeaderValue::from_str(&policy).expect("a hash is fit for a header")
}

/// `wasm-unsafe-eval` lets WebAssembly be compiled, and nothing else.
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

/// What stands between the tags of each script that has no address.
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
        // The example of the specification, section 8.3.
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
