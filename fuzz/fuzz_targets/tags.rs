//! Any bytes as a file that a scan reads the tags of. It must come to an end in little memory, and nothing of ours may
//! panic; what panics in a library is caught, and passes here.
//!
//! The reader is compiled into the target: with the storage's client beside it, it takes minutes to build for a fuzzer.
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
