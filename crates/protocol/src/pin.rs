//! Pinning of a coordinator's self-signed certificate.

use std::{fmt, str::FromStr};

/// SHA-256 of the public key in a server's certificate (its `SubjectPublicKeyInfo` in DER, as RFC 7469 hashes it). A worker
/// with a coordinator's pin trusts exactly the certificates with that key, regardless of their issuer. Join links carry it
/// behind a `#`, so that browsers do not send it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyPin([u8; KeyPin::BYTES]);

/// The text is not a pin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the pin of a server's key has 64 hexadecimal digits")]
pub struct PinError;

impl KeyPin {
    /// Length of a SHA-256 hash.
    pub const BYTES: usize = 32;

    /// Prefix of the pin in a link, after its `#`.
    pub const LINK_NAME: &str = "pin=";

    /// The pin with this hash.
    #[must_use]
    pub fn from_hash(hash: [u8; Self::BYTES]) -> Self {
        Self(hash)
    }
}

impl fmt::Display for KeyPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for KeyPin {
    type Err = PinError;

    /// Accepts upper and lower case, and the colons that tools print between bytes.
    fn from_str(text: &str) -> Result<Self, PinError> {
        let digits: String = text.trim().chars().filter(|c| *c != ':').collect();
        if digits.len() != 2 * Self::BYTES || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(PinError);
        }
        let mut hash = [0; Self::BYTES];
        for (byte, pair) in hash.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| PinError)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| PinError)?;
        }
        Ok(Self(hash))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_read_back_from_its_text_and_from_that_of_other_tools() {
        let pin = KeyPin::from_hash(std::array::from_fn(|index| (index * 7) as u8));
        let text = pin.to_string();
        assert_eq!(text.len(), 64);
        let pairs: Vec<_> = text.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap()).collect();
        for text in [text.clone(), text.to_uppercase(), pairs.join(":"), format!(" {text}\n")] {
            assert_eq!(text.parse(), Ok(pin), "{text}");
        }
        for text in ["", "ab", &text[1..], &format!("{text}0"), &format!("é{}", &text[2..])] {
            assert_eq!(text.parse::<KeyPin>(), Err(PinError), "{text}");
        }
    }
}
