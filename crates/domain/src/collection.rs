//! Collections of vectors.

use std::{fmt, str::FromStr};

/// Longest name of a collection.
const MAX_COLLECTION_CHARS: usize = 64;

/// A collection's name: 1 to 64 of `a-z`, `0-9`, `_` and `-`, so that it can be part of a URL and of a file name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CollectionName(String);

/// Why a text is not a valid collection name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CollectionNameError {
    /// Empty or too long.
    #[error("a collection's name has 1 to {MAX_COLLECTION_CHARS} characters; this one has {0}")]
    Length(usize),
    /// A character outside the set.
    #[error("a collection's name has only a-z, 0-9, _ and -; this one contains {0:?}")]
    Character(char),
}

impl FromStr for CollectionName {
    type Err = CollectionNameError;

    fn from_str(text: &str) -> Result<Self, CollectionNameError> {
        let length = text.chars().count();
        if !(1..=MAX_COLLECTION_CHARS).contains(&length) {
            return Err(CollectionNameError::Length(length));
        }
        match text.chars().find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '_' | '-')) {
            Some(c) => Err(CollectionNameError::Character(c)),
            None => Ok(Self(text.to_owned())),
        }
    }
}

impl CollectionName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CollectionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn collection_names_are_fit_for_addresses_and_files() {
        assert_eq!("my_music-2".parse::<CollectionName>().unwrap().as_str(), "my_music-2");
        assert_eq!("".parse::<CollectionName>(), Err(CollectionNameError::Length(0)));
        assert_eq!("x".repeat(65).parse::<CollectionName>(), Err(CollectionNameError::Length(65)));
        assert_eq!("../x".parse::<CollectionName>(), Err(CollectionNameError::Character('.')));
        assert_eq!("Möbel".parse::<CollectionName>(), Err(CollectionNameError::Character('M')));
    }
}
