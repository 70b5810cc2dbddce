//! Limits of snapshots, and the size of what is read from one.

/// Most snapshots at a time. Each has a connection of its own, and keeps the database from discarding old versions of rows.
pub(crate) const MAX_SNAPSHOTS: usize = 4;

/// Longest time between two questions to a snapshot.
pub const MAX_STALL_SECONDS: u64 = 120;

/// The size of an export, which has to be known before its first row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// How many vectors there are.
    pub rows: u64,
    /// How many models made them.
    pub models: u64,
    /// Lengths of the shortest and the longest embedding, in numbers.
    pub lengths: (usize, usize),
}
