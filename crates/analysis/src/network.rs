//! MusicNN (Pons and Serra, "musicnn: pre-trained convolutional neural networks for music audio tagging", 2019):
//! log-mel frames to embeddings and tag activations.
//!
//! The network is a trunk of convolutions, which pools a patch over time to [`POOLED`] numbers, and a dense head. There
//! are two trunks with one result: burn operations for GPUs, and kernels for CPUs that do much less arithmetic. The
//! head is burn operations everywhere.
//!
//! In every block of the trunk the order is convolution + bias, ReLU, batch normalisation, pooling. ReLU and batch
//! normalisation are monotone, so both trunks pool the plain convolution and apply the pointwise steps to what is left:
//! maximum where the scale is positive, minimum where it is negative, the latter as the maximum of the negated kernel.

mod head;
pub(crate) mod simd;
#[cfg(any(feature = "wgpu", test))]
mod tensor;

use burn::tensor::{Device, Tensor, TensorData};

use crate::{Backend, dsp::MEL_BANDS, weights::Weights};

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

/// Channels of the front end; a temporal branch has 51.
const FRONT_CHANNELS: usize = 2 * TIMBRAL_CHANNELS + 3 * 51;

/// Channels of a layer of the mid end.
const MID_CHANNELS: usize = 64;

/// Numbers the trunk makes of a patch: maximum and mean over time of every channel, channel by channel.
const POOLED: usize = 2 * (FRONT_CHANNELS + 3 * MID_CHANNELS);

/// What the network says of one patch.
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
    device: Device,
    trunk: Trunk,
    head: head::Head,
}

#[derive(Debug)]
enum Trunk {
    Simd(Box<simd::Trunk>),
    #[cfg(any(feature = "wgpu", test))]
    Tensor(Box<tensor::Trunk>),
}

impl Network {
    /// The network with the trunk that suits the backend.
    pub(crate) fn new(weights: &Weights<'_>, backend: Backend, device: &Device) -> Self {
        let trunk = match backend {
            #[cfg(feature = "wgpu")]
            Backend::Wgpu => Trunk::Tensor(Box::new(tensor::Trunk::new(weights, device))),
            _ => Trunk::Simd(Box::new(simd::Trunk::new(weights, pulp::Arch::new()))),
        };
        Self::with_trunk(trunk, weights, device)
    }

    fn with_trunk(trunk: Trunk, weights: &Weights<'_>, device: &Device) -> Self {
        Self { device: device.clone(), trunk, head: head::Head::new(weights, device) }
    }

    /// Runs consecutive log-mel frames of [`MEL_BANDS`] numbers, as many as make whole patches [`PATCH_HOP`] apart.
    ///
    /// # Errors
    /// The device's own words when it fails.
    pub(crate) async fn run(&self, log_mel: &[f32]) -> Result<Vec<PatchOutput>, String> {
        let Some(patches) = patches_in(log_mel.len() / MEL_BANDS) else { return Ok(Vec::new()) };
        let pooled = match &self.trunk {
            Trunk::Simd(trunk) => {
                Tensor::from_data(TensorData::new(trunk.pooled(log_mel, patches), [patches, POOLED]), &self.device)
            }
            #[cfg(any(feature = "wgpu", test))]
            Trunk::Tensor(trunk) => trunk.pooled(log_mel, patches),
        };
        let (embeddings, tags) = self.head.forward(pooled);
        let [embeddings, tags] = [read(embeddings).await?, read(tags).await?];
        Ok(rows(&embeddings, patches)
            .zip(rows(&tags, patches))
            .map(|(embedding, tags)| PatchOutput { embedding: embedding.to_vec(), tags: tags.to_vec() })
            .collect())
    }
}

/// Whole patches in so many frames, none when there is not one.
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
    use burn::tensor::Device;

    use super::*;

    /// Numbers like those of music, rising and falling from frame to frame.
    fn log_mel(frames: usize) -> Vec<f32> {
        let noise = crate::check_patch();
        (0..frames * MEL_BANDS)
            .map(|i| noise[i * 7 % noise.len()] * (0.6 + 0.4 * ((i / MEL_BANDS) as f32 * 0.21).sin()))
            .collect()
    }

    fn outputs(trunk: impl Fn(&Weights<'_>) -> Trunk, model: &str, log_mel: &[f32]) -> Vec<PatchOutput> {
        let weights = chaarfm_models::weights(chaarfm_models::find(model).expect("a known model"));
        let weights = Weights::parse(weights).expect("weights of the project");
        let network = Network::with_trunk(trunk(&weights), &weights, &Device::flex());
        pollster::block_on(network.run(log_mel)).expect("a device that computes")
    }

    fn largest_difference(a: &[PatchOutput], b: &[PatchOutput]) -> f32 {
        assert_eq!(a.len(), b.len());
        let embeddings = a.iter().zip(b).flat_map(|(a, b)| a.embedding.iter().zip(&b.embedding));
        embeddings.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    }

    #[test]
    fn both_trunks_agree() {
        let slow = |weights: &Weights<'_>| Trunk::Tensor(Box::new(tensor::Trunk::new(weights, &Device::flex())));
        let fast = |arch| move |weights: &Weights<'_>| Trunk::Simd(Box::new(simd::Trunk::new(weights, arch)));
        // Three patches, so that frames are shared, and some frames that fill no further one.
        let log_mel = log_mel(PATCH_FRAMES + 2 * PATCH_HOP + 50);
        for model in ["msd-musicnn", "mtt-musicnn"] {
            let expected = outputs(slow, model, &log_mel);
            assert_eq!(expected.len(), 3);
            for arch in [pulp::Arch::new(), pulp::Arch::Scalar] {
                let worst = largest_difference(&outputs(fast(arch), model, &log_mel), &expected);
                assert!(worst < 1e-4, "{model}: an embedding is off by {worst}");
            }
        }
    }

    #[test]
    fn a_patch_does_not_depend_on_its_neighbours() {
        let fast = |weights: &Weights<'_>| Trunk::Simd(Box::new(simd::Trunk::new(weights, pulp::Arch::new())));
        let log_mel = log_mel(PATCH_FRAMES + 2 * PATCH_HOP);
        let together = outputs(fast, "msd-musicnn", &log_mel);
        for (i, patch) in together.iter().enumerate() {
            let alone = &log_mel[i * PATCH_HOP * MEL_BANDS..][..PATCH_FRAMES * MEL_BANDS];
            let alone = outputs(fast, "msd-musicnn", alone);
            let worst = largest_difference(&alone, std::slice::from_ref(patch));
            assert!(worst < 1e-5, "patch {i}: {worst}");
        }
    }

    #[test]
    fn counts_whole_patches() {
        let counts = [0, 186, 187, 279, 280, 373].map(patches_in);
        assert_eq!(counts, [None, None, Some(1), Some(1), Some(2), Some(3)]);
    }
}
