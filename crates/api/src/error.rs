//! Error responses.

use serde::{Deserialize, Serialize};

/// Why a request failed; the body of every answer with a 4xx or 5xx status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ErrorView {
    /// The reason, for people.
    pub error: String,
}
