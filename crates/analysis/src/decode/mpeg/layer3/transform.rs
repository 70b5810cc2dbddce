//! Spectral lines to samples: the modified cosine transform of each subband and the polyphase filter (ISO/IEC 11172-3,
//! 2.4.3.4.10 and 2.4.3.2.2).
//!
//! Both are linear, as is mixing the channels. Channels with the same windows are therefore mixed as lines, others as
//! subband samples, so that the filter, the most expensive step, runs only once.

use std::{array::from_fn, f64::consts::PI, sync::LazyLock};

use pulp::Simd;

use crate::fused::mul_add;

use super::{
    bands::{Layout, SUBBAND_LINES, SUBBANDS},
    side::{Blocks, LINES, Window},
};

/// One number per subband.
type Row = [f32; SUBBANDS];

/// A granule's numbers for each subband: lines or samples.
type Rows = [Row; SUBBAND_LINES];

/// Samples in a subband's block; half of them overlap the next granule's block.
const BLOCK: usize = 2 * SUBBAND_LINES;

/// Samples of a short window.
const SHORT_BLOCK: usize = BLOCK / 3;

/// Rows of the polyphase filter's memory that a sample depends on.
const TAPS: usize = 16;

/// Rows per tile of a matrix product, and registers per row: with two inputs and a factor they fill sixteen registers.
const TILE_ROWS: usize = 6;
const TILE_COLUMNS: usize = 2;

/// Number of subbands with the normal window in mixed blocks whose other windows are long.
const MIXED_SUBBANDS: usize = 2;

/// Numbers of each parity that the filter's memory holds for 32 samples.
const HALF: usize = SUBBANDS;

/// Converts the lines of one channel to samples.
pub(super) struct Transform {
    /// Second halves of the previous granule's blocks.
    overlap: Rows,
    /// Memory of the polyphase filter, oldest first, followed by the current granule: the even and the odd numbers of
    /// ISO's vector V.
    memory: [[[f32; HALF]; 2]; TAPS - 1 + SUBBAND_LINES],
}

impl Transform {
    pub(super) fn new() -> Self {
        Self { overlap: [[0.0; SUBBANDS]; SUBBAND_LINES], memory: [[[0.0; HALF]; 2]; TAPS - 1 + SUBBAND_LINES] }
    }

    /// Appends a granule's samples: the sum over `channels`. Each channel has its lines up to the last coded one, and its
    /// windows.
    #[inline(always)]
    pub(super) fn granule<S: Simd>(&mut self, simd: S, rate: usize, channels: &[(&[f32], Blocks)], out: &mut Vec<f32>) {
        let mut samples = self.overlap;
        self.overlap = [[0.0; SUBBANDS]; SUBBAND_LINES];
        for &(lines, blocks) in channels {
            add_channel(simd, lines, blocks, Layout::of(rate, blocks), &mut samples, &mut self.overlap);
        }
        self.filter(simd, &samples, out);
    }

    /// The polyphase filter.
    #[inline(always)]
    fn filter<S: Simd>(&mut self, simd: S, samples: &Rows, out: &mut Vec<f32>) {
        let constants = &*CONSTANTS;
        // cos((16 + i)(2k + 1)π/64) is the same for k and 31 − k, except for the sign, which is that of i's parity.
        let mut folded = [[[0.0; SUBBANDS / 2]; SUBBAND_LINES]; 2];
        let [even, odd] = &mut folded;
        for (slot, ((row, even), odd)) in samples.iter().zip(even).zip(odd).enumerate() {
            // Every second sample in every second subband is inverted.
            let sign = if slot % 2 == 0 { 1.0 } else { -1.0 };
            for k in 0..SUBBANDS / 2 {
                let own = if k % 2 == 0 { row[k] } else { sign * row[k] };
                let mirrored = if k % 2 == 0 { sign * row[SUBBANDS - 1 - k] } else { row[SUBBANDS - 1 - k] };
                (even[k], odd[k]) = (own + mirrored, own - mirrored);
            }
        }
        self.memory.copy_within(SUBBAND_LINES.., 0);
        let mut product = [[0.0; SUBBANDS]; SUBBAND_LINES];
        for parity in 0..2 {
            multiply(simd, &folded[parity], &constants.matrix[parity], SUBBANDS, &mut product);
            for (memory, product) in self.memory[TAPS - 1..].iter_mut().zip(&product) {
                memory[parity] = *product;
            }
        }
        let start = out.len();
        out.resize(start + LINES, 0.0);
        for (slot, out) in out[start..].as_chunks_mut::<SUBBANDS>().0.iter_mut().enumerate() {
            let memory = &self.memory[slot..slot + TAPS];
            let mut sums = [[0.0; SUBBANDS / 2]; 2];
            for (parity, sums) in sums.iter_mut().enumerate() {
                for (register, sum) in S::as_mut_simd_f32s(sums).0.iter_mut().enumerate() {
                    let mut all = simd.splat_f32s(0.0);
                    for tap in 0..TAPS {
                        let (numbers, _) = S::as_simd_f32s(&memory[TAPS - 1 - tap][parity]);
                        // Odd taps use the second half.
                        let half = tap % 2 * (numbers.len() / 2);
                        let (window, _) = S::as_simd_f32s(&constants.window[parity][tap]);
                        all = mul_add(simd, numbers[half + register], window[register], all);
                    }
                    *sum = all;
                }
            }
            for m in 0..SUBBANDS / 2 {
                (out[2 * m], out[2 * m + 1]) = (sums[0][m], sums[1][m]);
            }
        }
    }
}

/// Adds the first halves of a channel's blocks to `samples` and the second halves to `overlap`.
#[inline(always)]
fn add_channel<S: Simd>(
    simd: S,
    lines: &[f32],
    blocks: Blocks,
    layout: &Layout,
    samples: &mut Rows,
    overlap: &mut Rows,
) {
    let mut rows = [[0.0; SUBBANDS]; SUBBAND_LINES];
    let flat = rows.as_flattened_mut();
    for (&line, &place) in lines.iter().zip(&layout.places) {
        flat[usize::from(place)] = line;
    }
    let is_short = blocks.window == Window::Short;
    reduce_aliases(&mut rows, if is_short { layout.long_subbands } else { SUBBANDS });
    // Alias reduction reaches one subband further.
    let subbands = (usize::from(layout.reach[lines.len()]) + 1).min(SUBBANDS);
    // The lowest subbands of a mixed block use the normal window.
    let normal = match (is_short, blocks.is_mixed) {
        (true, _) => layout.long_subbands,
        (false, true) => MIXED_SUBBANDS,
        (false, false) => 0,
    };
    if normal > 0 {
        let mut lowest = rows;
        lowest.iter_mut().for_each(|row| row[normal..].fill(0.0));
        rows.iter_mut().for_each(|row| row[..normal].fill(0.0));
        add_long(simd, &lowest, Window::Normal, subbands, samples, overlap);
    }
    if is_short {
        add_short(simd, &rows, subbands, samples, overlap);
    } else {
        add_long(simd, &rows, blocks.window, subbands, samples, overlap);
    }
}

/// The butterflies between neighbouring subbands, for the lowest `subbands`.
#[inline(always)]
fn reduce_aliases(rows: &mut Rows, subbands: usize) {
    let (upper, lower) = rows.split_at_mut(SUBBAND_LINES / 2);
    let pairs = upper.iter_mut().zip(lower.iter_mut().rev());
    for ((upper, lower), (cs, ca)) in pairs.zip(CONSTANTS.butterflies) {
        for (upper, lower) in upper[..subbands].iter_mut().skip(1).zip(lower) {
            (*lower, *upper) = (*lower * cs - *upper * ca, *upper * cs + *lower * ca);
        }
    }
}

#[inline(always)]
fn add_long<S: Simd>(simd: S, rows: &Rows, window: Window, subbands: usize, samples: &mut Rows, overlap: &mut Rows) {
    let mut product = [[0.0; SUBBANDS]; SUBBAND_LINES];
    multiply(simd, &CONSTANTS.long, rows, subbands, &mut product);
    let window = &CONSTANTS.windows[window as usize];
    for i in 0..BLOCK {
        // The block contains each number of the product twice.
        let (from, sign) = match i {
            0..9 => (9 + i, 1.0),
            9..27 => (26 - i, -1.0),
            _ => (i - 27, -1.0),
        };
        let to = if i < SUBBAND_LINES { &mut samples[i] } else { &mut overlap[i - SUBBAND_LINES] };
        add_scaled(to, &product[from], sign * window[i]);
    }
}

#[inline(always)]
fn add_short<S: Simd>(simd: S, rows: &Rows, subbands: usize, samples: &mut Rows, overlap: &mut Rows) {
    let mut product = [[0.0; SUBBANDS]; BLOCK];
    multiply(simd, &CONSTANTS.short, rows, subbands, &mut product);
    for (to, from) in samples.iter_mut().chain(overlap).zip(&product) {
        add_scaled(to, from, 1.0);
    }
}

#[inline(always)]
fn add_scaled(to: &mut Row, from: &Row, factor: f32) {
    for (to, from) in to.iter_mut().zip(from) {
        *to += factor * from;
    }
}

/// The matrix product a · b for at least the first `columns` columns.
#[inline(always)]
fn multiply<S: Simd, const ROWS: usize, const INNER: usize>(
    simd: S,
    a: &[[f32; INNER]; ROWS],
    b: &[Row; INNER],
    columns: usize,
    product: &mut [Row; ROWS],
) {
    let width = TILE_COLUMNS * S::F32_LANES;
    for start in (0..columns).step_by(width) {
        for (a, product) in a.as_chunks::<TILE_ROWS>().0.iter().zip(product.as_chunks_mut::<TILE_ROWS>().0) {
            let mut sums = [[simd.splat_f32s(0.0); TILE_COLUMNS]; TILE_ROWS];
            for k in 0..INNER {
                let (inputs, _) = S::as_simd_f32s(&b[k][start..start + width]);
                for row in 0..TILE_ROWS {
                    let factor = simd.splat_f32s(a[row][k]);
                    for column in 0..TILE_COLUMNS {
                        sums[row][column] = mul_add(simd, factor, inputs[column], sums[row][column]);
                    }
                }
            }
            for (row, sums) in product.iter_mut().zip(sums) {
                S::as_mut_simd_f32s(&mut row[start..start + width]).0.copy_from_slice(&sums);
            }
        }
    }
}

static CONSTANTS: LazyLock<Constants> = LazyLock::new(Constants::new);

struct Constants {
    /// (1, c) / √(1 + c²) for the c of table B.9.
    butterflies: [(f32, f32); 8],
    /// cos(π/72 · (2j + 1)(2k + 1)); the modified cosine transform uses each row twice.
    long: [[f32; SUBBAND_LINES]; SUBBAND_LINES],
    /// The three short transforms with their windows, at their positions in the block.
    short: [[f32; SUBBAND_LINES]; BLOCK],
    /// Indexed by [`Window`]; the short windows are part of `short`.
    windows: [[f32; BLOCK]; 4],
    /// cos((16 + i)(2k + 1)π/64), for even and odd i.
    matrix: [[Row; SUBBANDS / 2]; 2],
    /// ISO's D: \[parity, tap, half of the sample's number\].
    window: [[[f32; SUBBANDS / 2]; TAPS]; 2],
}

impl Constants {
    fn new() -> Self {
        const C: [f64; 8] = [-0.6, -0.535, -0.33, -0.185, -0.095, -0.041, -0.0142, -0.0037];
        let sine = |i: usize, length: usize| (PI / length as f64 * (i as f64 + 0.5)).sin();
        let odd = |i: usize| (2 * i + 1) as f64;
        let mut short = [[0.0; SUBBAND_LINES]; BLOCK];
        for window in 0..3 {
            for (k, i) in (0..SHORT_BLOCK / 2).flat_map(|k| (0..SHORT_BLOCK).map(move |i| (k, i))) {
                let cosine = (PI / 24.0 * (odd(i) + 6.0) * odd(k)).cos();
                short[6 + 6 * window + i][3 * k + window] = (cosine * sine(i, SHORT_BLOCK)) as f32;
            }
        }
        let start = |i: usize| match i {
            0..18 => sine(i, BLOCK),
            18..24 => 1.0,
            24..30 => sine(i - 18, SHORT_BLOCK),
            _ => 0.0,
        };
        let windows = [&|i| sine(i, BLOCK), &start, &|_| 0.0, &|i| start(BLOCK - 1 - i)] as [&dyn Fn(usize) -> f64; 4];
        Self {
            butterflies: C.map(|c| ((1.0 / (1.0 + c * c).sqrt()) as f32, (c / (1.0 + c * c).sqrt()) as f32)),
            long: from_fn(|j| from_fn(|k| (PI / 72.0 * odd(j) * odd(k)).cos() as f32)),
            short,
            windows: windows.map(|window| from_fn(|i| window(i) as f32)),
            matrix: from_fn(|parity| {
                from_fn(|k| from_fn(|m| ((16 + 2 * m + parity) as f64 * odd(k) * PI / 64.0).cos() as f32))
            }),
            window: from_fn(|parity| from_fn(|tap| from_fn(|m| synthesis_window(2 * m + parity + SUBBANDS * tap)))),
        }
    }
}

/// D (ISO/IEC 11172-3, table 3-B.3).
fn synthesis_window(i: usize) -> f32 {
    let mirrored = SYNTHESIS_WINDOW[i.min(512 - i)];
    let number = if i > 256 && !i.is_multiple_of(64) { -mirrored } else { mirrored };
    number as f32 / 65_536.0
}

/// The first half of D and the number after it, times 65 536. The second half mirrors it, negated except at multiples of
/// 64.
const SYNTHESIS_WINDOW: [i32; 257] = [
    0, -1, -1, -1, -1, -1, -1, -2, -2, -2, -2, -3, -3, -4, -4, -5, -5, -6, -7, -7, -8, -9, -10, -11, -13, -14, -16,
    -17, -19, -21, -24, -26, -29, -31, -35, -38, -41, -45, -49, -53, -58, -63, -68, -73, -79, -85, -91, -97, -104,
    -111, -117, -125, -132, -139, -147, -154, -161, -169, -176, -183, -190, -196, -202, -208, 213, 218, 222, 225, 227,
    228, 228, 227, 224, 221, 215, 208, 200, 189, 177, 163, 146, 127, 106, 83, 57, 29, -2, -36, -72, -111, -153, -197,
    -244, -294, -347, -401, -459, -519, -581, -645, -711, -779, -848, -919, -991, -1064, -1137, -1210, -1283, -1356,
    -1428, -1498, -1567, -1634, -1698, -1759, -1817, -1870, -1919, -1962, -2001, -2032, -2057, -2075, -2085, -2087,
    -2080, -2063, 2037, 2000, 1952, 1893, 1822, 1739, 1644, 1535, 1414, 1280, 1131, 970, 794, 605, 402, 185, -45, -288,
    -545, -814, -1095, -1388, -1692, -2006, -2330, -2663, -3004, -3351, -3705, -4063, -4425, -4788, -5153, -5517,
    -5879, -6237, -6589, -6935, -7271, -7597, -7910, -8209, -8491, -8755, -8998, -9219, -9416, -9585, -9727, -9838,
    -9916, -9959, -9966, -9935, -9863, -9750, -9592, -9389, -9139, -8840, -8492, -8092, -7640, -7134, 6574, 5959, 5288,
    4561, 3776, 2935, 2037, 1082, 70, -998, -2122, -3300, -4533, -5818, -7154, -8540, -9975, -11455, -12980, -14548,
    -16155, -17799, -19478, -21189, -22929, -24694, -26482, -28289, -30112, -31947, -33791, -35640, -37489, -39336,
    -41176, -43006, -44821, -46617, -48390, -50137, -51853, -53534, -55178, -56778, -58333, -59838, -61289, -62684,
    -64019, -65290, -66494, -67629, -68692, -69679, -70590, -71420, -72169, -72835, -73415, -73908, -74313, -74630,
    -74856, -74992, 75038,
];

#[cfg(test)]
mod tests {
    use pulp::WithSimd;

    use super::*;
    use crate::decode::mpeg::layer3::bands::place;
    use crate::fused::instruction_sets;

    /// Converts one channel's lines to samples by the letter of the standard.
    #[derive(Default)]
    struct Slow {
        overlap: Vec<[f64; SUBBAND_LINES]>,
        /// V, latest number first.
        memory: Vec<f64>,
    }

    impl Slow {
        fn granule(&mut self, lines: &[f32; LINES], blocks: Blocks, layout: &Layout) -> Vec<f64> {
            let is_short = blocks.window == Window::Short;
            let mut ordered = [0.0; LINES];
            for (&line, &place) in lines.iter().zip(&layout.places) {
                let (at, subband) = (usize::from(place) / SUBBANDS, usize::from(place) % SUBBANDS);
                ordered[subband * SUBBAND_LINES + at] = f64::from(line);
            }
            let long_subbands = if is_short { layout.long_subbands } else { SUBBANDS };
            for (subband, i) in (1..long_subbands).flat_map(|subband| (0..8).map(move |i| (subband, i))) {
                let c: f64 = [-0.6, -0.535, -0.33, -0.185, -0.095, -0.041, -0.0142, -0.0037][i];
                let (cs, ca) = (1.0 / (1.0 + c * c).sqrt(), c / (1.0 + c * c).sqrt());
                let (low, high) = (subband * SUBBAND_LINES - 1 - i, subband * SUBBAND_LINES + i);
                let (lower, upper) = (ordered[low], ordered[high]);
                (ordered[low], ordered[high]) = (lower * cs - upper * ca, upper * cs + lower * ca);
            }
            self.overlap.resize(SUBBANDS, [0.0; SUBBAND_LINES]);
            self.memory.resize(1024, 0.0);
            let mut samples = [[0.0; SUBBANDS]; SUBBAND_LINES];
            for (subband, lines) in ordered.as_chunks::<SUBBAND_LINES>().0.iter().enumerate() {
                let is_normal = blocks.is_mixed && subband < if is_short { long_subbands } else { MIXED_SUBBANDS };
                let block = Self::block(lines, if is_normal { Window::Normal } else { blocks.window });
                for i in 0..SUBBAND_LINES {
                    let sample = block[i] + self.overlap[subband][i];
                    samples[i][subband] = if i % 2 == 1 && subband % 2 == 1 { -sample } else { sample };
                    self.overlap[subband][i] = block[SUBBAND_LINES + i];
                }
            }
            samples.iter().flat_map(|row| self.filter(row)).collect()
        }

        fn block(lines: &[f64; SUBBAND_LINES], window: Window) -> [f64; BLOCK] {
            let transform = |lines: &[f64], i: usize| {
                let length = 2 * lines.len();
                let phase = |k: usize| (2 * i + 1 + length / 2) as f64 * (2 * k + 1) as f64;
                let cosine = |k: usize| (PI / (2 * length) as f64 * phase(k)).cos();
                lines.iter().enumerate().map(|(k, line)| line * cosine(k)).sum::<f64>()
            };
            let sine = |i: usize, length: usize| (PI / length as f64 * (i as f64 + 0.5)).sin();
            let mut block = [0.0; BLOCK];
            if window == Window::Short {
                for part in 0..3 {
                    let lines: [f64; 6] = from_fn(|k| lines[3 * k + part]);
                    for i in 0..12 {
                        block[6 + 6 * part + i] += sine(i, 12) * transform(&lines, i);
                    }
                }
                return block;
            }
            from_fn(|i| {
                let factor = match (window, i) {
                    (Window::Start, 18..24) | (Window::Stop, 12..18) => 1.0,
                    (Window::Start, 24..30) => sine(i - 18, 12),
                    (Window::Stop, 6..12) => sine(i - 6, 12),
                    (Window::Start, 30..) | (Window::Stop, ..6) => 0.0,
                    _ => sine(i, BLOCK),
                };
                factor * transform(lines, i)
            })
        }

        fn filter(&mut self, row: &[f64; SUBBANDS]) -> [f64; SUBBANDS] {
            let number = |i: usize| {
                let cosine = |k: usize| ((16 + i) as f64 * (2 * k + 1) as f64 * PI / 64.0).cos();
                row.iter().enumerate().map(|(k, sample)| sample * cosine(k)).sum::<f64>()
            };
            self.memory.splice(..0, (0..64).map(number));
            self.memory.truncate(1024);
            from_fn(|j| {
                let products = (0..16).map(|i| {
                    let number = self.memory[i / 2 * 128 + i % 2 * 96 + j];
                    number * f64::from(synthesis_window(j + 32 * i))
                });
                products.sum()
            })
        }
    }

    struct Run<'a>(&'a mut Transform, &'a [(&'a [f32], Blocks)], usize);

    impl WithSimd for Run<'_> {
        type Output = Vec<f32>;

        fn with_simd<S: Simd>(self, simd: S) -> Vec<f32> {
            let mut out = Vec::new();
            self.0.granule(simd, self.2, self.1, &mut out);
            out
        }
    }

    #[test]
    fn channels_with_windows_in_any_order_are_what_the_standard_says_added_up() {
        let mut random = fastrand::Rng::with_seed(13);
        for rate in [0, 4, 8] {
            let mut fast: Vec<_> = instruction_sets().into_iter().map(|arch| (arch, Transform::new())).collect();
            let mut slow = [Slow::default(), Slow::default()];
            for granule in 0..40 {
                let count = if granule % 4 == 0 { random.usize(..=LINES) } else { LINES };
                let mut channel = || {
                    let window = [Window::Normal, Window::Start, Window::Short, Window::Stop][random.usize(..4)];
                    let blocks = Blocks { window, is_mixed: random.bool() };
                    let lines: [f32; LINES] = from_fn(|at| if at < count { random.f32() - 0.5 } else { 0.0 });
                    (lines, blocks)
                };
                let channels = [channel(), channel()];
                let given = [0, 1].map(|at| (&channels[at].0[..count], channels[at].1));
                let each = [0, 1].map(|at| {
                    let (lines, blocks) = &channels[at];
                    slow[at].granule(lines, *blocks, Layout::of(rate, *blocks))
                });
                for (arch, transform) in &mut fast {
                    for (i, got) in arch.dispatch(Run(transform, &given, rate)).into_iter().enumerate() {
                        let expected = each[0][i] + each[1][i];
                        let is_close = (f64::from(got) - expected).abs() < 2e-5;
                        assert!(is_close, "{arch:?}, {granule}, {i}: {got}, not {expected}");
                    }
                }
            }
        }
    }

    #[test]
    fn lines_of_short_windows_lie_beside_each_other() {
        let layout = Layout::of(0, Blocks { window: Window::Short, is_mixed: false });
        // The second band's third window starts here; its first line is the fifth line of that window.
        assert_eq!(layout.places[4 * 3 + 4 * 2], place(3 * 4 + 2));
    }
}
