//! Downloads files from the coordinator or a storage into memory.

use std::pin::pin;

use chaarfm_protocol::LEASE_HEADER;
use chaarfm_worker::{FetchError, Fetched, Received, Source, may_be_public};
use futures_util::{
    StreamExt,
    future::{Either, select},
};
use gloo_timers::future::TimeoutFuture;
use js_sys::Uint8Array;
use url::Url;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use wasm_streams::ReadableStream;
use web_sys::{AbortController, Request, RequestCache, RequestInit, RequestRedirect, Response};

use super::{in_browsers_words, scope};

/// Longest download without a watching caller. A model's weights, 3 MB, arrive in time at 5 kB a second.
const UNWATCHED_LIMIT_SECONDS: u32 = 600;

/// Downloads a file of exactly `bytes` bytes. Calls `progress` with the share that has arrived, 0 to 1. The caller
/// gives up when that stops growing.
pub(crate) async fn exactly(
    source: &Source,
    bytes: u64,
    progress: &dyn Fn(f32),
) -> Result<Fetched<Vec<u8>>, FetchError> {
    if !may_fetch(&source.url) {
        return Err(FetchError::NotAllowed);
    }
    let mut received = Received::nothing_of(bytes);
    let mut file = Vec::new();
    let size = usize::try_from(bytes).map_err(|error| FetchError::Storage(error.to_string()))?;
    file.try_reserve_exact(size).map_err(|error| FetchError::Storage(error.to_string()))?;
    pieces(&source.url, source.lease.as_deref(), RequestCache::NoStore, |piece| {
        let fraction = received.piece(piece)?;
        file.extend_from_slice(piece);
        progress(fraction);
        Ok(())
    })
    .await?;
    Ok(Fetched { content_hash: received.finish()?, audio: file })
}

/// A tab fetches from its coordinator's own host, and over TLS from other hosts that may be public. A page cannot learn
/// which address a name resolves to, but certificates of private hosts are seldom trusted.
fn may_fetch(url: &Url) -> bool {
    let own = Url::parse(&scope().origin()).ok();
    let is_own = own.is_some_and(|own| own.host() == url.host());
    is_own || (url.scheme() == "https" && may_be_public(url))
}

/// Downloads a file of at most `limit` bytes.
pub(crate) async fn at_most(url: &Url, limit: u64) -> Result<Vec<u8>, FetchError> {
    let mut received = Received::nothing_of(limit);
    let mut file = Vec::new();
    let transfer = pieces(url, None, RequestCache::Default, |piece| {
        received.piece(piece)?;
        file.extend_from_slice(piece);
        Ok(())
    });
    match select(pin!(transfer), TimeoutFuture::new(UNWATCHED_LIMIT_SECONDS * 1000)).await {
        Either::Left((end, _)) => end?,
        Either::Right(_) => return Err(FetchError::Broken(format!("it took longer than {UNWATCHED_LIMIT_SECONDS} s"))),
    }
    Ok(file)
}

/// Passes the file on piece by piece, until a piece is refused. Builds the request itself, because a storage's
/// signature is valid only for the unmodified address, down to the last `&`.
async fn pieces(
    url: &Url,
    lease: Option<&str>,
    cache: RequestCache,
    mut take: impl FnMut(&[u8]) -> Result<(), FetchError>,
) -> Result<(), FetchError> {
    let transfer = Transfer::new()?;
    let options = RequestInit::new();
    options.set_cache(cache);
    // The address is or contains a secret, which must not be sent anywhere else.
    options.set_redirect(RequestRedirect::Error);
    options.set_signal(Some(&transfer.0.signal()));
    // The browser's own message would contain the address.
    let refused = |_| FetchError::Broken("the browser does not take the address".to_owned());
    let request = Request::new_with_str_and_init(url.as_str(), &options).map_err(refused)?;
    if let Some(lease) = lease {
        let refused = |_| FetchError::Broken("the browser does not take the lease".to_owned());
        request.headers().set(LEASE_HEADER, lease).map_err(refused)?;
    }
    let response = JsFuture::from(scope().fetch_with_request(&request)).await;
    let response: Response = response.map_err(|error| unreached(url, &error))?.unchecked_into();
    if !response.ok() {
        return Err(FetchError::Status(response.status()));
    }
    let Some(body) = response.body() else { return Ok(()) };
    let mut stream = ReadableStream::from_raw(body.unchecked_into()).into_stream();
    while let Some(piece) = stream.next().await {
        take(&piece.map_err(|error| broken(&error))?.unchecked_into::<Uint8Array>().to_vec())?;
    }
    Ok(())
}

/// A transfer that is aborted when this is dropped.
struct Transfer(AbortController);

impl Transfer {
    fn new() -> Result<Self, FetchError> {
        AbortController::new().map(Self).map_err(|error| broken(&error))
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Browsers do not tell a page whether the network failed or the storage does not allow the page's origin.
fn unreached(url: &Url, error: &JsValue) -> FetchError {
    let is_elsewhere = url.origin().ascii_serialization() != scope().origin();
    match broken(error) {
        FetchError::Broken(reason) if is_elsewhere => {
            FetchError::Broken(format!("{reason}; the storage may not allow this page's origin (CORS)"))
        }
        error => error,
    }
}

fn broken(error: &JsValue) -> FetchError {
    FetchError::Broken(in_browsers_words(error))
}
