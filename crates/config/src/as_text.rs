//! For settings that are written as text and parsed by their own `FromStr`, whose error message is kept. Use
//! `#[serde(with = "chaarfm_config::as_text")]` on an `Option`.

use std::{fmt::Display, str::FromStr};

use serde::{Deserialize, Deserializer, Serializer, de};

/// Writes the text.
///
/// # Errors
/// Those of the format.
pub fn serialize<S: Serializer, T: Display>(value: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serializer.collect_str(value),
        None => serializer.serialize_none(),
    }
}

/// Reads the text.
///
/// # Errors
/// Those of the format, and those of `T`.
pub fn deserialize<'de, D: Deserializer<'de>, T: FromStr<Err: Display>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    String::deserialize(deserializer)?.parse().map(Some).map_err(de::Error::custom)
}
