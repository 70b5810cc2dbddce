//! The status with which a failed command is answered.

use axum::http::StatusCode;
use chaarfm_sources::NoLibrary;

use crate::{error::ApiError, hub::CommandError};

impl From<CommandError> for ApiError {
    fn from(error: CommandError) -> Self {
        let message = error.to_string();
        let status = match error {
            CommandError::UnknownSession(_) | CommandError::UnknownInvitation(_) | CommandError::UnknownWorker(_) => {
                StatusCode::NOT_FOUND
            }
            CommandError::SessionEnded(_) => StatusCode::GONE,
            CommandError::AlreadyScanning(_) | CommandError::TooManyInvitations => StatusCode::CONFLICT,
            CommandError::TooManySessions => StatusCode::TOO_MANY_REQUESTS,
            CommandError::Library(NoLibrary::Absent { .. }) => StatusCode::CONFLICT,
            CommandError::Library(NoLibrary::Unknown(_))
            | CommandError::UnknownModel(_)
            | CommandError::Collection(_)
            | CommandError::NoInvitation => StatusCode::BAD_REQUEST,
            CommandError::NotRetryable(_) => StatusCode::CONFLICT,
            CommandError::Store(error) => return error.into(),
        };
        Self::new(status, message)
    }
}
