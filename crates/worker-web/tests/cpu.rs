//! The analysis inside a real browser's Web Worker, on the CPU.
#![cfg(target_family = "wasm")]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::io::Cursor;

use chaarfm_analysis::{Backend, Engine, Limits, Step};
use wasm_bindgen_test::{wasm_bindgen_test, wasm_bindgen_test_configure};

wasm_bindgen_test_configure!(run_in_dedicated_worker);

/// A fixture with known values for every patch.
const SWEEP: &[u8] = include_bytes!("../../../tests/fixtures/music/sweep_16k_mono.wav");
/// The default model's weights. The crate's feature that contains them would cause everything to be compiled again,
/// only for tests.
const WEIGHTS: &[u8] = include_bytes!("../../../models/msd-musicnn.safetensors");
const GOLDEN: &str = include_str!("../../../tests/fixtures/golden.json");
const LIMITS: Limits = Limits { max_bytes: 1_000_000, max_seconds: 60 };

#[wasm_bindgen_test]
async fn the_cpu_gives_the_peers_vector() {
    let model = chaarfm_models::default();
    let engine = Engine::open(Backend::Flex, model, WEIGHTS).await.unwrap();
    let mut patches = Vec::new();
    let mut track = engine.track(Box::new(Cursor::new(SWEEP)), Some("wav"), LIMITS).unwrap();
    while track.step_with(|patch| patches.push(patch.embedding.clone())).await.unwrap() != Step::Finished {}
    let analysis = track.finish().unwrap();

    let golden: serde_json::Value = serde_json::from_str(GOLDEN).unwrap();
    let golden = &golden["sweep_16k_mono.wav"];
    let expected: Vec<f32> = serde_json::from_value(golden["embedding"].clone()).unwrap();
    assert!(largest_difference(&analysis.embedding, &expected) < 1e-3);
    let expected: Vec<Vec<f32>> = serde_json::from_value(golden["patch_embeddings"].clone()).unwrap();
    assert_eq!(patches.len(), expected.len());
    for (patch, expected) in patches.iter().zip(&expected) {
        assert!(largest_difference(patch, expected) < 1e-3);
    }
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}
