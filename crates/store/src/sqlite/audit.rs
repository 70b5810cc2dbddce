//! The audit record.

use chaarfm_coordinator::Timestamp;
use chaarfm_domain::AuditEntry;
use sqlx::{Row, sqlite::SqliteRow};

use super::Sqlite;
use crate::{
    audit::audit,
    common::{millis, signed, unsigned},
    error::Stored,
};

audit!(Sqlite, SqliteRow, reader, writer, "");
