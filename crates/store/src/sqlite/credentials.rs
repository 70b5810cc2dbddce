//! Credentials of people and programs.

use chaarfm_coordinator::Timestamp;
use sqlx::{Row, sqlite::SqliteRow};

use super::Sqlite;
use crate::{
    common::{millis, unsigned},
    credentials::{Credential, CredentialKind, NewCredential, credentials},
    error::{Stored, is_taken},
};

credentials!(Sqlite, SqliteRow, reader, writer, "");
