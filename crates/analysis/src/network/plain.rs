//! The trunk computed directly from its definition, patch by patch, without optimisation: the reference for the other
//! trunks.

use burn::tensor::{
    Device, Tensor, TensorData,
    activation::relu,
    module::{conv1d, conv2d},
    ops::ConvOptions,
};

use super::{FRONT_END, MID_END, PATCH_FRAMES, PATCH_HOP};
use crate::{dsp::MEL_BANDS, weights::Weights};

/// Consecutive frames of `patches` patches to \[patch, 1506\].
pub(super) fn pooled(weights: &Weights<'_>, log_mel: &[f32], patches: usize) -> Vec<f32> {
    let patch = |i: usize| &log_mel[i * PATCH_HOP * MEL_BANDS..][..PATCH_FRAMES * MEL_BANDS];
    (0..patches).flat_map(|i| pooled_patch(weights, patch(i))).collect()
}

fn pooled_patch(weights: &Weights<'_>, log_mel: &[f32]) -> Vec<f32> {
    let device = Device::flex();
    let input = weights.norm(0);
    let x = log_mel.iter().map(|x| x * input.scale[0] + input.shift[0]).collect();
    let x = Tensor::<4>::from_data(TensorData::new(x, [1, 1, PATCH_FRAMES, MEL_BANDS]), &device);
    let front = FRONT_END.iter().enumerate().map(|(i, name)| {
        let (kernel, shape) = weights.tensor(&format!("{name}/kernel"));
        let before = (shape[2] - 1) / 2;
        let padding = [(before, shape[2] - 1 - before), (0, 0)];
        let kernel = Tensor::<4>::from_data(TensorData::new(kernel, shape), &device);
        let x = conv2d(x.clone(), kernel, None, ConvOptions::new_with_padding([1, 1], padding, [1, 1], 1));
        let [_, channels, frames, positions] = x.dims();
        let x = pointwise(weights, name, 1 + i, x.reshape([1, channels, frames * positions]));
        x.reshape([1, channels, frames, positions]).max_dim(3).squeeze_dim::<3>(3)
    });
    let mut layers = vec![Tensor::cat(front.collect(), 1)];
    for (i, name) in MID_END.iter().enumerate() {
        let (kernel, shape) = weights.tensor(&format!("{name}/kernel"));
        let kernel = Tensor::<3>::from_data(TensorData::new(kernel, shape), &device);
        let before = layers[i].clone();
        let layer = conv1d(before.clone(), kernel, None, ConvOptions::new([1], [3], [1], 1));
        let layer = pointwise(weights, name, 6 + i, layer);
        layers.push(if i == 0 { layer } else { layer + before });
    }
    let features = Tensor::cat(layers, 1);
    let pooled = Tensor::cat(vec![features.clone().max_dim(2), features.mean_dim(2)], 2);
    pooled.into_data().try_into_vec().expect("the CPU's answer is there")
}

/// relu(x + bias) · scale + shift, channel by channel of \[1, channel, …\].
fn pointwise(weights: &Weights<'_>, name: &str, norm: usize, x: Tensor<3>) -> Tensor<3> {
    let place = |numbers: Vec<f32>| {
        let shape = [1, numbers.len(), 1];
        Tensor::<3>::from_data(TensorData::new(numbers, shape), &Device::flex())
    };
    let norm = weights.norm(norm);
    let bias = place(weights.tensor(&format!("{name}/bias")).0);
    relu(x + bias) * place(norm.scale) + place(norm.shift)
}
