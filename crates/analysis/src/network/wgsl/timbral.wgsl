// A timbral branch: kernels of 7 frames × WIDTH bands, at every position in frequency; keeps the largest of all
// positions.
//
// A workgroup computes ROWS rows for 32 channels. Each thread has 8 positions and 4 channels, so that it reuses its loads
// many times. The frames lie in shared memory; the kernels come from the cache, where neighbouring threads read the same
// ones.

// Bands of a kernel, padded with zeros to a multiple of four.
const WIDTH = {width}u;
const POSITIONS = {positions}u;
const ROWS = {rows}u;
// Threads along frequency, 8 positions each.
const PLACES = 8u / ROWS;
// Channels of a branch, and the index of the first among the features.
const CHANNELS = 204u;
const FIRST_CHANNEL = {first_channel}u;
// Groups of four channels, padded to whole workgroups.
const FOURS = 56u;
const TAPS = 7u;
const END_FRAMES = 9u;
// Groups of four bands per frame, with zeros after the last band.
const FRAME_FOURS = 26u;

// The run's frames, then 9 for each end of each patch: [frame, band].
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
// [tap, band, channel]
@group(0) @binding(2) var<storage, read> kernels: array<vec4<f32>>;
// [(sign, bias, scale, shift), channel]
@group(0) @binding(3) var<storage, read> table: array<vec4<f32>>;
// [patch, padded frame, channel]
@group(0) @binding(4) var<storage, read_write> front: array<f32>;

var<workgroup> frames: array<vec4<f32>, ROWS * TAPS * FRAME_FOURS>;
var<workgroup> largest: array<vec4<f32>, 64>;

// The first frame that a row's kernels cover.
fn first_frame(row: u32) -> u32 {
    let inside = run.frames - 2u * PADDING;
    if row < inside {
        return row;
    }
    let end = row - inside;
    return run.frames + end / PADDING * END_FRAMES + end % PADDING;
}

fn put(patch_number: u32, frame: u32, four: u32, value: vec4<f32>) {
    let place = (patch_number * PADDED_FRAMES + PADDING + frame) * FRONT_CHANNELS + FIRST_CHANNEL;
    for (var i = 0u; i < 4u; i++) {
        if 4u * four + i < CHANNELS {
            front[place + 4u * four + i] = value[i];
        }
    }
}

// Writes a row's features into every patch that contains its frame.
fn write(row: u32, four: u32, value: vec4<f32>) {
    let inside = run.frames - 2u * PADDING;
    if row >= inside {
        let window = (row - inside) / PADDING;
        let place = (row - inside) % PADDING;
        put(window / 2u, select(place, PATCH_FRAMES - PADDING + place, window % 2u == 1u), four, value);
        return;
    }
    let frame = row + PADDING;
    let last = min(frame / PATCH_HOP, run.patches - 1u);
    for (var back = 0u; back < 2u; back++) {
        if back <= last {
            let place = frame - (last - back) * PATCH_HOP;
            if place >= PADDING && place < PATCH_FRAMES - PADDING {
                put(last - back, place, four, value);
            }
        }
    }
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    for (var i = thread; i < ROWS * TAPS * FRAME_FOURS; i += 64u) {
        let row = group.x * ROWS + i / (TAPS * FRAME_FOURS);
        let tap = i / FRAME_FOURS % TAPS;
        let four = i % FRAME_FOURS;
        var bands = vec4<f32>(0.0);
        if row < run.rows && four < BANDS / 4u {
            bands = x[(first_frame(row) + tap) * (BANDS / 4u) + four];
        }
        frames[i] = bands;
    }
    workgroupBarrier();

    let four = group.y * 8u + thread % 8u;
    let place = thread / 8u % PLACES;
    let row = thread / 8u / PLACES;
{sums}
    for (var tap = 0u; tap < TAPS; tap++) {
        let at = (row * TAPS + tap) * FRAME_FOURS + 2u * place;
        for (var w = 0u; w < WIDTH / 4u; w++) {
            let x0 = frames[at + w];
            let x1 = frames[at + w + 1u];
            let x2 = frames[at + w + 2u];
            let k = (tap * WIDTH + 4u * w) * FOURS + four;
{products}
        }
    }
    var best = s0;
{bests}
    largest[thread] = best;
    workgroupBarrier();

    if place == 0u && group.x * ROWS + row < run.rows {
        for (var other = 1u; other < PLACES; other++) {
            best = max(best, largest[thread + 8u * other]);
        }
        let value = pointwise(best, table[four], table[FOURS + four], table[2u * FOURS + four], table[3u * FOURS + four]);
        write(group.x * ROWS + row, four, value);
    }
}
