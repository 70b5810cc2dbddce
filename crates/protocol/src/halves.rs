//! Half-precision numbers on the wire.

use std::fmt;

use base64::{Engine, prelude::BASE64_STANDARD};
use half::f16;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, Visitor},
};

/// Half-precision numbers (IEEE 754 binary16): base64 of two bytes each, little-endian.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Halves(pub Vec<f16>);

impl Extend<f32> for Halves {
    /// Rounds to nearest.
    fn extend<T: IntoIterator<Item = f32>>(&mut self, numbers: T) {
        self.0.extend(numbers.into_iter().map(f16::from_f32));
    }
}

impl FromIterator<f32> for Halves {
    fn from_iter<T: IntoIterator<Item = f32>>(numbers: T) -> Self {
        let mut halves = Self::default();
        halves.extend(numbers);
        halves
    }
}

impl Serialize for Halves {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let bytes: Vec<u8> = self.0.iter().flat_map(|number| number.to_le_bytes()).collect();
        serializer.serialize_str(&BASE64_STANDARD.encode(bytes))
    }
}

impl<'de> Deserialize<'de> for Halves {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Base64)
    }
}

struct Base64;

impl Visitor<'_> for Base64 {
    type Value = Halves;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("numbers of half precision in base64")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Halves, E> {
        let bytes = BASE64_STANDARD.decode(text).map_err(E::custom)?;
        let (numbers, rest) = bytes.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(E::custom(format_args!("{} bytes are no whole numbers of two bytes", bytes.len())));
        }
        Ok(Halves(numbers.iter().map(|bytes| f16::from_le_bytes(*bytes)).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        JobRef, ToServer,
        limits::{MAX_MESSAGE_BYTES, MAX_NUMBERS_PER_MESSAGE},
    };

    #[test]
    fn they_are_two_bytes_each_the_lower_one_first() {
        let halves: Halves = [1.0, -2.5].into_iter().collect();
        let text = serde_json::to_string(&halves).expect("serialises");
        assert_eq!(text, r#""ADwAwQ==""#);
        assert_eq!(serde_json::from_str::<Halves>(&text).expect("parses"), halves);
    }

    #[test]
    fn what_is_no_whole_number_is_refused() {
        let refusal = |text: &str| serde_json::from_str::<Halves>(text).expect_err("refused").to_string();
        assert!(refusal(r#""ADwA""#).starts_with("3 bytes are no whole numbers of two bytes"));
        assert!(refusal(r#""AD""#).starts_with("Invalid padding"));
        assert!(refusal("7").contains("expected numbers of half precision in base64"));
    }

    #[test]
    fn the_longest_message_of_patches_is_within_the_limit() {
        let embeddings = Halves(vec![f16::MAX; MAX_NUMBERS_PER_MESSAGE]);
        let job = JobRef { job: i64::MAX, lease: "f".repeat(32) };
        let message = ToServer::Patches { job, first: u32::MAX, length: u16::MAX, embeddings };
        let text = serde_json::to_string(&message).expect("serialises");
        assert!(text.len() <= MAX_MESSAGE_BYTES, "{}", text.len());
        assert_eq!(serde_json::from_str::<ToServer>(&text).expect("parses"), message);
    }
}
