//! The settings file of `chaarfm-server`, which flags and environment variables override.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use url::Url;

use super::{Arguments, LogFormat};
use chaarfm_server::{NamedLocation, PublicUrl, Tls, VerifyShare};

/// Name of the program's settings folder.
pub(crate) const PROGRAM: &str = "chaarfm-server";

/// A commented file that contains the defaults.
pub(crate) const EXAMPLE: &str = include_str!("../config.toml");

/// Content of the settings file, and the effective settings.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Settings {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) listen: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) data: Option<PathBuf>,
    /// May contain a password, which is not shown.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "without_password")]
    pub(crate) database_url: Option<String>,
    pub(crate) libraries: Vec<Library>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) downloads: Option<PathBuf>,
    pub(crate) public_urls: Vec<PublicUrl>,
    pub(crate) trusted_proxies: Vec<IpNet>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tls_cert: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tls_key: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tls_self_signed: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) job_retention_days: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none", with = "as_text")]
    pub(crate) verify: Option<VerifyShare>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) log: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) log_format: Option<LogFormat>,
}

/// A library as written in the settings file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Library(pub(crate) NamedLocation);

impl Serialize for Library {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Library {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        NamedLocation::parse(text.into()).map(Self).map_err(de::Error::custom)
    }
}

fn without_password<S: Serializer>(address: &Option<String>, serializer: S) -> Result<S::Ok, S::Error> {
    let Some(address) = address else { return serializer.serialize_none() };
    match Url::parse(address) {
        Ok(mut url) if url.password().is_some() => {
            // A URL that has a password accepts another one.
            let is_set = url.set_password(Some("…")).is_ok();
            serializer.serialize_str(if is_set { url.as_str() } else { "…" })
        }
        Ok(_) => serializer.serialize_str(address),
        // An invalid address may contain a password anywhere.
        Err(_) => serializer.serialize_str("…"),
    }
}

impl Settings {
    /// Overrides these settings with the command line and the environment.
    pub(crate) fn under(self, arguments: &Arguments) -> Self {
        let given: Vec<_> = arguments.libraries.iter().cloned().map(Library).collect();
        Self {
            listen: arguments.listen.or(self.listen),
            data: arguments.data.clone().or(self.data),
            database_url: arguments.database_url.clone().or(self.database_url),
            libraries: given_or(&given, self.libraries),
            downloads: arguments.downloads.clone().or(self.downloads),
            job_retention_days: arguments.job_retention_days.or(self.job_retention_days),
            verify: arguments.verify.or(self.verify),
            public_urls: given_or(&arguments.public_urls, self.public_urls),
            trusted_proxies: given_or(&arguments.trusted_proxies, self.trusted_proxies),
            tls_cert: arguments.tls_cert.clone().or(self.tls_cert),
            tls_key: arguments.tls_key.clone().or(self.tls_key),
            tls_self_signed: arguments.tls_self_signed.or(self.tls_self_signed),
            log: arguments.log.clone().or(self.log),
            log_format: arguments.log_format.or(self.log_format),
        }
    }

    /// TLS settings, if TLS is on. A self-signed certificate is kept in the data folder.
    ///
    /// # Errors
    /// When the settings contradict each other, or there is no data folder for the certificate.
    pub(crate) fn tls(&self, data: Option<&Path>) -> anyhow::Result<Option<Tls>> {
        let is_self_signed = self.tls_self_signed.unwrap_or(false);
        match (&self.tls_cert, &self.tls_key) {
            (Some(_), Some(_)) if is_self_signed => {
                bail!(
                    "--tls-self-signed stands for a certificate of the coordinator's own: leave out --tls-cert and --tls-key"
                )
            }
            (Some(certificate), Some(key)) => {
                Ok(Some(Tls::Files { certificate: certificate.clone(), key: key.clone() }))
            }
            (Some(_), None) => bail!("--tls-cert needs the private key of the certificate as well: --tls-key FILE"),
            (None, Some(_)) => bail!("--tls-key needs the certificate as well: --tls-cert FILE"),
            (None, None) if is_self_signed => {
                let data =
                    data.context("this system names no data folder for the certificate; give one with --data")?;
                Ok(Some(Tls::SelfSigned { folder: data.join("tls") }))
            }
            (None, None) => Ok(None),
        }
    }
}

/// Serialises a [`VerifyShare`] as written on the command line.
mod as_text {
    use chaarfm_server::VerifyShare;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(share: &Option<VerifyShare>, serializer: S) -> Result<S::Ok, S::Error> {
        match share {
            Some(share) => serializer.collect_str(share),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<VerifyShare>, D::Error> {
        String::deserialize(deserializer)?.parse().map(Some).map_err(D::Error::custom)
    }
}

/// The values from the command line, or those of the file.
fn given_or<T: Clone>(given: &[T], file: Vec<T>) -> Vec<T> {
    if given.is_empty() { file } else { given.to_vec() }
}

#[cfg(test)]
mod tests {
    use chaarfm_config::ConfigFile;
    use clap::Parser;

    use super::*;

    fn read(text: &str) -> Result<Settings, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        std::fs::write(&path, text).unwrap();
        ConfigFile::find(PROGRAM, Some(path)).read().map_err(|error| error.to_string())
    }

    #[test]
    fn the_example_is_what_holds_anyway_and_names_every_setting() {
        assert_eq!(read(EXAMPLE), Ok(Settings::default()));
        let is_setting = |line: &str| line.split_once(" = ").is_some_and(|(key, _)| !key.contains(' '));
        let lines = EXAMPLE.lines().filter_map(|line| line.strip_prefix("# ")).filter(|line| is_setting(line));
        let all = read(&lines.collect::<Vec<_>>().join("\n")).unwrap();
        let written = serde_json::to_value(&all).unwrap();
        assert_eq!(written.as_object().unwrap().len(), 14, "{written}");
    }

    #[test]
    fn says_where_the_file_is_wrong() {
        for (text, place) in [
            ("listen = \"everywhere\"", "line 1, listen: invalid socket address"),
            ("\nlibraries = [\n\"/a\",\n\"ftp://host/x\",\n]", "line 2, libraries: libraries are folders, "),
            ("job_retention_days = -1", "line 1, job_retention_days: invalid value: integer `-1`"),
            ("public_urls = [\"music.example\"]", "line 1, public_urls: 'music.example' is no address like "),
            ("log_format = \"xml\"", "line 1, log_format: unknown variant `xml`"),
            ("[server]\nlisten = \"127.0.0.1:1\"", "line 1, server: unknown field `server`"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(&format!("config.toml, {place}")), "{error}");
        }
    }

    #[test]
    fn tls_has_a_certificate_and_a_key_or_one_of_its_own() {
        let tls = |text: &str| read(text).unwrap().tls(Some(Path::new("/data"))).map_err(|error| error.to_string());
        let (cert, key, own) = ("tls_cert = \"/c\"\n", "tls_key = \"/k\"\n", "tls_self_signed = true\n");
        assert_eq!(tls(""), Ok(None));
        assert_eq!(tls(&[cert, key].concat()), Ok(Some(Tls::Files { certificate: "/c".into(), key: "/k".into() })));
        assert_eq!(tls(own), Ok(Some(Tls::SelfSigned { folder: "/data/tls".into() })));
        for (text, named) in
            [(cert, "--tls-key FILE"), (key, "--tls-cert FILE"), (&[cert, key, own].concat(), "leave out")]
        {
            assert!(tls(text).unwrap_err().contains(named), "{text}");
        }
    }

    #[test]
    fn flags_go_before_the_file_and_passwords_are_not_shown() {
        let file = read(
            "listen = \"127.0.0.1:1\"\nlibraries = [\"/a\", \"/b\"]\ndatabase_url = \"postgres://me:pw@h/x\"\njob_retention_days = 7",
        );
        let file = file.unwrap();
        let with =
            |arguments: &[&str]| file.clone().under(&Arguments::parse_from(["chaarfm-server"].iter().chain(arguments)));
        assert_eq!(with(&[]).libraries.len(), 2);
        let kept = |arguments: &[&str]| with(arguments).job_retention_days;
        assert_eq!((kept(&[]), kept(&["--job-retention-days", "0"])), (Some(7), Some(0)), "0 is a number of days");
        let other = with(&["--listen", "0.0.0.0:2", "--library", "/c"]);
        assert_eq!((other.listen.unwrap().port(), other.libraries.len()), (2, 1));
        let shown = serde_json::to_string(&file).unwrap();
        assert!(!shown.contains("pw") && shown.contains("postgres://me:"), "{shown}");
    }
}
