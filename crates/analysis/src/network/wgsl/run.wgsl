// Shared by all kernels: the shapes, and the pointwise steps.

// Frames in a patch, and from the start of a patch to the start of the next.
const PATCH_FRAMES = 187u;
const PATCH_HOP = 93u;
// Zero frames before and after a patch in the features, for the mid end.
const PADDING = 3u;
const PADDED_FRAMES = PATCH_FRAMES + 2u * PADDING;
const BANDS = 96u;
const FRONT_CHANNELS = 561u;

struct Run {
    patches: u32,
    // Frames of the run.
    frames: u32,
    // Rows of timbral features: those of the frames away from the run's ends, then three for each end of each patch.
    rows: u32,
    unused: u32,
}

@group(0) @binding(0) var<uniform> run: Run;

// relu(sign · x + bias) · scale + shift, for four channels.
fn pointwise(x: vec4<f32>, sign: vec4<f32>, bias: vec4<f32>, scale: vec4<f32>, shift: vec4<f32>) -> vec4<f32> {
    return fma(max(fma(x, sign, bias), vec4<f32>(0.0)), scale, shift);
}
