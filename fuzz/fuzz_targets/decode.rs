//! Decodes arbitrary bytes as an audio file of any extension. Decoding must end, use little memory, and not panic in this
//! project's code; panics in libraries are caught and tolerated.
#![no_main]

mod watch;

use std::io::Cursor;

use chaarfm_analysis::{Limits, stages};
use libfuzzer_sys::fuzz_target;

/// A minute of audio suffices to find everything.
const LIMITS: Limits = Limits { max_bytes: 1 << 20, max_seconds: 60 };

fuzz_target!(init: watch::panics_in("crates/analysis"), |bytes: &[u8]| {
    for extension in [None, Some("aac")] {
        let _ = stages::decode_named(Box::new(Cursor::new(bytes.to_vec())), extension, &LIMITS);
    }
});
