//! Reads rows.

use chaarfm_coordinator::{Flags, Job, State, Timestamp};
use chaarfm_domain::{Counts, Device, JobRef, LeaseToken, PairingCode, SessionId, Track};
use sqlx::{Row, postgres::PgRow};

use crate::{
    common::unsigned,
    jobs::{JobRow, QueueStatus},
    rows::{self, readers},
    scans::{Filed, Scan},
    sessions::SessionRow,
    snapshot::Extent,
    vectors::{CollectionRow, VectorRow},
};

readers!(PgRow, numbers_of);

pub(super) fn numbers_of(row: &PgRow, column: &str) -> sqlx::Result<Vec<f32>> {
    row.try_get(column)
}
