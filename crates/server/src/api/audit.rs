//! The audit record.

use axum::{Json, extract::State, response::Response};
use chaarfm_api::{AuditView, ErrorView};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{App, paging::MAX_LISTED};
use crate::{
    error::{ApiError, Query},
    export::{self, ListFormat},
    identity::Owner,
};

/// Entries per response when the request does not say.
const DEFAULT_LISTED: u32 = 100;

/// Which entries to list.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct AuditQuery {
    /// Only entries with a lower number: the number of the last entry received, to continue after it.
    before: Option<i64>,
    /// Maximum number of entries, at most 1000; 100 when absent.
    limit: Option<u32>,
}

/// Lists who joined, who was refused or set aside, and who gave which command, the newest entry first. Entries are kept for
/// 90 days.
#[utoipa::path(
    get, path = "/api/audit", tag = "access", params(AuditQuery), responses((status = 200, body = Vec<AuditView>))
)]
pub(super) async fn list(
    _owner: Owner,
    State(hub): App,
    Query(query): Query<AuditQuery>,
) -> Result<Json<Vec<AuditView>>, ApiError> {
    let limit = query.limit.unwrap_or(DEFAULT_LISTED).min(MAX_LISTED);
    let entries = hub.store.audit(query.before, limit).await?;
    Ok(Json(entries.into_iter().map(|(id, entry)| AuditView { id, entry }).collect()))
}

/// Format of the export.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ExportQuery {
    /// `csv` or `jsonl`.
    #[param(inline)]
    format: ListFormat,
}

/// The audit record as a file, the newest entry first.
#[utoipa::path(
    get, path = "/api/audit/export", tag = "access", params(ExportQuery),
    responses(
        (status = 200, description = "The file"), (status = 400, body = ErrorView),
        (status = 429, description = "Too many exports are under way", body = ErrorView)
    )
)]
pub(super) async fn export(_owner: Owner, State(hub): App, Query(query): Query<ExportQuery>) -> Response {
    export::export_audit(&hub.store, query.format)
}
