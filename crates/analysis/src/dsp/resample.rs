//! Any sample rate to 16 kHz, with the filter of libsamplerate's medium sinc converter.
//!
//! The mel is logarithmic with a small offset, so the vector depends on how the filter attenuates frequencies near 8 kHz:
//! a sharper or softer filter changes the cosine by up to 0.2. Existing vectors were made with this filter.

use std::f64::consts::PI;

use pulp::{Simd, WithSimd};

use super::SAMPLE_RATE;

/// Cut-off (−6 dB), in cycles per sample of the lower rate. This and the next two constants are fitted to the converter's
/// impulse response (largest error 2.4e-5).
const CUTOFF: f64 = 0.459_531_6;

/// Half width of the filter, in samples of the lower rate.
const HALF_WIDTH: f64 = 45.701_3;

/// β of the Kaiser window.
const KAISER_BETA: f64 = 12.252_1;

/// I₀(β), the divisor of the window.
const BESSEL_I0_OF_BETA: f64 = 24_124.238_338_197_34;

/// Maximum number of coefficients in a table with one row per phase. Rates that share a large divisor with 16 000 need
/// far fewer.
const MAX_EXACT_COEFFICIENTS: usize = 1 << 20;

/// Rows per sample of the lower rate in all other tables. Linear interpolation between two rows is off by |h″| / (8 ·
/// rows²): below 1e-7 of the largest coefficient, comparable to rounding to f32.
const ROWS_PER_SAMPLE: f64 = 2048.0;

/// Periods computed together. Samples at the same place of different periods share their coefficients, which are then
/// read only once.
const PERIODS: usize = 4;

/// Maximum number of input samples that may wait until a group of periods is complete.
const MAX_WAITING_SAMPLES: u64 = 4096;

/// The filter's length is a multiple of this: SIMD registers hold up to 16 numbers.
const MAX_LANES: usize = 16;

/// A rational polyphase resampler without delay: output sample n is centred on input sample n · rate / 16 000.
#[derive(Debug)]
pub(crate) struct Resampler {
    arch: pulp::Arch,
    /// Output samples per `down` input samples, reduced to lowest terms.
    up: u64,
    down: u64,
    /// Number of input samples on either side that contribute to an output sample.
    reach: usize,
    /// Rows of `2 · reach` coefficients for phases evenly spaced from 0 to 1: one for each of the `up` phases if that is
    /// not too many, otherwise [`ROWS_PER_SAMPLE`], between which `produce_singly` interpolates.
    table: Vec<f32>,
    /// Number of rows from phase 0 to phase 1.
    rows: u64,
    /// Input still needed; starts `reach` samples before the file.
    input: Vec<f32>,
    /// Position of `input[0]` in the file, plus `reach`.
    consumed: u64,
    /// Samples of the file received.
    received: u64,
    /// Samples produced. If [`PERIODS`] are computed together, a multiple of their samples until the end of the file.
    produced: u64,
}

impl Resampler {
    /// A resampler from `rate` Hz, which must not be 0.
    pub(crate) fn new(rate: u32) -> Self {
        let divisor = gcd(rate, SAMPLE_RATE);
        let (up, down) = (u64::from(SAMPLE_RATE / divisor), u64::from(rate / divisor));
        let input_rates_per_lower_rate = (down as f64 / up as f64).max(1.0);
        let reach = ((HALF_WIDTH * input_rates_per_lower_rate).ceil() as usize + 1).next_multiple_of(MAX_LANES / 2);
        let is_exact = (up as usize).saturating_mul(2 * reach) <= MAX_EXACT_COEFFICIENTS;
        let rows = if is_exact { up } else { (ROWS_PER_SAMPLE / input_rates_per_lower_rate).ceil() as u64 };
        // The row of phase 1 is needed to interpolate between it and the row before.
        let table = (0..=rows)
            .flat_map(|row| coefficients(row as f64 / rows as f64, reach, input_rates_per_lower_rate))
            .collect();
        let input = vec![0.0; reach];
        let arch = pulp::Arch::new();
        Self { arch, up, down, reach, table, rows, input, consumed: 0, received: 0, produced: 0 }
    }

    /// Appends the 16 kHz samples completed by `samples`, the file's next samples.
    pub(crate) fn process(&mut self, samples: &[f32], out: &mut Vec<f32>) {
        self.received += samples.len() as u64;
        if self.up == self.down {
            out.extend_from_slice(samples);
            return;
        }
        self.input.extend_from_slice(samples);
        self.produce(u64::MAX, out);
    }

    /// Appends the last 16 kHz samples; the total is ceil(length · 16 000 / rate).
    pub(crate) fn finish(&mut self, out: &mut Vec<f32>) {
        if self.up == self.down {
            return;
        }
        self.input.resize(self.input.len() + 2 * self.reach, 0.0);
        self.produce((self.received * self.up).div_ceil(self.down), out);
    }

    /// Whether [`PERIODS`] are computed together.
    fn has_groups(&self) -> bool {
        self.rows == self.up && PERIODS as u64 * self.down <= MAX_WAITING_SAMPLES
    }

    /// Appends all samples before `end` for which the input has arrived.
    fn produce(&mut self, end: u64, out: &mut Vec<f32>) {
        self.arch.dispatch(Produce { resampler: self, end, out });
        let done = self.start(self.produced).min(self.input.len());
        self.input.drain(..done);
        self.consumed += done as u64;
    }

    /// Start of an output sample's window in `input`: reach − 1 samples before its centre. `input` starts `reach` samples
    /// before the file.
    fn start(&self, sample: u64) -> usize {
        (sample * self.down / self.up + 1 - self.consumed) as usize
    }
}

/// The 2 · reach coefficients for output samples that lie `phase` of an input sample after an input sample:
/// h(u) = 2·fc · sinc(2·fc·u) · Kaiser(u), u in samples of the lower rate.
fn coefficients(phase: f64, reach: usize, input_rates_per_lower_rate: f64) -> impl Iterator<Item = f32> {
    let scale = 1.0 / input_rates_per_lower_rate;
    (0..2 * reach).map(move |tap| {
        let distance = phase - (tap as f64 - (reach as f64 - 1.0));
        let u = distance * scale;
        (2.0 * CUTOFF * sinc(2.0 * CUTOFF * u) * kaiser(u / HALF_WIDTH) * scale) as f32
    })
}

/// [`Resampler::produce`], compiled for each kind of SIMD.
struct Produce<'a> {
    resampler: &'a mut Resampler,
    end: u64,
    out: &'a mut Vec<f32>,
}

impl WithSimd for Produce<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { resampler, end, out } = self;
        let has_groups = resampler.has_groups();
        if has_groups {
            let group = PERIODS as u64 * resampler.up;
            while resampler.produced.saturating_add(group) <= end
                && resampler.start(resampler.produced + group - 1) + 2 * resampler.reach <= resampler.input.len()
            {
                resampler.produce_group(simd, out);
            }
        }
        // The samples of an incomplete group are computed when the input completes it, or at the end.
        if !has_groups || end < u64::MAX {
            resampler.produce_singly(simd, end, out);
        }
    }
}

/// Position of an output sample in the input. Derived from the previous position, because a division would take as long
/// as multiplying a window.
#[derive(Clone, Copy)]
struct Position {
    /// Start of its window in `input`.
    start: usize,
    /// Its phase, in units of 1/`up` of an input sample.
    phase: u64,
}

impl Resampler {
    /// Position of the next output sample.
    fn position(&self) -> Position {
        Position { start: self.start(self.produced), phase: self.produced * self.down % self.up }
    }

    #[inline(always)]
    fn step(&self, (whole, part): (usize, u64), position: &mut Position) {
        position.start += whole;
        position.phase += part;
        if position.phase >= self.up {
            (position.start, position.phase) = (position.start + 1, position.phase - self.up);
        }
    }

    /// Distance between two output samples: whole input samples, and units of 1/`up` of one.
    fn stride(&self) -> (usize, u64) {
        ((self.down / self.up) as usize, self.down % self.up)
    }

    /// Appends the next [`PERIODS`].
    #[inline(always)]
    fn produce_group<S: Simd>(&mut self, simd: S, out: &mut Vec<f32>) {
        let (taps, period, down) = (2 * self.reach, self.up as usize, self.down as usize);
        let (mut position, stride) = (self.position(), self.stride());
        let before = out.len();
        out.resize(before + PERIODS * period, 0.0);
        let out = &mut out[before..];
        for nth in 0..period {
            let row = &self.table[position.phase as usize * taps..][..taps];
            let windows: [&[f32]; PERIODS] =
                std::array::from_fn(|later| &self.input[position.start + later * down..][..taps]);
            for (later, sum) in dots::<S, PERIODS, 2>(simd, windows, row).into_iter().enumerate() {
                out[later * period + nth] = sum;
            }
            self.step(stride, &mut position);
        }
        self.produced += (PERIODS * period) as u64;
    }

    /// Appends the samples before `end` one by one.
    #[inline(always)]
    fn produce_singly<S: Simd>(&mut self, simd: S, end: u64, out: &mut Vec<f32>) {
        let taps = 2 * self.reach;
        let (mut position, stride) = (self.position(), self.stride());
        while self.produced < end {
            let Some(window) = self.input.get(position.start..position.start + taps) else { break };
            // If every phase has its own row, no interpolation is needed.
            let (row, between) = if self.rows == self.up {
                (position.phase, 0.0)
            } else {
                let row = position.phase * self.rows;
                (row / self.up, (row % self.up) as f32 / self.up as f32)
            };
            let rows = &self.table[row as usize * taps..];
            let [mut sample] = dots::<S, 1, 4>(simd, [window], &rows[..taps]);
            if between > 0.0 {
                let [next] = dots::<S, 1, 4>(simd, [window], &rows[taps..2 * taps]);
                sample += between * (next - sample);
            }
            out.push(sample);
            self.produced += 1;
            self.step(stride, &mut position);
        }
    }
}

/// Dot products of each window with a row of coefficients. All have the same length, a multiple of [`MAX_LANES`]. Each
/// window uses `SUMS` accumulators, because one multiply-add has to wait for the previous one.
#[inline(always)]
fn dots<S: Simd, const N: usize, const SUMS: usize>(simd: S, windows: [&[f32]; N], row: &[f32]) -> [f32; N] {
    let (row, _) = S::as_simd_f32s(row);
    let mut vectors: [&[S::f32s]; N] = [&[]; N];
    for (vector, window) in vectors.iter_mut().zip(windows) {
        *vector = &S::as_simd_f32s(window).0[..row.len()];
    }
    let mut sums = [[simd.splat_f32s(0.0); SUMS]; N];
    let (chunks, rest) = row.as_chunks::<SUMS>();
    // Indexed loops: closures and iterator chains are not always compiled for the selected SIMD instructions.
    for at in 0..chunks.len() {
        for window in 0..N {
            let samples = &vectors[window][SUMS * at..][..SUMS];
            for i in 0..SUMS {
                sums[window][i] = simd.mul_add_e_f32s(chunks[at][i], samples[i], sums[window][i]);
            }
        }
    }
    for window in 0..N {
        let samples = &vectors[window][SUMS * chunks.len()..];
        for i in 0..rest.len().min(SUMS) {
            sums[window][i] = simd.mul_add_e_f32s(rest[i], samples[i], sums[window][i]);
        }
    }
    let mut products = [0.0; N];
    for window in 0..N {
        let mut all = simd.splat_f32s(0.0);
        for sum in sums[window] {
            all = simd.add_f32s(all, sum);
        }
        products[window] = simd.reduce_sum_f32s(all);
    }
    products
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 { 1.0 } else { (PI * x).sin() / (PI * x) }
}

/// The Kaiser window at `x` half widths from its centre.
fn kaiser(x: f64) -> f64 {
    if x.abs() > 1.0 { 0.0 } else { bessel_i0(KAISER_BETA * (1.0 - x * x).sqrt()) / BESSEL_I0_OF_BETA }
}

/// Modified Bessel function of the first kind and order 0, by its power series Σ ((x/2)^k / k!)².
fn bessel_i0(x: f64) -> f64 {
    let (mut sum, mut term, mut k) = (1.0, 1.0, 1.0);
    while term > sum * 1e-17 {
        term *= (x / 2.0 / k) * (x / 2.0 / k);
        sum += term;
        k += 1.0;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fused::instruction_sets;

    /// The definition, one output sample at a time: y[n] = s · Σ x[m] · h((n · rate/16 000 − m) · s), s = min(1, 16 000/rate).
    fn slow(samples: &[f32], rate: u32) -> Vec<f32> {
        let ratio = f64::from(rate) / f64::from(SAMPLE_RATE);
        let scale = (1.0 / ratio).min(1.0);
        let length = (samples.len() as u64 * u64::from(SAMPLE_RATE)).div_ceil(u64::from(rate));
        (0..length)
            .map(|n| {
                let sum: f64 = samples
                    .iter()
                    .enumerate()
                    .map(|(m, &x)| {
                        let u = (n as f64 * ratio - m as f64) * scale;
                        f64::from(x) * 2.0 * CUTOFF * sinc(2.0 * CUTOFF * u) * kaiser(u / HALF_WIDTH)
                    })
                    .sum();
                (sum * scale) as f32
            })
            .collect()
    }

    fn noise(length: usize) -> Vec<f32> {
        let mut state = 1u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state as f32 / u32::MAX as f32 - 0.5
        };
        (0..length).map(|_| next()).collect()
    }

    fn streamed(samples: &[f32], rate: u32, block: usize) -> Vec<f32> {
        streamed_with(pulp::Arch::new(), samples, rate, block)
    }

    fn streamed_with(arch: pulp::Arch, samples: &[f32], rate: u32, block: usize) -> Vec<f32> {
        let mut resampler = Resampler { arch, ..Resampler::new(rate) };
        let mut out = Vec::new();
        for block in samples.chunks(block) {
            resampler.process(block, &mut out);
        }
        resampler.finish(&mut out);
        out
    }

    #[test]
    fn equals_the_definition_at_every_rate_and_in_any_blocks() {
        let samples = noise(1500);
        for rate in [8_000, 11_025, 22_050, 32_000, 44_100, 44_101, 48_000, 96_000, 192_000, 192_001, 767_999, 7_919] {
            let expected = slow(&samples, rate);
            for (arch, block) in
                instruction_sets().into_iter().flat_map(|arch| [1, 37, 1500].map(|block| (arch, block)))
            {
                let got = streamed_with(arch, &samples, rate, block);
                assert_eq!(got.len(), expected.len(), "{rate} Hz");
                for (i, (a, b)) in got.iter().zip(&expected).enumerate() {
                    assert!((a - b).abs() < 2e-6, "{arch:?}, {rate} Hz, sample {i}: {a} instead of {b}");
                }
            }
        }
    }

    #[test]
    fn the_constant_is_the_series() {
        assert!((bessel_i0(KAISER_BETA) / BESSEL_I0_OF_BETA - 1.0).abs() < 1e-15);
    }

    #[test]
    fn no_rate_has_a_large_table() {
        for rate in [2_000, 2_001, 7_919, 15_999, 16_001, 44_101, 96_001, 192_001, 767_999, 768_000] {
            let coefficients = Resampler::new(rate).table.len();
            assert!(coefficients < 2 * MAX_EXACT_COEFFICIENTS, "{rate} Hz: {coefficients}");
        }
    }

    #[test]
    fn passes_16_khz_unchanged() {
        let samples = noise(999);
        assert_eq!(streamed(&samples, SAMPLE_RATE, 100), samples);
    }

    #[test]
    fn has_the_measured_response() {
        // Decibels at 44.1 kHz, measured on the peer's converter.
        for (hz, decibels, tolerance) in [(1000.0, 0.0, 0.01), (7000.0, -0.3, 0.05), (7400.0, -7.9, 0.1)] {
            let samples: Vec<f32> =
                (0..44_100).map(|i| (2.0 * PI * hz * f64::from(i) / 44_100.0).sin() as f32).collect();
            let out = streamed(&samples, 44_100, 4096);
            let middle = &out[2000..14_000];
            let power: f64 = middle.iter().map(|&y| f64::from(y) * f64::from(y)).sum::<f64>() / middle.len() as f64;
            let got = 10.0 * (2.0 * power).log10();
            assert!((got - decibels).abs() < tolerance, "{hz} Hz: {got} dB instead of {decibels}");
        }
    }

    #[test]
    fn keeps_only_what_it_still_needs() {
        let mut resampler = Resampler::new(44_100);
        let mut out = Vec::new();
        for _ in 0..50 {
            resampler.process(&[0.1; 4410], &mut out);
        }
        let most = PERIODS * resampler.down as usize + 2 * resampler.reach;
        assert!(resampler.input.len() <= most + 1, "{}", resampler.input.len());
    }
}
