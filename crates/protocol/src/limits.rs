//! Every bound both ends must agree on, with its unit in its name.

pub use chaarfm_domain::limits::{MAX_AUDIO_BYTES, MAX_AUDIO_SECONDS, MAX_TEXT_CHARS};

/// Largest text frame either end accepts. A result of 250 numbers takes about 5 KiB.
pub const MAX_MESSAGE_BYTES: usize = 64 * 1024;

/// Numbers in one message of patches: 100 embeddings of 200, which are 53 336 characters of base64.
pub const MAX_NUMBERS_PER_MESSAGE: usize = 20_000;

/// Messages a peer may send in a second when it goes on for long, pings included. Honest ones send a few.
pub const MAX_MESSAGES_PER_SECOND: u32 = 100;

/// Messages a peer may send at once after a rest.
pub const MAX_MESSAGES_AT_ONCE: u32 = 1000;

/// Most bytes that may wait to be sent to a peer that does not read: the longest message, and answers to pings.
/// Beyond that the connection ends.
pub const MAX_UNSENT_BYTES: usize = 2 * MAX_MESSAGE_BYTES;

/// Each end sends a ping when it has said nothing for this long.
pub const PING_INTERVAL_SECONDS: u64 = 8;

/// A peer that has said nothing for this long is dead. Three pings fit in, and both ends notice within 30 s.
pub const PEER_TIMEOUT_SECONDS: u64 = 25;

/// How long a worker may wait for `welcome` or `refused` after `hello`, and the coordinator for `hello`.
pub const HANDSHAKE_TIMEOUT_SECONDS: u64 = 10;

/// A lease lasts at least this long after its job last moved on, and little longer: a `progress` renews it only when the
/// stage or the fraction has grown. An honest worker is far below it: a transfer that stands still is begun again after
/// 30 s, so that three tries fit in; an analysis shows each batch of 12 s of music, which the slowest phone computes in a
/// few seconds; and a model that has to be opened first is there within a minute.
pub const STALL_LIMIT_SECONDS: u64 = 120;

/// A job that waits for its turn behind another one of its worker may wait this much longer after that one last moved
/// on, so that the one that stands still is taken back first and the other one gets its turn.
pub const TURN_SECONDS: u64 = 60;

/// Times a worker may ask for one file before its job fails. Each time its `progress` begins again at 0.
pub const MAX_FETCH_TRIES: u32 = 6;

/// A worker reports progress on each job it holds at least this often.
pub const PROGRESS_INTERVAL_SECONDS: u64 = 5;

/// Jobs one worker may hold: one in analysis, the next one prefetched.
pub const MAX_JOBS_PER_WORKER: u8 = 2;

/// Largest audio file a browser tab takes: it holds the whole file in memory.
pub const MAX_AUDIO_BYTES_IN_TAB: u64 = 256 * 1024 * 1024;
