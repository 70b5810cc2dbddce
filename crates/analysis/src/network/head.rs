//! The dense part: [`POOLED`](super::POOLED) numbers per patch to the embedding and the tag activations.

use burn::tensor::{
    Device, Tensor, TensorData,
    activation::{relu, sigmoid},
};

use crate::weights::Weights;

#[derive(Debug)]
pub(super) struct Head {
    pooled: Norm,
    embedding: Dense,
    hidden: Norm,
    output: Dense,
}

impl Head {
    pub(super) fn new(weights: &Weights<'_>, device: &Device) -> Self {
        Self {
            pooled: Norm::new(weights, 9, device),
            embedding: Dense::new(weights, "dense", device),
            hidden: Norm::new(weights, 10, device),
            output: Dense::new(weights, "dense_1", device),
        }
    }

    /// \[patch, 1506\] to embeddings \[patch, 200\] and tags \[patch, 50\].
    pub(super) fn forward(&self, pooled: Tensor<2>) -> (Tensor<2>, Tensor<2>) {
        let embedding = self.embedding.forward(self.pooled.forward(pooled));
        let logits = self.output.forward(self.hidden.forward(relu(embedding.clone())));
        (embedding, sigmoid(logits))
    }
}

/// Batch normalisation: \[1, channel\] each.
#[derive(Debug)]
struct Norm {
    scale: Tensor<2>,
    shift: Tensor<2>,
}

impl Norm {
    fn new(weights: &Weights<'_>, index: usize, device: &Device) -> Self {
        let norm = weights.norm(index);
        let row = |numbers: Vec<f32>| Tensor::<1>::from_data(TensorData::from(&*numbers), device).unsqueeze();
        Self { scale: row(norm.scale), shift: row(norm.shift) }
    }

    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        x * self.scale.clone() + self.shift.clone()
    }
}

#[derive(Debug)]
struct Dense {
    /// \[in, out\]
    kernel: Tensor<2>,
    /// \[1, out\]
    bias: Tensor<2>,
}

impl Dense {
    fn new(weights: &Weights<'_>, name: &str, device: &Device) -> Self {
        let (kernel, shape) = weights.tensor(&format!("{name}/kernel"));
        let (bias, _) = weights.tensor(&format!("{name}/bias"));
        Self {
            kernel: Tensor::from_data(TensorData::new(kernel, shape), device),
            bias: Tensor::<1>::from_data(TensorData::from(&*bias), device).unsqueeze(),
        }
    }

    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        x.matmul(self.kernel.clone()) + self.bias.clone()
    }
}
