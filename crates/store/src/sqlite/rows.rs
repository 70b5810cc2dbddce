//! Reads rows.

use chaarfm_coordinator::{Flags, Job, State, Timestamp};
use chaarfm_domain::{Counts, Device, JobRef, LeaseToken, PairingCode, SessionId, Track};
use sqlx::{Row, sqlite::SqliteRow};

use crate::{
    common::unsigned,
    jobs::{JobRow, QueueStatus},
    rows::{self, readers},
    scans::{Filed, Scan},
    sessions::SessionRow,
    snapshot::Extent,
    vectors::{CollectionRow, VectorRow},
};

readers!(SqliteRow, numbers_of);

/// Reads 32-bit floats, little endian.
pub(super) fn numbers_of(row: &SqliteRow, column: &str) -> sqlx::Result<Vec<f32>> {
    let (numbers, _) = row.try_get::<&[u8], _>(column)?.as_chunks();
    Ok(numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
}

/// Writes 32-bit floats, little endian.
pub(super) fn to_blob(numbers: &[f32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}
