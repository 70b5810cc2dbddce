//! A model's weights by name, and their conversion from the checkpoint's layout to ours.
//!
//! Both layouts are safetensors files with the checkpoint's tensor names. Ours has convolution kernels in burn's order,
//! \[out, in, time, frequency\], and those of the mid end, which span all channels, as \[out, in, time\].

use safetensors::{Dtype, SafeTensors, tensor::TensorView};

/// ε of every batch normalisation.
const EPSILON: f32 = 1e-3;

/// A batch normalisation in inference form, x · scale + shift, with one scale and shift per channel.
pub(crate) struct Norm {
    pub(crate) scale: Vec<f32>,
    pub(crate) shift: Vec<f32>,
}

/// Tensor shapes, in our layout, of a checkpoint with the architecture of `network.rs`.
fn shapes() -> Vec<(String, Vec<usize>)> {
    let kernels: [(&str, &[usize]); 10] = [
        ("conv2d", &[204, 1, 7, 38]),
        ("conv2d_1", &[204, 1, 7, 67]),
        ("conv2d_2", &[51, 1, 128, 1]),
        ("conv2d_3", &[51, 1, 64, 1]),
        ("conv2d_4", &[51, 1, 32, 1]),
        ("conv2d_5", &[64, 561, 7]),
        ("conv2d_6", &[64, 64, 7]),
        ("conv2d_7", &[64, 64, 7]),
        ("dense", &[1506, 200]),
        ("dense_1", &[200, 50]),
    ];
    let norms = [1, 204, 204, 51, 51, 51, 64, 64, 64, 1506, 200];
    let kernels = kernels.into_iter().flat_map(|(name, shape)| {
        let outputs = if shape.len() == 2 { shape[1] } else { shape[0] };
        [(format!("{name}/kernel"), shape.to_vec()), (format!("{name}/bias"), vec![outputs])]
    });
    let norms = norms.into_iter().enumerate().flat_map(|(i, channels)| {
        let name = if i == 0 { "batch_normalization".to_owned() } else { format!("batch_normalization_{i}") };
        ["gamma", "beta", "moving_mean", "moving_variance"].map(|part| (format!("{name}/{part}"), vec![channels]))
    });
    kernels.chain(norms).collect()
}

/// A model's weights, checked against the architecture.
#[derive(Debug)]
pub struct Weights<'a>(SafeTensors<'a>);

impl<'a> Weights<'a> {
    /// Reads a file in our layout.
    ///
    /// # Errors
    /// Says which tensor is missing or has another shape or type than the network needs.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, String> {
        let tensors = SafeTensors::deserialize(bytes).map_err(|error| error.to_string())?;
        for (name, shape) in shapes() {
            let tensor = tensors.tensor(&name).map_err(|error| error.to_string())?;
            if tensor.dtype() != Dtype::F32 || tensor.shape() != shape {
                return Err(format!("{name} is {:?} {:?} instead of F32 {shape:?}", tensor.dtype(), tensor.shape()));
            }
        }
        Ok(Self(tensors))
    }

    /// The numbers and shape of a tensor.
    pub(crate) fn tensor(&self, name: &str) -> (Vec<f32>, Vec<usize>) {
        let tensor = self.0.tensor(name).expect("parse() checked every name the network asks for");
        (floats(tensor.data()), tensor.shape().to_vec())
    }

    /// Batch norm `index` of the checkpoint: scale = γ / √(variance + ε), shift = β − mean · scale.
    pub(crate) fn norm(&self, index: usize) -> Norm {
        let name = if index == 0 { "batch_normalization".to_owned() } else { format!("batch_normalization_{index}") };
        let part = |part: &str| self.tensor(&format!("{name}/{part}")).0;
        let scale: Vec<f32> =
            part("gamma").iter().zip(part("moving_variance")).map(|(gamma, v)| gamma / (v + EPSILON).sqrt()).collect();
        let shift = part("beta")
            .iter()
            .zip(part("moving_mean"))
            .zip(&scale)
            .map(|((beta, mean), scale)| beta - mean * scale)
            .collect();
        Norm { scale, shift }
    }
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    let (numbers, _) = bytes.as_chunks::<4>();
    numbers.iter().map(|&number| f32::from_le_bytes(number)).collect()
}

/// Converts a checkpoint in TensorFlow's layout (\[time, frequency, in, out\]) to ours and returns the file's bytes.
///
/// # Errors
/// Says which tensor does not fit the architecture.
pub fn convert(checkpoint: &[u8], source: &str, licence: &str) -> Result<Vec<u8>, String> {
    let tensors = SafeTensors::deserialize(checkpoint).map_err(|error| error.to_string())?;
    let mut converted = Vec::new();
    for (name, shape) in shapes() {
        let tensor = tensors.tensor(&name).map_err(|error| error.to_string())?;
        let numbers = floats(tensor.data());
        let bytes: Vec<u8> = outputs_first(&numbers, tensor.shape()).into_iter().flat_map(f32::to_le_bytes).collect();
        converted.push((name, shape, bytes));
    }
    let views = converted
        .iter()
        .map(|(name, shape, bytes)| {
            TensorView::new(Dtype::F32, shape.clone(), bytes)
                .map(|view| (name, view))
                .map_err(|error| format!("{name}: {error}"))
        })
        .collect::<Result<Vec<_>, _>>()?;
    let metadata = [("source", source), ("licence", licence), ("layout", "out-in-time-frequency")];
    let metadata = metadata.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    safetensors::serialize(views, Some(metadata)).map_err(|error| error.to_string())
}

/// Reorders a convolution kernel \[time, frequency, in, out\] to \[out, in, time, frequency\]; other tensors stay as they
/// are. In the mid end's kernels, `frequency` counts the input channels and `in` is 1, so the same order gives \[out, 1,
/// time, channel\], which is transposed to \[out, channel, time\].
fn outputs_first(numbers: &[f32], shape: &[usize]) -> Vec<f32> {
    let &[times, frequencies, 1, outputs] = shape else { return numbers.to_vec() };
    let at =
        |time: usize, frequency: usize, output: usize| numbers[(time * frequencies + frequency) * outputs + output];
    let channels_are_frequencies = outputs == 64;
    let mut out = Vec::with_capacity(numbers.len());
    for output in 0..outputs {
        if channels_are_frequencies {
            out.extend((0..frequencies).flat_map(|channel| (0..times).map(move |time| at(time, channel, output))));
        } else {
            out.extend((0..times).flat_map(|time| (0..frequencies).map(move |frequency| at(time, frequency, output))));
        }
    }
    out
}
