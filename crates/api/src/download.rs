//! Programs to download, and how their file names are parsed: program, version, system.

use serde::{Deserialize, Serialize};

/// A worker program that the coordinator offers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DownloadView {
    /// Name of the file.
    pub name: String,
    /// Its address, relative to the coordinator's.
    pub url: String,
    /// The program's version.
    pub version: String,
    /// The system it is for.
    pub system: System,
    /// The processor it is for: `x86_64`, `aarch64`, or `universal` for all; none when the file name does not say.
    pub processor: Option<String>,
    /// How it is packed.
    pub packing: Packing,
    /// Size of the file.
    pub bytes: u64,
    /// SHA-256 of the file, in lower-case hexadecimal.
    pub sha256: String,
}

/// A system that executables are made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum System {
    /// Windows.
    Windows,
    /// macOS.
    Macos,
    /// Linux.
    Linux,
}

/// How a file packages the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Packing {
    /// A Windows installer, for one user.
    Setup,
    /// A Windows package, for administrators.
    Msi,
    /// A macOS disk image.
    Dmg,
    /// A Linux AppImage.
    AppImage,
    /// A Debian package.
    Deb,
    /// A package for Fedora and others.
    Rpm,
    /// An archive to be unpacked.
    Archive,
    /// The bare executable.
    Executable,
}

/// The parts of a file name such as `chaarfm-worker-0.1.0-linux-x86_64.deb`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DownloadName {
    /// The version.
    pub version: String,
    /// The system.
    pub system: System,
    /// The processor: `x86_64`, `aarch64`, or `universal` for all of the system's; none when the name does not say.
    pub processor: Option<&'static str>,
    /// How it is packed.
    pub packing: Packing,
}

/// Names begin with this.
const PROGRAM: &str = "chaarfm-worker";

/// Words for processors, and their canonical names.
const PROCESSORS: [(&str, &str); 8] = [
    ("x86_64", "x86_64"),
    ("amd64", "x86_64"),
    ("x64", "x86_64"),
    ("aarch64", "aarch64"),
    ("arm64", "aarch64"),
    ("universal", "universal"),
    ("universal2", "universal"),
    ("noarch", "universal"),
];

/// File name endings, the packing they indicate, and the system if only one uses it.
const ENDS: [(&str, Packing, Option<System>); 11] = [
    ("setup.exe", Packing::Setup, Some(System::Windows)),
    (".exe", Packing::Executable, Some(System::Windows)),
    (".msi", Packing::Msi, Some(System::Windows)),
    (".dmg", Packing::Dmg, Some(System::Macos)),
    (".appimage", Packing::AppImage, Some(System::Linux)),
    (".deb", Packing::Deb, Some(System::Linux)),
    (".rpm", Packing::Rpm, Some(System::Linux)),
    (".zip", Packing::Archive, None),
    (".tar.gz", Packing::Archive, None),
    (".tar.xz", Packing::Archive, None),
    (".tar.zst", Packing::Archive, None),
];

impl DownloadName {
    /// Parses a file name. None if the file is not a download of the worker: other programs, checksums, signatures, lists.
    #[must_use]
    pub fn read(name: &str) -> Option<Self> {
        let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.+~".contains(&byte));
        let lower = name.to_ascii_lowercase();
        let rest = lower.strip_prefix(PROGRAM)?;
        let rest = rest.strip_prefix(['-', '_']).filter(|_| is_plain)?;
        let ending = ENDS.iter().find(|(end, ..)| rest.ends_with(end));
        let rest = ending.map_or(rest, |(end, ..)| rest.trim_end_matches(end));
        let version_end = rest.find(['-', '_']).unwrap_or(rest.len());
        let (version, target) = rest.split_at(version_end);
        let numbers = version.split('.').filter(|part| part.bytes().next().is_some_and(|byte| byte.is_ascii_digit()));
        if numbers.count() < 3 {
            return None;
        }
        let words = || target.split(['-', '.']).filter(|word| !word.is_empty());
        let named = words().find_map(|word| match word {
            "windows" | "win64" => Some(System::Windows),
            "macos" | "darwin" | "apple" => Some(System::Macos),
            "linux" => Some(System::Linux),
            _ => None,
        });
        let (packing, system) = match ending {
            Some((_, packing, system)) => (*packing, system.or(named)?),
            // A bare executable has nothing after its target.
            None if words().next_back().is_some_and(is_target_word) => (Packing::Executable, named?),
            None => return None,
        };
        let processor = PROCESSORS.iter().find(|(word, _)| target.contains(word)).map(|(_, name)| *name);
        Some(Self { version: version.to_owned(), system, processor, packing })
    }
}

/// Whether a target can end with this word.
fn is_target_word(word: &str) -> bool {
    let ends = ["gnu", "musl", "darwin", "linux", "macos", "msvc", "64"];
    PROCESSORS.iter().any(|(name, _)| name.ends_with(word)) || ends.contains(&word) || word.starts_with("gnu")
}

impl System {
    /// Its name, for people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Windows => "Windows",
            Self::Macos => "macOS",
            Self::Linux => "Linux",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_version_system_processor_and_packing() {
        use {Packing::*, System::*};
        for (name, system, processor, packing) in [
            ("chaarfm-worker-0.1.0-linux-x86_64.deb", Linux, "x86_64", Deb),
            ("chaarfm-worker_0.1.0_amd64.deb", Linux, "x86_64", Deb),
            ("chaarfm-worker-0.1.0-1.aarch64.rpm", Linux, "aarch64", Rpm),
            ("chaarfm-worker-0.1.0-linux-arm64.tar.xz", Linux, "aarch64", Archive),
            ("chaarfm-worker-0.1.0-x86_64-unknown-linux-musl", Linux, "x86_64", Executable),
            ("chaarfm-worker-0.1.0-linux-x86_64", Linux, "x86_64", Executable),
            ("chaarfm-worker-0.1.0-x86_64.AppImage", Linux, "x86_64", AppImage),
            ("chaarfm-worker-0.1.0-windows-x86_64-setup.exe", Windows, "x86_64", Setup),
            ("chaarfm-worker-0.1.0-x86_64-pc-windows-gnu.exe", Windows, "x86_64", Executable),
            ("chaarfm-worker-0.1.0-windows-x86_64.zip", Windows, "x86_64", Archive),
            ("chaarfm-worker-0.1.0-windows-x86_64.msi", Windows, "x86_64", Msi),
            ("chaarfm-worker-0.1.0-macos-universal.zip", Macos, "universal", Archive),
            ("chaarfm-worker-0.1.0-aarch64-apple-darwin.dmg", Macos, "aarch64", Dmg),
            ("ChaarFM-Worker-0.1.0-macos-universal.dmg", Macos, "universal", Dmg),
        ] {
            let processor = Some(processor);
            let expected = DownloadName { version: "0.1.0".into(), system, processor, packing };
            assert_eq!(DownloadName::read(name), Some(expected), "{name}");
        }
    }

    #[test]
    fn what_is_no_download_is_left_out() {
        for name in [
            "SHA256SUMS",
            "chaarfm-worker",
            "chaarfm-worker-0.1.0.cdx.json",
            "chaarfm-worker-0.1.0-linux-x86_64.deb.minisig",
            "chaarfm-worker-0.1.0-linux-x86_64.tar.xz.sha256",
            "chaarfm-worker-web-0123456789abcdef.js",
            "chaarfm-server-0.1.0-linux-x86_64.deb",
            "chaarfm-worker-0.1.0-windows-x86_64.exe/../x",
            "chaarfm-worker-0.1.0-linux-x86_64\".deb",
            "chaarfm-worker-0.1.0-plan9-mips",
            "chaarfm-worker-0.1.0.zip",
            "",
        ] {
            assert_eq!(DownloadName::read(name), None, "{name}");
        }
    }
}
