//! The pages and the browser worker, as trunk built them, inside the executable.

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use rust_embed::{EmbeddedFile, RustEmbed};

use crate::api::ApiError;

/// The page that every address without a file extension gets; it finds its own way from there.
const INDEX: &str = "index.html";

/// For files whose name changes with their content.
const IMMUTABLE: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");

/// For all others: kept, but asked about each time.
const REVALIDATED: HeaderValue = HeaderValue::from_static("no-cache");

#[derive(RustEmbed)]
#[folder = "../../dist"]
struct Pages;

/// Answers whatever is not part of the interface for programs.
pub(crate) async fn page(uri: Uri, headers: HeaderMap) -> Response {
    let path = uri.path().trim_start_matches('/');
    if path.starts_with("api/") || path.starts_with("models/") {
        return ApiError::not_found(format!("there is nothing at {}", uri.path())).into_response();
    }
    let is_file = path.rsplit('/').next().is_some_and(|name| name.contains('.'));
    let name = if is_file { path } else { INDEX };
    match Pages::get(name) {
        Some(file) => serve(name, file, &headers),
        None if Pages::get(INDEX).is_none() => {
            let message = "the pages are not built; run cargo xtask build";
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, message).into_response()
        }
        None => ApiError::not_found(format!("there is nothing at {}", uri.path())).into_response(),
    }
}

fn serve(name: &str, file: EmbeddedFile, request: &HeaderMap) -> Response {
    let tag: String = file.metadata.sha256_hash().iter().map(|byte| format!("{byte:02x}")).collect();
    let tag = HeaderValue::from_str(&format!("\"{tag}\"")).expect("hexadecimal digits are fit for a header");
    let caching = if is_hashed(name) { IMMUTABLE } else { REVALIDATED };
    let headers = [(header::CACHE_CONTROL, caching), (header::ETAG, tag.clone())];
    let known = request.get_all(header::IF_NONE_MATCH).iter().any(|known| weak(known) == weak(&tag));
    if known {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    let kind = mime_guess::from_path(name).first_or_octet_stream();
    let kind = HeaderValue::from_str(kind.as_ref()).expect("media types are fit for a header");
    (headers, [(header::CONTENT_TYPE, kind)], Body::from(file.data)).into_response()
}

/// A tag without the mark that compression on the way puts before it.
fn weak(tag: &HeaderValue) -> &[u8] {
    let tag = tag.as_bytes();
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

/// Whether trunk has put the content's hash into the name, as in `chaarfm-web-0123456789abcdef_bg.wasm`.
fn is_hashed(name: &str) -> bool {
    const MIN_HASH_DIGITS: usize = 12;
    let stem = name.rsplit('/').next().unwrap_or(name);
    let mut parts = stem.split(['-', '_', '.']);
    parts.any(|part| part.len() >= MIN_HASH_DIGITS && part.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_with_a_hash_are_kept_for_ever() {
        for name in ["web-0f3a9c81d2b4e6f7.js", "web-0f3a9c81d2b4e6f7_bg.wasm", "sub/style-0f3a9c81d2b4e6f7.css"] {
            assert!(is_hashed(name), "{name}");
        }
        for name in ["index.html", "chaarfm-worker-web.js", "chaarfm-worker-web_bg.wasm", "favicon.svg", "cafe.js"] {
            assert!(!is_hashed(name), "{name}");
        }
    }
}
