//! Scans, and their results for the files found.

use chaarfm_domain::{PairingCode, SessionId};

/// A scan whose process has been silent for this long is taken over by another process.
pub const SCAN_TTL_SECONDS: u64 = 60;

/// One pass over a library on behalf of a session.
#[derive(Debug, Clone, PartialEq)]
pub struct Scan {
    /// The session that started it.
    pub session: SessionId,
    /// That session's code.
    pub code: PairingCode,
    /// Name of the library.
    pub library: String,
    /// Collection for the vectors.
    pub collection: String,
    /// Model of the jobs.
    pub model: String,
    /// Number of the scan within its session.
    pub number: i64,
    /// Whether a file is taken even if a track with the same artist, title and length is known.
    pub every_file: bool,
}

/// A scan to begin.
#[derive(Debug, Clone, Copy)]
pub struct ScanOrder<'a> {
    /// Name of the library.
    pub library: &'a str,
    /// Collection for the vectors.
    pub collection: &'a str,
    /// Model of the jobs.
    pub model: &'a str,
    /// See [`Scan::every_file`].
    pub every_file: bool,
}

/// Results for the files that a scan has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Enqueued {
    /// Files that were queued.
    pub queued: u64,
    /// Files that are known already, by their content or by artist, title and length.
    pub skipped: u64,
    /// The skipped files that are known by artist, title and length alone.
    pub alike: u64,
    /// Files recorded as failed because they cannot be jobs.
    pub failed: u64,
}

/// Result for one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Filed {
    Queued,
    /// Its content has a vector already, or an open job.
    Known,
    /// Another content with the same artist, title and length has one.
    Alike,
    /// This scan saw this file before it was interrupted.
    Seen,
    Failed,
}

impl Enqueued {
    pub(crate) fn count(&mut self, filed: Filed) {
        match filed {
            Filed::Queued => self.queued += 1,
            Filed::Known => self.skipped += 1,
            Filed::Alike => {
                self.skipped += 1;
                self.alike += 1;
            }
            Filed::Failed => self.failed += 1,
            Filed::Seen => {}
        }
    }
}

/// Why no scan was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoScan {
    /// The session is scanning already.
    AlreadyScanning,
    /// The session has ended.
    SessionEnded,
}
