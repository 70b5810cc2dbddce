//! Each stage of the analysis on 60 s of synthetic music, and a whole track.
#![expect(clippy::unwrap_used, reason = "a benchmark may panic")]

use std::{fs, hint::black_box, io::Cursor};

use chaarfm_analysis::{Backend, Device, Engine, Limits, MEL_BANDS, Step, stages};
use chaarfm_tests::fixtures;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pollster::block_on;

const LIMITS: Limits = Limits { max_bytes: 100_000_000, max_seconds: 3600 };

/// Length of the synthetic signal.
const SECONDS: u32 = 60;

/// Patches per run: those of 12 s.
const PATCHES: u64 = 8;

/// Rising tones with some noise.
fn signal(rate: u32) -> Vec<f32> {
    let mut noise = 1u32;
    (0..rate * SECONDS)
        .map(|n| {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let t = n as f32 / rate as f32;
            0.3 * (t * (400.0 + 90.0 * t)).sin() + 0.1 * (noise >> 8) as f32 / (1 << 24) as f32
        })
        .collect()
}

fn stages(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("60 s");
    group.throughput(Throughput::Elements(SECONDS.into())).sample_size(10);
    let samples = signal(44_100);
    group.bench_function("resample 44.1 kHz", |bench| bench.iter(|| stages::resample(black_box(&samples), 44_100)));
    let samples = signal(16_000);
    group.bench_function("log-mel", |bench| bench.iter(|| stages::log_mel(black_box(&samples))));
    group.finish();

    let mut group = criterion.benchmark_group("12 s");
    group.throughput(Throughput::Elements(12)).sample_size(10);
    for file in ["band.mp3", "band.ogg", "band.flac", "band.m4a", "band.opus"] {
        let bytes = fs::read(fixtures().join("music").join(file)).unwrap();
        group.bench_function(format!("decode {file}"), |bench| {
            bench.iter(|| stages::decode(Box::new(Cursor::new(bytes.clone())), &LIMITS).unwrap());
        });
    }
    let model = chaarfm_models::default();
    let engine = block_on(async {
        let device = Device::open(Backend::Flex).await.unwrap();
        Engine::load(&device, model, chaarfm_models::weights(model)).await.unwrap()
    });
    let bytes = fs::read(fixtures().join("music/band.ogg")).unwrap();
    group.bench_function("whole track band.ogg", |bench| {
        bench.iter(|| {
            let mut track = engine.track(Box::new(Cursor::new(bytes.clone())), Some("ogg"), LIMITS).unwrap();
            while block_on(track.step()).unwrap() != Step::Finished {}
            track.finish().unwrap()
        });
    });
    group.finish();

    let mut group = criterion.benchmark_group("8 patches");
    group.throughput(Throughput::Elements(PATCHES)).sample_size(10);
    let log_mel = stages::log_mel(&samples);
    let log_mel = &log_mel[..(187 + 7 * 93) * MEL_BANDS];
    let convolutions = stages::Convolutions::new(chaarfm_models::weights(model)).unwrap();
    group.bench_function("front end", |bench| bench.iter(|| convolutions.front_end(black_box(log_mel))));
    let front = convolutions.front_end(log_mel);
    group.bench_function("mid end", |bench| bench.iter(|| convolutions.mid_end(black_box(&front))));
    group.bench_function("network", |bench| bench.iter(|| block_on(engine.patches(black_box(log_mel))).unwrap()));
    group.finish();
}

criterion_group!(benches, stages);
criterion_main!(benches);
