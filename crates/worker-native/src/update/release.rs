//! A publisher's description of a release: a JSON document with a separate signature.

use std::{
    collections::BTreeMap,
    env::consts::{ARCH, OS},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use minisign_verify::{PublicKey, Signature};
use semver::Version;
use serde::Deserialize;
use tokio::time::timeout;
use url::Url;

use crate::network::{Network, in_plain_words};

/// Largest document, in bytes.
const MAX_RELEASE_BYTES: usize = 64 * 1024;

/// Largest signature, in bytes; usual ones have about 300.
const MAX_SIGNATURE_BYTES: usize = 4 * 1024;

/// Longest wait for each of them.
const LIMIT_SECONDS: u64 = 60;

/// The name of this program, so that the signed release of another program is not accepted.
const PROGRAM: &str = "chaarfm-worker";

/// A release. Unknown fields of later versions are ignored.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Release {
    program: String,
    /// Its version.
    pub(crate) version: Version,
    /// The executables by system and processor, such as `linux-x86_64`, `windows-x86_64`, `macos-universal`.
    targets: BTreeMap<String, Build>,
}

/// One executable: the bare file, neither packed nor in an installer.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Build {
    /// Its address, absolute or relative to the release's.
    pub(super) url: String,
    /// In hexadecimal.
    pub(super) sha256: String,
    /// In bytes.
    pub(super) size: u64,
}

impl Release {
    /// The executable for this system and processor.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn build_for_this_system(&self) -> Result<&Build> {
        let own = [format!("{OS}-{ARCH}"), format!("{OS}-universal")];
        own.iter().find_map(|name| self.targets.get(name)).with_context(|| {
            let there: Vec<&str> = self.targets.keys().map(String::as_str).collect();
            format!("{PROGRAM} {} is not made for {}: there are {}", self.version, own[0], there.join(", "))
        })
    }
}

/// Fetches a release and verifies its signature.
///
/// # Errors
/// When it cannot be fetched, is too large, is not signed by the key, or belongs to another program.
pub(super) async fn fetch(network: &Network, address: &Url, key: &PublicKey) -> Result<Release> {
    let mut of_signature = address.clone();
    of_signature.set_path(&format!("{}.minisig", address.path()));
    let document = small(network, address, MAX_RELEASE_BYTES).await?;
    let signature = small(network, &of_signature, MAX_SIGNATURE_BYTES).await?;
    read(&document, &signature, key)
}

fn read(document: &[u8], signature: &[u8], key: &PublicKey) -> Result<Release> {
    let signature = std::str::from_utf8(signature).ok().and_then(|text| Signature::decode(text).ok());
    let signature = signature.context("what lies beside the release is no signature of minisign")?;
    // Legacy signatures, over the document itself instead of its hash, are not accepted.
    let verified = key.verify(document, &signature, false);
    verified.ok().context("the release is not signed by the key that this program trusts: nothing is changed")?;
    let release: Release = serde_json::from_slice(document).context("the release cannot be read")?;
    ensure!(release.program == PROGRAM, "the release there is of {}, not of {PROGRAM}", release.program);
    Ok(release)
}

/// The body of a small response.
async fn small(network: &Network, url: &Url, max_bytes: usize) -> Result<Vec<u8>> {
    let fetching = async {
        let mut response = network.http_following()?.get(url.clone()).send().await.map_err(plain)?;
        if !response.status().is_success() {
            bail!("the answer was HTTP status {}", response.status());
        }
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(plain)? {
            body.extend_from_slice(&piece);
            ensure!(body.len() <= max_bytes, "it has more than {max_bytes} bytes");
        }
        Ok(body)
    };
    match timeout(Duration::from_secs(LIMIT_SECONDS), fetching).await {
        Ok(fetched) => fetched,
        Err(_) => bail!("no whole answer came within {LIMIT_SECONDS} s"),
    }
    .with_context(|| format!("{url} cannot be had"))
}

/// An error without the address, which is in its context already.
pub(super) fn plain(error: reqwest::Error) -> anyhow::Error {
    anyhow::anyhow!(in_plain_words(&error.without_url()))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use minisign::KeyPair;

    use super::*;

    fn signed(document: &str, keys: &KeyPair) -> (Vec<u8>, Vec<u8>) {
        let signature = minisign::sign(None, &keys.sk, Cursor::new(document), None, None).unwrap();
        (document.as_bytes().to_vec(), signature.to_bytes())
    }

    fn public(keys: &KeyPair) -> PublicKey {
        PublicKey::from_base64(&keys.pk.to_base64()).unwrap()
    }

    const DOCUMENT: &str = r#"{ "program": "chaarfm-worker", "version": "9.0.0", "notes": "ignored", "targets": {
        "plan9-mips": { "url": "chaarfm-worker", "sha256": "00", "size": 1 } } }"#;

    #[test]
    fn only_what_is_signed_by_the_key_is_a_release() {
        let (keys, others) =
            (KeyPair::generate_unencrypted_keypair().unwrap(), KeyPair::generate_unencrypted_keypair().unwrap());
        let (document, signature) = signed(DOCUMENT, &keys);
        assert_eq!(read(&document, &signature, &public(&keys)).unwrap().version, Version::new(9, 0, 0));
        let reason = |document: &[u8], signature: &[u8], keys| read(document, signature, &public(keys)).unwrap_err();
        assert!(reason(&document, &signature, &others).to_string().contains("not signed by the key"));
        let changed = DOCUMENT.replace("9.0.0", "9.0.1");
        assert!(reason(changed.as_bytes(), &signature, &keys).to_string().contains("not signed by the key"));
        assert!(reason(&document, b"<html>", &keys).to_string().contains("no signature of minisign"));
    }

    #[test]
    fn a_release_of_another_program_or_for_other_systems_is_none() {
        let keys = KeyPair::generate_unencrypted_keypair().unwrap();
        let (document, signature) = signed(&DOCUMENT.replace("-worker\", \"v", "-server\", \"v"), &keys);
        let error = read(&document, &signature, &public(&keys)).unwrap_err().to_string();
        assert_eq!(error, "the release there is of chaarfm-server, not of chaarfm-worker");
        let (document, signature) = signed(DOCUMENT, &keys);
        let release = read(&document, &signature, &public(&keys)).unwrap();
        let error = release.build_for_this_system().unwrap_err().to_string();
        assert!(error.ends_with("there are plan9-mips"), "{error}");
    }
}
