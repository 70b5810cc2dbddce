//! Where libraries are, as their owner says it: a folder, `file:///path` or `s3://bucket/prefix`; and how storages are
//! reached.

use std::{env, ffi::OsString, fmt, path::PathBuf};

use object_store::path::Path as Key;
use url::Url;

/// Where a library is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LibraryLocation {
    /// A folder of this machine.
    Folder(PathBuf),
    /// The objects of a bucket on S3 whose keys begin with a prefix.
    Bucket {
        /// The bucket's name.
        bucket: String,
        /// Empty, or what ends with `/`.
        prefix: String,
    },
}

/// Why a text does not say where a library is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LocationError {
    /// Not `file` or `s3`.
    #[error("libraries are folders, file:///path or s3://bucket/prefix; there is no storage called {0}://")]
    Scheme(String),
    /// `file://` and no path of this machine after it.
    #[error("{0} is no path of this machine; it is written like file:///home/me/music, with %20 for a space")]
    File(String),
    /// `s3://` and no bucket's name after it.
    #[error("'{0}' is no name of a bucket: those consist of letters, digits, dots, hyphens and underscores")]
    Bucket(String),
    /// The prefix cannot be one of keys that are paths.
    #[error("what is after the bucket's name is no path: {0}")]
    Prefix(String),
}

impl LibraryLocation {
    /// Reads a path, which need not be Unicode, or an address. What is after the bucket's name in an `s3` address is taken
    /// as it is, without any escapes.
    ///
    /// # Errors
    /// [`LocationError`] when it is an address of another sort, or a malformed one.
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

/// How storages are reached: endpoint, region, credentials and so on, each under the name that it has in the environment,
/// such as `AWS_ENDPOINT`. Holds secrets, and does not show them.
#[derive(Clone, Default)]
pub struct StorageSettings(Vec<(String, String)>);

impl StorageSettings {
    /// The environment's variables that begin with `AWS_`.
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
