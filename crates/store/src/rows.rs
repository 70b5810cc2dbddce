//! Reads rows, and writes some of their columns. In both databases the columns have the same names, and types that are read
//! in the same way, except for lists of numbers. No SQL here.

use chaarfm_coordinator::{State, Timestamp};
use chaarfm_domain::{JobState, LeftOutFiles, WorkerKind};

use crate::{common::millis, scans::SCAN_TTL_SECONDS};

/// Generates the row readers of one engine; `$numbers` reads a column that holds a list of numbers.
macro_rules! readers {
    ($row:ty, $numbers:path) => {
        impl sqlx::FromRow<'_, $row> for SessionRow {
            fn from_row(row: &$row) -> sqlx::Result<Self> {
                let count = |column| row.try_get::<Option<i64>, _>(column).map(|count| unsigned(count.unwrap_or(0)));
                Ok(Self {
                    id: SessionId(row.try_get("id")?),
                    code: code_of(row)?,
                    model: row.try_get("model")?,
                    collection: row.try_get("collection")?,
                    flags: Flags {
                        paused: row.try_get("paused")?,
                        ended: row.try_get("ended")?,
                        scanning: row.try_get::<Option<String>, _>("scanning")?.is_some(),
                    },
                    counts: Counts {
                        queued: count("queued")?,
                        leased: count("leased")?,
                        done: count("done")?,
                        failed: count("failed")?,
                        skipped: count("skipped")?,
                        alike: count("alike")?,
                    },
                    left_out: rows::left_out(row.try_get("left_out")?)?,
                })
            }
        }

        impl sqlx::FromRow<'_, $row> for QueueStatus {
            fn from_row(row: &$row) -> sqlx::Result<Self> {
                let count = |column| row.try_get::<Option<i64>, _>(column).map(|count| unsigned(count.unwrap_or(0)));
                let (too_large, resting) = (count("too_large")?, count("resting")?);
                Ok(Self {
                    ready: count("jobs")?.saturating_sub(too_large + resting),
                    too_large,
                    resting,
                    next_try: row.try_get::<Option<i64>, _>("next_ms")?.map(|ms| Timestamp(unsigned(ms))),
                })
            }
        }

        impl sqlx::FromRow<'_, $row> for Scan {
            fn from_row(row: &$row) -> sqlx::Result<Self> {
                Ok(Self {
                    session: SessionId(row.try_get("id")?),
                    code: code_of(row)?,
                    library: row.try_get("scanning")?,
                    collection: row.try_get("collection")?,
                    model: row.try_get("model")?,
                    number: row.try_get("scan")?,
                    every_file: row.try_get("every_file")?,
                })
            }
        }

        impl sqlx::FromRow<'_, $row> for JobRow {
            fn from_row(row: &$row) -> sqlx::Result<Self> {
                let moment = |column| row.try_get::<i64, _>(column).map(|ms| Timestamp(unsigned(ms)));
                let count =
                    |column| row.try_get::<i64, _>(column).map(|count| u32::try_from(count).unwrap_or(u32::MAX));
                let state = match row.try_get("state")? {
                    "queued" => State::Queued {
                        not_before: moment("not_before_ms")?,
                        not_again_before: moment("not_again_before_ms")?,
                    },
                    "leased" => State::Leased { deadline: moment("deadline_ms")? },
                    "done" => State::Done,
                    _ => State::Failed,
                };
                Ok(Self {
                    job: Job {
                        id: row.try_get("id")?,
                        state,
                        attempts: count("attempts")?,
                        leases: count("leases")?,
                        token: row.try_get("token")?,
                        holder: row.try_get("holder")?,
                        answered: row.try_get("answered")?,
                        reopened: count("reopened")?,
                        error: row.try_get("error")?,
                    },
                    model: row.try_get("model")?,
                    library: row.try_get("library")?,
                    track: track_of(row)?,
                    bytes: unsigned(row.try_get("bytes")?),
                    version: row.try_get("version")?,
                    holder_kind: row.try_get::<Option<&str>, _>("holder_kind")?.map(rows::worker_kind),
                    collection: row.try_get("collection")?,
                    content_hash: row.try_get("content_hash")?,
                    track_key: row.try_get("track_key")?,
                })
            }
        }

        pub(super) fn expired_of(row: &$row) -> sqlx::Result<(PairingCode, JobRef)> {
            let lease = row.try_get::<Option<LeaseToken>, _>("token")?.unwrap_or_default();
            Ok((code_of(row)?, JobRef { job: row.try_get("id")?, lease }))
        }

        /// How a file is known; none if it is new.
        pub(super) fn filed_of(row: &$row) -> sqlx::Result<Option<Filed>> {
            Ok(match (row.try_get("seen")?, row.try_get("known")?, row.try_get("alike")?) {
                (true, _, _) => Some(Filed::Seen),
                (false, true, _) => Some(Filed::Known),
                (false, false, true) => Some(Filed::Alike),
                (false, false, false) => None,
            })
        }

        pub(super) fn collection_of(row: &$row) -> sqlx::Result<CollectionRow> {
            Ok(CollectionRow { name: row.try_get("collection")?, vectors: unsigned(row.try_get("tracks")?) })
        }

        pub(super) fn extent_of(row: &$row) -> sqlx::Result<Extent> {
            let number = |column| row.try_get::<Option<i64>, _>(column).map(Option::unwrap_or_default);
            let length = |column| number(column).map(|length| unsigned(length) as usize);
            Ok(Extent {
                rows: unsigned(number("tracks")?),
                models: unsigned(number("models")?),
                lengths: (length("shortest")?, length("longest")?),
            })
        }

        pub(super) fn vector_of(row: &$row) -> sqlx::Result<VectorRow> {
            Ok(VectorRow {
                id: row.try_get("id")?,
                track: track_of(row)?,
                seconds: row.try_get("seconds")?,
                content_hash: row.try_get("content_hash")?,
                model: row.try_get("model")?,
                kind: rows::worker_kind(row.try_get("worker")?),
                device: Device { backend: row.try_get("backend")?, name: row.try_get("device")? },
                flags: rows::flags(row.try_get("flags")?)?,
                stored: Timestamp(unsigned(row.try_get("stored_ms")?)),
                embedding: $numbers(row, "embedding")?,
                tags: $numbers(row, "tags")?,
            })
        }

        fn track_of(row: &$row) -> sqlx::Result<Track> {
            Ok(Track {
                artist: row.try_get("artist")?,
                title: row.try_get("title")?,
                album: row.try_get("album")?,
                file: row.try_get("file")?,
            })
        }

        fn code_of(row: &$row) -> sqlx::Result<PairingCode> {
            row.try_get::<&str, _>("code")?.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))
        }
    };
}

pub(crate) use readers;

pub(crate) fn worker_kind(name: &str) -> WorkerKind {
    match name {
        "browser" => WorkerKind::Browser,
        _ => WorkerKind::Native,
    }
}

/// The columns of a job's state: its name, and three times. Until the first the job waits, until the second it waits if the
/// worker is the one that had it last, and at the third its lease expires.
pub(crate) fn state_columns(state: State) -> (&'static str, [i64; 3]) {
    let moments = match state {
        State::Queued { not_before, not_again_before } => [not_before, not_again_before, Timestamp::ZERO],
        State::Leased { deadline } => [Timestamp::ZERO, Timestamp::ZERO, deadline],
        State::Done | State::Failed => [Timestamp::ZERO; 3],
    };
    (JobState::from(state).name(), moments.map(millis))
}

/// When a scan renewed now counts as abandoned.
pub(crate) fn scan_deadline(now: Timestamp) -> i64 {
    millis(now.plus_seconds(SCAN_TTL_SECONDS))
}

pub(crate) fn left_out(json: &str) -> sqlx::Result<Vec<LeftOutFiles>> {
    serde_json::from_str(json).map_err(|error| sqlx::Error::Decode(error.into()))
}

pub(crate) fn left_out_json(left_out: &[LeftOutFiles]) -> String {
    serde_json::to_string(left_out).expect("kinds and numbers are always JSON")
}

pub(crate) fn flags_json(flags: &[String]) -> String {
    serde_json::to_string(flags).expect("texts are always JSON")
}

pub(crate) fn flags(json: &str) -> sqlx::Result<Vec<String>> {
    serde_json::from_str(json).map_err(|error| sqlx::Error::Decode(error.into()))
}
