// A layer of the mid end: kernels of 7 frames × all channels. The 7 frames lie one after the other in memory, so that
// this is a matrix product with overlapping rows.
//
// A workgroup computes 32 rows and all 64 channels; each of its threads 8 rows and 4 channels.

const CHANNELS = {channels}u;
// Numbers per row, and the same rounded up to whole tiles.
const LENGTH = 7u * CHANNELS;
const TILES = (LENGTH + 31u) / 32u;
const IS_RESIDUAL = {is_residual};

// [patch, padded frame, channel]
@group(0) @binding(1) var<storage, read> features: array<f32>;
// [number within the row, output channel]
@group(0) @binding(2) var<storage, read> kernels: array<vec4<f32>>;
// [(sign, bias, scale, shift), output channel]
@group(0) @binding(3) var<storage, read> table: array<vec4<f32>>;
// [patch, padded frame, output channel]
@group(0) @binding(4) var<storage, read_write> layer: array<f32>;

// 32 rows of 32 numbers, in groups of four, plus one group so that rows begin in different banks.
var<workgroup> tile: array<vec4<f32>, 32u * 9u>;

fn padded_frame(row: u32) -> u32 {
    return row / PATCH_FRAMES * PADDED_FRAMES + row % PATCH_FRAMES;
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let rows = run.patches * PATCH_FRAMES;
    let first = group.x * 32u;
    let four = thread % 16u;
    let mine = thread / 16u * 8u;
{sums}
    for (var number = 0u; number < TILES; number++) {
        for (var i = thread; i < 256u; i += 64u) {
            let row = min(first + i / 8u, rows - 1u);
            // After a row's last number come those of the next frame; the kernels have zeros there.
            let at = padded_frame(row) * CHANNELS + number * 32u + i % 8u * 4u;
            tile[i / 8u * 9u + i % 8u] = vec4<f32>(features[at], features[at + 1u], features[at + 2u], features[at + 3u]);
        }
        workgroupBarrier();
        for (var w = 0u; w < 8u; w++) {
            let k = (number * 32u + 4u * w) * 16u + four;
{products}
        }
        workgroupBarrier();
    }
{write}
}

fn put(row: u32, four: u32, sum: vec4<f32>) {
    if row >= run.patches * PATCH_FRAMES {
        return;
    }
    let value = pointwise(sum, table[four], table[16u + four], table[32u + four], table[48u + four]);
    let place = (padded_frame(row) + PADDING) * 64u + 4u * four;
    for (var i = 0u; i < 4u; i++) {
        var number = value[i];
        if IS_RESIDUAL {
            number += features[place + i];
        }
        layer[place + i] = number;
    }
}
