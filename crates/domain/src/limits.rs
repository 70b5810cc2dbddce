//! Bounds that hold wherever a track or a text of somebody else goes, with their units in their names.

/// Largest audio file that is given out or analysed.
pub const MAX_AUDIO_BYTES: u64 = 2 * 1024 * 1024 * 1024;

/// Queued tracks that are looked at to say why none is given out.
pub const MAX_WAITING_COUNTED: u64 = 1000;

/// Longest track that is analysed: 6 hours.
pub const MAX_AUDIO_SECONDS: u64 = 6 * 60 * 60;

/// Longest text a peer may put into an error, a name or a tag; longer ones are cut by the receiver.
pub const MAX_TEXT_CHARS: usize = 500;

/// Longest embedding that a model may have, in numbers.
pub const MAX_EMBEDDING_LENGTH: u16 = 1024;
