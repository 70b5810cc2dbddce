//! Compares every fixture with the peer's results (`tests/fixtures/golden.json`), on every built-in device.
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a test may panic and print, its helpers too")]

use std::{collections::BTreeMap, fs, path::PathBuf};

use chaarfm_analysis::{
    Analysis, AudioError, Backend, Device, Engine, Limits, MEL_BANDS, PATCH_FRAMES, Step, check_patch,
};
use pollster::block_on;
use serde::Deserialize;
use sha2::{Digest, Sha256};

const LIMITS: Limits = Limits { max_bytes: 100_000_000, max_seconds: 3600 };

/// Number of files that have a reference.
const REFERENCES: usize = 12;

/// Maximum difference of a tag's activation: five times the largest among these files.
const TAG_TOLERANCE: f32 = 1e-4;

#[derive(Deserialize)]
struct Golden {
    seconds_16k: Option<f64>,
    patches: Option<u32>,
    embedding: Option<Vec<f32>>,
    #[serde(default)]
    tags: BTreeMap<String, f32>,
    patch_embeddings: Option<Vec<Vec<f32>>>,
}

fn fixtures() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures")
}

fn golden() -> BTreeMap<String, Golden> {
    serde_json::from_slice(&fs::read(fixtures().join("golden.json")).unwrap()).unwrap()
}

fn engine(backend: Backend, model: &str) -> Engine {
    let model = chaarfm_models::find(model).unwrap();
    let device = block_on(Device::open(backend)).unwrap();
    block_on(Engine::load(&device, model, chaarfm_models::weights(model))).unwrap()
}

fn analyse(engine: &Engine, file: &str) -> Result<(Analysis, Vec<Vec<f32>>), AudioError> {
    let path = fixtures().join(file);
    let extension = path.extension().and_then(|e| e.to_str());
    let mut patches = Vec::new();
    let mut track = engine.track(Box::new(fs::File::open(&path).unwrap()), extension, LIMITS)?;
    while block_on(track.step_with(|patch| patches.push(patch.embedding.clone())))? != Step::Finished {}
    Ok((track.finish()?, patches))
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// The test body for every device: files with a reference agree with the peer.
fn agrees_with_the_peer(backend: Backend, files: impl Fn(&str) -> bool) -> usize {
    let engine = engine(backend, "msd-musicnn");
    let (mut compared, mut worst_tag) = (0, 0f32);
    for (file, golden) in golden().iter().filter(|(file, _)| files(file)) {
        let Some(expected) = &golden.embedding else { continue };
        let (analysis, patches) = analyse(&engine, &format!("music/{file}")).unwrap();
        let cosine = cosine(&analysis.embedding, expected);
        let least = if file == "band_mono_8bit.wav" { 0.999 } else { 0.9999 };
        assert!(cosine >= least, "{file} on {backend}: cosine {cosine}");
        assert_eq!(Some(analysis.patches), golden.patches, "{file}");
        // The peer keeps the padding of the last Vorbis packet; this decoder does not.
        assert!((analysis.seconds - golden.seconds_16k.unwrap()).abs() < 0.03, "{file}: {} s", analysis.seconds);
        assert_eq!(analysis.is_silent, file == "silence.wav", "{file}");
        assert!(!analysis.is_truncated, "{file}");
        for (tag, activation) in engine.model().tags.iter().zip(&analysis.tags) {
            let difference = (golden.tags[tag] - activation).abs();
            assert!(difference < TAG_TOLERANCE, "{file}: {tag} {activation}");
            worst_tag = worst_tag.max(difference);
        }
        for (patch, expected) in patches.iter().zip(golden.patch_embeddings.iter().flatten()) {
            let worst = patch.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst < 1e-3, "{file} on {backend}: a patch is off by {worst}");
        }
        println!("{backend:8} {file:22} cosine {cosine:.7}");
        compared += 1;
    }
    println!("{backend:8} a tag is off by {worst_tag:.6} at most");
    compared
}

#[cfg(feature = "flex")]
#[test]
fn flex_agrees_with_the_peer_on_every_file() {
    assert_eq!(agrees_with_the_peer(Backend::Flex, |_| true), REFERENCES);
}

#[cfg(feature = "ndarray")]
#[test]
fn ndarray_agrees_with_the_peer_on_every_file() {
    assert_eq!(agrees_with_the_peer(Backend::Ndarray, |_| true), REFERENCES);
}

/// The slowest device, emulated in tests, only analyses the file with a reference for every patch; decoding is the same
/// on all devices.
#[cfg(feature = "wgpu")]
#[test]
fn wgpu_agrees_with_the_peer() {
    assert_eq!(agrees_with_the_peer(Backend::Wgpu, |file| file == "sweep_16k_mono.wav"), 1);
}

#[cfg(feature = "flex")]
#[test]
fn formats_the_peer_crashes_on_agree_with_the_plain_file() {
    let engine = engine(Backend::Flex, "msd-musicnn");
    let (plain, _) = analyse(&engine, "music/band.wav").unwrap();
    for (file, least) in [("band.opus", 0.99), ("band_opus.webm", 0.99), ("band_5_1.flac", 0.9999)] {
        let (analysis, _) = analyse(&engine, &format!("music/{file}")).unwrap();
        let cosine = cosine(&analysis.embedding, &plain.embedding);
        println!("{file:22} cosine {cosine:.7}");
        assert!(cosine >= least, "{file}: cosine {cosine}");
        assert!((analysis.seconds - 12.0).abs() < 0.03, "{file}: {} s", analysis.seconds);
    }
}

#[cfg(feature = "flex")]
#[test]
fn broken_files_are_refused_with_a_reason() {
    let engine = engine(Backend::Flex, "msd-musicnn");
    for (file, kind, words) in [
        ("bad_empty.mp3", "empty", "empty"),
        ("bad_garbage.mp3", "not_audio", "not a known audio format"),
        ("bad_html.mp3", "not_audio", "web page"),
        ("too_short.wav", "too_short", "2.00 s of audio; at least 2.96 s are needed"),
    ] {
        let error = analyse(&engine, &format!("broken/{file}")).unwrap_err();
        assert_eq!(error.kind(), kind, "{file}: {error}");
        assert!(error.to_string().contains(words), "{file}: {error}");
        assert!(error.is_permanent(), "{file}");
    }
    let (cut, _) = analyse(&engine, "broken/bad_truncated.mp3").unwrap();
    assert!(cut.is_truncated);
    assert!((3.0..5.0).contains(&cut.seconds), "{} s", cut.seconds);
    assert_eq!(cut.flags(), ["truncated"]);
}

#[cfg(feature = "flex")]
#[test]
fn limits_are_kept() {
    let engine = engine(Backend::Flex, "msd-musicnn");
    let open = |limits| {
        let file = fs::File::open(fixtures().join("music/band.wav")).unwrap();
        let mut track = engine.track(Box::new(file), None, limits)?;
        while block_on(track.step())? != Step::Finished {}
        track.finish()
    };
    let error = open(Limits { max_bytes: 1000, ..LIMITS }).unwrap_err();
    assert_eq!(error.to_string(), "the file has 2116844 bytes; the limit is 1000");
    let error = open(Limits { max_seconds: 5, ..LIMITS }).unwrap_err();
    assert_eq!(error.to_string(), "at least 12 s of audio; the limit is 5 s");
}

#[cfg(feature = "flex")]
#[test]
fn a_crash_while_a_track_is_analysed_is_the_devices() {
    let engine = engine(Backend::Flex, "msd-musicnn");
    let file = fs::File::open(fixtures().join("music/band.wav")).unwrap();
    let mut track = engine.track(Box::new(file), None, LIMITS).unwrap();
    let error = block_on(track.step_with(|_| panic!("no more"))).unwrap_err();
    assert_eq!(error.to_string(), "the device failed: it crashed: no more");
    assert!(!error.is_permanent());
}

#[test]
fn the_weights_are_those_of_the_manifest() {
    for model in chaarfm_models::all() {
        assert_eq!(format!("{:x}", Sha256::digest(chaarfm_models::weights(model))), model.sha256, "{}", model.name);
    }
}

/// Another checkpoint of the same architecture gives its own answers, not the first model's.
#[cfg(feature = "flex")]
#[test]
fn both_models_load_and_differ() {
    let [msd, mtt] = ["msd-musicnn", "mtt-musicnn"].map(|model| engine(Backend::Flex, model));
    let patch = |engine: &Engine| block_on(engine.patches(&check_patch())).unwrap().remove(0);
    assert_eq!(check_patch().len(), PATCH_FRAMES * MEL_BANDS);
    assert!(cosine(&patch(&msd).embedding, &patch(&mtt).embedding) < 0.9);
    assert_eq!(patch(&mtt).tags.len(), mtt.model().tags.len());
    let error = block_on(Engine::load(
        &block_on(Device::open(Backend::Flex)).unwrap(),
        msd.model(),
        chaarfm_models::weights(mtt.model()),
    ))
    .unwrap_err();
    assert!(error.to_string().contains("computes wrong numbers"), "{error}");
}
