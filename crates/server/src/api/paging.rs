//! Long lists, a page at a time.

use serde::Deserialize;
use utoipa::IntoParams;

/// Entries in one answer when the request names no number.
const DEFAULT_LISTED: u32 = 100;

/// Entries in one answer.
pub(super) const MAX_LISTED: u32 = 1000;

/// Which part of a list to answer with.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Paging {
    /// How many to pass over.
    #[serde(default)]
    pub(super) offset: u64,
    /// How many to list, at most 1000; 100 when absent.
    limit: Option<u32>,
}

impl Paging {
    pub(super) fn limit(&self) -> u32 {
        self.limit.unwrap_or(DEFAULT_LISTED).min(MAX_LISTED)
    }
}
