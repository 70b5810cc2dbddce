//! Error responses: a status and an [`ErrorView`].

use axum::{
    Json,
    extract::{
        FromRequest, FromRequestParts,
        rejection::{JsonRejection, PathRejection, QueryRejection},
    },
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use chaarfm_api::ErrorView;
use chaarfm_domain::CollectionNameError;
use chaarfm_protocol::CodeError;
use chaarfm_store::StoreError;

/// Why a request failed.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    message: String,
}

/// The authentication scheme for programs (RFC 6750, section 3).
pub(crate) const CHALLENGE: HeaderValue = HeaderValue::from_static("Bearer realm=\"chaarfm\"");

/// When to retry a request that failed temporarily.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("5");

impl ApiError {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    pub(crate) fn wrong_method() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "this method is not for this address")
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            tracing::warn!("{}", self.message);
        } else if self.status.is_server_error() {
            tracing::error!("{}", self.message);
        }
        let mut response = (self.status, Json(ErrorView { error: self.message })).into_response();
        if matches!(self.status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
            response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER_SECONDS);
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, CHALLENGE);
        }
        response
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        let status = match &error {
            StoreError::Unavailable(_)
            | StoreError::Conflict(_)
            | StoreError::Full(_)
            | StoreError::Disk(_)
            | StoreError::TooManySnapshots => StatusCode::SERVICE_UNAVAILABLE,
            StoreError::NameTaken(_) => StatusCode::CONFLICT,
            StoreError::VectorLength { .. } => StatusCode::BAD_REQUEST,
            StoreError::Database(_)
            | StoreError::Migration(_)
            | StoreError::Newer { .. }
            | StoreError::NotEmpty
            | StoreError::HalfImported
            | StoreError::InUse => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, error.to_string())
    }
}

impl From<CodeError> for ApiError {
    fn from(error: CodeError) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error.to_string())
    }
}

impl From<CollectionNameError> for ApiError {
    fn from(error: CollectionNameError) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error.to_string())
    }
}

/// A JSON body; a malformed one is answered with an [`ErrorView`].
#[derive(FromRequest)]
#[from_request(via(axum::Json), rejection(ApiError))]
pub(crate) struct Body<T>(pub(crate) T);

/// The query string.
#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Query), rejection(ApiError))]
pub(crate) struct Query<T>(pub(crate) T);

/// The path parameters.
#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Path), rejection(ApiError))]
pub(crate) struct Path<T>(pub(crate) T);

impl From<JsonRejection> for ApiError {
    fn from(rejection: JsonRejection) -> Self {
        Self::new(rejection.status(), rejection.body_text())
    }
}

impl From<QueryRejection> for ApiError {
    fn from(rejection: QueryRejection) -> Self {
        Self::new(rejection.status(), rejection.body_text())
    }
}

impl From<PathRejection> for ApiError {
    fn from(rejection: PathRejection) -> Self {
        Self::new(rejection.status(), rejection.body_text())
    }
}
