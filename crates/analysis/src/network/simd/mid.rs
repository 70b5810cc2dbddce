//! A layer of the mid end: kernels of 7 frames × all channels.
//!
//! The seven frames lie one after the other in memory, so a layer is a matrix product with overlapping rows: each output
//! frame's row begins one frame later. It is computed in tiles that stay in registers.

use pulp::{Simd, WithSimd};

use super::{Aligned, Pointwise};
use crate::{
    fused::mul_add,
    network::{MID_CHANNELS, PATCH_FRAMES},
};

/// Frames a kernel spans.
const TAPS: usize = 7;

/// Zero frames at each end of a layer's input.
pub(super) const PADDING: usize = TAPS / 2;

/// Frames per tile.
const ROWS: usize = 6;

/// Channel registers per tile: six by two sums, two weights and one input fit in sixteen registers. Instruction sets with
/// sixteen numbers per register have thirty-two registers.
const fn columns(lanes: usize) -> usize {
    if lanes < 16 { 2 } else { 4 }
}

/// A layer with its weights.
#[derive(Debug)]
pub(super) struct Mid {
    /// \[group of channels, input, lane\], the inputs frame by frame; a group is [`columns`] registers wide.
    kernels: Aligned,
    pointwise: Pointwise,
    /// Channels of the input.
    channels: usize,
}

impl Mid {
    /// `kernel` is \[out, in, 7\].
    pub(super) fn new(kernel: &[f32], channels: usize, pointwise: Pointwise) -> Self {
        let width = columns(pointwise.lanes) * pointwise.lanes;
        let inputs = channels * TAPS;
        let mut kernels = vec![0.0; MID_CHANNELS.next_multiple_of(width) * inputs];
        for (out, kernel) in kernel.chunks_exact(inputs).enumerate() {
            for (channel, taps) in kernel.chunks_exact(TAPS).enumerate() {
                for (tap, &weight) in taps.iter().enumerate() {
                    kernels[(out / width * inputs + tap * channels + channel) * width + out % width] = weight;
                }
            }
        }
        Self { kernels: Aligned::from_slice(0, &kernels), pointwise, channels }
    }

    /// \[frame, in\] with [`PADDING`] zero frames at each end to \[frame, 64\] with the same padding. A residual layer
    /// adds its input, so it must have as many input channels as output channels.
    pub(super) fn features(&self, arch: pulp::Arch, input: &[f32], is_residual: bool) -> Vec<f32> {
        let mut features = vec![0.0; (PATCH_FRAMES + 2 * PADDING) * MID_CHANNELS];
        let inside = PADDING * MID_CHANNELS..(PADDING + PATCH_FRAMES) * MID_CHANNELS;
        arch.dispatch(Features { layer: self, input, features: &mut features[inside.clone()] });
        if is_residual {
            features[inside.clone()].iter_mut().zip(&input[inside]).for_each(|(feature, input)| *feature += input);
        }
        features
    }
}

struct Features<'a> {
    layer: &'a Mid,
    input: &'a [f32],
    features: &'a mut [f32],
}

impl WithSimd for Features<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        if columns(S::F32_LANES) == 2 { self.run::<S, 2>(simd) } else { self.run::<S, 4>(simd) }
    }
}

impl Features<'_> {
    #[inline(always)]
    fn run<S: Simd, const COLUMNS: usize>(self, simd: S) {
        let Self { layer, input, features } = self;
        let inputs = layer.channels * TAPS;
        let (kernels, _) = S::as_simd_f32s(&layer.kernels).0.as_chunks::<COLUMNS>();
        for (group, kernels) in kernels.chunks_exact(inputs).enumerate() {
            for tile in 0..PATCH_FRAMES.div_ceil(ROWS) {
                // The last tile overlaps the previous one and recomputes some frames.
                let start = (tile * ROWS).min(PATCH_FRAMES - ROWS);
                let sums = sums(simd, &input[start * layer.channels..], layer.channels, kernels);
                for (row, sums) in sums.into_iter().enumerate() {
                    for (column, sum) in sums.into_iter().enumerate() {
                        let group = group * COLUMNS + column;
                        let [feature] = layer.pointwise.apply(simd, group, [sum]);
                        let at = (start + row) * MID_CHANNELS + group * S::F32_LANES;
                        simd.partial_store_f32s(&mut features[at..][..S::F32_LANES], feature);
                    }
                }
            }
        }
    }
}

/// One tile: Σ over the inputs, for [`ROWS`] frames and the channels of a group.
#[inline(always)]
fn sums<S: Simd, const COLUMNS: usize>(
    simd: S,
    input: &[f32],
    channels: usize,
    kernels: &[[S::f32s; COLUMNS]],
) -> [[S::f32s; COLUMNS]; ROWS] {
    let mut sums = [[simd.splat_f32s(0.0); COLUMNS]; ROWS];
    let mut rows: [&[f32]; ROWS] = [&[]; ROWS];
    for row in 0..ROWS {
        rows[row] = &input[row * channels..][..kernels.len()];
    }
    for (k, weights) in kernels.iter().enumerate() {
        for row in 0..ROWS {
            let x = simd.splat_f32s(rows[row][k]);
            for column in 0..COLUMNS {
                sums[row][column] = mul_add(simd, x, weights[column], sums[row][column]);
            }
        }
    }
    sums
}
