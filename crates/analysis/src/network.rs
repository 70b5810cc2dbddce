//! MusicNN (Pons and Serra, "musicnn: pre-trained convolutional neural networks for music audio tagging", 2019) in burn
//! operations: \[patch, 187 frames, 96 bands\] to embeddings and tag activations.
//!
//! In every block the order is convolution + bias, ReLU, batch normalisation, pooling. ReLU and batch normalisation are
//! monotone, so the blocks here pool the plain convolution and apply the pointwise steps to what is left: maximum where
//! the scale is positive, minimum where it is negative, the latter as the maximum of the negated kernel.

use burn::tensor::{
    Tensor, TensorData,
    activation::{relu, sigmoid},
    module::{conv1d, conv2d},
    ops::ConvOptions,
};

use crate::{dsp::MEL_BANDS, weights::Weights};

/// Frames in a patch: about 3 s.
pub const PATCH_FRAMES: usize = 187;

/// ε of every batch normalisation.
const EPSILON: f32 = 1e-3;

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
    device: burn::tensor::Device,
    input: Norm<4>,
    front: [PooledConv; 5],
    mid: [MidConv; 3],
    pooled: Norm<2>,
    dense: Dense,
    hidden: Norm<2>,
    output: Dense,
}

impl Network {
    pub(crate) fn new(weights: &Weights<'_>, device: &burn::tensor::Device) -> Self {
        let load = Loader { weights, device };
        Self {
            device: device.clone(),
            input: load.norm(0, 1),
            front: [
                PooledConv::new(&load, "conv2d", 1),
                PooledConv::new(&load, "conv2d_1", 2),
                PooledConv::new(&load, "conv2d_2", 3),
                PooledConv::new(&load, "conv2d_3", 4),
                PooledConv::new(&load, "conv2d_4", 5),
            ],
            mid: [
                MidConv::new(&load, "conv2d_5", 6),
                MidConv::new(&load, "conv2d_6", 7),
                MidConv::new(&load, "conv2d_7", 8),
            ],
            pooled: load.norm(9, 1),
            dense: Dense::new(&load, "dense"),
            hidden: load.norm(10, 1),
            output: Dense::new(&load, "dense_1"),
        }
    }

    /// Runs `count` patches, `PATCH_FRAMES` × `MEL_BANDS` numbers each, and reads the answers back.
    ///
    /// # Errors
    /// The device's own words when it fails.
    pub(crate) async fn run(&self, patches: Vec<f32>) -> Result<Vec<PatchOutput>, String> {
        let count = patches.len() / (PATCH_FRAMES * MEL_BANDS);
        let shape = [count, 1, PATCH_FRAMES, MEL_BANDS];
        let (embeddings, tags) = self.forward(Tensor::from_data(TensorData::new(patches, shape), &self.device));
        let [embeddings, tags] = [read(embeddings).await?, read(tags).await?];
        let rows = |numbers: Vec<f32>| -> Vec<Vec<f32>> {
            numbers.chunks(numbers.len() / count).map(<[f32]>::to_vec).collect()
        };
        Ok(rows(embeddings)
            .into_iter()
            .zip(rows(tags))
            .map(|(embedding, tags)| PatchOutput { embedding, tags })
            .collect())
    }

    /// \[patch, 1, frame, band\] to embeddings \[patch, 200\] and tags \[patch, 50\].
    fn forward(&self, patches: Tensor<4>) -> (Tensor<2>, Tensor<2>) {
        let x = self.input.apply(patches);
        // Front end: [patch, 561, frame].
        let front = Tensor::cat(self.front.iter().map(|branch| branch.forward(x.clone())).collect(), 1);
        // Mid end: three convolutions over all channels, the later two residual: [patch, 64, frame] each.
        let [first, second, third] = &self.mid;
        let first = first.forward(front.clone());
        let second = second.forward(first.clone()) + first.clone();
        let third = third.forward(second.clone()) + second.clone();
        // Back end: maximum and mean over time, channel by channel: [patch, 1506].
        let features = Tensor::cat(vec![front, first, second, third], 1);
        let [count, channels, _] = features.dims();
        let pooled = Tensor::cat(vec![features.clone().max_dim(2), features.mean_dim(2)], 2);
        let pooled = pooled.reshape([count, 2 * channels]);
        let embedding = self.dense.forward(self.pooled.apply(pooled));
        let logits = self.output.forward(self.hidden.apply(relu(embedding.clone())));
        (embedding, sigmoid(logits))
    }
}

async fn read(tensor: Tensor<2>) -> Result<Vec<f32>, String> {
    let data = tensor.into_data_async().await.map_err(|error| format!("{error:?}"))?;
    data.try_into_vec::<f32>().map_err(|error| format!("{error:?}"))
}

/// Batch normalisation in inference form: x · scale + shift, one of each a channel, shaped to broadcast.
#[derive(Debug)]
struct Norm<const D: usize> {
    scale: Tensor<D>,
    shift: Tensor<D>,
}

impl<const D: usize> Norm<D> {
    fn apply(&self, x: Tensor<D>) -> Tensor<D> {
        x * self.scale.clone() + self.shift.clone()
    }
}

/// A front-end branch: convolution over time and frequency, ReLU, batch norm, maximum over all frequency positions.
#[derive(Debug)]
struct PooledConv {
    /// \[channel, 1, time, frequency\], negated where the batch norm's scale is negative.
    kernel: Tensor<4>,
    /// 1, or −1 where the kernel is negated. \[1, channel, 1\]
    sign: Tensor<3>,
    /// \[1, channel, 1\]
    bias: Tensor<3>,
    norm: Norm<3>,
}

impl PooledConv {
    fn new(load: &Loader<'_>, name: &str, norm: usize) -> Self {
        let norm = load.norm::<3>(norm, 1);
        let sign = norm.scale.clone().greater_equal_elem(0.0).float() * 2.0 - 1.0;
        let kernel: Tensor<4> = load.tensor(&format!("{name}/kernel"));
        let channels = kernel.dims()[0];
        Self {
            kernel: kernel * sign.clone().reshape([channels, 1, 1, 1]),
            bias: load.tensor::<1>(&format!("{name}/bias")).reshape([1, channels, 1]),
            sign,
            norm,
        }
    }

    /// \[patch, 1, frame, band\] to \[patch, channel, frame\]
    fn forward(&self, x: Tensor<4>) -> Tensor<3> {
        let [_, _, taps, _] = self.kernel.dims();
        let before = (taps - 1) / 2;
        let options = ConvOptions::new_with_padding([1, 1], [(before, taps - 1 - before), (0, 0)], [1, 1], 1);
        let pooled = conv2d(x, self.kernel.clone(), None, options).max_dim(3).squeeze_dim::<3>(3);
        self.norm.apply(relu(pooled * self.sign.clone() + self.bias.clone()))
    }
}

/// A mid-end layer: convolution over time and all channels, ReLU, batch norm.
#[derive(Debug)]
struct MidConv {
    /// \[out, in, time\]
    kernel: Tensor<3>,
    bias: Tensor<1>,
    norm: Norm<3>,
}

impl MidConv {
    fn new(load: &Loader<'_>, name: &str, norm: usize) -> Self {
        Self {
            kernel: load.tensor(&format!("{name}/kernel")),
            bias: load.tensor(&format!("{name}/bias")),
            norm: load.norm(norm, 1),
        }
    }

    /// \[patch, in, frame\] to \[patch, out, frame\]
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [_, _, taps] = self.kernel.dims();
        let options = ConvOptions::new([1], [taps / 2], [1], 1);
        self.norm.apply(relu(conv1d(x, self.kernel.clone(), Some(self.bias.clone()), options)))
    }
}

/// A dense layer.
#[derive(Debug)]
struct Dense {
    /// \[in, out\]
    kernel: Tensor<2>,
    /// \[1, out\]
    bias: Tensor<2>,
}

impl Dense {
    fn new(load: &Loader<'_>, name: &str) -> Self {
        Self {
            kernel: load.tensor(&format!("{name}/kernel")),
            bias: load.tensor::<1>(&format!("{name}/bias")).unsqueeze(),
        }
    }

    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        x.matmul(self.kernel.clone()) + self.bias.clone()
    }
}

/// Puts a model's weights on a device.
struct Loader<'a> {
    weights: &'a Weights<'a>,
    device: &'a burn::tensor::Device,
}

impl Loader<'_> {
    fn tensor<const D: usize>(&self, name: &str) -> Tensor<D> {
        let (numbers, shape) = self.weights.tensor(name);
        Tensor::from_data(TensorData::new(numbers, shape), self.device)
    }

    /// Batch norm `index` of the checkpoint, for tensors with their channels in dimension `channel_dim`:
    /// scale = γ / √(variance + ε), shift = β − mean · scale.
    fn norm<const D: usize>(&self, index: usize, channel_dim: usize) -> Norm<D> {
        let name = if index == 0 { "batch_normalization".to_owned() } else { format!("batch_normalization_{index}") };
        let part = |part: &str| self.weights.tensor(&format!("{name}/{part}")).0;
        let scale: Vec<f32> =
            part("gamma").iter().zip(part("moving_variance")).map(|(gamma, v)| gamma / (v + EPSILON).sqrt()).collect();
        let shift: Vec<f32> = part("beta")
            .iter()
            .zip(part("moving_mean"))
            .zip(&scale)
            .map(|((beta, mean), scale)| beta - mean * scale)
            .collect();
        let mut shape = [1; D];
        shape[channel_dim] = scale.len();
        let place = |numbers: Vec<f32>| Tensor::from_data(TensorData::new(numbers, shape), self.device);
        Norm { scale: place(scale), shift: place(shift) }
    }
}
