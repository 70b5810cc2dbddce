//! The secrets of credentials.

use std::fmt;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};

/// The prefix of every token, by which scanners for leaked secrets find it.
const PREFIX: &str = "chaarfm_";

/// Enough to make guessing infeasible.
const SECRET_BYTES: usize = 32;

/// A secret, without the number of its credential.
pub(crate) struct Secret([u8; SECRET_BYTES]);

impl Secret {
    pub(crate) fn random() -> Self {
        Self(rand::random())
    }

    /// The hash to store. A secret with this many random bits needs no salt and no slow hash.
    pub(crate) fn hash(&self) -> String {
        blake3::hash(&self.0).to_hex().to_string()
    }

    /// Whether this is its hash. Hashes are compared in constant time, so that the duration reveals nothing.
    pub(crate) fn is_behind(&self, hash: &str) -> bool {
        blake3::Hash::from_hex(hash).is_ok_and(|known| known == blake3::hash(&self.0))
    }

    /// Its text form, shown once: `chaarfm_`, the number of its credential, `_`, and the secret in base64url (RFC 4648).
    pub(crate) fn shown(&self, id: i64) -> String {
        format!("{PREFIX}{id}_{}", BASE64_URL_SAFE_NO_PAD.encode(self.0))
    }

    /// Parses the text form.
    pub(crate) fn read(text: &str) -> Option<(i64, Self)> {
        let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
        let mut bytes = [0; SECRET_BYTES];
        let length = BASE64_URL_SAFE_NO_PAD.decode_slice(secret, &mut bytes).ok()?;
        Some((id.parse().ok()?, Self(bytes))).filter(|_| length == SECRET_BYTES)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_what_it_shows() {
        let secret = Secret::random();
        let (id, back) = Secret::read(&secret.shown(7)).unwrap();
        assert_eq!(id, 7);
        assert!(back.is_behind(&secret.hash()) && !Secret::random().is_behind(&secret.hash()));
        assert!(!secret.shown(7).contains(&secret.hash()));
        assert!(!secret.is_behind("") && !secret.is_behind("K7Q-M4X-WDP"));
        assert_eq!(format!("{secret:?}"), "Secret(…)");
    }

    #[test]
    fn nothing_else_is_read() {
        let whole = Secret::random().shown(7);
        let cut = &whole[..whole.len() - 1];
        for text in
            ["", "K7Q-M4X-WDP", "chaarfm_7", "chaarfm_7_", "chaarfm_x_AAAA", cut, &format!("{whole}A"), &whole[1..]]
        {
            assert!(Secret::read(text).is_none(), "{text}");
        }
        assert!(Secret::read(&format!("{whole} ")).is_none());
    }
}
