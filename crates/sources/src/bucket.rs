//! A library of the objects below a prefix in a bucket on S3, or on any storage with an S3-compatible API.
//!
//! The client (`object_store`) retries transient failures for up to three minutes, and resumes broken transfers. Leaves out
//! how an object reaches a worker: [`Bucket::get`] is for the coordinator, and [`Bucket::signed_address`] lets clients
//! fetch it without credentials.

use std::{fmt, io, ops::RangeInclusive, path::Path, sync::Arc, time::Duration};

use chaarfm_domain::{Found, limits::MAX_TEXT_CHARS, text};
use chaarfm_scratch::Scratch;
use futures_util::{StreamExt, TryStreamExt, future::BoxFuture, stream};
use http::Method;
use object_store::{
    ClientConfigKey, Error, GetOptions, GetRange, GetResult, ObjectMeta, ObjectStore, Result, RetryConfig,
    aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey},
    list::{PaginatedListOptions, PaginatedListStore},
    path::{self, Path as Key},
    signer::Signer,
};
use rustls::crypto::ring;
use tokio::{
    fs::File,
    io::{AsyncSeekExt, AsyncWriteExt},
    sync::mpsc,
    task::spawn_blocking,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::{
    MAX_FILES, Opened, Source, StorageSettings, Unavailable, Visit, WalkEnd, Wanted,
    disguises::{HEAD_BYTES, disguise},
    is_audio, kind_of,
    location::bucket_names,
    tags, too_large,
};

/// Validity of a signed URL. A transfer must begin within this time, but may end later. A worker starts at once, or after
/// fetching the previous file: an hour for 2 GiB is 5 Mbit/s. Slower workers fetch through the coordinator.
const SIGNED_SECONDS: u64 = 60 * 60;

/// Time limit for signing. Signing is instant unless credentials have to be fetched first.
const SIGNING_LIMIT_SECONDS: u64 = 1;

/// Time limit for an answer, and for each further piece of it, including the client's own retries.
const ANSWER_LIMIT_SECONDS: u64 = 240;

/// Time limit for the first listing, which shows whether the library can be used at all.
const OPENING_LIMIT_SECONDS: u64 = 30;

/// The client's time limit for a request. Its default of 30 s would abort healthy transfers.
const REQUEST_LIMIT: &str = "6h";

/// How often a walk tries what the client has given up on, and the wait between tries: a storage that is down for some
/// minutes makes no track unreadable.
const WALK_TRIES: u32 = 5;
const WALK_RETRY_SECONDS: u64 = 60;

/// Objects that one walk reads at a time. Each occupies its size in temporary disk space.
const READS_AT_ONCE: usize = 4;

/// Objects per listing: the maximum of the API.
const LISTING_KEYS: usize = 1000;

/// The objects of a bucket below a prefix.
#[derive(Clone)]
pub(super) struct Bucket {
    store: AmazonS3,
    name: String,
    /// Empty, or ends with `/`.
    prefix: String,
    signs: bool,
    /// Origin of its signed URLs.
    origin: Option<String>,
    /// For temporary copies.
    scratch: Arc<Scratch>,
}

impl Bucket {
    /// # Errors
    /// When the settings are invalid or the bucket cannot be listed.
    pub(super) async fn open(
        name: &str,
        prefix: &str,
        settings: &StorageSettings,
        scratch: &Arc<Scratch>,
    ) -> Result<Self, String> {
        // The storage client uses the process-wide TLS provider, and panics without one.
        let _ = ring::default_provider().install_default();
        let builder = builder(name, settings);
        let unsigned = builder.get_config_value(&AmazonS3ConfigKey::SkipSignature).is_some_and(|value| is_yes(&value));
        let open = |builder: AmazonS3Builder| -> Result<Self, String> {
            let store = builder.build().map_err(|error| in_words(&error))?;
            let (name, prefix, scratch) = (name.to_owned(), prefix.to_owned(), Arc::clone(scratch));
            Ok(Self { store, name, prefix, signs: !unsigned, origin: None, scratch })
        };
        // Report a failure at startup quickly.
        let hasty = RetryConfig { max_retries: 1, ..RetryConfig::default() };
        let bucket: Self = open(builder.clone().with_retry(hasty))?;
        let first = PaginatedListOptions { max_keys: Some(1), ..PaginatedListOptions::default() };
        let has_keys = builder.get_config_value(&AmazonS3ConfigKey::AccessKeyId).is_some();
        let hint = if has_keys || unsigned { "" } else { " (AWS_ACCESS_KEY_ID is not set)" };
        match timeout(Duration::from_secs(OPENING_LIMIT_SECONDS), bucket.list(first)).await {
            // The first key need not be a valid path.
            Ok(Ok(_) | Err(Error::InvalidPath { .. })) => {
                let bucket = open(builder)?;
                // Any key will do: signing does not require the object to exist.
                let address = bucket.signed_address("a").await;
                Ok(Self { origin: address.map(|address| address.origin().ascii_serialization()), ..bucket })
            }
            Ok(Err(error)) => Err(format!("{}{hint}", in_words(&error))),
            Err(_) => Err(format!("no answer for {OPENING_LIMIT_SECONDS} s{hint}")),
        }
    }

    /// Gets an object, or the requested part of it, by its path within the library.
    async fn get(&self, file: &str, part: Option<RangeInclusive<u64>>) -> Result<GetResult> {
        let range = part.map(|part| GetRange::Bounded(*part.start()..part.end().saturating_add(1)));
        let options = GetOptions { range, ..GetOptions::default() };
        answer(self.store.get_opts(&self.key_of(file)?, options)).await
    }

    /// A signed URL that lets anybody who knows it fetch the file for [`SIGNED_SECONDS`]: a secret. None when the storage
    /// is used without credentials, or when signing takes too long.
    async fn signed_address(&self, file: &str) -> Option<Url> {
        let key = self.key_of(file).ok().filter(|_| self.signs)?;
        let signed = self.store.signed_url(Method::GET, &key, Duration::from_secs(SIGNED_SECONDS));
        match timeout(Duration::from_secs(SIGNING_LIMIT_SECONDS), signed).await {
            Ok(Ok(url)) => return Some(url),
            Ok(Err(error)) => tracing::warn!("no address could be signed for {}: {}", self.name, in_words(&error)),
            Err(_) => tracing::warn!("no address could be signed for {} in {SIGNING_LIMIT_SECONDS} s", self.name),
        }
        None
    }

    /// Reads every audio file, in key order, and sends it, until the receiver is closed.
    async fn walk(&self, visits: &mpsc::Sender<Visit>) -> WalkEnd {
        let mut listing = Listing::of(self);
        let mut files = 0;
        loop {
            let objects = match listing.next().await {
                Ok(Some(Listed::Objects(objects))) => objects,
                Ok(Some(Listed::Strange(key))) => {
                    let obstacle = Visit::Obstacle(format!("the key {} is no path", text::cut(&key, MAX_TEXT_CHARS)));
                    if visits.send(obstacle).await.is_err() {
                        return WalkEnd::Stopped;
                    }
                    continue;
                }
                Ok(None) => return WalkEnd::Complete,
                Err(error) => return WalkEnd::Broken(in_words(&error)),
            };
            let files_here = objects.into_iter().filter_map(|object| self.file_of(&object));
            let mut found =
                stream::iter(files_here).map(|(file, bytes)| self.look_at(file, bytes)).buffered(READS_AT_ONCE);
            while let Some(visit) = found.next().await {
                files += u64::from(matches!(visit, Visit::File(_)));
                if files > MAX_FILES {
                    return WalkEnd::TooMany;
                }
                if visits.send(visit).await.is_err() {
                    return WalkEnd::Stopped;
                }
            }
        }
    }

    /// The object's path within the library, and its size.
    fn file_of(&self, object: &ObjectMeta) -> Option<(String, u64)> {
        let file = object.location.as_ref().strip_prefix(&self.prefix)?;
        Some((file.to_owned(), object.size))
    }

    /// Reads a file's metadata, if its name is that of audio.
    async fn look_at(&self, file: String, bytes: u64) -> Visit {
        if !is_audio(Path::new(&file)) {
            return Visit::LeftOut(kind_of(Path::new(&file)));
        }
        insist(|| self.read(&file)).await.unwrap_or_else(|error| {
            let content = Err(format!("cannot be read: {}", in_words(&error)));
            Visit::File(Found { bytes, content, ..Found::unread(file) })
        })
    }

    /// Reads a file once: computes its hash, and copies it to a temporary file for its tags, which may be anywhere in it.
    async fn read(&self, file: &str) -> Result<Visit> {
        let object = self.get(file, None).await?;
        let mut found = Found { bytes: object.meta.size, ..Found::unread(file.to_owned()) };
        if let Some(reason) = too_large(found.bytes) {
            found.content = Err(reason);
            return Ok(Visit::File(found));
        }
        let mut copy = File::from_std(self.scratch.file().map_err(no_copy)?);
        let mut hasher = blake3::Hasher::new();
        let mut head = Vec::with_capacity(HEAD_BYTES);
        let mut pieces = object.into_stream();
        while let Some(piece) = answer(pieces.try_next()).await? {
            hasher.update(&piece);
            head.extend(piece.iter().take(HEAD_BYTES - head.len()));
            copy.write_all(&piece).await.map_err(no_copy)?;
        }
        if hasher.count() != found.bytes {
            return Err(failure(format!("{} of {} bytes came", hasher.count(), found.bytes)));
        }
        let name = file.rsplit('/').next().unwrap_or(file);
        if let Some(kind) = disguise(name, &head, found.bytes) {
            return Ok(Visit::LeftOut(kind.to_owned()));
        }
        found.content = Ok(hasher.finalize().to_hex().to_string());
        copy.flush().await.map_err(no_copy)?;
        copy.rewind().await.map_err(no_copy)?;
        let copy = copy.into_std().await;
        let tagged = spawn_blocking(move || {
            let tags = tags::read(copy, &found.track.file);
            tags.describe(&mut found);
            Visit::File(found)
        });
        tagged.await.map_err(|error| failure(error.to_string()))
    }

    async fn list(&self, options: PaginatedListOptions) -> Result<(Vec<ObjectMeta>, Option<String>)> {
        let prefix = Some(self.prefix.as_str()).filter(|prefix| !prefix.is_empty());
        let page = answer(self.store.list_paginated(prefix, options)).await?;
        Ok((page.result.objects, page.page_token))
    }

    fn key_of(&self, file: &str) -> Result<Key> {
        Ok(Key::parse(format!("{}{file}", self.prefix))?)
    }
}

impl Source for Bucket {
    fn identity(&self) -> String {
        format!("s3://{}/{}", self.name, self.prefix)
    }

    fn names(&self) -> (Option<String>, Option<String>) {
        bucket_names(&self.name, &self.prefix)
    }

    fn discover(self: Arc<Self>, visits: mpsc::Sender<Visit>, stop: CancellationToken) -> BoxFuture<'static, WalkEnd> {
        Box::pin(async move { stop.run_until_cancelled(self.walk(&visits)).await.unwrap_or(WalkEnd::Stopped) })
    }

    fn resolve<'a>(&'a self, file: &'a str) -> BoxFuture<'a, Option<Url>> {
        Box::pin(self.signed_address(file))
    }

    fn origin(&self) -> Option<&str> {
        self.origin.as_deref()
    }

    /// For workers that did not get the file from the storage itself.
    fn open<'a>(
        &'a self,
        wanted: Wanted<'a>,
        part: Option<RangeInclusive<u64>>,
    ) -> BoxFuture<'a, Result<Opened, Unavailable>> {
        Box::pin(async move {
            let object = self.get(wanted.file, part).await.map_err(|error| match error {
                Error::NotFound { .. } => Unavailable::Gone("is not there any more".to_owned()),
                // The storage is down or overloaded, or denies access.
                error => Unavailable::OutOfReach(format!("cannot be read: {}", in_words(&error))),
            })?;
            wanted.expect_size(object.meta.size)?;
            Ok(object.into_stream().map_err(io::Error::other).boxed())
        })
    }
}

/// Leaves out the credentials.
impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bucket({}/{})", self.name, self.prefix)
    }
}

/// A listing of a bucket, page by page.
///
/// The client rejects a whole page if one of its keys is not a valid path, such as `a//b.mp3`. Such pages are requested in
/// smaller parts, down to that key alone, which is then skipped.
struct Listing<'a> {
    bucket: &'a Bucket,
    /// The storage's token for the next page.
    token: Option<String>,
    /// The key skipped last.
    left_behind: Option<String>,
    keys: usize,
    is_through: bool,
}

/// The next result of a listing.
enum Listed {
    Objects(Vec<ObjectMeta>),
    /// A key that is not a valid path.
    Strange(String),
}

impl<'a> Listing<'a> {
    fn of(bucket: &'a Bucket) -> Self {
        Self { bucket, token: None, left_behind: None, keys: LISTING_KEYS, is_through: false }
    }

    async fn next(&mut self) -> Result<Option<Listed>> {
        while !self.is_through {
            let options = PaginatedListOptions {
                offset: self.left_behind.clone(),
                page_token: self.token.clone(),
                max_keys: Some(self.keys),
                ..PaginatedListOptions::default()
            };
            match insist(|| self.bucket.list(options.clone())).await {
                Ok((objects, token)) => {
                    self.is_through = token.is_none();
                    self.token = token;
                    self.keys = (self.keys * 10).min(LISTING_KEYS);
                    return Ok(Some(Listed::Objects(objects)));
                }
                Err(Error::InvalidPath { .. }) if self.keys > 1 => self.keys /= 10,
                Err(error) => {
                    let key = strange_key(error)?;
                    if self.left_behind.as_ref() == Some(&key) {
                        return Err(failure(format!("it lists {key} again and again")));
                    }
                    (self.token, self.left_behind) = (None, Some(key.clone()));
                    return Ok(Some(Listed::Strange(key)));
                }
            }
        }
        Ok(None)
    }
}

fn builder(bucket: &str, settings: &StorageSettings) -> AmazonS3Builder {
    let limit = AmazonS3ConfigKey::Client(ClientConfigKey::Timeout);
    let mut builder = AmazonS3Builder::new().with_config(limit, REQUEST_LIMIT);
    for (name, value) in settings.iter() {
        // Ignore unknown names: other programs use settings with this prefix too.
        if let Ok(key) = name.to_ascii_lowercase().parse() {
            builder = builder.with_config(key, value);
        }
    }
    builder.with_bucket_name(bucket)
}

/// Values that the builder accepts as true.
fn is_yes(value: &str) -> bool {
    ["1", "true", "on", "yes", "y"].iter().any(|yes| value.eq_ignore_ascii_case(yes))
}

/// Waits for an answer, with a time limit.
async fn answer<T>(request: impl Future<Output = Result<T>>) -> Result<T> {
    let late = |_| Err(failure(format!("no answer for {ANSWER_LIMIT_SECONDS} s")));
    timeout(Duration::from_secs(ANSWER_LIMIT_SECONDS), request).await.unwrap_or_else(late)
}

/// Retries a request that may succeed later.
async fn insist<T, F: Future<Output = Result<T>>>(ask: impl Fn() -> F) -> Result<T> {
    let mut tries = 1;
    loop {
        match ask().await {
            Err(error @ Error::Generic { .. }) if tries < WALK_TRIES => {
                tracing::warn!("a scan waits: {}", in_words(&error));
                sleep(Duration::from_secs(WALK_RETRY_SECONDS)).await;
                tries += 1;
            }
            end => return end,
        }
    }
}

/// The key that made a listing fail, or the error if the key was not the reason.
fn strange_key(error: Error) -> Result<String> {
    match error {
        Error::InvalidPath { source: path::Error::EmptySegment { path } | path::Error::BadSegment { path, .. } } => {
            Ok(path)
        }
        error => Err(error),
    }
}

fn no_copy(error: io::Error) -> Error {
    failure(format!("no temporary file: {error}"))
}

fn failure(reason: String) -> Error {
    Error::Generic { store: "S3", source: reason.into() }
}

/// An error on one line: the storage's own message if it has one.
fn in_words(error: &Error) -> String {
    let whole = error.to_string();
    let told = |tag: &str| {
        let (_, rest) = whole.split_once(&format!("<{tag}>"))?;
        rest.split_once(&format!("</{tag}>")).map(|(text, _)| text.to_owned())
    };
    let words = match (told("Code"), told("Message")) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        _ => whole.split_whitespace().collect::<Vec<_>>().join(" "),
    };
    text::cut(&words, MAX_TEXT_CHARS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_one_line_in_the_storage_s_own_words() {
        let body = "403 Forbidden: <?xml version=\"1.0\"?>\n<Error>\n<Code>InvalidAccessKeyId</Code>\
            <Message>no such key</Message><StringToSign>secret</StringToSign></Error>";
        assert_eq!(in_words(&failure(body.into())), "InvalidAccessKeyId: no such key");
        assert_eq!(in_words(&failure("line\n  and line".into())), "Generic S3 error: line and line");
    }
}
