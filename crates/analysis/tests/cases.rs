//! Kinds of files that programs in the wild write and that readers trip over (`tests/fixtures/cases`), compared with the
//! length and the vector of the samples they were made from.
#![cfg(feature = "flex")]
#![expect(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

use std::{collections::BTreeMap, env, fs, path::PathBuf};

use chaarfm_analysis::{Analysis, AudioError, Backend, Device, Engine, Limits, Step};
use pollster::block_on;
use serde::Deserialize;

const LIMITS: Limits = Limits { max_bytes: 100_000_000, max_seconds: 3600 };

/// Expected results, from the correct samples.
#[derive(Deserialize)]
struct Expected {
    seconds: f64,
    seconds_tolerance: f64,
    /// The minimum cosine to `embedding`.
    tolerance: f64,
    embedding: Vec<f32>,
    may_be_called_truncated: bool,
}

/// The folder of the cases, or another of the same layout if the environment variable names one.
fn folder() -> PathBuf {
    env::var_os("CHAARFM_CASES")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/cases"), PathBuf::from)
}

fn analyse(engine: &Engine, path: &PathBuf) -> Result<Analysis, AudioError> {
    let extension = path.extension().and_then(|e| e.to_str());
    let mut track = engine.track(Box::new(fs::File::open(path).unwrap()), extension, LIMITS)?;
    while block_on(track.step())? != Step::Finished {}
    track.finish()
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// What is wrong with the analysis of a case, if anything.
fn faults(engine: &Engine, path: &PathBuf, expected: &Expected) -> Vec<String> {
    let analysis = match analyse(engine, path) {
        Ok(analysis) => analysis,
        Err(error) => return vec![format!("refused: {error}")],
    };
    let mut faults = Vec::new();
    let cosine = cosine(&analysis.embedding, &expected.embedding);
    if cosine < expected.tolerance {
        faults.push(format!("cosine {cosine:.5} < {}", expected.tolerance));
    }
    if (analysis.seconds - expected.seconds).abs() > expected.seconds_tolerance {
        faults.push(format!("{:.2} s, not {:.2} s", analysis.seconds, expected.seconds));
    }
    if analysis.is_truncated && !expected.may_be_called_truncated {
        faults.push("called truncated, but nothing is missing".to_owned());
    }
    faults
}

#[test]
fn files_of_every_kind_give_the_vector_of_their_samples() {
    let folder = folder();
    let model = chaarfm_models::find("msd-musicnn").unwrap();
    let device = block_on(Device::open(Backend::Flex)).unwrap();
    let engine = block_on(Engine::load(&device, model, chaarfm_models::weights(model))).unwrap();
    let cases: BTreeMap<String, Expected> =
        serde_json::from_slice(&fs::read(folder.join("expected.json")).unwrap()).unwrap();
    assert!(!cases.is_empty(), "no case in {}", folder.display());
    let mut failed = Vec::new();
    for (file, expected) in &cases {
        // In the same folder as `expected.json` here; in `files` next to it elsewhere.
        let path = [folder.join(file), folder.join("files").join(file)].into_iter().find(|path| path.exists());
        let faults = faults(&engine, &path.unwrap_or_else(|| panic!("{file} is missing")), expected);
        println!("{file:32} {}", if faults.is_empty() { "right".to_owned() } else { faults.join("; ") });
        if !faults.is_empty() {
            failed.push(file.as_str());
        }
    }
    assert!(failed.is_empty(), "{} of {} cases: {}", failed.len(), cases.len(), failed.join(", "));
}
