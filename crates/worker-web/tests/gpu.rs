//! The analysis inside a real browser's Web Worker, on WebGPU (emulated in software, as test machines have no GPU).
#![cfg(target_family = "wasm")]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::io::Cursor;

use chaarfm_analysis::{Backend, Device, Engine, Limits, Step};
use wasm_bindgen_test::{wasm_bindgen_test, wasm_bindgen_test_configure};

wasm_bindgen_test_configure!(run_in_dedicated_worker);

/// A fixture with known values for every patch.
const SWEEP: &[u8] = include_bytes!("../../../tests/fixtures/music/sweep_16k_mono.wav");
/// The default model's weights. The crate's feature that contains them would cause everything to be compiled again,
/// only for tests.
const WEIGHTS: &[u8] = include_bytes!("../../../models/msd-musicnn.safetensors");
const GOLDEN: &str = include_str!("../../../tests/fixtures/golden.json");
const LIMITS: Limits = Limits { max_bytes: 1_000_000, max_seconds: 60 };

/// The engine opens only if the device gives the known answer.
#[wasm_bindgen_test]
async fn webgpu_gives_the_peers_vector() {
    let model = chaarfm_models::default();
    let device = Device::open(Backend::Wgpu).await.unwrap();
    assert!(device.info.is_software_gpu, "{}", device.info);
    let engine = Engine::load(&device, model, WEIGHTS).await.unwrap();
    let mut track = engine.track(Box::new(Cursor::new(SWEEP)), Some("wav"), LIMITS).unwrap();
    while track.step().await.unwrap() != Step::Finished {}
    let analysis = track.finish().unwrap();

    let golden: serde_json::Value = serde_json::from_str(GOLDEN).unwrap();
    let expected: Vec<f32> = serde_json::from_value(golden["sweep_16k_mono.wav"]["embedding"].clone()).unwrap();
    assert_eq!(analysis.embedding.len(), expected.len());
    let worst = analysis.embedding.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst < 1e-3, "{worst}");
}
