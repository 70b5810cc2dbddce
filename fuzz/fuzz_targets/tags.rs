//! Reads the tags of arbitrary bytes, as a scan does. Reading must end, use little memory, and not panic in this
//! project's code; panics in libraries are caught and tolerated.
//!
//! The reader is compiled into the target directly: its own crate includes a storage client, which takes minutes to build
//! for fuzzing.
#![no_main]

#[path = "../../crates/sources/src"]
mod library {
    use std::fs::File;

    mod tags;

    /// All texts of a file's tags.
    pub(super) fn texts(file: File) -> impl Iterator<Item = String> {
        let tags = tags::read(file, "any");
        [tags.artist, tags.title, tags.album].into_iter().flatten()
    }
}
mod watch;

use std::io::{Seek, Write};

use chaarfm_domain::limits::MAX_TEXT_CHARS;
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: watch::panics_in("crates/sources"), |bytes: &[u8]| {
    let mut file = tempfile::tempfile().expect("there is a folder for temporary files");
    file.write_all(bytes).expect("there is room for a small file");
    file.rewind().expect("a file can be rewound");
    for text in library::texts(file) {
        assert!(!text.is_empty() && text.chars().count() <= MAX_TEXT_CHARS);
    }
});
