//! Any bytes as an audio file, to its samples. It must come to an end in little memory, and nothing of ours may panic; what
//! panics in a library is caught and refused, and passes here.
#![no_main]

use std::{io::Cursor, panic, process, sync::Once};

use chaarfm_analysis::{Limits, stages};
use libfuzzer_sys::fuzz_target;

static HOOK: Once = Once::new();

/// A file of a minute is enough to find what there is to find.
const LIMITS: Limits = Limits { max_bytes: 1 << 20, max_seconds: 60 };

fuzz_target!(|bytes: &[u8]| {
    // libFuzzer's own hook ends the process at every panic.
    HOOK.call_once(|| {
        panic::set_hook(Box::new(|info| {
            if info.location().is_some_and(|location| location.file().contains("crates/analysis")) {
                eprintln!("{info}");
                process::abort();
            }
        }));
    });
    let _ = stages::decode(Box::new(Cursor::new(bytes.to_vec())), &LIMITS);
});
