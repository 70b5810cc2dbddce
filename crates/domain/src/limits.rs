//! Limits on tracks and untrusted text that hold everywhere, with units in their names.

/// Largest audio file that is given out or analysed.
pub const MAX_AUDIO_BYTES: u64 = 2 * 1024 * 1024 * 1024;

/// Queued tracks examined to explain why none is handed out.
pub const MAX_WAITING_COUNTED: u64 = 1000;

/// Longest track that is analysed: 6 hours.
pub const MAX_AUDIO_SECONDS: u64 = 6 * 60 * 60;

/// Longest text that a peer may put into an error, a name or a tag; the receiver truncates longer ones.
pub const MAX_TEXT_CHARS: usize = 500;

/// Longest embedding that a model may have.
pub const MAX_EMBEDDING_LENGTH: u16 = 1024;
