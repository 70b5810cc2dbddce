//! The temporal branches: kernels of 128, 64 and 32 frames of one band, pooled over all bands.
//!
//! The correlation along time is done in the Fourier domain, circular with 256 points: enough that the wrap-around of 187
//! frames and 128 taps meets only zeros. Two bands are the real and imaginary parts of one complex signal; a real kernel
//! keeps them separate.

use std::{array, sync::Arc};

use pulp::{Simd, WithSimd};
use rustfft::{Fft, FftPlanner, num_complex::Complex32};

use super::{
    Aligned, Pointwise,
    fft::{Complex, Factor, fft4, fft8, root},
};
use crate::{
    dsp::MEL_BANDS,
    fused::{mul_add, mul_sub},
    network::PATCH_FRAMES,
};

/// Points of the transform.
const POINTS: usize = 256;

/// Stored bins of a kernel's spectrum; the others are their conjugates.
const BINS: usize = POINTS / 2 + 1;

/// The spectrum of two bands of a patch.
pub(super) type Spectrum = [Complex32; POINTS];

/// The branches, one after the other, with their weights.
pub(super) struct Temporal {
    fft: Arc<dyn Fft<f32>>,
    /// \[group of channels, bin, (re, im), lane\]
    kernels: Aligned,
    pointwise: Pointwise,
    twiddles: Twiddles,
}

struct Twiddles {
    /// e^(2πi·qj/256)
    w256: [[Factor; 64]; 4],
    /// e^(2πi·qj/64)
    w64: [[Factor; 8]; 8],
}

impl Temporal {
    /// `kernels` are the taps of each channel.
    pub(super) fn new<'k>(kernels: impl Iterator<Item = &'k [f32]>, pointwise: Pointwise) -> Self {
        let lanes = pointwise.lanes;
        let fft = FftPlanner::new().plan_fft_forward(POINTS);
        let mut spectra = vec![0.0; pointwise.groups() * 2 * BINS * lanes];
        for (channel, taps) in kernels.enumerate() {
            // "Same" padding: tap k of frame t reads frame t + k − before. The inverse transforms do not scale.
            let before = (taps.len() - 1) / 2;
            let scale = pointwise.sign(channel) / POINTS as f32;
            let mut spectrum = [Complex32::ZERO; POINTS];
            for (k, tap) in taps.iter().enumerate() {
                spectrum[(POINTS + before - k) % POINTS].re = tap * scale;
            }
            fft.process(&mut spectrum);
            for (bin, value) in spectrum[..BINS].iter().enumerate() {
                let row = (channel / lanes * BINS + bin) * 2;
                spectra[row * lanes + channel % lanes] = value.re;
                spectra[(row + 1) * lanes + channel % lanes] = value.im;
            }
        }
        let twiddles = Twiddles {
            w256: array::from_fn(|q| array::from_fn(|j| root(q * j, 256))),
            w64: array::from_fn(|q| array::from_fn(|j| root(q * j, 64))),
        };
        Self { fft, kernels: Aligned::from_slice(0, &spectra), pointwise, twiddles }
    }

    /// Groups of channels.
    pub(super) fn groups(&self) -> usize {
        self.pointwise.groups()
    }

    /// The spectra of a patch \[frame, band\], each covering two bands.
    pub(super) fn spectra(&self, patch: &[f32]) -> Vec<Spectrum> {
        let (frames, _) = patch.as_chunks::<MEL_BANDS>();
        let mut spectra: Vec<Spectrum> = (0..MEL_BANDS / 2)
            .map(|pair| {
                let mut spectrum = [Complex32::ZERO; POINTS];
                for (point, frame) in spectrum.iter_mut().zip(frames) {
                    *point = Complex32::new(frame[2 * pair], frame[2 * pair + 1]);
                }
                spectrum
            })
            .collect();
        self.fft.process(spectra.as_flattened_mut());
        spectra
    }

    /// Features of a group of channels: \[frame, lane\].
    pub(super) fn features(&self, arch: pulp::Arch, spectra: &[Spectrum], group: usize) -> Aligned {
        let mut features = Aligned::new(0);
        features.resize(PATCH_FRAMES * self.pointwise.lanes, 0.0);
        arch.dispatch(Features { branches: self, spectra, group, features: &mut features });
        features
    }
}

impl std::fmt::Debug for Temporal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Temporal").field("groups", &self.groups()).finish_non_exhaustive()
    }
}

struct Features<'a> {
    branches: &'a Temporal,
    spectra: &'a [Spectrum],
    group: usize,
    features: &'a mut [f32],
}

impl WithSimd for Features<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { branches, spectra, group, features } = self;
        let size = 2 * BINS * S::F32_LANES;
        let kernels = S::as_simd_f32s(&branches.kernels[group * size..][..size]).0;
        let (kernels, _) = kernels.as_chunks::<2>();
        let pooled = pooled(simd, &branches.twiddles, spectra, kernels);
        for (n, frame) in S::as_mut_simd_f32s(features).0.iter_mut().enumerate() {
            // Position of result n = q + 4·(r + 8·m) after the three passes.
            let at = 64 * (n % 4) + 8 * (n / 4 % 8) + n / 32;
            [*frame] = branches.pointwise.apply(simd, group, [pooled[at]]);
        }
    }
}

/// The largest correlation over all bands, at every frame.
#[inline(always)]
fn pooled<S: Simd>(simd: S, twiddles: &Twiddles, spectra: &[Spectrum], kernels: &[[S::f32s; 2]]) -> [S::f32s; POINTS] {
    let mut pooled = [simd.splat_f32s(f32::NEG_INFINITY); POINTS];
    let kernels = &kernels[..BINS];
    if S::F32_LANES < WIDE {
        let mut work = [[Complex::zero(simd); 64]; 4];
        for spectrum in spectra {
            quarters(simd, twiddles, spectrum, kernels, [0, 1, 2, 3], &mut work, &mut pooled);
        }
    } else {
        let mut work = [[Complex::zero(simd); 64]; 2];
        for spectrum in spectra {
            quarters(simd, twiddles, spectrum, kernels, [0, 2], &mut work, &mut pooled);
            quarters(simd, twiddles, spectrum, kernels, [1, 3], &mut work, &mut pooled);
        }
    }
    pooled
}

/// From this many numbers per register on, only half of a transform fits in the first-level cache. The products with the
/// kernel are then recomputed for each half, which is cheaper.
const WIDE: usize = 16;

/// Some quarters of a transform, pooled: quarter q yields the results q + 4m.
#[inline(always)]
fn quarters<S: Simd, const N: usize>(
    simd: S,
    twiddles: &Twiddles,
    spectrum: &Spectrum,
    kernels: &[[S::f32s; 2]],
    quarters: [usize; N],
    work: &mut [[Complex<S>; 64]; N],
    pooled: &mut [S::f32s; POINTS],
) {
    for j in 0..64 {
        let y = fft4(
            simd,
            [
                product(simd, spectrum[j], kernels[j], 1.0),
                product(simd, spectrum[j + 64], kernels[j + 64], 1.0),
                product(simd, spectrum[j + 128], kernels[128 - j], -1.0),
                product(simd, spectrum[j + 192], kernels[64 - j], -1.0),
            ],
        );
        for i in 0..N {
            let q = quarters[i];
            work[i][j] = if q == 0 { y[0] } else { y[q].times(simd, twiddles.w256[q][j]) };
        }
    }
    for (i, q) in quarters.into_iter().enumerate() {
        let x = &mut work[i];
        for j in 0..8 {
            let y = fft8(simd, [x[j], x[j + 8], x[j + 16], x[j + 24], x[j + 32], x[j + 40], x[j + 48], x[j + 56]]);
            x[j] = y[0];
            for r in 1..8 {
                x[8 * r + j] = y[r].times(simd, twiddles.w64[r][j]);
            }
        }
        let (eighths, _) = x.as_chunks::<8>();
        for r in 0..8 {
            let y = fft8(simd, eighths[r]);
            // From m = 6 on the results lie after the patch's last frame.
            for m in 0..PATCH_FRAMES.div_ceil(32) {
                let best = &mut pooled[64 * q + 8 * r + m];
                *best = simd.max_f32s(*best, simd.max_f32s(y[m].re, y[m].im));
            }
        }
    }
}

/// x · (re ± i·im)
#[inline(always)]
fn product<S: Simd>(simd: S, x: Complex32, [re, im]: [S::f32s; 2], sign: f32) -> Complex<S> {
    let (a, b) = (simd.splat_f32s(x.re), simd.splat_f32s(x.im));
    let (ai, bi) = (simd.splat_f32s(x.re * sign), simd.splat_f32s(x.im * sign));
    Complex { re: mul_sub(simd, bi, im, simd.mul_f32s(a, re)), im: mul_add(simd, ai, im, simd.mul_f32s(b, re)) }
}
