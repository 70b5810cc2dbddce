//! The trunk for GPUs: kernels in WGSL, which wgpu hands to Vulkan, Metal, DX12 or a browser's WebGPU.
//!
//! - Patches overlap by half. A frame's timbral features depend on three frames on either side, so away from a patch's
//!   ends, where zeros replace its neighbours, they are computed once for all patches. A temporal kernel spans up to 128
//!   frames and meets those zeros almost everywhere, so those branches process each patch separately.
//! - Every branch of the front end is pooled while its sums are in registers, and only then goes through the pointwise
//!   steps.
//! - Tiles have fixed shapes, in `wgsl/`. The number of patches is an argument, so nothing is recompiled for it.

pub(crate) mod peak;

use std::{
    borrow::Cow,
    mem::size_of,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use burn_wgpu::wgpu::{
    BindGroup, BindGroupDescriptor, BindGroupEntry, Buffer, BufferDescriptor, BufferUsages, CommandEncoderDescriptor,
    ComputePassDescriptor, ComputePipeline, ComputePipelineDescriptor, Device, MapMode, PollType, Queue,
    ShaderModuleDescriptor, ShaderSource,
    util::{BufferInitDescriptor, DeviceExt},
};
use futures_channel::oneshot;

use super::{
    FRONT_CHANNELS, FRONT_END, MID_CHANNELS, MID_END, PATCH_FRAMES, PATCH_HOP, POOLED, TEMPORAL_CHANNELS,
    TIMBRAL_CHANNELS,
};
use crate::{dsp::MEL_BANDS, weights::Weights};

/// Maximum number of patches computed at once: enough to keep a large GPU busy for a while.
pub(super) const LONGEST_RUN: usize = 16;

/// Frames on either side of the middle one that a timbral kernel spans; also the zero frames around a patch for the mid
/// end.
const REACH: usize = 3;

/// Taps of the kernels of the timbral branches and the mid end.
const TAPS: usize = 2 * REACH + 1;

/// Frames of the window that the features of a patch's end are computed from, zeros included.
const END_FRAMES: usize = 3 * REACH;

/// Frames of a patch with the zeros around it.
const PADDED_FRAMES: usize = PATCH_FRAMES + 2 * REACH;

/// Numbers that a tile of the mid end reads beyond the last frame.
const BEHIND: usize = 32;

/// An opened GPU.
#[derive(Debug, Clone)]
pub(crate) struct Gpu {
    pub(crate) device: Device,
    pub(crate) queue: Queue,
    failure: Arc<Mutex<Option<String>>>,
}

impl Gpu {
    /// Registers callbacks that record the GPU's errors.
    pub(crate) fn new(device: Device, queue: Queue) -> Self {
        let failure = Arc::new(Mutex::new(None));
        let (error, lost) = (Arc::clone(&failure), Arc::clone(&failure));
        device.on_uncaptured_error(Arc::new(move |reason| note(&error, reason.to_string())));
        device.set_device_lost_callback(move |_, reason| note(&lost, format!("the device was lost: {reason}")));
        Self { device, queue, failure }
    }

    /// Compiles a kernel, whose entry point is `main`.
    fn pipeline(&self, source: String) -> ComputePipeline {
        let source = ShaderSource::Wgsl(Cow::Owned(source));
        let module = &self.device.create_shader_module(ShaderModuleDescriptor { label: None, source });
        self.device.create_compute_pipeline(&ComputePipelineDescriptor {
            label: None,
            layout: None,
            module,
            entry_point: Some("main"),
            compilation_options: Default::default(),
            cache: None,
        })
    }

    fn check(&self) -> Result<(), String> {
        locked(&self.failure).clone().map_or(Ok(()), Err)
    }

    /// The recorded reason for a failure, or else `error`.
    fn failure(&self, error: &str) -> String {
        self.check().err().unwrap_or_else(|| error.to_owned())
    }
}

/// Keeps the first failure: later ones follow from it.
fn note(failure: &Mutex<Option<String>>, reason: String) {
    locked(failure).get_or_insert(reason);
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The trunk with the weights of one model.
#[derive(Debug)]
pub(super) struct Trunk {
    gpu: Gpu,
    /// Batch norm of the input, which has one channel.
    scale: f32,
    shift: f32,
    steps: Vec<Step>,
    /// Buffers not in use.
    buffers: Mutex<Vec<Buffers>>,
}

/// A kernel, its buffers, and its number of workgroups.
#[derive(Debug)]
struct Step {
    pipeline: ComputePipeline,
    /// Kernels and table of a convolution.
    weights: Vec<Buffer>,
    from: Stage,
    to: Stage,
    groups: fn(&Shape) -> [u32; 2],
}

/// The buffers that steps read and write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Input,
    /// The front end's features, and those of the three layers of the mid end.
    Features(usize),
    Pooled,
}

/// Buffers of a run, sized for the longest one.
#[derive(Debug)]
struct Buffers {
    shape: Buffer,
    input: Buffer,
    pooled: Buffer,
    answer: Buffer,
    /// One per step. They hold the buffers of the features.
    bindings: Vec<BindGroup>,
}

/// The shape of a run, as passed to the kernels.
struct Shape {
    patches: u32,
    frames: u32,
    rows: u32,
}

impl Shape {
    fn of(patches: usize) -> Self {
        let frames = (patches - 1) * PATCH_HOP + PATCH_FRAMES;
        let rows = frames - 2 * REACH + patches * 2 * REACH;
        let [patches, frames, rows] = [patches, frames, rows].map(|n| u32::try_from(n).expect("a run is short"));
        Self { patches, frames, rows }
    }

    fn words(&self) -> [u32; 4] {
        [self.patches, self.frames, self.rows, 0]
    }
}

impl Trunk {
    pub(super) fn new(weights: &Weights<'_>, gpu: &Gpu) -> Self {
        let input = weights.norm(0);
        let build = Build { gpu, weights };
        let steps = vec![
            build.timbral::<38>(0, 1, |shape| [shape.rows, 7]),
            build.timbral::<67>(1, 2, |shape| [shape.rows.div_ceil(2), 7]),
            build.temporal(2),
            build.temporal(3),
            build.temporal(4),
            build.mid(0),
            build.mid(1),
            build.mid(2),
            build.pool(0),
            build.pool(1),
            build.pool(2),
            build.pool(3),
        ];
        Self { gpu: gpu.clone(), scale: input.scale[0], shift: input.shift[0], steps, buffers: Mutex::default() }
    }

    /// Consecutive frames of `patches` patches, at most [`LONGEST_RUN`], to \[patch, 1506\].
    ///
    /// # Errors
    /// The device's own message when it fails.
    pub(super) async fn pooled(&self, log_mel: &[f32], patches: usize) -> Result<Vec<f32>, String> {
        let shape = Shape::of(patches);
        let run: Vec<f32> =
            log_mel[..shape.frames as usize * MEL_BANDS].iter().map(|x| x * self.scale + self.shift).collect();
        let buffers = locked(&self.buffers).pop().unwrap_or_else(|| Buffers::new(&self.gpu.device, &self.steps));
        let queue = &self.gpu.queue;
        queue.write_buffer(&buffers.shape, 0, bytemuck::cast_slice(&shape.words()));
        queue.write_buffer(&buffers.input, 0, bytemuck::cast_slice(&run));
        let behind = (run.len() * size_of::<f32>()) as u64;
        queue.write_buffer(&buffers.input, behind, bytemuck::cast_slice(&ends(&run, patches)));
        let mut commands = self.gpu.device.create_command_encoder(&CommandEncoderDescriptor::default());
        {
            let mut pass = commands.begin_compute_pass(&ComputePassDescriptor::default());
            for (step, bindings) in self.steps.iter().zip(&buffers.bindings) {
                let [x, y] = (step.groups)(&shape);
                pass.set_pipeline(&step.pipeline);
                pass.set_bind_group(0, bindings, &[]);
                pass.dispatch_workgroups(x, y, 1);
            }
        }
        let length = (patches * POOLED * size_of::<f32>()) as u64;
        commands.copy_buffer_to_buffer(&buffers.pooled, 0, &buffers.answer, 0, length);
        queue.submit([commands.finish()]);
        let (sender, mapped) = oneshot::channel();
        // If the receiver is gone, nobody wants the answer.
        buffers.answer.map_async(MapMode::Read, ..length, move |mapped| drop(sender.send(mapped)));
        // In a browser this does nothing; its event loop invokes the callback.
        self.gpu.device.poll(PollType::wait_indefinitely()).map_err(|error| self.gpu.failure(&error.to_string()))?;
        let mapped = mapped.await.map_err(|_| self.gpu.failure("it gave no answer"))?;
        mapped.map_err(|error| self.gpu.failure(&error.to_string()))?;
        let pooled = {
            let answer =
                buffers.answer.get_mapped_range(..length).map_err(|error| self.gpu.failure(&error.to_string()))?;
            bytemuck::pod_collect_to_vec(&answer)
        };
        buffers.answer.unmap();
        self.gpu.check()?;
        locked(&self.buffers).push(buffers);
        Ok(pooled)
    }
}

/// The windows at both ends of every patch of a run, with the zeros that replace the patch's neighbours: \[patch, end,
/// [`END_FRAMES`], band\].
fn ends(x: &[f32], patches: usize) -> Vec<f32> {
    const SEEN: usize = END_FRAMES - REACH;
    let zeros: &[f32] = &[0.0; REACH * MEL_BANDS];
    let window = |frame: usize| &x[frame * MEL_BANDS..][..SEEN * MEL_BANDS];
    let both = |patch: usize| {
        let start = patch * PATCH_HOP;
        [zeros, window(start), window(start + PATCH_FRAMES - SEEN), zeros]
    };
    (0..patches).flat_map(both).flatten().copied().collect()
}

impl Buffers {
    fn new(device: &Device, steps: &[Step]) -> Self {
        let frames = (LONGEST_RUN - 1) * PATCH_HOP + PATCH_FRAMES + 2 * LONGEST_RUN * END_FRAMES;
        let buffer = |numbers: usize, usage| {
            let size = (numbers * size_of::<f32>()) as u64;
            device.create_buffer(&BufferDescriptor { label: None, size, usage, mapped_at_creation: false })
        };
        let storage = BufferUsages::STORAGE;
        // wgpu fills buffers with zeros; the padding around a patch is never written.
        let features = |channels| buffer(LONGEST_RUN * PADDED_FRAMES * channels + BEHIND, storage);
        let shape = buffer(4, BufferUsages::UNIFORM | BufferUsages::COPY_DST);
        let input = buffer(frames * MEL_BANDS, storage | BufferUsages::COPY_DST);
        let features = [FRONT_CHANNELS, MID_CHANNELS, MID_CHANNELS, MID_CHANNELS].map(features);
        let pooled = buffer(LONGEST_RUN * POOLED, storage | BufferUsages::COPY_SRC);
        let answer = buffer(LONGEST_RUN * POOLED, BufferUsages::MAP_READ | BufferUsages::COPY_DST);
        let stage = |stage| match stage {
            Stage::Input => &input,
            Stage::Features(number) => &features[number],
            Stage::Pooled => &pooled,
        };
        let bindings = steps.iter().map(|step| {
            let resources = [&shape, stage(step.from)].into_iter().chain(&step.weights).chain([stage(step.to)]);
            let entry = |(binding, buffer): (u32, &Buffer)| (binding, buffer.clone());
            let buffers: Vec<_> = (0..).zip(resources).map(entry).collect();
            let entries: Vec<_> = buffers
                .iter()
                .map(|(binding, buffer)| BindGroupEntry { binding: *binding, resource: buffer.as_entire_binding() })
                .collect();
            let layout = &step.pipeline.get_bind_group_layout(0);
            device.create_bind_group(&BindGroupDescriptor { label: None, layout, entries: &entries })
        });
        let bindings = bindings.collect();
        Self { shape, input, pooled, answer, bindings }
    }
}

/// Builds the steps from a model's weights.
struct Build<'a> {
    gpu: &'a Gpu,
    weights: &'a Weights<'a>,
}

impl Build<'_> {
    /// A timbral branch with kernels of 7 × `WIDTH` and `rows` rows per workgroup.
    fn timbral<const WIDTH: usize>(&self, branch: usize, rows: usize, groups: fn(&Shape) -> [u32; 2]) -> Step {
        const CHANNELS: usize = 224;
        let width = WIDTH.next_multiple_of(4);
        let (kernel, _) = self.weights.tensor(&format!("{}/kernel", FRONT_END[branch]));
        let table = self.table(FRONT_END[branch], 1 + branch, CHANNELS, Pooling::Maximum);
        let mut kernels = vec![0.0; TAPS * width * CHANNELS];
        for (row, numbers) in kernel.chunks_exact(WIDTH).enumerate() {
            let (channel, tap) = (row / TAPS, row % TAPS);
            for (band, number) in numbers.iter().enumerate() {
                kernels[(tap * width + band) * CHANNELS + channel] = number * table[channel];
            }
        }
        let bests = |j| format!("    if 8u * place + {j}u < POSITIONS {{ best = max(best, s{j}); }}");
        let source = include_str!("wgsl/timbral.wgsl")
            .replace("{width}", &width.to_string())
            .replace("{positions}", &(MEL_BANDS - WIDTH + 1).to_string())
            .replace("{rows}", &rows.to_string())
            .replace("{first_channel}", &(branch * TIMBRAL_CHANNELS).to_string())
            .replace("{products}", &products("FOURS", |j, i| format!("x{}.{}", (j + i) / 4, PARTS[(j + i) % 4])))
            .replace("{bests}", &lines(1..8, bests));
        self.step(&source, &[&kernels, &table], Stage::Input, Stage::Features(0), groups)
    }

    fn temporal(&self, branch: usize) -> Step {
        const CHANNELS: usize = 52;
        let (kernel, shape) = self.weights.tensor(&format!("{}/kernel", FRONT_END[branch]));
        let taps = shape[2];
        let table = self.table(FRONT_END[branch], 1 + branch, CHANNELS, Pooling::Maximum);
        let mut kernels = vec![0.0; taps * CHANNELS];
        for (channel, numbers) in kernel.chunks_exact(taps).enumerate() {
            for (tap, number) in numbers.iter().enumerate() {
                kernels[tap * CHANNELS + channel] = number * table[channel];
            }
        }
        let first_channel = 2 * TIMBRAL_CHANNELS + (branch - 2) * TEMPORAL_CHANNELS;
        let first = |i| format!("    var x{i} = number(patch_number, first + begin + {i}u, thread);");
        let next = |i| format!("        let x{i} = number(patch_number, first + tap + {i}u, thread);");
        let source = include_str!("wgsl/temporal.wgsl")
            .replace("{taps}", &taps.to_string())
            .replace("{first_channel}", &first_channel.to_string())
            .replace("{first_numbers}", &lines(0..7, first))
            .replace("{next_numbers}", &lines(7..11, next))
            .replace("{products}", &products("FOURS", |j, i| format!("x{}", j + i)))
            .replace("{slide}", &lines(0..7, |i| format!("        x{i} = x{};", i + 4)))
            .replace("{store}", &lines(0..8, |j| format!("    largest[thread * 8u + {j}u] = s{j};")));
        self.step(&source, &[&kernels, &table], Stage::Input, Stage::Features(0), |shape| [shape.patches * 24, 13])
    }

    fn mid(&self, layer: usize) -> Step {
        let (kernel, shape) = self.weights.tensor(&format!("{}/kernel", MID_END[layer]));
        let channels = shape[1];
        let table = self.table(MID_END[layer], 6 + layer, MID_CHANNELS, Pooling::None);
        let mut kernels = vec![0.0; (TAPS * channels).next_multiple_of(BEHIND) * MID_CHANNELS];
        for (row, taps) in kernel.chunks_exact(TAPS).enumerate() {
            let (out, channel) = (row / channels, row % channels);
            for (tap, number) in taps.iter().enumerate() {
                kernels[(tap * channels + channel) * MID_CHANNELS + out] = *number;
            }
        }
        let rows = lines(0..8, |j| format!("            let a{j} = tile[(mine + {j}u) * 9u + w];"));
        let sums = products("16u", |j, i| format!("a{j}.{}", PARTS[i]));
        let source = include_str!("wgsl/mid.wgsl")
            .replace("{channels}", &channels.to_string())
            .replace("{is_residual}", &(layer > 0).to_string())
            .replace("{products}", &format!("{rows}\n{sums}"))
            .replace("{write}", &lines(0..8, |j| format!("    put(first + mine + {j}u, four, s{j});")));
        let (from, to) = (Stage::Features(layer), Stage::Features(layer + 1));
        let groups = |shape: &Shape| [(shape.patches * PATCH_FRAMES as u32).div_ceil(32), 1];
        self.step(&source, &[&kernels, &table], from, to, groups)
    }

    fn pool(&self, layer: usize) -> Step {
        let channels = if layer == 0 { FRONT_CHANNELS } else { MID_CHANNELS };
        let first_channel = if layer == 0 { 0 } else { FRONT_CHANNELS + (layer - 1) * MID_CHANNELS };
        let source = include_str!("wgsl/pool.wgsl")
            .replace("{channels}", &channels.to_string())
            .replace("{first_channel}", &first_channel.to_string())
            .replace("{pooled}", &POOLED.to_string());
        // Workgroups beyond the last channel do nothing.
        let groups = |shape: &Shape| [(FRONT_CHANNELS as u32).div_ceil(64), shape.patches];
        self.step(&source, &[], Stage::Features(layer), Stage::Pooled, groups)
    }

    /// Parameters of the pointwise steps, \[(sign, bias, scale, shift), channel\], padded to `channels` channels. The
    /// sign is −1 where a pooled branch has a negated kernel, because its scale is negative.
    fn table(&self, name: &str, norm: usize, channels: usize, pooling: Pooling) -> Vec<f32> {
        let norm = self.weights.norm(norm);
        let (bias, _) = self.weights.tensor(&format!("{name}/bias"));
        let is_negated = |scale: f32| pooling == Pooling::Maximum && scale < 0.0;
        let signs: Vec<f32> = norm.scale.iter().map(|&scale| if is_negated(scale) { -1.0 } else { 1.0 }).collect();
        let mut table = Vec::with_capacity(4 * channels);
        for numbers in [&signs, &bias, &norm.scale, &norm.shift] {
            table.extend((0..channels).map(|channel| numbers.get(channel).copied().unwrap_or(0.0)));
        }
        table
    }

    fn step(&self, source: &str, weights: &[&[f32]], from: Stage, to: Stage, groups: fn(&Shape) -> [u32; 2]) -> Step {
        let source = source.replace("{sums}", &lines(0..8, |j| format!("    var s{j} = vec4<f32>(0.0);")));
        let source = format!("{}{source}", include_str!("wgsl/run.wgsl"));
        let device = &self.gpu.device;
        let pipeline = self.gpu.pipeline(source);
        let weights = weights.iter().map(|numbers| {
            let (contents, usage) = (bytemuck::cast_slice(numbers), BufferUsages::STORAGE);
            device.create_buffer_init(&BufferInitDescriptor { label: None, contents, usage })
        });
        Step { pipeline, weights: weights.collect(), from, to, groups }
    }
}

/// Whether a layer's features are pooled before the pointwise steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pooling {
    None,
    Maximum,
}

/// The components of a vector in WGSL.
const PARTS: [&str; 4] = ["x", "y", "z", "w"];

/// Adds four products to each of the eight sums s0 to s7: sum j takes number `x(j, i)` times the kernels' row i.
/// Unrolled, because drivers keep numbers in registers only when each has a name.
fn products(fours: &str, x: impl Fn(usize, usize) -> String) -> String {
    let kernels = lines(0..4, |i| format!("            let k{i} = kernels[k + {i}u * {fours}];"));
    let sum = |j: usize| lines(0..4, |i| format!("            s{j} = fma(vec4<f32>({}), k{i}, s{j});", x(j, i)));
    format!("{kernels}\n{}", lines(0..8, sum))
}

fn lines(numbers: std::ops::Range<usize>, line: impl Fn(usize) -> String) -> String {
    numbers.map(line).collect::<Vec<_>>().join("\n")
}

/// Multiply-adds of the convolutions for a run of `patches` patches; everything else is less than a hundredth of them.
pub(crate) fn multiply_adds(patches: usize) -> u64 {
    let rows = Shape::of(patches).rows as usize;
    let timbral = [38, 67].map(|width| rows * TIMBRAL_CHANNELS * TAPS * width * (MEL_BANDS - width + 1));
    let temporal = [128, 64, 32].map(|taps| patches * PATCH_FRAMES * TEMPORAL_CHANNELS * taps * MEL_BANDS);
    let mid = [FRONT_CHANNELS, MID_CHANNELS, MID_CHANNELS];
    let mid = mid.map(|channels| patches * PATCH_FRAMES * MID_CHANNELS * TAPS * channels);
    timbral.iter().chain(&temporal).chain(&mid).map(|&count| count as u64).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_that_patches_share_are_computed_once() {
        assert_eq!(Shape::of(1).rows as usize, PATCH_FRAMES);
        assert_eq!(multiply_adds(1), 1_398_242_384, "2.8 GFLOP a patch");
        let a_patch = multiply_adds(LONGEST_RUN) as f64 / LONGEST_RUN as f64;
        assert!((0.62..0.66).contains(&(a_patch / multiply_adds(1) as f64)), "{a_patch}");
    }

    #[test]
    fn the_windows_at_a_patchs_ends_hold_its_own_frames_and_zeros() {
        let x: Vec<f32> = (0..PATCH_FRAMES + PATCH_HOP).flat_map(|frame| [frame as f32 + 1.0; MEL_BANDS]).collect();
        let ends = ends(&x, 2);
        let frames: Vec<f32> = ends.chunks_exact(MEL_BANDS).map(|bands| bands[0]).collect();
        let first =
            [0.0, 0.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 182.0, 183.0, 184.0, 185.0, 186.0, 187.0, 0.0, 0.0, 0.0];
        assert_eq!(frames[..18], first);
        assert_eq!(frames[18..24], [0.0, 0.0, 0.0, 94.0, 95.0, 96.0]);
        assert_eq!(frames.len(), 36);
    }
}
