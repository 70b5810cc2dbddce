//! Credentials of people and programs.

use chaarfm_coordinator::Timestamp;
use sqlx::{Row, postgres::PgRow};

use super::Postgres;
use crate::{
    common::{millis, unsigned},
    credentials::{Credential, CredentialKind, NewCredential, credentials},
    error::{Stored, is_taken},
};

credentials!(Postgres, PgRow, pool, pool, "chaarfm.");
