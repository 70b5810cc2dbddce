//! The owner's login, and access tokens for programs.

use axum::{
    Extension, Json,
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Redirect, Response},
};
use chaarfm_api::{AddedTokenView, ErrorView, NewToken, TokenView};
use chaarfm_domain::{AuditEvent, Role, text};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::{
    border::Client,
    error::{ApiError, Body, Path, Query},
    identity::{
        Access, Closed, Identities, Owner, TokenError, TokenName, browser_cookie, closed, make_token, open_link,
        token_view,
    },
};

/// Longest part of a name quoted in the log, in characters.
const MAX_NAME_CHARS: usize = 64;

/// The query of the link that the coordinator prints.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct EnterQuery {
    /// Secret of the link, valid once.
    token: String,
}

/// Logs in the browser that opens the link printed by the coordinator: it gets a cookie, and goes to the owner's page. The
/// link is valid once.
#[utoipa::path(
    get, path = "/enter", tag = "access", params(EnterQuery),
    responses(
        (status = 303, description = "It is let in, or was before"),
        (status = 410, description = "The link lets nobody in (any more); a page says how to get another")
    )
)]
pub(super) async fn enter(
    Extension(identities): Extension<Identities>,
    Query(EnterQuery { token }): Query<EnterQuery>,
    method: Method,
    client: Option<Extension<Client>>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    // A HEAD request, such as for a link preview, must not use up the link.
    if method == Method::HEAD {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let onwards = Redirect::to("/ingest");
    let Some(secret) = open_link(identities.store(), &token).await? else {
        // This browser may have opened it before.
        let is_in = identities.principal(&headers, Access::Owner).await?.role() == Some(Role::Owner);
        return Ok(if is_in { onwards.into_response() } else { closed(Closed::LinkUsed) });
    };
    tracing::info!("a browser was let in as the owner's");
    let address = client.as_ref().map(|Extension(client)| client.address);
    identities.note(AuditEvent::Entered, "", address, None, "a browser of the owner's, by the link");
    let is_secure = client.is_some_and(|Extension(client)| client.has_tls);
    let cookie = browser_cookie(&headers, secret, is_secure).to_string();
    let cookie = HeaderValue::try_from(cookie).expect("names and secrets are fit for a header");
    Ok(([(header::SET_COOKIE, cookie)], onwards).into_response())
}

/// The access tokens of programs, by name. Their secrets are not stored.
#[utoipa::path(get, path = "/api/tokens", tag = "access", responses((status = 200, body = Vec<TokenView>)))]
pub(super) async fn tokens(
    _owner: Owner,
    Extension(identities): Extension<Identities>,
) -> Result<Json<Vec<TokenView>>, ApiError> {
    let tokens = identities.store().tokens().await?;
    Ok(Json(tokens.into_iter().map(token_view).collect()))
}

/// Creates a token. Its secret is only in this response.
#[utoipa::path(
    post, path = "/api/tokens", tag = "access", request_body = NewToken,
    responses(
        (status = 201, body = AddedTokenView), (status = 400, body = ErrorView),
        (status = 409, description = "There is one of this name, or there are too many", body = ErrorView)
    )
)]
pub(super) async fn add_token(
    Extension(identities): Extension<Identities>,
    owner: Owner,
    Body(NewToken { name, role }): Body<NewToken>,
) -> Result<(StatusCode, Json<AddedTokenView>), ApiError> {
    let name: TokenName = name.parse()?;
    let token = make_token(identities.store(), &name, role).await?;
    tracing::info!("{} made a token for a {role}: {}", owner.name(), name.as_str());
    Ok((StatusCode::CREATED, Json(AddedTokenView { name: name.as_str().to_owned(), role, token })))
}

/// Revokes a token.
#[utoipa::path(
    delete, path = "/api/tokens/{name}", tag = "access", params(("name" = String, Path, description = "The token's name")),
    responses((status = 204, description = "It has ended"), (status = 404, body = ErrorView))
)]
pub(super) async fn revoke_token(
    Extension(identities): Extension<Identities>,
    owner: Owner,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    let shown = text::cut(&name, MAX_NAME_CHARS);
    if !identities.store().revoke_token(&name).await? {
        return Err(ApiError::not_found(format!("there is no token called {shown}")));
    }
    tracing::info!("{} ended the token {shown}", owner.name());
    Ok(StatusCode::NO_CONTENT)
}

impl From<TokenError> for ApiError {
    fn from(error: TokenError) -> Self {
        let status = match error {
            TokenError::Store(error) => return error.into(),
            TokenError::Name(_) | TokenError::Worker => StatusCode::BAD_REQUEST,
            TokenError::Taken(_) | TokenError::TooMany => StatusCode::CONFLICT,
        };
        Self::new(status, error.to_string())
    }
}
