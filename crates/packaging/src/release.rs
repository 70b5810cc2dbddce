//! A release's version, date and folder.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use xtask::run::{output, root, target_dir};

use crate::template::Values;

/// A version of the programs that is being packed.
pub(crate) struct Release {
    pub(crate) version: String,
    /// Time of the commit, in seconds since 1970. Every file and archive gets this time.
    pub(crate) date: u32,
    /// Whether the executables are built with the development profile.
    pub(crate) development: bool,
    folder: PathBuf,
    work: PathBuf,
}

impl Release {
    /// Takes the version from the workspace's manifest, and the date from `SOURCE_DATE_EPOCH` or else the last commit.
    pub(crate) fn new(development: bool) -> anyhow::Result<Release> {
        let manifest: toml::Table = fs::read_to_string(root().join("Cargo.toml"))?.parse()?;
        let version = manifest["workspace"]["package"]["version"].as_str().context("the workspace has no version")?;
        let date = match std::env::var("SOURCE_DATE_EPOCH") {
            Ok(date) => date,
            Err(_) => output("git", &["-C", &root().to_string_lossy(), "log", "-1", "--format=%ct"])
                .context("git tells no date of the last commit; set SOURCE_DATE_EPOCH")?,
        };
        let date = date.trim().parse().with_context(|| format!("{} is no date in seconds since 1970", date.trim()))?;
        let (folder, work) = (target_dir().join("dist"), target_dir().join("dist-work"));
        fs::create_dir_all(&folder)?;
        fs::create_dir_all(&work)?;
        Ok(Release { version: version.to_owned(), date, development, folder, work })
    }

    /// Removes the files of earlier runs.
    pub(crate) fn clear(&self) -> anyhow::Result<()> {
        fs::remove_dir_all(&self.folder)?;
        Ok(fs::create_dir_all(&self.folder)?)
    }

    /// The folder for all files of the release.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Path of a release file: `NAME-VERSION-REST`, where the rest is the system and the extension.
    pub(crate) fn file(&self, name: &str, rest: &str) -> PathBuf {
        self.folder.join(self.file_name(name, rest))
    }

    /// The name of that file.
    pub(crate) fn file_name(&self, name: &str, rest: &str) -> String {
        let between = if rest.starts_with('.') { "" } else { "-" };
        format!("{name}-{}{between}{rest}", self.version)
    }

    /// An empty working folder.
    pub(crate) fn work(&self, name: &str) -> anyhow::Result<PathBuf> {
        let folder = self.work.join(name);
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    /// Writes a file of the release.
    pub(crate) fn write(&self, file: &Path, bytes: impl AsRef<[u8]>) -> anyhow::Result<()> {
        fs::write(file, bytes).with_context(|| format!("{} cannot be written", file.display()))
    }

    /// The values available to every template.
    pub(crate) fn values(&self) -> Values {
        let day = self.day();
        BTreeMap::from([
            ("VERSION", self.version.clone()),
            ("DATE", day.clone()),
            ("YEAR", day[..4].to_owned()),
            ("REPOSITORY", REPOSITORY.to_owned()),
        ])
    }

    /// The date, as `2026-11-27`.
    pub(crate) fn day(&self) -> String {
        let (year, month, day) = self.civil();
        format!("{year:04}-{month:02}-{day:02}")
    }

    /// Year, month and day in UTC, by the algorithm `civil_from_days` of Howard Hinnant's "chrono-Compatible Low-Level Date
    /// Algorithms".
    pub(crate) fn civil(&self) -> (u16, u8, u8) {
        let days = self.date / (24 * 60 * 60) + 719_468;
        let (era, day_of_era) = (days / 146_097, days % 146_097);
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        let year = year_of_era + era * 400 + u32::from(month <= 2);
        let fits = "a date in 32 bits of seconds has a year of four digits";
        (year.try_into().expect(fits), month.try_into().expect(fits), day.try_into().expect(fits))
    }

    /// The existing files, sorted.
    pub(crate) fn files(&self) -> anyhow::Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            if path.is_file() {
                files.push(path);
            }
        }
        files.sort();
        Ok(files)
    }

    /// Prints the files and their sizes, and fails if a download exceeds its limit.
    pub(crate) fn show(&self) -> anyhow::Result<()> {
        let mut too_large = Vec::new();
        println!();
        for file in self.files()? {
            let bytes = fs::metadata(&file)?.len();
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            println!("{:>9.2} MB  {name}", bytes as f64 / 1e6);
            too_large.extend(
                limit(&name)
                    .filter(|limit| bytes > *limit)
                    .map(|limit| format!("{name} has {bytes} bytes, which is more than {limit}")),
            );
        }
        println!("in {}", self.folder.display());
        if !(too_large.is_empty() || self.development) {
            bail!("{}", too_large.join("; "));
        }
        Ok(())
    }
}

/// The address of the repository and its releases.
pub(crate) const REPOSITORY: &str = env!("CARGO_PKG_REPOSITORY");

/// Largest download of the worker, in bytes.
const WORKER_DOWNLOAD: u64 = 12_000_000;

/// The same in the formats that Windows itself unpacks, which compress less; the installer is the smallest download.
const DEFLATED_DOWNLOAD: u64 = 16_000_000;

/// Largest download for macOS, in bytes: it contains the program twice, for both architectures.
const UNIVERSAL_DOWNLOAD: u64 = 2 * WORKER_DOWNLOAD;

/// Largest compressed image of the server, in bytes.
const SERVER_IMAGE: u64 = 40_000_000;

/// The limit of a file in bytes, if it has one.
fn limit(name: &str) -> Option<u64> {
    let is_download = [".tar.xz", ".deb", ".rpm", ".exe", ".msi", ".zip", ".dmg"].iter().any(|end| name.ends_with(end));
    match name {
        _ if name.starts_with("chaarfm-server-") && name.contains("-container-") => Some(SERVER_IMAGE),
        _ if !(name.starts_with("chaarfm-worker-") && is_download) => None,
        _ if name.contains("universal") => Some(UNIVERSAL_DOWNLOAD),
        _ if name.ends_with(".zip") || name.ends_with(".msi") => Some(DEFLATED_DOWNLOAD),
        _ => Some(WORKER_DOWNLOAD),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (date, day) in [
            (0, "1970-01-01"),
            (951_782_400, "2000-02-29"),
            (1_709_164_800, "2024-02-29"),
            (1_709_251_199, "2024-02-29"),
            (1_709_251_200, "2024-03-01"),
            (1_795_799_999, "2026-11-27"),
            (u32::MAX, "2106-02-07"),
        ] {
            let release = Release {
                version: String::new(),
                date,
                development: false,
                folder: PathBuf::new(),
                work: PathBuf::new(),
            };
            assert_eq!(release.day(), day);
        }
    }

    #[test]
    fn releases_are_somewhere() {
        assert!(REPOSITORY.starts_with("https://"));
    }

    #[test]
    fn what_people_download_has_a_limit() {
        assert_eq!(limit("chaarfm-worker-0.1.0-linux-x86_64.deb"), Some(WORKER_DOWNLOAD));
        assert_eq!(limit("chaarfm-worker-0.1.0-macos-universal.zip"), Some(UNIVERSAL_DOWNLOAD));
        assert_eq!(limit("chaarfm-server-0.1.0-container-arm64.tar.gz"), Some(SERVER_IMAGE));
        assert_eq!(limit("chaarfm-server-0.1.0-linux-x86_64.deb"), None);
        assert_eq!(limit("chaarfm-worker-0.1.0.cdx.json"), None);
    }
}
