//! Where a session stands, and what its vectors' collection may be called.

use std::{fmt, str::FromStr};

use chaarfm_protocol::{SessionState, view::Counts};

/// What the owner has decided about a session, and whether it still looks for tracks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags {
    /// Nothing is handed out until the owner resumes.
    pub paused: bool,
    /// The code admits nobody any more.
    pub ended: bool,
    /// A library is being scanned, so that jobs may still come.
    pub scanning: bool,
}

impl Flags {
    /// Where a session with these jobs stands.
    #[must_use]
    pub fn state(self, counts: &Counts) -> SessionState {
        if self.ended {
            SessionState::Ended
        } else if self.paused {
            SessionState::Paused
        } else if self.scanning || counts.open() > 0 {
            SessionState::Running
        } else if counts.total() + counts.skipped > 0 {
            SessionState::Complete
        } else {
            SessionState::Idle
        }
    }
}

/// Longest name of a collection.
const MAX_COLLECTION_CHARS: usize = 64;

/// A collection's name: 1 to 64 of `a-z`, `0-9`, `_` and `-`, so that it can be part of an address and of a file name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CollectionName(String);

/// Why a text is no collection's name.
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
    fn the_owners_word_comes_before_what_the_jobs_say() {
        let none = Counts::default();
        let open = Counts { leased: 1, done: 5, ..none };
        let over = Counts { done: 5, failed: 1, ..none };
        let known = Counts { skipped: 3, ..none };
        let flags = Flags::default();
        assert_eq!(flags.state(&none), SessionState::Idle);
        assert_eq!(flags.state(&open), SessionState::Running);
        assert_eq!(flags.state(&over), SessionState::Complete);
        assert_eq!(flags.state(&known), SessionState::Complete);
        assert_eq!(Flags { scanning: true, ..flags }.state(&none), SessionState::Running);
        assert_eq!(Flags { paused: true, ..flags }.state(&open), SessionState::Paused);
        assert_eq!(Flags { paused: true, ended: true, ..flags }.state(&open), SessionState::Ended);
    }

    #[test]
    fn collection_names_are_fit_for_addresses_and_files() {
        assert_eq!("my_music-2".parse::<CollectionName>().unwrap().as_str(), "my_music-2");
        assert_eq!("".parse::<CollectionName>(), Err(CollectionNameError::Length(0)));
        assert_eq!("x".repeat(65).parse::<CollectionName>(), Err(CollectionNameError::Length(65)));
        assert_eq!("../x".parse::<CollectionName>(), Err(CollectionNameError::Character('.')));
        assert_eq!("Möbel".parse::<CollectionName>(), Err(CollectionNameError::Character('M')));
    }
}
