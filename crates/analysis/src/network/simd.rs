//! The trunk for CPUs: the same numbers as the plain convolutions with about a fifth of their arithmetic.
//!
//! - Patches overlap by half. A frame's timbral features depend on three frames on either side, so away from a patch's
//!   ends, where zeros stand in for its neighbours, they are computed once for all patches.
//! - Every branch of the front end is correlated in the Fourier domain and pooled during the inverse transform.
//! - The lanes of a SIMD register are channels. The instruction set is found at run time.

mod fft;
mod mid;
mod temporal;
mod timbral;

use std::array;

use aligned_vec::{AVec, ConstAlign};
use mid::{Mid, PADDING};
use pulp::{Arch, Simd, WithSimd};
use realfft::RealFftPlanner;
use temporal::{Spectrum, Temporal};
use timbral::{REACH, TAPS, Timbral, Windows};

use super::{FRONT_CHANNELS, FRONT_END, MID_CHANNELS, MID_END, PATCH_FRAMES, PATCH_HOP, POOLED, TIMBRAL_CHANNELS};
use crate::{dsp::MEL_BANDS, fused::mul_add, parallel, weights::Weights};

/// Numbers aligned to a cache line, so that no register load crosses two lines.
type Aligned = AVec<f32, ConstAlign<64>>;

/// The trunk with the weights of one model.
#[derive(Debug)]
pub(crate) struct Trunk {
    arch: Arch,
    /// Numbers per register.
    lanes: usize,
    /// Batch norm of the input, which has one channel.
    scale: f32,
    shift: f32,
    timbral: [Timbral; 2],
    temporal: Temporal,
    mid: [Mid; 3],
}

/// The front end's output for a run of patches, by group of channels.
pub(crate) struct Front {
    /// Both timbral branches: \[frame, lane\] for the frames away from the ends, \[patch, end, lane\] for the others.
    timbral: [Vec<[Aligned; 2]>; 2],
    /// \[patch\]\[group\]: \[frame, lane\]
    temporal: Vec<Vec<Aligned>>,
}

impl Trunk {
    pub(crate) fn new(weights: &Weights<'_>, arch: Arch) -> Self {
        let lanes = arch.dispatch(Lanes);
        let kernel = |name: &str| weights.tensor(&format!("{name}/kernel"));
        let input = weights.norm(0);
        let temporal: [_; 3] = array::from_fn(|i| kernel(FRONT_END[2 + i]));
        let taps = temporal.iter().flat_map(|(kernel, shape)| kernel.chunks_exact(shape[2]));
        Self {
            arch,
            lanes,
            scale: input.scale[0],
            shift: input.shift[0],
            timbral: array::from_fn(|i| {
                let (kernel, shape) = kernel(FRONT_END[i]);
                Timbral::new(&kernel, shape[3], Pointwise::pooled(weights, &FRONT_END[i..=i], 1 + i, lanes))
            }),
            temporal: Temporal::new(taps, Pointwise::pooled(weights, &FRONT_END[2..], 3, lanes)),
            mid: array::from_fn(|i| {
                let (kernel, shape) = kernel(MID_END[i]);
                Mid::new(&kernel, shape[1], Pointwise::plain(weights, MID_END[i], 6 + i, lanes))
            }),
        }
    }

    /// Consecutive frames of `patches` patches to \[patch, 1506\].
    pub(super) fn pooled(&self, log_mel: &[f32], patches: usize) -> Vec<f32> {
        self.back(&self.front(log_mel, patches), patches)
    }

    /// The front end.
    pub(crate) fn front(&self, log_mel: &[f32], patches: usize) -> Front {
        let frames = (patches - 1) * PATCH_HOP + PATCH_FRAMES;
        let x: Vec<f32> = log_mel[..frames * MEL_BANDS].iter().map(|x| x * self.scale + self.shift).collect();
        let windows = windows(&x, patches);
        let spectra: Vec<Vec<Spectrum>> = parallel::map(patches, |patch| {
            self.temporal.spectra(&x[patch * PATCH_HOP * MEL_BANDS..][..PATCH_FRAMES * MEL_BANDS])
        });
        // One task for each group of channels: its kernels stay in the cache.
        let groups = self.timbral[0].groups();
        let mut timbral = parallel::map(2 * groups, |task| {
            let branch = &self.timbral[task / groups];
            windows.each_ref().map(|windows| branch.features(self.arch, windows, task % groups))
        });
        let second = timbral.split_off(groups);
        let groups = self.temporal.groups();
        let mut temporal = parallel::map(patches * groups, |task| {
            self.temporal.features(self.arch, &spectra[task / groups], task % groups)
        })
        .into_iter();
        let temporal = (0..patches).map(|_| temporal.by_ref().take(groups).collect()).collect();
        Front { timbral: [timbral, second], temporal }
    }

    /// Mid end and pooling: \[patch, 1506\].
    pub(crate) fn back(&self, front: &Front, patches: usize) -> Vec<f32> {
        parallel::map(patches, |patch| self.back_of_patch(front, patch)).concat()
    }

    fn back_of_patch(&self, front: &Front, patch: usize) -> [f32; POOLED] {
        let [first, second, third] = &self.mid;
        let front = self.front_of_patch(front, patch);
        let first = first.features(self.arch, &front, false);
        let second = second.features(self.arch, &first, true);
        let third = third.features(self.arch, &second, true);
        let mut pooled = [0.0; POOLED];
        let (front_pooled, mid_pooled) = pooled.split_at_mut(2 * FRONT_CHANNELS);
        pool(&front, FRONT_CHANNELS, front_pooled);
        for (layer, pooled) in [first, second, third].iter().zip(mid_pooled.chunks_exact_mut(2 * MID_CHANNELS)) {
            pool(layer, MID_CHANNELS, pooled);
        }
        pooled
    }

    /// The front end's features of one patch: \[frame, 561\], with zero frames at each end for the mid end.
    fn front_of_patch(&self, front: &Front, patch: usize) -> Vec<f32> {
        let lanes = self.lanes;
        let mut features = vec![0.0; (PATCH_FRAMES + 2 * PADDING) * FRONT_CHANNELS];
        let rows = features.chunks_exact_mut(FRONT_CHANNELS).skip(PADDING).take(PATCH_FRAMES);
        for (frame, row) in rows.enumerate() {
            let (kind, at) = match end(frame) {
                None => (0, patch * PATCH_HOP + frame - REACH),
                Some(end) => (1, patch * ENDS + end),
            };
            let mut rest = row;
            for branch in &front.timbral {
                let part;
                (part, rest) = rest.split_at_mut(TIMBRAL_CHANNELS);
                for (channels, group) in part.chunks_mut(lanes).zip(branch) {
                    channels.copy_from_slice(&group[kind][at * lanes..][..channels.len()]);
                }
            }
            for (channels, group) in rest.chunks_mut(lanes).zip(&front.temporal[patch]) {
                channels.copy_from_slice(&group[frame * lanes..][..channels.len()]);
            }
        }
        features
    }
}

/// Frames of a patch whose timbral features depend on the zeros around it: [`REACH`] at each end.
const ENDS: usize = 2 * REACH;

/// Index of a frame among its patch's ends, 0 to [`ENDS`] − 1; none if it lies away from them.
fn end(frame: usize) -> Option<usize> {
    match frame {
        0..REACH => Some(frame),
        _ if frame + REACH < PATCH_FRAMES => None,
        _ => Some(frame + ENDS - PATCH_FRAMES),
    }
}

/// Input of the timbral branches, from normalised frames \[frame, band\]: the frames away from the patches' ends, and
/// each patch's ends with zeros around the patch.
fn windows(x: &[f32], patches: usize) -> [Windows; 2] {
    let (frames, _) = x.as_chunks::<MEL_BANDS>();
    let fft = RealFftPlanner::<f32>::new().plan_fft_forward(MEL_BANDS);
    let mut spectrum = fft.make_output_vec();
    let mut scratch = fft.make_scratch_vec();
    let mut inside = Windows::new(frames.len() - 2 * REACH, 1);
    let mut ends = Windows::new(patches * ENDS, TAPS);
    for (position, frame) in frames.iter().enumerate() {
        fft.process_with_scratch(&mut frame.clone(), &mut spectrum, &mut scratch).expect("lengths from the planner");
        inside.set(position, &spectrum);
        for patch in (0..patches).filter(|patch| (0..PATCH_FRAMES).contains(&position.wrapping_sub(patch * PATCH_HOP)))
        {
            let place = position - patch * PATCH_HOP;
            for middle in (0..PATCH_FRAMES).filter(|middle| middle.abs_diff(place) <= REACH) {
                if let Some(end) = end(middle) {
                    ends.set((patch * ENDS + end) * TAPS + place + REACH - middle, &spectrum);
                }
            }
        }
    }
    [inside, ends]
}

/// Maximum and mean over time of \[frame, channel\] with [`PADDING`] zero frames at each end, channel by channel.
fn pool(features: &[f32], channels: usize, pooled: &mut [f32]) {
    let mut rows = features.chunks_exact(channels).skip(PADDING).take(PATCH_FRAMES);
    let mut max = rows.next().unwrap_or_default().to_vec();
    let mut sum = max.clone();
    for row in rows {
        for ((max, sum), &x) in max.iter_mut().zip(&mut sum).zip(row) {
            *max = max.max(x);
            *sum += x;
        }
    }
    for ((pooled, max), sum) in pooled.chunks_exact_mut(2).zip(max).zip(sum) {
        pooled.copy_from_slice(&[max, sum / PATCH_FRAMES as f32]);
    }
}

/// The pointwise steps after a convolution, channel by channel: relu(sign · x + bias) · scale + shift. The sign is −1
/// where a pooled branch has a negated kernel, because its scale is negative.
#[derive(Debug)]
struct Pointwise {
    /// Channels per group: the numbers in a register.
    lanes: usize,
    signs: Vec<f32>,
    /// \[group, (sign, bias, scale, shift), lane\]
    table: Aligned,
}

impl Pointwise {
    /// The steps after pooled layers: the first has batch norm `norm`, and so on.
    fn pooled(weights: &Weights<'_>, layers: &[&str], norm: usize, lanes: usize) -> Self {
        Self::new(weights, layers, norm, lanes, |scale| if scale < 0.0 { -1.0 } else { 1.0 })
    }

    /// The steps after a layer that is not pooled.
    fn plain(weights: &Weights<'_>, layer: &str, norm: usize, lanes: usize) -> Self {
        Self::new(weights, &[layer], norm, lanes, |_| 1.0)
    }

    fn new(weights: &Weights<'_>, layers: &[&str], norm: usize, lanes: usize, sign: impl Fn(f32) -> f32) -> Self {
        let norms = (0..layers.len()).map(|i| weights.norm(norm + i));
        let (scales, shifts): (Vec<_>, Vec<_>) = norms.map(|norm| (norm.scale, norm.shift)).unzip();
        let (scales, shifts) = (scales.concat(), shifts.concat());
        let biases: Vec<f32> = layers.iter().flat_map(|layer| weights.tensor(&format!("{layer}/bias")).0).collect();
        let signs: Vec<f32> = scales.iter().map(|&scale| sign(scale)).collect();
        let mut table = Vec::new();
        for group in (0..signs.len()).step_by(lanes) {
            for numbers in [&signs, &biases, &scales, &shifts] {
                table.extend((group..group + lanes).map(|channel| numbers.get(channel).copied().unwrap_or(0.0)));
            }
        }
        Self { lanes, signs, table: Aligned::from_slice(0, &table) }
    }

    fn sign(&self, channel: usize) -> f32 {
        self.signs[channel]
    }

    fn groups(&self) -> usize {
        self.signs.len().div_ceil(self.lanes)
    }

    #[inline(always)]
    fn apply<S: Simd, const N: usize>(&self, simd: S, group: usize, mut x: [S::f32s; N]) -> [S::f32s; N] {
        let (table, _) = S::as_simd_f32s(&self.table).0.as_chunks::<4>();
        let [sign, bias, scale, shift] = table[group];
        for x in &mut x {
            let y = simd.max_f32s(mul_add(simd, *x, sign, bias), simd.splat_f32s(0.0));
            *x = mul_add(simd, y, scale, shift);
        }
        x
    }
}

/// Numbers in a register.
struct Lanes;

impl WithSimd for Lanes {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> usize {
        S::F32_LANES
    }
}
