//! Collections of vectors: listing and exporting them.

use axum::{Json, extract::State, response::Response};
use chaarfm_api::{CollectionView, ErrorView, TrackPage};
use chaarfm_domain::CollectionName;
use chaarfm_store::CollectionRow;
use serde::Deserialize;
use utoipa::IntoParams;

use super::{App, paging::Paging};
use crate::{
    error::{ApiError, Path, Query},
    export::{self, Format, track_view},
};

/// All collections that contain a vector.
#[utoipa::path(get, path = "/api/collections", tag = "collections", responses((status = 200, body = Vec<CollectionView>)))]
pub(super) async fn list(State(hub): App) -> Result<Json<Vec<CollectionView>>, ApiError> {
    let rows = hub.store.collections().await?;
    let view = |row: CollectionRow| CollectionView { name: row.name, tracks: row.vectors };
    Ok(Json(rows.into_iter().map(view).collect()))
}

/// A page of a collection's vectors, ordered by number.
#[utoipa::path(
    get, path = "/api/collections/{name}/tracks", tag = "collections",
    params(("name" = String, Path, description = "The collection"), Paging),
    responses((status = 200, body = TrackPage), (status = 400, body = ErrorView), (status = 404, body = ErrorView))
)]
pub(super) async fn tracks(
    State(hub): App,
    Path(name): Path<String>,
    Query(paging): Query<Paging>,
) -> Result<Json<TrackPage>, ApiError> {
    let name: CollectionName = name.parse()?;
    let total = hub.store.count_vectors(name.as_str()).await?;
    let total = total.ok_or_else(|| ApiError::not_found(format!("there is no collection called {name}")))?;
    let tracks = hub.store.vectors(name.as_str(), paging.offset, paging.limit()).await?;
    Ok(Json(TrackPage { total, tracks: tracks.into_iter().map(track_view).collect() }))
}

/// Query of an export.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ExportQuery {
    /// `csv`, `jsonl` or `npy`.
    #[param(inline)]
    format: Format,
    /// Only the vectors of this model.
    model: Option<String>,
}

/// A whole collection as a file: `csv` with one column per number, `jsonl` with one track per line, or `npy` with only the
/// matrix, its rows in the same order.
#[utoipa::path(
    get, path = "/api/collections/{name}/export", tag = "collections",
    params(("name" = String, Path, description = "The collection"), ExportQuery),
    responses(
        (status = 200, description = "The file"), (status = 400, body = ErrorView), (status = 404, body = ErrorView),
        (status = 409, description = "The vectors do not fit into one matrix", body = ErrorView),
        (status = 503, description = "Too many exports are under way", body = ErrorView)
    )
)]
pub(super) async fn export(
    State(hub): App,
    Path(name): Path<String>,
    Query(query): Query<ExportQuery>,
) -> Result<Response, ApiError> {
    export::export(&hub.store, name.parse()?, query.format, query.model).await
}
