//! How a job's file is asked for in its library.

use chaarfm_sources::Wanted;
use chaarfm_store::JobRow;

/// A job's file as the scan found it.
pub(crate) fn wanted(row: &JobRow) -> Wanted<'_> {
    let (file, version, content_hash) = (&row.track.file, row.version.as_deref(), &row.content_hash);
    Wanted { file, bytes: row.bytes, version, content_hash }
}
