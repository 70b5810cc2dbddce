//! A timbral branch: kernels of 7 frames × 38 or 67 bands, pooled over all positions in frequency.
//!
//! The correlation along frequency is done in the Fourier domain: circular with 96 points, whose wrap-around does not
//! reach the valid positions. A product with a kernel's bin c + id, summed over the 7 frames, takes three real sums
//! instead of four: with a frame's bin a + ib,
//!
//! k₁ = Σ c·(a + b), k₂ = Σ (d − c)·a, k₃ = Σ (c + d)·b; re = k₁ − k₃, im = k₁ + k₂.
//!
//! So frames and kernels both have three planes per bin, and each plane is a plain filter of 7 taps along time.
//!
//! The inverse transform splits 96 = 3 · 32 by the remainder r of a bin: x\[n\] = Σᵣ e^(2πi·rn/96) · Aᵣ\[n mod 32\],
//! where Aᵣ is the transform of the 32 bins 3k + r. As x is real, A₀ is real as well, so that one complex transform
//! computes two frames of it, and the terms of A₁ and A₂ are conjugates: x\[n\] = A₀ + Re(e^(2πi·n/96) · 2·A₁).

use std::array;

use pulp::{Simd, WithSimd};
use realfft::num_complex::Complex32;

use super::{
    Aligned, Pointwise,
    fft::{Complex, Factor, fft4, fft8, root},
};
use crate::{
    dsp::MEL_BANDS,
    fused::{mul_add, mul_sub},
};

/// Frames a kernel spans.
pub(super) const TAPS: usize = 7;

/// Frames on either side of the middle one.
pub(super) const REACH: usize = TAPS / 2;

/// Bins of the real transform of a frame or a kernel's row.
const BINS: usize = MEL_BANDS / 2 + 1;

/// Frames computed together, in registers.
const BLOCK: usize = 8;

/// Space for a transform of 32, plus one number: without it, the same bin of all transforms in a block would compete for
/// the same place in the cache.
const ROW: usize = 32 + 1;

/// Frames, stored as planes: the input that the kernels are correlated with. Window `w` begins at number `w · hop` of
/// each plane.
pub(super) struct Windows {
    planes: Vec<f32>,
    /// Numbers in a plane.
    length: usize,
    hop: usize,
    /// Number of windows; each has [`TAPS`] frames.
    pub(super) count: usize,
}

impl Windows {
    /// Space for `count` windows that begin `hop` frames apart; frames that are not [`set`](Self::set) are zero.
    pub(super) fn new(count: usize, hop: usize) -> Self {
        let length = count.next_multiple_of(BLOCK) * hop + TAPS;
        Self { planes: vec![0.0; 3 * BINS * length], length, hop, count }
    }

    /// Stores the spectrum of a frame at a position.
    pub(super) fn set(&mut self, position: usize, spectrum: &[Complex32]) {
        for (planes, bin) in self.planes.chunks_exact_mut(3 * self.length).zip(spectrum) {
            for (plane, number) in [bin.re + bin.im, bin.re, bin.im].into_iter().enumerate() {
                planes[plane * self.length + position] = number;
            }
        }
    }
}

/// A branch with its weights.
#[derive(Debug)]
pub(super) struct Timbral {
    /// \[group of channels, bin, plane, tap, lane\]
    kernels: Aligned,
    pointwise: Pointwise,
    /// Positions in frequency.
    positions: usize,
    twiddles: Twiddles,
}

#[derive(Debug)]
struct Twiddles {
    /// e^(2πi·qj/32)
    w32: [[Factor; 8]; 4],
    /// e^(2πi·n/96)
    w96: [Factor; 64],
}

impl Timbral {
    /// `kernel` is \[channel, 7, width\].
    pub(super) fn new(kernel: &[f32], width: usize, pointwise: Pointwise) -> Self {
        let lanes = pointwise.lanes;
        let mut fft = realfft::RealFftPlanner::<f32>::new();
        let fft = fft.plan_fft_forward(MEL_BANDS);
        let mut kernels = vec![0.0; pointwise.groups() * 3 * BINS * TAPS * lanes];
        let mut spectrum = fft.make_output_vec();
        for (row, numbers) in kernel.chunks_exact(width).enumerate() {
            let (channel, tap) = (row / TAPS, row % TAPS);
            let mut padded = [0.0; MEL_BANDS];
            padded[..width].copy_from_slice(numbers);
            fft.process(&mut padded, &mut spectrum).expect("lengths from the planner");
            for (bin, value) in spectrum.iter().enumerate() {
                // The inverse transforms do not scale, and the remaining bins of A₁ count for A₂ as well.
                let scale = if bin % 3 == 0 { 1.0 } else { 2.0 } / MEL_BANDS as f32 * pointwise.sign(channel);
                let (c, d) = (value.re * scale, -value.im * scale);
                for (plane, number) in [c, d - c, c + d].into_iter().enumerate() {
                    let plane = (channel / lanes * BINS + bin) * 3 + plane;
                    kernels[(plane * TAPS + tap) * lanes + channel % lanes] = number;
                }
            }
        }
        let twiddles = Twiddles {
            w32: array::from_fn(|q| array::from_fn(|j| root(q * j, 32))),
            w96: array::from_fn(|n| root(n, MEL_BANDS)),
        };
        Self { kernels: Aligned::from_slice(0, &kernels), pointwise, positions: MEL_BANDS + 1 - width, twiddles }
    }

    /// Groups of channels.
    pub(super) fn groups(&self) -> usize {
        self.pointwise.groups()
    }

    /// Features of a group of channels: \[window, lane\], padded with extra windows to whole blocks.
    pub(super) fn features(&self, arch: pulp::Arch, windows: &Windows, group: usize) -> Aligned {
        let mut features = Aligned::new(0);
        features.resize(windows.count.next_multiple_of(BLOCK) * self.pointwise.lanes, 0.0);
        arch.dispatch(Features { branch: self, windows, group, features: &mut features });
        features
    }
}

struct Features<'a> {
    branch: &'a Timbral,
    windows: &'a Windows,
    group: usize,
    features: &'a mut [f32],
}

impl WithSimd for Features<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // Constants let the compiler omit the invalid positions.
        match (self.branch.positions, self.windows.hop) {
            (59, 1) => self.blocks::<S, 59, 1>(simd),
            (30, 1) => self.blocks::<S, 30, 1>(simd),
            (59, TAPS) => self.blocks::<S, 59, TAPS>(simd),
            (30, TAPS) => self.blocks::<S, 30, TAPS>(simd),
            other => unreachable!("kernels of {other:?} positions and hop"),
        }
    }
}

impl Features<'_> {
    #[inline(always)]
    fn blocks<S: Simd, const POSITIONS: usize, const HOP: usize>(self, simd: S) {
        let Self { branch, windows, group, features } = self;
        let size = 3 * BINS * TAPS * S::F32_LANES;
        let kernels = S::as_simd_f32s(&branch.kernels[group * size..][..size]).0;
        let (kernels, _) = kernels.as_chunks::<TAPS>();
        let (blocks, _) = S::as_mut_simd_f32s(features).0.as_chunks_mut::<BLOCK>();
        // Allocated once: they are as large as the first-level cache.
        let mut a0 = [[Complex::zero(simd); ROW]; BLOCK / 2];
        let mut a1 = [[Complex::zero(simd); ROW]; BLOCK];
        for (i, block) in blocks.iter_mut().enumerate() {
            let planes = Planes::<HOP> { windows, start: i * BLOCK * HOP };
            let pooled = pooled::<S, POSITIONS, HOP>(simd, &branch.twiddles, &planes, kernels, &mut a0, &mut a1);
            *block = branch.pointwise.apply(simd, group, pooled);
        }
    }
}

/// The planes, starting at a block's first window.
struct Planes<'a, const HOP: usize> {
    windows: &'a Windows,
    start: usize,
}

impl<const HOP: usize> Planes<'_, HOP> {
    /// One plane filtered along time: Σ over the taps, for every window of the block.
    #[inline(always)]
    fn filter<S: Simd>(&self, simd: S, plane: usize, kernel: &[S::f32s; TAPS]) -> [S::f32s; BLOCK] {
        let x = &self.windows.planes[plane * self.windows.length + self.start..][..(BLOCK - 1) * HOP + TAPS];
        let mut sums = [simd.splat_f32s(0.0); BLOCK];
        for tap in 0..TAPS {
            for t in 0..BLOCK {
                sums[t] = mul_add(simd, simd.splat_f32s(x[t * HOP + tap]), kernel[tap], sums[t]);
            }
        }
        sums
    }

    /// One bin of the product, from its three planes.
    #[inline(always)]
    fn product<S: Simd>(&self, simd: S, bin: usize, kernels: &[[S::f32s; TAPS]]) -> [Complex<S>; BLOCK] {
        let mut product = [Complex::zero(simd); BLOCK];
        let k1 = self.filter(simd, 3 * bin, &kernels[3 * bin]);
        let k2 = self.filter(simd, 3 * bin + 1, &kernels[3 * bin + 1]);
        for t in 0..BLOCK {
            product[t] = Complex { re: k1[t], im: simd.add_f32s(k1[t], k2[t]) };
        }
        let k3 = self.filter(simd, 3 * bin + 2, &kernels[3 * bin + 2]);
        for t in 0..BLOCK {
            product[t].re = simd.sub_f32s(product[t].re, k3[t]);
        }
        product
    }
}

/// The largest correlation over all positions, for each window of a block.
#[inline(always)]
fn pooled<S: Simd, const POSITIONS: usize, const HOP: usize>(
    simd: S,
    twiddles: &Twiddles,
    planes: &Planes<'_, HOP>,
    kernels: &[[S::f32s; TAPS]],
    a0: &mut [[Complex<S>; ROW]; BLOCK / 2],
    a1: &mut [[Complex<S>; ROW]; BLOCK],
) -> [S::f32s; BLOCK] {
    // A₀ of the windows 2p and 2p + 1 as real and imaginary part. Bins 0 and 48 are real.
    for bin in [0, BINS - 1] {
        let product = planes.filter(simd, 3 * bin, &kernels[3 * bin]);
        for p in 0..BLOCK / 2 {
            a0[p][bin / 3] = Complex { re: product[2 * p], im: product[2 * p + 1] };
        }
    }
    for k in 1..16 {
        let product = planes.product(simd, 3 * k, kernels);
        for p in 0..BLOCK / 2 {
            let (first, second) = (product[2 * p], product[2 * p + 1]);
            a0[p][k] = first.add_i(simd, second);
            a0[p][32 - k] = Complex { re: simd.add_f32s(first.re, second.im), im: simd.sub_f32s(second.re, first.im) };
        }
    }
    // A₁ of every window: bins 1, 4, … 46, then the conjugates of 47, 44, … 2 as bins 49, 52, … 94.
    for k in 0..16 {
        let product = planes.product(simd, 3 * k + 1, kernels);
        for t in 0..BLOCK {
            a1[t][k] = product[t];
        }
        let product = planes.product(simd, 3 * k + 2, kernels);
        for t in 0..BLOCK {
            a1[t][31 - k] = Complex { re: product[t].re, im: simd.neg_f32s(product[t].im) };
        }
    }
    let mut pooled = [simd.splat_f32s(f32::NEG_INFINITY); BLOCK];
    for a0 in a0.iter_mut() {
        first_pass(simd, twiddles, a0);
    }
    for a1 in a1.iter_mut() {
        first_pass(simd, twiddles, a1);
    }
    for q in 0..4 {
        for p in 0..BLOCK / 2 {
            let (a0, _) = a0[p].as_chunks::<8>();
            let a0 = fft8(simd, a0[q]);
            for t in 0..2 {
                let (a1, _) = a1[2 * p + t].as_chunks::<8>();
                let a1 = fft8(simd, a1[q]);
                let best = &mut pooled[2 * p + t];
                for m in 0..8 {
                    let a0 = if t == 0 { a0[m].re } else { a0[m].im };
                    for n in [q + 4 * m, q + 4 * m + 32] {
                        if n < POSITIONS {
                            let (re, im) = twiddles.w96[n];
                            let sum = mul_add(simd, simd.splat_f32s(re), a1[m].re, a0);
                            let sum = mul_sub(simd, simd.splat_f32s(im), a1[m].im, sum);
                            *best = simd.max_f32s(*best, sum);
                        }
                    }
                }
            }
        }
    }
    pooled
}

/// The first of two passes of a transform of 32: leaves four transforms of 8; the q-th yields results q + 4m.
#[inline(always)]
fn first_pass<S: Simd>(simd: S, twiddles: &Twiddles, x: &mut [Complex<S>; ROW]) {
    for j in 0..8 {
        let y = fft4(simd, [x[j], x[j + 8], x[j + 16], x[j + 24]]);
        x[j] = y[0];
        for q in 1..4 {
            x[8 * q + j] = y[q].times(simd, twiddles.w32[q][j]);
        }
    }
}
