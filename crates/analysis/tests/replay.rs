//! Runs the crashes found by fuzzing and damaged fixtures through the whole decoder: no file may panic, hang or decode to
//! more than the limit. `fuzz/` searches for more.
#![expect(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

use std::{
    fs,
    io::Cursor,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use chaarfm_analysis::{AudioError, Limits, stages};
use fastrand::Rng;

const LIMITS: Limits = Limits { max_bytes: 100_000_000, max_seconds: 120 };

/// Bytes of a fixture to damage: enough for its header and some music.
const DAMAGED_BYTES: usize = 60_000;

/// Number of ways each fixture is damaged.
const DAMAGES: u64 = 12;

/// Maximum time for a file of that size, with room for a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The files in a folder; none if it does not exist.
fn files(folder: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(repository().join(folder)) else { return Vec::new() };
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file()).collect();
    files.sort();
    files
}

fn survives(what: &str, bytes: Vec<u8>) {
    let start = Instant::now();
    if let Err(AudioError::Crashed(message)) = stages::decode(Box::new(Cursor::new(bytes)), &LIMITS) {
        panic!("{what}: {message}");
    }
    assert!(start.elapsed() < PATIENCE, "{what} took {:?}", start.elapsed());
}

#[test]
fn what_once_crashed_does_not() {
    for path in files("fuzz/crashes/decode") {
        survives(&path.display().to_string(), fs::read(&path).unwrap());
    }
}

#[test]
fn damaged_files_are_decoded_or_refused() {
    let folders = ["tests/fixtures/music", "tests/fixtures/broken", "tests/fixtures/cases"];
    let paths: Vec<_> = folders.iter().flat_map(|folder| files(folder)).collect();
    assert!(paths.len() > 20);
    for path in paths {
        let mut whole = fs::read(&path).unwrap();
        whole.truncate(DAMAGED_BYTES);
        for seed in 0..DAMAGES {
            let mut rng = Rng::with_seed(seed);
            let mut bytes = whole.clone();
            damage(&mut rng, &mut bytes);
            survives(&format!("{}, seed {seed}", path.display()), bytes);
        }
    }
}

/// Cuts, overwrites, removes and repeats bytes, mostly near the start, where the headers are.
fn damage(rng: &mut Rng, bytes: &mut Vec<u8>) {
    for _ in 0..rng.usize(1..8) {
        if bytes.is_empty() {
            return;
        }
        let near = bytes.len().min(if rng.bool() { 200 } else { bytes.len() });
        let at = rng.usize(0..near);
        let length = rng.usize(1..9).min(bytes.len() - at);
        match rng.u8(0..6) {
            0 => bytes[at] ^= 1 << rng.u8(0..8),
            1 => bytes[at..at + length].fill(0xFF),
            2 => bytes[at..at + length].fill(0),
            3 => drop(bytes.drain(at..at + length)),
            4 => {
                let copy = bytes[at..at + length].to_vec();
                bytes.splice(at..at, copy);
            }
            _ => bytes.truncate(rng.usize(at..bytes.len()) + 1),
        }
    }
}
