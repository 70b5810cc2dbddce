//! Any bytes as an audio file of any extension, to its samples. It must come to an end in little memory, and nothing of ours
//! may panic; what panics in a library is caught and refused, and passes here.
#![no_main]

mod watch;

use std::io::Cursor;

use chaarfm_analysis::{Limits, stages};
use libfuzzer_sys::fuzz_target;

/// A file of a minute is enough to find what there is to find.
const LIMITS: Limits = Limits { max_bytes: 1 << 20, max_seconds: 60 };

fuzz_target!(init: watch::panics_in("crates/analysis"), |bytes: &[u8]| {
    for extension in [None, Some("aac")] {
        let _ = stages::decode_named(Box::new(Cursor::new(bytes.to_vec())), extension, &LIMITS);
    }
});
