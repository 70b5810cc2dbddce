//! The trunk in burn operations, plainly as it is defined: for GPUs, and to test the other trunk against.

use std::array;

use burn::tensor::{
    Device, Tensor, TensorData,
    activation::relu,
    module::{conv1d, conv2d},
    ops::ConvOptions,
};

use super::{FRONT_END, MID_END, PATCH_FRAMES, PATCH_HOP};
use crate::{dsp::MEL_BANDS, weights::Weights};

#[derive(Debug)]
pub(super) struct Trunk {
    device: Device,
    /// Batch norm of the input, which has one channel.
    scale: f32,
    shift: f32,
    front: [PooledConv; 5],
    mid: [MidConv; 3],
}

impl Trunk {
    pub(super) fn new(weights: &Weights<'_>, device: &Device) -> Self {
        let load = Loader { weights, device };
        let input = weights.norm(0);
        Self {
            device: device.clone(),
            scale: input.scale[0],
            shift: input.shift[0],
            front: array::from_fn(|i| PooledConv::new(&load, FRONT_END[i], 1 + i)),
            mid: array::from_fn(|i| MidConv::new(&load, MID_END[i], 6 + i)),
        }
    }

    /// Consecutive frames to \[patch, 1506\].
    pub(super) fn pooled(&self, log_mel: &[f32], patches: usize) -> Tensor<2> {
        let patch = |i: usize| &log_mel[i * PATCH_HOP * MEL_BANDS..][..PATCH_FRAMES * MEL_BANDS];
        let numbers: Vec<f32> = (0..patches).flat_map(patch).copied().collect();
        let x = TensorData::new(numbers, [patches, 1, PATCH_FRAMES, MEL_BANDS]);
        let x = Tensor::<4>::from_data(x, &self.device) * self.scale + self.shift;
        // Front end: [patch, 561, frame].
        let front = Tensor::cat(self.front.iter().map(|branch| branch.forward(x.clone())).collect(), 1);
        // Mid end: three convolutions over all channels, the later two residual: [patch, 64, frame] each.
        let [first, second, third] = &self.mid;
        let first = first.forward(front.clone());
        let second = second.forward(first.clone()) + first.clone();
        let third = third.forward(second.clone()) + second.clone();
        // Maximum and mean over time, channel by channel.
        let features = Tensor::cat(vec![front, first, second, third], 1);
        let [_, channels, _] = features.dims();
        let pooled = Tensor::cat(vec![features.clone().max_dim(2), features.mean_dim(2)], 2);
        pooled.reshape([patches, 2 * channels])
    }
}

/// A front-end branch: convolution over time and frequency, ReLU, batch norm, maximum over all frequency positions.
#[derive(Debug)]
struct PooledConv {
    /// \[channel, 1, time, frequency\], negated where the batch norm's scale is negative.
    kernel: Tensor<4>,
    /// 1, or −1 where the kernel is negated. \[1, channel, 1\]
    sign: Tensor<3>,
    pointwise: Pointwise,
}

impl PooledConv {
    fn new(load: &Loader<'_>, name: &str, norm: usize) -> Self {
        let pointwise = Pointwise::new(load, name, norm);
        let sign = pointwise.scale.clone().greater_equal_elem(0.0).float() * 2.0 - 1.0;
        let kernel: Tensor<4> = load.kernel(name);
        let channels = kernel.dims()[0];
        Self { kernel: kernel * sign.clone().reshape([channels, 1, 1, 1]), sign, pointwise }
    }

    /// \[patch, 1, frame, band\] to \[patch, channel, frame\]
    fn forward(&self, x: Tensor<4>) -> Tensor<3> {
        let [_, _, taps, _] = self.kernel.dims();
        let before = (taps - 1) / 2;
        let options = ConvOptions::new_with_padding([1, 1], [(before, taps - 1 - before), (0, 0)], [1, 1], 1);
        let pooled = conv2d(x, self.kernel.clone(), None, options).max_dim(3).squeeze_dim::<3>(3);
        self.pointwise.forward(pooled * self.sign.clone())
    }
}

/// A mid-end layer: convolution over time and all channels, ReLU, batch norm.
#[derive(Debug)]
struct MidConv {
    /// \[out, in, time\]
    kernel: Tensor<3>,
    pointwise: Pointwise,
}

impl MidConv {
    fn new(load: &Loader<'_>, name: &str, norm: usize) -> Self {
        Self { kernel: load.kernel(name), pointwise: Pointwise::new(load, name, norm) }
    }

    /// \[patch, in, frame\] to \[patch, out, frame\]
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [_, _, taps] = self.kernel.dims();
        let options = ConvOptions::new([1], [taps / 2], [1], 1);
        self.pointwise.forward(conv1d(x, self.kernel.clone(), None, options))
    }
}

/// What follows a convolution, channel by channel: relu(x + bias) · scale + shift. \[1, channel, 1\] each.
#[derive(Debug)]
struct Pointwise {
    bias: Tensor<3>,
    scale: Tensor<3>,
    shift: Tensor<3>,
}

impl Pointwise {
    fn new(load: &Loader<'_>, name: &str, norm: usize) -> Self {
        let norm = load.weights.norm(norm);
        let (bias, _) = load.weights.tensor(&format!("{name}/bias"));
        let place = |numbers: Vec<f32>| {
            let shape = [1, numbers.len(), 1];
            Tensor::from_data(TensorData::new(numbers, shape), load.device)
        };
        Self { bias: place(bias), scale: place(norm.scale), shift: place(norm.shift) }
    }

    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        relu(x + self.bias.clone()) * self.scale.clone() + self.shift.clone()
    }
}

/// Puts a model's weights on a device.
struct Loader<'a> {
    weights: &'a Weights<'a>,
    device: &'a Device,
}

impl Loader<'_> {
    fn kernel<const D: usize>(&self, name: &str) -> Tensor<D> {
        let (numbers, shape) = self.weights.tensor(&format!("{name}/kernel"));
        Tensor::from_data(TensorData::new(numbers, shape), self.device)
    }
}
