//! Invitations, which let workers join a session.

use axum::{Json, extract::State, http::StatusCode, response::IntoResponse};
use chaarfm_api::{ErrorView, InvitationView, NewInvitation, SessionView};
use chaarfm_domain::InvitationId;

use super::{
    App,
    sessions::{Answer, command, find},
};
use crate::{
    error::{ApiError, Body, Path},
    identity::Owner,
};

/// A session's invitations, in the order in which they were made.
#[utoipa::path(
    get, path = "/api/sessions/{code}/invitations", tag = "invitations",
    params(("code" = String, Path, description = "The session")),
    responses((status = 200, body = Vec<InvitationView>), (status = 404, body = ErrorView))
)]
pub(super) async fn list(
    owner: Owner,
    State(hub): App,
    Path(code): Path<String>,
) -> Result<Json<Vec<InvitationView>>, ApiError> {
    let active = find(&hub, &owner, &code).await?;
    Ok(Json(hub.view(&active).await?.invitations))
}

/// Creates an invitation, with its own code.
#[utoipa::path(
    post, path = "/api/sessions/{code}/invitations", tag = "invitations",
    params(("code" = String, Path, description = "The session")), request_body = NewInvitation,
    responses(
        (status = 201, body = InvitationView), (status = 400, body = ErrorView), (status = 404, body = ErrorView),
        (status = 409, description = "There are too many", body = ErrorView), (status = 410, body = ErrorView)
    )
)]
pub(super) async fn add(
    owner: Owner,
    State(hub): App,
    Path(code): Path<String>,
    Body(wish): Body<NewInvitation>,
) -> Result<impl IntoResponse, ApiError> {
    let active = find(&hub, &owner, &code).await?;
    Ok((StatusCode::CREATED, Json(hub.invite(&active, wish).await?)))
}

/// Gives an invitation a new code, valid for seven days. Its workers stay, and its counts continue.
#[utoipa::path(
    post, path = "/api/sessions/{code}/invitations/{id}/rotate", tag = "invitations",
    params(("code" = String, Path, description = "The session"), ("id" = i64, Path, description = "The invitation")),
    responses((status = 200, body = SessionView), (status = 404, body = ErrorView), (status = 410, body = ErrorView))
)]
pub(super) async fn rotate(owner: Owner, State(hub): App, Path((code, id)): Path<(String, InvitationId)>) -> Answer {
    command(&hub, &owner, &code, |hub, active| async move { hub.rotate_invitation(&active, id).await }).await
}

/// Revokes an invitation: its workers are disconnected, and neither its code nor their keys admit anybody any more.
#[utoipa::path(
    delete, path = "/api/sessions/{code}/invitations/{id}", tag = "invitations",
    params(("code" = String, Path, description = "The session"), ("id" = i64, Path, description = "The invitation")),
    responses((status = 200, body = SessionView), (status = 404, body = ErrorView), (status = 410, body = ErrorView))
)]
pub(super) async fn revoke(owner: Owner, State(hub): App, Path((code, id)): Path<(String, InvitationId)>) -> Answer {
    command(&hub, &owner, &code, |hub, active| async move { hub.revoke_invitation(&active, id).await }).await
}
