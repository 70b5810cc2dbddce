//! The native worker on a GPU, which test machines emulate.
#![expect(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

use std::{fs, process::Output};

use chaarfm_tests::{cosine, executable, fixtures};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

/// The emulated GPU takes seconds for this fixture, not minutes.
const FILE: &str = "sweep_16k_mono.wav";

/// Runs a command of the worker without data of earlier runs and without a desktop.
async fn worker(arguments: &[&str]) -> Output {
    let cache = TempDir::new().unwrap();
    let mut command = Command::new(executable("chaarfm-worker"));
    command.args(arguments).env("XDG_CACHE_HOME", cache.path()).env_remove("XDG_RUNTIME_DIR");
    command.output().await.unwrap()
}

async fn analyse(device: &str) -> Output {
    worker(&["analyze", "--device", device, "--json", fixtures().join("music").join(FILE).to_str().unwrap()]).await
}

fn line(output: &Output) -> Value {
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test]
async fn a_gpu_gives_the_peers_vector() {
    let line = line(&analyse("wgpu").await);
    assert!(line["device"].as_str().unwrap().starts_with("wgpu (llvmpipe"), "{}", line["device"]);
    let golden: Value = serde_json::from_slice(&fs::read(fixtures().join("golden.json")).unwrap()).unwrap();
    let numbers = |value: &Value| serde_json::from_value::<Vec<f32>>(value.clone()).unwrap();
    let cosine = cosine(&numbers(&line["embedding"]), &numbers(&golden[FILE]["embedding"]));
    assert!(cosine >= 0.99999, "{cosine}");
}

#[tokio::test]
async fn auto_leaves_an_imitated_gpu_alone_and_its_libraries_write_nothing() {
    let output = analyse("auto").await;
    assert!(line(&output)["device"].as_str().unwrap().starts_with("flex"));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[tokio::test]
async fn devices_says_what_each_does_and_which_is_taken() {
    let line = line(&worker(&["devices", "--json"]).await);
    let speed = |device: &str| line["speeds"][device].as_f64().unwrap_or_default();
    assert!(speed("cpu") > 0.0, "{line}");
    // The emulated GPU may be too slow for the time limit.
    assert!(speed("gpu") > 0.0 || line["gpu_failure"].is_string(), "{line}");
    assert_eq!(line["auto"], serde_json::json!(["flex"]));
    assert!(line["note"].as_str().unwrap().contains("is software"), "{line}");
}
