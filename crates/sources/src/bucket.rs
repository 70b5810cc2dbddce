//! What lies below a prefix in a bucket on S3, or on whatever speaks its protocol, as a library.
//!
//! Requests that fail in passing are repeated by the client (`object_store`) for up to three minutes, a broken transfer
//! from where it broke. Leaves out how an object reaches a worker: [`Bucket::get`] is for the coordinator, and
//! [`Bucket::signed_address`] lets clients fetch it without credentials.

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

/// For this long a signed address begins a transfer; one that has begun may take as long as it needs. A worker asks at once,
/// or when it has fetched the file before this one: an hour for 2 GiB is 5 Mbit/s. A slower one goes through the coordinator.
const SIGNED_SECONDS: u64 = 60 * 60;

/// Longest wait for a signature. It takes no time, except when the credentials have to be fetched from somewhere.
const SIGNING_LIMIT_SECONDS: u64 = 1;

/// Longest wait for an answer, and for each further piece of it, the client's own repetitions included.
const ANSWER_LIMIT_SECONDS: u64 = 240;

/// Longest wait for the first listing, which shows whether the library can be used at all.
const OPENING_LIMIT_SECONDS: u64 = 30;

/// Longest request, for the client. Its own default of 30 s ends transfers that go well.
const REQUEST_LIMIT: &str = "6h";

/// A walk asks this often for what the client has given up, and waits this long between: a storage that is away for some
/// minutes makes no track unreadable.
const WALK_TRIES: u32 = 5;
const WALK_RETRY_SECONDS: u64 = 60;

/// Objects that one walk reads at a time. Each takes its size on the disk for temporary files meanwhile.
const READS_AT_ONCE: usize = 4;

/// Objects in one listing, the most there can be.
const LISTING_KEYS: usize = 1000;

/// A part of a bucket.
#[derive(Clone)]
pub(super) struct Bucket {
    store: AmazonS3,
    name: String,
    /// Empty, or what ends with `/`.
    prefix: String,
    signs: bool,
    /// Of its signed addresses.
    origin: Option<String>,
    /// Where copies are made.
    scratch: Arc<Scratch>,
}

impl Bucket {
    /// # Errors
    /// When the settings are no good or the bucket cannot be listed.
    pub(super) async fn open(
        name: &str,
        prefix: &str,
        settings: &StorageSettings,
        scratch: &Arc<Scratch>,
    ) -> Result<Self, String> {
        // The storage's client takes the process' provider of TLS, and panics where there is none.
        let _ = ring::default_provider().install_default();
        let builder = builder(name, settings);
        let unsigned = builder.get_config_value(&AmazonS3ConfigKey::SkipSignature).is_some_and(|value| is_yes(&value));
        let open = |builder: AmazonS3Builder| -> Result<Self, String> {
            let store = builder.build().map_err(|error| in_words(&error))?;
            let (name, prefix, scratch) = (name.to_owned(), prefix.to_owned(), Arc::clone(scratch));
            Ok(Self { store, name, prefix, signs: !unsigned, origin: None, scratch })
        };
        // Whoever starts a coordinator wants to know at once.
        let hasty = RetryConfig { max_retries: 1, ..RetryConfig::default() };
        let bucket: Self = open(builder.clone().with_retry(hasty))?;
        let first = PaginatedListOptions { max_keys: Some(1), ..PaginatedListOptions::default() };
        let has_keys = builder.get_config_value(&AmazonS3ConfigKey::AccessKeyId).is_some();
        let hint = if has_keys || unsigned { "" } else { " (AWS_ACCESS_KEY_ID is not set)" };
        match timeout(Duration::from_secs(OPENING_LIMIT_SECONDS), bucket.list(first)).await {
            // What is first need not be a path.
            Ok(Ok(_) | Err(Error::InvalidPath { .. })) => {
                let bucket = open(builder)?;
                // Any file will do: what is signed need not be there.
                let address = bucket.signed_address("a").await;
                Ok(Self { origin: address.map(|address| address.origin().ascii_serialization()), ..bucket })
            }
            Ok(Err(error)) => Err(format!("{}{hint}", in_words(&error))),
            Err(_) => Err(format!("no answer for {OPENING_LIMIT_SECONDS} s{hint}")),
        }
    }

    /// An object, or the part of it that is asked for, by its path within the library.
    async fn get(&self, file: &str, part: Option<RangeInclusive<u64>>) -> Result<GetResult> {
        let range = part.map(|part| GetRange::Bounded(*part.start()..part.end().saturating_add(1)));
        let options = GetOptions { range, ..GetOptions::default() };
        answer(self.store.get_opts(&self.key_of(file)?, options)).await
    }

    /// An address at which whoever knows it can get the file for [`SIGNED_SECONDS`]: a secret. None when the storage is used
    /// without credentials, or when there is no signature to be had in time.
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

    /// Reads every audio file, in the order of their keys, and hands it over, until nobody wants more.
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

    /// Reads what there is to know about a file, if it is taken for audio.
    async fn look_at(&self, file: String, bytes: u64) -> Visit {
        if !is_audio(Path::new(&file)) {
            return Visit::LeftOut(kind_of(Path::new(&file)));
        }
        insist(|| self.read(&file)).await.unwrap_or_else(|error| {
            let content = Err(format!("cannot be read: {}", in_words(&error)));
            Visit::File(Found { bytes, content, ..Found::unread(file) })
        })
    }

    /// Reads a file once, for its hash and into a temporary file for its tags, which may be anywhere in it.
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

    /// For workers that did not get it at its own address.
    fn open<'a>(
        &'a self,
        wanted: Wanted<'a>,
        part: Option<RangeInclusive<u64>>,
    ) -> BoxFuture<'a, Result<Opened, Unavailable>> {
        Box::pin(async move {
            let object = self.get(wanted.file, part).await.map_err(|error| match error {
                Error::NotFound { .. } => Unavailable::Gone("is not there any more".to_owned()),
                // The storage is away, too busy, or does not want us any more.
                error => Unavailable::OutOfReach(format!("cannot be read: {}", in_words(&error))),
            })?;
            wanted.expect_size(object.meta.size)?;
            Ok(object.into_stream().map_err(io::Error::other).boxed())
        })
    }
}

/// Without the credentials.
impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bucket({}/{})", self.name, self.prefix)
    }
}

/// A listing on its way through a bucket, page by page.
///
/// The client refuses a whole page for one key in it that is no path, such as `a//b.mp3`. So such pages are asked for in
/// smaller parts, down to that key alone, which is then left behind.
struct Listing<'a> {
    bucket: &'a Bucket,
    /// Where the next page begins, as the storage told.
    token: Option<String>,
    /// The key that was left behind last.
    left_behind: Option<String>,
    keys: usize,
    is_through: bool,
}

/// What comes next in a listing.
enum Listed {
    Objects(Vec<ObjectMeta>),
    /// A key that is no path.
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
        // Other programs have settings there as well.
        if let Ok(key) = name.to_ascii_lowercase().parse() {
            builder = builder.with_config(key, value);
        }
    }
    builder.with_bucket_name(bucket)
}

/// What the builder takes for true.
fn is_yes(value: &str) -> bool {
    ["1", "true", "on", "yes", "y"].iter().any(|yes| value.eq_ignore_ascii_case(yes))
}

/// Waits for an answer, but not for ever.
async fn answer<T>(request: impl Future<Output = Result<T>>) -> Result<T> {
    let late = |_| Err(failure(format!("no answer for {ANSWER_LIMIT_SECONDS} s")));
    timeout(Duration::from_secs(ANSWER_LIMIT_SECONDS), request).await.unwrap_or_else(late)
}

/// Asks again for what may succeed later.
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

/// The key that a listing failed over, or the error when it did not fail over one.
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

/// An error in one line: what the storage itself says, where it says something.
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
