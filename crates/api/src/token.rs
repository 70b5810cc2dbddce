//! Tokens of programs.

use chaarfm_domain::Role;
use serde::{Deserialize, Serialize};

/// A token that lets a program in, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TokenView {
    /// Its name.
    pub name: String,
    /// The role it gives.
    pub role: Role,
    /// When it was made: milliseconds since 1970, UTC.
    pub created_at_ms: u64,
}

/// A token that is to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NewToken {
    /// Its name, which no other token has: 1 to 64 letters, digits, spaces and `._-@`.
    pub name: String,
    /// `owner` or `reader`.
    pub role: Role,
}

/// A token that was made.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AddedTokenView {
    /// Its name.
    pub name: String,
    /// The role it gives.
    pub role: Role,
    /// The secret, which is shown this once: for `Authorization: Bearer`.
    pub token: String,
}
