//! Permissions on a coordinator.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// What a client may do with a coordinator. Only its credential determines the role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Everything.
    Owner,
    /// Read the library, the collections and the metrics, and export collections.
    Reader,
    /// Receive tracks and answer them.
    Worker,
}

impl Role {
    /// Its name, as on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Reader => "reader",
            Self::Worker => "worker",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The text is not the name of a role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no role called '{0}'; there are owner, reader and worker")]
pub struct RoleError(String);

impl FromStr for Role {
    type Err = RoleError;

    fn from_str(text: &str) -> Result<Self, RoleError> {
        let role = [Self::Owner, Self::Reader, Self::Worker].into_iter().find(|role| role.name() == text);
        role.ok_or_else(|| RoleError(text.to_owned()))
    }
}
