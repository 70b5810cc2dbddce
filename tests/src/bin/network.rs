//! Patches per second of the network alone: `network flex|ndarray|wgpu THREADS FILE`. Prints a line of JSON. For a GPU it
//! also reports the share of peak arithmetic throughput.
#![expect(clippy::print_stdout, reason = "a program for developers")]

use std::{env, fs::File, hint::black_box, time::Instant};

use anyhow::{Context, ensure};
use chaarfm_analysis::{Backend, Device, Engine, Limits, MEL_BANDS, stages};
use pollster::block_on;

/// Patches per batch, as in the analysis of a track.
const CPU_BATCH: usize = 8;
const GPU_BATCH: usize = 16;

/// Untimed warm-up batches, and timed batches.
const WARM_UP: usize = 4;
const TIMED: usize = 40;

fn main() -> anyhow::Result<()> {
    let mut arguments = env::args().skip(1);
    let device = arguments.next().context("which device?")?;
    let backend = Backend::ALL.into_iter().find(|backend| backend.name() == device).context("no such device")?;
    let threads: usize = arguments.next().context("how many threads?")?.parse()?;
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
    let file = File::open(arguments.next().context("which file?")?)?;
    let (samples, rate) = stages::decode(Box::new(file), &Limits { max_bytes: u64::MAX, max_seconds: 600 })?;
    let log_mel = stages::log_mel(&stages::resample(&samples, rate));

    let model = chaarfm_models::default();
    let device = block_on(Device::open(backend))?;
    let engine = block_on(Engine::load(&device, model, chaarfm_models::weights(model)))?;
    let batch = if backend == Backend::Wgpu { GPU_BATCH } else { CPU_BATCH };
    let run = (187 + (batch - 1) * 93) * MEL_BANDS;
    let batches: Vec<&[f32]> = log_mel.chunks_exact(run).collect();
    ensure!(!batches.is_empty(), "the file is too short for a batch of {batch} patches");
    let analyse = |count: usize| -> anyhow::Result<()> {
        for batch in batches.iter().cycle().take(count) {
            black_box(block_on(engine.patches(batch))?);
        }
        Ok(())
    };
    analyse(WARM_UP)?;
    let start = Instant::now();
    analyse(TIMED)?;
    let patches_per_second = (batch * TIMED) as f64 / start.elapsed().as_secs_f64();
    let share_of_peak = share_of_peak(backend, patches_per_second)?;
    println!(
        "{}",
        serde_json::json!({
            "peer": "chaarfm",
            "threads": threads,
            "patches_per_second": patches_per_second,
            "share_of_peak": share_of_peak,
        })
    );
    Ok(())
}

/// Share of a GPU's peak arithmetic; none for a CPU, whose kernels need fewer operations.
fn share_of_peak(backend: Backend, patches_per_second: f64) -> anyhow::Result<Option<f64>> {
    if backend != Backend::Wgpu {
        return Ok(None);
    }
    let a_patch = stages::gpu_multiply_adds(GPU_BATCH) as f64 / GPU_BATCH as f64;
    let peak = block_on(stages::gpu_peak()).map_err(anyhow::Error::msg)?;
    Ok(Some(patches_per_second * a_patch / peak))
}
