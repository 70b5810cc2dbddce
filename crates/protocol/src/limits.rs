//! Limits that both ends share, with units in their names.

pub use chaarfm_domain::limits::{MAX_AUDIO_BYTES, MAX_AUDIO_SECONDS, MAX_TEXT_CHARS};

/// Largest text frame either end accepts. A result of 250 numbers takes about 5 KiB.
pub const MAX_MESSAGE_BYTES: usize = 64 * 1024;

/// Numbers in one `patches` message: 100 embeddings of 200, which take 53 336 characters of base64.
pub const MAX_NUMBERS_PER_MESSAGE: usize = 20_000;

/// Sustained number of messages that a peer may send per second, pings included. Honest peers send a few.
pub const MAX_MESSAGES_PER_SECOND: u32 = 100;

/// Messages that a peer may send in one burst after a pause.
pub const MAX_MESSAGES_AT_ONCE: u32 = 1000;

/// Maximum bytes of unsent data for a peer that does not read: the longest message, and answers to pings. Beyond that the
/// connection is closed.
pub const MAX_UNSENT_BYTES: usize = 2 * MAX_MESSAGE_BYTES;

/// An end that has sent nothing for this long sends a ping.
pub const PING_INTERVAL_SECONDS: u64 = 8;

/// A peer that has sent nothing for this long is considered dead. Three pings fit in, and both ends notice within 30 s.
pub const PEER_TIMEOUT_SECONDS: u64 = 25;

/// How long a worker may wait for `welcome` or `refused` after `hello`, and the coordinator for `hello`.
pub const HANDSHAKE_TIMEOUT_SECONDS: u64 = 10;

/// A lease lasts at least this long after its job last made progress, and little longer: a `progress` message renews it
/// only if the stage or the fraction has increased. Honest workers stay far below the limit: a stalled download is
/// restarted after 30 s, so three tries fit in; an analysis reports each batch of 12 s of music, which the slowest phone
/// computes in a few seconds; and opening a model takes less than a minute.
pub const STALL_LIMIT_SECONDS: u64 = 120;

/// Extra time for a job that waits behind another job of the same worker, counted from that job's last progress. The
/// stalled job is thus taken back first, and the waiting one gets its turn.
pub const TURN_SECONDS: u64 = 60;

/// Maximum number of times a worker may request a job's file before the job fails. Each time its progress restarts at 0.
pub const MAX_FETCH_TRIES: u32 = 6;

/// A worker reports progress on each job it holds at least this often.
pub const PROGRESS_INTERVAL_SECONDS: u64 = 5;

/// Maximum number of jobs per worker: one in analysis, the next one prefetched.
pub const MAX_JOBS_PER_WORKER: u8 = 2;

/// Largest audio file that a browser tab accepts: it holds the whole file in memory.
pub const MAX_AUDIO_BYTES_IN_TAB: u64 = 256 * 1024 * 1024;
