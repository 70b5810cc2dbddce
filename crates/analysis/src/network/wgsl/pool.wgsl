// Maximum and mean over time, channel by channel.

const CHANNELS = {channels}u;
// Index of the layer's first channel among all channels.
const FIRST_CHANNEL = {first_channel}u;
const POOLED = {pooled}u;

// [patch, padded frame, channel]
@group(0) @binding(1) var<storage, read> features: array<f32>;
// [patch, channel, (maximum, mean)]
@group(0) @binding(2) var<storage, read_write> pooled: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let channel = group.x * 64u + thread;
    if channel >= CHANNELS || group.y >= run.patches {
        return;
    }
    let at = (group.y * PADDED_FRAMES + PADDING) * CHANNELS + channel;
    var largest = features[at];
    var sum = largest;
    for (var frame = 1u; frame < PATCH_FRAMES; frame++) {
        let number = features[at + frame * CHANNELS];
        largest = max(largest, number);
        sum += number;
    }
    let place = group.y * POOLED + 2u * (FIRST_CHANNEL + channel);
    pooled[place] = largest;
    pooled[place + 1u] = sum / f32(PATCH_FRAMES);
}
