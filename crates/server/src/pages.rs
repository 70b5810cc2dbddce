//! The pages and the browser worker, as trunk built them: inside the executable in a release, from `dist/` in development.

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use rust_embed::{EmbeddedFile, RustEmbed};

use crate::{border, error::ApiError};

/// The page served at every URL without a file extension; it does its own routing.
const INDEX: &str = "index.html";

/// For files whose URL changes with their content.
pub(crate) const IMMUTABLE: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");

/// For all other files: cached, but revalidated each time.
const REVALIDATED: HeaderValue = HeaderValue::from_static("no-cache");

/// Encodings in which the build stores each file, the best first, with their file extensions.
const ENCODINGS: [(&str, &str); 2] = [("br", "br"), ("gzip", "gz")];

#[derive(RustEmbed)]
#[folder = "../../dist"]
struct Pages;

/// Whether the pages were built before the program.
pub(crate) fn are_built() -> bool {
    Pages::get(INDEX).is_some()
}

/// The owner's page, for browsers logged in as the owner.
#[utoipa::path(get, path = "/ingest", tag = "access", responses((status = 200, description = "The page")))]
pub(crate) async fn owners_page(method: Method, uri: Uri, headers: HeaderMap) -> Response {
    page(method, uri, headers).await
}

/// Serves everything that is not part of the programs' interface.
pub(crate) async fn page(method: Method, uri: Uri, headers: HeaderMap) -> Response {
    let path = uri.path().trim_start_matches('/');
    if ["api/", "models/", "downloads/"].iter().any(|folder| path.starts_with(folder)) {
        return ApiError::not_found(format!("there is nothing at {}", uri.path())).into_response();
    }
    if method != Method::GET && method != Method::HEAD {
        return ApiError::wrong_method().into_response();
    }
    let is_file = path.rsplit('/').next().is_some_and(|name| name.contains('.'));
    let name = if is_file { path } else { INDEX };
    match Pages::get(name) {
        Some(file) => serve(name, file, &headers),
        None if !are_built() => {
            let message = "the pages are not built; run cargo xtask build";
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, message).into_response()
        }
        None => ApiError::not_found(format!("there is nothing at {}", uri.path())).into_response(),
    }
}

fn serve(name: &str, plain: EmbeddedFile, request: &HeaderMap) -> Response {
    let caching = if is_hashed(name) { IMMUTABLE } else { REVALIDATED };
    let kind = mime_guess::from_path(name).first_or_octet_stream();
    let kind = HeaderValue::from_str(kind.as_ref()).expect("media types are fit for a header");
    let packed = ENCODINGS
        .into_iter()
        .filter(|(encoding, _)| accepts(request, encoding))
        .find_map(|(encoding, extension)| Some((Pages::get(&format!("{name}.{extension}"))?, encoding)));
    // The page has its own scripts; all other files get the policy of programs.
    let policy = (name == INDEX).then(|| border::of_page(&String::from_utf8_lossy(&plain.data)));
    let (file, encoding) = packed.map_or((plain, None), |(file, encoding)| (file, Some(encoding)));
    let tag: String = file.metadata.sha256_hash().iter().map(|byte| format!("{byte:02x}")).collect();
    let tag = HeaderValue::from_str(&format!("\"{tag}\"")).expect("hexadecimal digits are fit for a header");
    let headers = [
        (header::CACHE_CONTROL, caching),
        (header::ETAG, tag.clone()),
        (header::VARY, HeaderValue::from_name(header::ACCEPT_ENCODING)),
    ];
    let known = request.get_all(header::IF_NONE_MATCH).iter().any(|known| weak(known) == weak(&tag));
    if known {
        return with_policy((StatusCode::NOT_MODIFIED, headers).into_response(), policy);
    }
    let mut response = (headers, [(header::CONTENT_TYPE, kind)], Body::from(file.data)).into_response();
    if let Some(encoding) = encoding {
        response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
    }
    with_policy(response, policy)
}

fn with_policy(mut response: Response, policy: Option<HeaderValue>) -> Response {
    if let Some(policy) = policy {
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    response
}

/// Whether a request accepts a content encoding: named, and not with a quality of 0.
fn accepts(request: &HeaderMap, encoding: &str) -> bool {
    let values = request.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|choice| {
        let (name, quality) = choice.split_once(';').unwrap_or((choice, "q=1"));
        let quality = quality.trim().strip_prefix("q=").and_then(|quality| quality.parse().ok()).unwrap_or(0.0);
        name.trim().eq_ignore_ascii_case(encoding) && quality > 0.0_f32
    })
}

/// An entity tag without the weak marker that a proxy may have added.
fn weak(tag: &HeaderValue) -> &[u8] {
    let tag = tag.as_bytes();
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

/// Whether the file's or folder's name contains the content's hash, as in `chaarfm-web-0123456789abcdef_bg.wasm`.
fn is_hashed(name: &str) -> bool {
    const MIN_HASH_DIGITS: usize = 12;
    let mut parts = name.split(['/', '-', '_', '.']);
    parts.any(|part| part.len() >= MIN_HASH_DIGITS && part.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_with_a_hash_are_kept_for_ever() {
        for name in ["web-0f3a9c81d2b4e6f7.js", "web-0f3a9c81d2b4e6f7_bg.wasm", "0f3a9c81d2b4e6f7/worker.js"] {
            assert!(is_hashed(name), "{name}");
        }
        for name in ["index.html", "chaarfm-worker-web.js", "chaarfm-worker-web_bg.wasm", "favicon.svg", "cafe.js"] {
            assert!(!is_hashed(name), "{name}");
        }
    }
    #[test]
    fn encodings_are_taken_when_they_are_allowed() {
        let accept = |value| HeaderMap::from_iter([(header::ACCEPT_ENCODING, HeaderValue::from_static(value))]);
        for (value, br, gzip) in
            [("gzip, deflate, br, zstd", true, true), ("br;q=0, GZIP;q=0.5", false, true), ("identity", false, false)]
        {
            assert_eq!((accepts(&accept(value), "br"), accepts(&accept(value), "gzip")), (br, gzip), "{value}");
        }
        assert!(!accepts(&HeaderMap::new(), "br"));
    }
}
