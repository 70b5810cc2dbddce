//! A worker's identity.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A worker's own secret. The worker generates it before it first joins, registers it with the code of an invitation, and
/// sends it on every connection. The key stays valid until the invitation is revoked, even after the code was replaced or
/// has expired. The coordinator stores only a hash.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct WorkerKey(u128);

/// The text is not a worker's key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a worker's key has 32 hexadecimal digits")]
pub struct KeyError;

impl WorkerKey {
    /// Hexadecimal digits of its text.
    const DIGITS: usize = 32;

    /// Makes a key from 128 random bits, so that it cannot be guessed.
    #[must_use]
    pub fn from_random(bits: u128) -> Self {
        Self(bits)
    }

    /// The secret, as it is sent and stored. Never log it.
    #[must_use]
    pub fn shown(&self) -> String {
        format!("{:032x}", self.0)
    }
}

impl FromStr for WorkerKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let is_key = text.len() == Self::DIGITS && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        u128::from_str_radix(text, 16).ok().filter(|_| is_key).map(Self).ok_or(KeyError)
    }
}

impl TryFrom<String> for WorkerKey {
    type Error = KeyError;

    fn try_from(text: String) -> Result<Self, KeyError> {
        text.parse()
    }
}

impl From<WorkerKey> for String {
    fn from(key: WorkerKey) -> Self {
        key.shown()
    }
}

impl fmt::Debug for WorkerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WorkerKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_read_back_and_never_shown_by_chance() {
        for bits in [0, 1, u128::MAX] {
            let key = WorkerKey::from_random(bits);
            assert_eq!(key.shown().parse(), Ok(key.clone()));
            assert_eq!(format!("{key:?}"), "WorkerKey(…)");
        }
        let short = "7".repeat(31);
        for text in ["", &short, &format!("+{short}"), &format!("{short}g"), &"7".repeat(33)] {
            assert_eq!(text.parse::<WorkerKey>(), Err(KeyError), "{text}");
        }
    }
}
