//! The pairing code a person reads out, types or scans.

use std::{fmt, str::FromStr};

/// 23 digits and letters without lookalikes: no 0 O, 1 I L, 2 Z, 5 S, 8 B, U V.
const ALPHABET: &[u8; 23] = b"34679ACDEFGHJKMNPQRTWXY";

/// Symbols of a code: 9 · log2 23 = 40.7 random bits.
const SYMBOLS: usize = 9;

/// Symbols between two dashes.
const GROUP: usize = 3;

/// A session's pairing code, such as `K7Q-M4X-WDP`: an invitation. It admits a worker to the session, and gives no control
/// over the session.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PairingCode([u8; SYMBOLS]);

/// Why a text is not a valid pairing code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodeError {
    /// The wrong number of symbols, not counting dashes and spaces.
    #[error("a pairing code has {SYMBOLS} letters and digits, such as K7Q-M4X-WDP; this one has {0}")]
    Length(usize),
    /// A symbol outside the alphabet.
    #[error("no pairing code contains '{0}'; codes use only 3 4 6 7 9 A C D E F G H J K M N P Q R T W X Y")]
    Symbol(char),
}

impl PairingCode {
    /// Makes a code from 64 random bits; 40.7 of them end up in the code.
    #[must_use]
    pub fn from_random(mut bits: u64) -> Self {
        let base = ALPHABET.len() as u64;
        Self(std::array::from_fn(|_| {
            let symbol = ALPHABET[(bits % base) as usize];
            bits /= base;
            symbol
        }))
    }
}

impl FromStr for PairingCode {
    type Err = CodeError;

    /// Reads a code as people type it: any case, any spaces and dashes.
    fn from_str(text: &str) -> Result<Self, CodeError> {
        let mut symbols = [0; SYMBOLS];
        let mut count = 0;
        for c in text.chars().filter(|c| !c.is_whitespace() && !matches!(c, '-' | '–' | '—' | '_')) {
            let upper = c.to_ascii_uppercase();
            let known = ALPHABET.iter().find(|&&s| char::from(s) == upper).ok_or(CodeError::Symbol(c))?;
            if let Some(slot) = symbols.get_mut(count) {
                *slot = *known;
            }
            count += 1;
        }
        if count == SYMBOLS { Ok(Self(symbols)) } else { Err(CodeError::Length(count)) }
    }
}

impl fmt::Display for PairingCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, symbol) in self.0.iter().enumerate() {
            if i > 0 && i % GROUP == 0 {
                f.write_str("-")?;
            }
            write!(f, "{}", char::from(*symbol))?;
        }
        Ok(())
    }
}

impl fmt::Debug for PairingCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl serde::Serialize for PairingCode {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for PairingCode {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_forty_bits() {
        assert!((ALPHABET.len() as f64).log2() * SYMBOLS as f64 >= 40.0);
    }

    #[test]
    fn reads_back_what_it_prints_however_it_is_typed() {
        for bits in [0, 1, 0x0123_4567_89ab_cdef, u64::MAX] {
            let code = PairingCode::from_random(bits);
            let text = code.to_string();
            assert_eq!(text.len(), 11, "{text}");
            assert_eq!(text.parse(), Ok(code));
            assert_eq!(text.to_lowercase().replace('-', " ").parse(), Ok(code));
        }
        assert_ne!(PairingCode::from_random(7), PairingCode::from_random(8));
    }

    #[test]
    fn says_what_is_wrong() {
        assert_eq!("K7Q-M4X-WD".parse::<PairingCode>(), Err(CodeError::Length(8)));
        assert_eq!("K7Q-M4X-WDPP".parse::<PairingCode>(), Err(CodeError::Length(10)));
        assert_eq!("K7Q-M4X-WD0".parse::<PairingCode>(), Err(CodeError::Symbol('0')));
        assert_eq!("".parse::<PairingCode>(), Err(CodeError::Length(0)));
    }
}
