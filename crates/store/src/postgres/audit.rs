//! The audit record.

use chaarfm_coordinator::Timestamp;
use chaarfm_domain::AuditEntry;
use sqlx::{Row, postgres::PgRow};

use super::Postgres;
use crate::{
    audit::audit,
    common::{millis, signed, unsigned},
    error::Stored,
};

audit!(Postgres, PgRow, pool, pool, "chaarfm.");
