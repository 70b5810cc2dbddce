//! Access tokens for programs.

use chaarfm_domain::Role;
use serde::{Deserialize, Serialize};

/// An access token for programs, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TokenView {
    /// Its name.
    pub name: String,
    /// The role it gives.
    pub role: Role,
    /// Creation time: milliseconds since 1970, UTC.
    pub created_at_ms: u64,
}

/// A request for a new token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NewToken {
    /// Its unique name: 1 to 64 letters, digits, spaces and `._-@`.
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
    /// The secret for `Authorization: Bearer`; it is shown only once.
    pub token: String,
}
