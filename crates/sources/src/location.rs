//! Locations of libraries as their owner writes them: a folder, `file:///path` or `s3://bucket/prefix`, each with an
//! optional name before it; and the settings of storages.

use std::{
    env,
    ffi::OsString,
    fmt, fs,
    path::{Path, PathBuf},
};

use chaarfm_domain::text::is_printable;
use object_store::path::Path as Key;
use url::Url;

use super::names::shown;

/// Longest name of a library.
const MAX_NAME_CHARS: usize = 64;

/// A library as its owner writes it: its location and an optional name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedLocation {
    /// Its name; without one it is named after the last part of its location.
    pub name: Option<String>,
    /// Its location.
    pub location: LibraryLocation,
}

/// The location of a library.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LibraryLocation {
    /// A local folder.
    Folder(PathBuf),
    /// The objects in an S3 bucket whose keys begin with a prefix.
    Bucket {
        /// The bucket's name.
        bucket: String,
        /// Empty, or ends with `/`.
        prefix: String,
    },
}

/// Why a text is not the location of a library.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LocationError {
    /// Not `file` or `s3`.
    #[error("libraries are folders, file:///path or s3://bucket/prefix; there is no storage called {0}://")]
    Scheme(String),
    /// `file://` without a valid local path after it.
    #[error("{0} is no path of this machine; it is written like file:///home/me/music, with %20 for a space")]
    File(String),
    /// `s3://` without a valid bucket name after it.
    #[error("'{0}' is no name of a bucket: those consist of letters, digits, dots, hyphens and underscores")]
    Bucket(String),
    /// The name before the `=` is invalid.
    #[error("the name of a library has 1 to {MAX_NAME_CHARS} characters that can be shown; '{0}' is none")]
    Name(String),
    /// The prefix does not consist of valid path segments.
    #[error("what is after the bucket's name is no path: {0}")]
    Prefix(String),
}

impl NamedLocation {
    /// Parses `NAME=LOCATION` or a location alone. A name cannot contain `/`, `\\` or `:`, so that locations may contain
    /// `=`; a relative folder with a `=` is written `./a=b`.
    ///
    /// # Errors
    /// [`LocationError`] when the name or the location is malformed.
    pub fn parse(text: OsString) -> Result<Self, LocationError> {
        let named = text.to_str().and_then(|text| text.split_once('='));
        let Some((name, location)) = named.filter(|(name, _)| !name.contains(['/', '\\', ':'])) else {
            return LibraryLocation::parse(text).map(Self::from);
        };
        let name = name.trim();
        if !(1..=MAX_NAME_CHARS).contains(&name.chars().count()) || !name.chars().all(is_printable) {
            return Err(LocationError::Name(name.to_owned()));
        }
        Ok(Self { name: Some(name.to_owned()), location: LibraryLocation::parse(location.into())? })
    }
}

impl fmt::Display for NamedLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = &self.name {
            write!(f, "{name}=")?;
        }
        self.location.fmt(f)
    }
}

impl From<LibraryLocation> for NamedLocation {
    fn from(location: LibraryLocation) -> Self {
        Self { name: None, location }
    }
}

impl From<PathBuf> for NamedLocation {
    fn from(path: PathBuf) -> Self {
        LibraryLocation::from(path).into()
    }
}

impl LibraryLocation {
    /// Parses a path, which need not be Unicode, or a URL. The part of an `s3` URL after the bucket's name is taken
    /// literally, without escapes.
    ///
    /// # Errors
    /// [`LocationError`] when the URL has another scheme or is malformed.
    pub fn parse(text: OsString) -> Result<Self, LocationError> {
        let Some((scheme, rest)) = text.to_str().and_then(|text| text.split_once("://")) else {
            return Ok(Self::Folder(text.into()));
        };
        match scheme {
            "file" => file_path(rest).map(Self::Folder).ok_or_else(|| LocationError::File(format!("file://{rest}"))),
            "s3" => bucket(rest),
            _ if is_scheme(scheme) => Err(LocationError::Scheme(scheme.to_owned())),
            _ => Ok(Self::Folder(text.into())),
        }
    }
}

impl LibraryLocation {
    /// The names of the location and of its parent, as far as known when nothing is there.
    pub(super) fn names(&self) -> (Option<String>, Option<String>) {
        match self {
            Self::Folder(path) => {
                // A link is named after its target, as it would be if the target existed.
                let path = fs::read_link(path).map_or_else(|_| path.clone(), |target| path.with_file_name(target));
                folder_names(&std::path::absolute(&path).unwrap_or(path))
            }
            Self::Bucket { bucket, prefix } => bucket_names(bucket, prefix),
        }
    }
}

/// A folder's name, and that of its parent.
pub(super) fn folder_names(path: &Path) -> (Option<String>, Option<String>) {
    let name = |path: &Path| path.file_name().map(shown);
    (name(path), path.parent().and_then(name))
}

/// The last part of the prefix, or the bucket's name; and the part before it.
pub(super) fn bucket_names(bucket: &str, prefix: &str) -> (Option<String>, Option<String>) {
    let mut parts = std::iter::once(bucket).chain(prefix.split_terminator('/')).rev();
    (parts.next().map(str::to_owned), parts.next().map(str::to_owned))
}

fn file_path(rest: &str) -> Option<PathBuf> {
    let url = Url::parse(&format!("file://{rest}")).ok()?;
    let has_more = url.query().is_some() || url.fragment().is_some();
    url.to_file_path().ok().filter(|_| !has_more)
}

fn bucket(rest: &str) -> Result<LibraryLocation, LocationError> {
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let is_name = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
    if bucket.is_empty() || !bucket.chars().all(is_name) {
        return Err(LocationError::Bucket(bucket.to_owned()));
    }
    let prefix = Key::parse(prefix).map_err(|error| LocationError::Prefix(error.to_string()))?;
    let prefix = if prefix.as_ref().is_empty() { String::new() } else { format!("{prefix}/") };
    Ok(LibraryLocation::Bucket { bucket: bucket.to_owned(), prefix })
}

/// RFC 3986, section 3.1.
fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
}

impl fmt::Display for LibraryLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => path.display().fmt(f),
            Self::Bucket { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
        }
    }
}

impl From<PathBuf> for LibraryLocation {
    fn from(path: PathBuf) -> Self {
        Self::Folder(path)
    }
}

/// Connection settings for storages (endpoint, region, credentials and so on), each under its environment variable's name,
/// such as `AWS_ENDPOINT`. Contains secrets and never displays them.
#[derive(Clone, Default)]
pub struct StorageSettings(Vec<(String, String)>);

impl StorageSettings {
    /// The environment variables that begin with `AWS_`.
    #[must_use]
    pub fn from_env() -> Self {
        env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))).collect()
    }

    /// Each name with its value.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl FromIterator<(String, String)> for StorageSettings {
    fn from_iter<T: IntoIterator<Item = (String, String)>>(settings: T) -> Self {
        Self(settings.into_iter().filter(|(name, _)| name.starts_with("AWS_")).collect())
    }
}

impl fmt::Debug for StorageSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|(name, _)| name)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<LibraryLocation, LocationError> {
        LibraryLocation::parse(text.into())
    }

    #[test]
    fn understands_folders_and_buckets() {
        for path in ["/music", "my music", "C:\\music", "./a://b", ""] {
            assert_eq!(parse(path), Ok(LibraryLocation::Folder(path.into())));
        }
        for (text, bucket, prefix) in [
            ("s3://tunes", "tunes", ""),
            ("s3://tunes/", "tunes", ""),
            ("s3://my.tunes/jazz", "my.tunes", "jazz/"),
            ("s3://tunes/a b/50%/ä/", "tunes", "a b/50%/ä/"),
        ] {
            let location = LibraryLocation::Bucket { bucket: bucket.into(), prefix: prefix.into() };
            assert_eq!(parse(text), Ok(location.clone()));
            assert_eq!(location.to_string(), format!("s3://{bucket}/{prefix}"));
        }
    }

    #[cfg(unix)]
    #[test]
    fn understands_file_addresses_and_names_that_are_not_unicode() {
        use std::os::unix::ffi::OsStringExt;
        assert_eq!(parse("file:///my%20music/%C3%A4"), Ok(LibraryLocation::Folder("/my music/ä".into())));
        let odd = OsString::from_vec(b"/m\xff".to_vec());
        assert_eq!(LibraryLocation::parse(odd.clone()), Ok(LibraryLocation::Folder(odd.into())));
    }

    #[test]
    fn a_name_goes_before_the_location() {
        let parse = |text: &str| NamedLocation::parse(text.into());
        for (text, name, location) in [
            ("jazz=/mnt/a=b", Some("jazz"), "/mnt/a=b"),
            ("My music =s3://tunes/x", Some("My music"), "s3://tunes/x"),
            ("/mnt/a=b", None, "/mnt/a=b"),
            ("./a=b", None, "./a=b"),
            ("C:\\a=b", None, "C:\\a=b"),
            ("s3://tunes/a=b", None, "s3://tunes/a=b"),
        ] {
            let location = LibraryLocation::parse(location.into()).unwrap();
            assert_eq!(parse(text), Ok(NamedLocation { name: name.map(str::to_owned), location }), "{text}");
        }
        assert_eq!(parse("jazz=s3://tunes").unwrap().to_string(), "jazz=s3://tunes/");
        for name in ["", "a\u{1b}b", &"x".repeat(65)] {
            assert_eq!(parse(&format!("{name}=/x")), Err(LocationError::Name(name.to_owned())));
        }
        assert_eq!(parse("a=gs://x"), Err(LocationError::Scheme("gs".into())));
    }

    #[test]
    fn says_what_is_wrong() {
        assert_eq!(parse("gs://x/y"), Err(LocationError::Scheme("gs".into())));
        for text in ["file://elsewhere/music", "file:///what?", "file:///c#"] {
            assert_eq!(parse(text), Err(LocationError::File(text.into())));
        }
        assert_eq!(parse("s3://"), Err(LocationError::Bucket(String::new())));
        assert_eq!(parse("s3://key:secret@x/y"), Err(LocationError::Bucket("key:secret@x".into())));
        for text in ["s3://x/../y", "s3://x/a//b"] {
            assert!(matches!(parse(text), Err(LocationError::Prefix(_))), "{text}");
        }
    }

    #[test]
    fn settings_keep_their_secrets() {
        let given = [("AWS_SECRET_ACCESS_KEY", "hush"), ("HOME", "/root")];
        let settings: StorageSettings = given.into_iter().map(|(a, b)| (a.to_owned(), b.to_owned())).collect();
        assert_eq!(format!("{settings:?}"), r#"["AWS_SECRET_ACCESS_KEY"]"#);
        assert_eq!(settings.iter().collect::<Vec<_>>(), given[..1]);
    }
}
