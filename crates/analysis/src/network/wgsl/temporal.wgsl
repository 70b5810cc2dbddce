// A temporal branch: kernels of TAPS frames of one band, with zeros around the patch; keeps the largest of all bands.
//
// A workgroup computes 8 frames of a patch for 4 channels; each of its threads one band. The frames slide through
// registers; taps that meet only zeros are skipped.

const TAPS = {taps}u;
// Taps before the middle one.
const BEFORE = (TAPS - 1u) / 2u;
const CHANNELS = 51u;
const FIRST_CHANNEL = {first_channel}u;
// Groups of four channels.
const FOURS = 13u;
// Groups of eight frames.
const EIGHTS = 24u;

// [frame, band]
@group(0) @binding(1) var<storage, read> x: array<f32>;
// [tap, channel]
@group(0) @binding(2) var<storage, read> kernels: array<vec4<f32>>;
// [(sign, bias, scale, shift), channel]
@group(0) @binding(3) var<storage, read> table: array<vec4<f32>>;
// [patch, padded frame, channel]
@group(0) @binding(4) var<storage, read_write> front: array<f32>;

// [band, frame], then [part of the bands, frame].
var<workgroup> largest: array<vec4<f32>, 8u * BANDS>;

// One number of a patch's frame; zero outside the patch. `frame` counts from BEFORE frames before the patch.
fn number(patch_number: u32, frame: u32, band: u32) -> f32 {
    if frame < BEFORE || frame >= BEFORE + PATCH_FRAMES {
        return 0.0;
    }
    return x[(patch_number * PATCH_HOP + frame - BEFORE) * BANDS + band];
}

@compute @workgroup_size(96)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let patch_number = group.x / EIGHTS;
    if patch_number >= run.patches {
        return;
    }
    let first = group.x % EIGHTS * 8u;
    let four = group.y;
    // Taps from `begin` to before `end` lie within the patch for at least one of the frames.
    let begin = (BEFORE - min(BEFORE, first + 7u)) / 4u * 4u;
    let end = min(TAPS, BEFORE + PATCH_FRAMES - first);
{sums}
{first_numbers}
    for (var tap = begin; tap < end; tap += 4u) {
{next_numbers}
        let k = tap * FOURS + four;
{products}
{slide}
    }
{store}
    workgroupBarrier();

    // Twelve threads per frame, eight bands each; then one thread per frame.
    let frame = thread % 8u;
    let part = thread / 8u;
    var best = largest[8u * part * 8u + frame];
    for (var band = 1u; band < 8u; band++) {
        best = max(best, largest[(8u * part + band) * 8u + frame]);
    }
    workgroupBarrier();
    largest[thread] = best;
    workgroupBarrier();

    if thread < 8u && first + thread < PATCH_FRAMES {
        for (var other = 1u; other < 12u; other++) {
            best = max(best, largest[8u * other + thread]);
        }
        let value = pointwise(best, table[four], table[FOURS + four], table[2u * FOURS + four], table[3u * FOURS + four]);
        let place = (patch_number * PADDED_FRAMES + PADDING + first + thread) * FRONT_CHANNELS + FIRST_CHANNEL;
        for (var i = 0u; i < 4u; i++) {
            if 4u * four + i < CHANNELS {
                front[place + 4u * four + i] = value[i];
            }
        }
    }
}
