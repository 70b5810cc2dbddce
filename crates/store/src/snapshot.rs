//! Limits of snapshots, and the size of an export.

/// Maximum number of snapshots at a time. Each has its own connection, and keeps the database from discarding old row
/// versions.
pub(crate) const MAX_SNAPSHOTS: usize = 4;

/// Longest time between two queries of a snapshot.
pub const MAX_STALL_SECONDS: u64 = 120;

/// The size of an export, which must be known before its first row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Number of vectors.
    pub rows: u64,
    /// Number of models that made them.
    pub models: u64,
    /// Lengths of the shortest and the longest embedding, in numbers.
    pub lengths: (usize, usize),
}
