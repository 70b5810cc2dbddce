//! Proof that a file is the released one: hashes of all files, and signatures of the list and of each file.

use std::{
    env,
    fs::{self, File},
    io,
    path::Path,
};

use anyhow::Context;
use minisign::{SecretKey, SecretKeyBox, SignatureBox};
use sha2::{Digest, Sha256};

use crate::release::Release;

/// The list of hashes, in the format of `sha256sum --check`.
pub(crate) const LIST: &str = "SHA256SUMS";

/// Environment variables: a key file from `minisign -G`, optional, and its password; no password means an unencrypted
/// key.
const KEY: &str = "CHAARFM_MINISIGN_KEY";
const KEY_PASSWORD: &str = "CHAARFM_MINISIGN_PASSWORD";

/// Extension of signature files.
const SIGNATURE: &str = "minisig";

/// Writes the list of hashes, and signatures if there is a key.
pub(crate) fn write(release: &Release) -> anyhow::Result<()> {
    let mut list = String::new();
    for file in release.files()? {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if file.extension().is_some_and(|extension| extension == SIGNATURE) {
            fs::remove_file(file)?;
        } else if name != LIST {
            list.push_str(&format!("{}  {name}\n", sha256(&file)?));
        }
    }
    release.write(&release.folder().join(LIST), list)?;
    match env::var_os(KEY) {
        Some(key) => sign(release, Path::new(&key)),
        None => Ok(()),
    }
}

/// SHA-256 of a file, in hexadecimal digits.
pub(crate) fn sha256(file: &Path) -> anyhow::Result<String> {
    let mut hash = Sha256::new();
    io::copy(&mut File::open(file)?, &mut hash)?;
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Writes `FILE.minisig` for each file.
fn sign(release: &Release, key: &Path) -> anyhow::Result<()> {
    let text = fs::read_to_string(key).with_context(|| format!("{} cannot be read", key.display()))?;
    let key = SecretKeyBox::from_string(&text)?;
    let key = match env::var(KEY_PASSWORD).ok().filter(|password| !password.is_empty()) {
        Some(password) => key.into_secret_key(Some(password))?,
        None => key.into_unencrypted_secret_key()?,
    };
    for file in release.files()? {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let signature = signature(release, &key, &file)?;
        release.write(&file.with_file_name(format!("{name}.{SIGNATURE}")), signature.into_string())?;
    }
    Ok(())
}

/// The signature of a file. Its comments contain no time but the release's, so that signing again gives the same bytes.
pub(crate) fn signature(release: &Release, key: &SecretKey, file: &Path) -> anyhow::Result<SignatureBox> {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let trusted = format!("timestamp:{}\tfile:{name}\thashed", release.date);
    let untrusted = format!("signature of {name}");
    Ok(minisign::sign(None, key, File::open(file)?, Some(&trusted), Some(&untrusted))?)
}
