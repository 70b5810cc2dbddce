//! MusicNN (Pons and Serra, "musicnn: pre-trained convolutional neural networks for music audio tagging", 2019):
//! log-mel frames to embeddings and tag activations.
//!
//! The network is a trunk of convolutions, which pools a patch over time to [`POOLED`] numbers, and a dense head. Two
//! trunks compute the same result: kernels for CPUs (`simd.rs`) and kernels for GPUs (`wgsl.rs`). The tests compare both
//! with the plain definition in burn operations (`plain.rs`). The head, a thousandth of the work, is burn operations on
//! the CPU.
//!
//! In every block of the trunk the order is convolution + bias, ReLU, batch normalisation, pooling. ReLU and batch
//! normalisation are monotone, so both trunks pool the plain convolution first and apply the pointwise steps to the
//! result: the maximum where the scale is positive, the minimum where it is negative, computed as the maximum of the
//! negated kernel.

mod head;
#[cfg(all(test, feature = "flex"))]
mod plain;
pub(crate) mod simd;
#[cfg(feature = "wgpu")]
pub(crate) mod wgsl;

use burn::tensor::{Tensor, TensorData};

#[cfg(feature = "wgpu")]
pub(crate) use self::wgsl::Gpu;
use crate::{Device, dsp::MEL_BANDS, weights::Weights};

/// Frames in a patch: about 3 s.
pub const PATCH_FRAMES: usize = 187;

/// Frames from the start of a patch to the start of the next.
pub(crate) const PATCH_HOP: usize = 93;

/// Names of the front end's branches in the checkpoint: timbral 7 × 38 and 7 × 67, temporal 128, 64 and 32. Their batch
/// norms are 1 to 5.
const FRONT_END: [&str; 5] = ["conv2d", "conv2d_1", "conv2d_2", "conv2d_3", "conv2d_4"];

/// Names of the mid end's layers in the checkpoint. Their batch norms are 6 to 8.
const MID_END: [&str; 3] = ["conv2d_5", "conv2d_6", "conv2d_7"];

/// Channels of a timbral branch.
const TIMBRAL_CHANNELS: usize = 204;

/// Channels of a temporal branch.
const TEMPORAL_CHANNELS: usize = 51;

/// Channels of the front end.
const FRONT_CHANNELS: usize = 2 * TIMBRAL_CHANNELS + 3 * TEMPORAL_CHANNELS;

/// Channels of a layer of the mid end.
const MID_CHANNELS: usize = 64;

/// Numbers per patch that the trunk outputs: maximum and mean over time of every channel, channel by channel.
const POOLED: usize = 2 * (FRONT_CHANNELS + 3 * MID_CHANNELS);

/// The network's output for one patch.
#[derive(Debug, Clone, PartialEq)]
pub struct PatchOutput {
    /// The embedding: the first dense layer before its ReLU.
    pub embedding: Vec<f32>,
    /// Tag activations, 0 to 1.
    pub tags: Vec<f32>,
}

/// The network with the weights of one model, on one device.
#[derive(Debug)]
pub(crate) struct Network {
    device: burn::tensor::Device,
    trunk: Trunk,
    head: head::Head,
}

#[derive(Debug)]
enum Trunk {
    Simd(Box<simd::Trunk>),
    #[cfg(feature = "wgpu")]
    Wgsl(Box<wgsl::Trunk>),
}

impl Network {
    /// Creates the network with the trunk that suits the device.
    pub(crate) fn new(weights: &Weights<'_>, device: &Device) -> Self {
        #[cfg(feature = "wgpu")]
        if let Some(gpu) = &device.gpu {
            return Self::with_trunk(Trunk::Wgsl(Box::new(wgsl::Trunk::new(weights, gpu))), weights, &device.inner);
        }
        let trunk = Trunk::Simd(Box::new(simd::Trunk::new(weights, pulp::Arch::new())));
        Self::with_trunk(trunk, weights, &device.inner)
    }

    fn with_trunk(trunk: Trunk, weights: &Weights<'_>, device: &burn::tensor::Device) -> Self {
        Self { device: device.clone(), trunk, head: head::Head::new(weights, device) }
    }

    /// Runs the network on consecutive log-mel frames of [`MEL_BANDS`] numbers that make up whole patches [`PATCH_HOP`]
    /// apart.
    ///
    /// # Errors
    /// The device's own message when it fails.
    pub(crate) async fn run(&self, log_mel: &[f32]) -> Result<Vec<PatchOutput>, String> {
        let patches = patches_in(log_mel.len() / MEL_BANDS).unwrap_or(0);
        let mut outputs = Vec::with_capacity(patches);
        while outputs.len() < patches {
            let start = outputs.len();
            let count = (patches - start).min(self.longest_run());
            outputs.extend(self.run_once(&log_mel[start * PATCH_HOP * MEL_BANDS..], count).await?);
        }
        Ok(outputs)
    }

    /// Maximum number of patches that the trunk computes at once.
    fn longest_run(&self) -> usize {
        match &self.trunk {
            Trunk::Simd(_) => usize::MAX,
            #[cfg(feature = "wgpu")]
            Trunk::Wgsl(_) => wgsl::LONGEST_RUN,
        }
    }

    async fn run_once(&self, log_mel: &[f32], patches: usize) -> Result<Vec<PatchOutput>, String> {
        let pooled = match &self.trunk {
            Trunk::Simd(trunk) => trunk.pooled(log_mel, patches),
            #[cfg(feature = "wgpu")]
            Trunk::Wgsl(trunk) => trunk.pooled(log_mel, patches).await?,
        };
        let pooled = Tensor::from_data(TensorData::new(pooled, [patches, POOLED]), &self.device);
        let (embeddings, tags) = self.head.forward(pooled);
        let [embeddings, tags] = [read(embeddings).await?, read(tags).await?];
        let rows = rows(&embeddings, patches).zip(rows(&tags, patches));
        Ok(rows.map(|(embedding, tags)| PatchOutput { embedding: embedding.to_vec(), tags: tags.to_vec() }).collect())
    }
}

/// Number of whole patches in `frames` frames; none if there are too few for one.
pub(crate) fn patches_in(frames: usize) -> Option<usize> {
    frames.checked_sub(PATCH_FRAMES).map(|spare| spare / PATCH_HOP + 1)
}

fn rows(numbers: &[f32], count: usize) -> impl Iterator<Item = &[f32]> {
    numbers.chunks(numbers.len() / count)
}

async fn read(tensor: Tensor<2>) -> Result<Vec<f32>, String> {
    let data = tensor.into_data_async().await.map_err(|error| format!("{error:?}"))?;
    data.try_into_vec::<f32>().map_err(|error| format!("{error:?}"))
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;

    /// Music-like numbers that rise and fall from frame to frame.
    fn log_mel(frames: usize) -> Vec<f32> {
        let noise = crate::check_patch();
        (0..frames * MEL_BANDS)
            .map(|i| noise[i * 7 % noise.len()] * (0.6 + 0.4 * ((i / MEL_BANDS) as f32 * 0.21).sin()))
            .collect()
    }

    fn weights(model: &str) -> Weights<'static> {
        let weights = chaarfm_models::weights(chaarfm_models::find(model).expect("a known model"));
        Weights::parse(weights).expect("weights of the project")
    }

    fn outputs(log_mel: &[f32]) -> Vec<PatchOutput> {
        let weights = weights("msd-musicnn");
        let trunk = Trunk::Simd(Box::new(simd::Trunk::new(&weights, pulp::Arch::new())));
        let network = Network::with_trunk(trunk, &weights, &burn::tensor::Device::flex());
        pollster::block_on(network.run(log_mel)).expect("a device that computes")
    }

    fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
        assert_eq!(a.len(), b.len());
        a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    }

    #[test]
    fn the_trunk_for_cpus_is_the_plain_one() {
        // Three patches, so that frames are shared, plus frames that do not fill another patch.
        let log_mel = log_mel(PATCH_FRAMES + 2 * PATCH_HOP + 50);
        for model in ["msd-musicnn", "mtt-musicnn"] {
            let weights = weights(model);
            let expected = plain::pooled(&weights, &log_mel, 3);
            for arch in crate::fused::instruction_sets() {
                is_close(&simd::Trunk::new(&weights, arch).pooled(&log_mel, 3), &expected, model);
            }
        }
    }

    /// Uses this machine's GPU, which is emulated in tests.
    #[cfg(feature = "wgpu")]
    #[test]
    fn the_trunk_for_gpus_is_the_plain_one() {
        let device = pollster::block_on(Device::open(crate::Backend::Wgpu)).expect("a GPU");
        let gpu = device.gpu.expect("it has been opened");
        let log_mel = log_mel(PATCH_FRAMES + 3 * PATCH_HOP);
        for model in ["msd-musicnn", "mtt-musicnn"] {
            let weights = weights(model);
            let trunk = wgsl::Trunk::new(&weights, &gpu);
            // The SIMD trunk serves as the reference: it has been compared with the plain one.
            let long = self::log_mel(PATCH_FRAMES + (wgsl::LONGEST_RUN - 1) * PATCH_HOP);
            let expected = simd::Trunk::new(&weights, pulp::Arch::new()).pooled(&long, wgsl::LONGEST_RUN);
            let pooled = pollster::block_on(trunk.pooled(&long, wgsl::LONGEST_RUN)).expect("a GPU that computes");
            is_close(&pooled, &expected, model);
            // In this order, so that a run finds leftovers of a longer one.
            for patches in [4, 1, 2] {
                let expected = plain::pooled(&weights, &log_mel, patches);
                let pooled = pollster::block_on(trunk.pooled(&log_mel, patches)).expect("a GPU that computes");
                is_close(&pooled, &expected, model);
            }
        }
    }

    fn is_close(pooled: &[f32], expected: &[f32], model: &str) {
        let largest = expected.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
        let worst = largest_difference(pooled, expected);
        assert!(worst < 2e-5 * largest, "{model}: of {largest} at most, a number is off by {worst}");
    }

    #[test]
    fn a_patch_does_not_depend_on_its_neighbours() {
        let log_mel = log_mel(PATCH_FRAMES + 2 * PATCH_HOP);
        for (i, patch) in outputs(&log_mel).iter().enumerate() {
            let alone = &log_mel[i * PATCH_HOP * MEL_BANDS..][..PATCH_FRAMES * MEL_BANDS];
            let alone = outputs(alone);
            let worst = largest_difference(&alone[0].embedding, &patch.embedding);
            assert!(worst < 1e-5, "patch {i}: {worst}");
        }
    }

    #[test]
    fn counts_whole_patches() {
        let counts = [0, 186, 187, 279, 280, 373].map(patches_in);
        assert_eq!(counts, [None, None, Some(1), Some(1), Some(2), Some(3)]);
    }
}
