//! The analysis inside a real browser's Web Worker, on WebGPU (emulated in software, as test machines have no GPU).
#![cfg(target_family = "wasm")]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use chaarfm_analysis::{Backend, Device, DeviceChoice, Engine, EngineError};
use wasm_bindgen_test::{wasm_bindgen_test, wasm_bindgen_test_configure};

wasm_bindgen_test_configure!(run_in_dedicated_worker);

/// The engine opens only when the device gave the known answer.
#[wasm_bindgen_test]
async fn webgpu_gives_the_known_answer() {
    let model = chaarfm_models::default();
    let device = Device::open(Backend::Wgpu).await.unwrap();
    assert!(device.info.is_software_gpu, "{}", device.info);
    Engine::load(&device, model, chaarfm_models::weights(model)).await.unwrap();
}

/// What emulates a GPU is not taken for one, and the reason is the GPU's although this program has no CPU to fall back on.
#[wasm_bindgen_test]
async fn auto_refuses_what_emulates_a_gpu() {
    let model = chaarfm_models::default();
    let refused = Engine::open(DeviceChoice::Auto, model, chaarfm_models::weights(model)).await.unwrap_err();
    let EngineError::NoGpu(reason) = refused else { panic!("{refused}") };
    assert!(reason.contains("software"), "{reason}");
}
