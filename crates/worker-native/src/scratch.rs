//! Where audio files are kept during analysis: in the user's cache folder, because the system's folder for temporary
//! files is often in memory.

use std::path::PathBuf;

use chaarfm_scratch::Scratch;

use crate::json_file::folders;

/// The folder; none on a system that has no cache folder.
pub(crate) fn folder() -> Option<PathBuf> {
    folders().map(|folders| folders.cache_dir().join("audio"))
}

/// Opens a scratch folder for this process, and deletes those of ended processes.
pub(crate) fn open() -> Scratch {
    let Some(folder) = folder() else { return Scratch::default() };
    Scratch::open(&folder).unwrap_or_else(|error| {
        let folder = folder.display();
        tracing::warn!("audio goes to the system's folder for temporary files, as {folder} cannot be used: {error}");
        Scratch::default()
    })
}
