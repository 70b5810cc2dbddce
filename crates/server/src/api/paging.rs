//! Long lists, a page at a time.

use serde::Deserialize;
use utoipa::IntoParams;

/// Entries per response when the request does not say.
const DEFAULT_LISTED: u32 = 100;

/// Maximum number of entries per response.
pub(super) const MAX_LISTED: u32 = 1000;

/// The part of a list to return.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Paging {
    /// Number of entries to skip.
    #[serde(default)]
    pub(super) offset: u64,
    /// Maximum number of entries, at most 1000; 100 when absent.
    limit: Option<u32>,
}

impl Paging {
    pub(super) fn limit(&self) -> u32 {
        self.limit.unwrap_or(DEFAULT_LISTED).min(MAX_LISTED)
    }
}
