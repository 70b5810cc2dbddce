//! Every bound both ends must agree on, with its unit in its name.

/// Largest text frame either end accepts. A result of 250 numbers takes about 5 KiB.
pub const MAX_MESSAGE_BYTES: usize = 64 * 1024;

/// Each end sends a ping when it has said nothing for this long.
pub const PING_INTERVAL_SECONDS: u64 = 8;

/// A peer that has said nothing for this long is dead. Three pings fit in, and both ends notice within 30 s.
pub const PEER_TIMEOUT_SECONDS: u64 = 25;

/// How long a worker may wait for `welcome` or `refused` after `hello`, and the coordinator for `hello`.
pub const HANDSHAKE_TIMEOUT_SECONDS: u64 = 10;

/// A lease ends this long after its last renewal; each `progress` renews it.
pub const LEASE_TTL_SECONDS: u64 = 60;

/// A worker reports progress on each job it holds at least this often.
pub const PROGRESS_INTERVAL_SECONDS: u64 = 5;

/// Jobs one worker may hold: one in analysis, the next one prefetched.
pub const MAX_JOBS_PER_WORKER: u8 = 2;

/// Largest audio file that is given out or analysed.
pub const MAX_AUDIO_BYTES: u64 = 2 * 1024 * 1024 * 1024;

/// Largest audio file a browser tab takes: it holds the whole file in memory.
pub const MAX_AUDIO_BYTES_IN_TAB: u64 = 256 * 1024 * 1024;

/// Longest track that is analysed: 6 hours.
pub const MAX_AUDIO_SECONDS: u64 = 6 * 60 * 60;

/// Longest text a peer may put into an error, a name or a tag; longer ones are cut by the receiver.
pub const MAX_TEXT_CHARS: usize = 500;
