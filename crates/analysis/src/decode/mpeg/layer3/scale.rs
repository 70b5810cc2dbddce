//! Scale factors, and the gain of each band (ISO/IEC 11172-3, 2.4.2.7 and 2.4.3.4.7; 13818-3, 2.4.3.2).

use std::sync::LazyLock;

use super::{
    bands::{Layout, MAX_BANDS},
    side::{Granule, Header, Window},
};
use crate::decode::bits::Bits;

/// Bit lengths of the lower and the upper scale factors of MPEG 1.
const LENGTHS: [[usize; 2]; 16] = [
    [0, 0],
    [0, 1],
    [0, 2],
    [0, 3],
    [3, 0],
    [1, 1],
    [1, 2],
    [1, 3],
    [2, 1],
    [2, 2],
    [2, 3],
    [3, 1],
    [3, 2],
    [3, 3],
    [4, 2],
    [4, 3],
];

/// Numbers of scale factors in the four length groups, for long, short and mixed blocks at the lower rates.
const COUNTS: [[[usize; 4]; 3]; 3] = [
    [[6, 5, 5, 5], [9, 9, 9, 9], [6, 9, 9, 9]],
    [[6, 5, 7, 3], [9, 9, 12, 6], [6, 9, 12, 6]],
    [[11, 10, 0, 0], [18, 18, 0, 0], [15, 18, 0, 0]],
];

/// The same for the right channel of intensity stereo.
const INTENSITY_COUNTS: [[[usize; 4]; 3]; 3] = [
    [[7, 7, 7, 0], [12, 12, 12, 0], [6, 15, 12, 0]],
    [[6, 6, 6, 3], [12, 9, 9, 6], [6, 12, 9, 6]],
    [[8, 8, 5, 0], [15, 12, 9, 0], [6, 18, 9, 0]],
];

/// Added to the scale factors of long blocks if the granule has emphasis.
const EMPHASIS: [u8; 22] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 3, 3, 3, 2, 0];

/// The smallest gain, in quarters of powers of two: offset 210, largest scale factors and window gains.
const LEAST_GAIN: i32 = -210 - 4 * (31 + 3) - 8 * 7;

/// The largest gain.
const MOST_GAIN: i32 = 255 - 210;

/// 2^(gain/4), starting at [`LEAST_GAIN`].
static GAINS: LazyLock<Vec<f32>> =
    LazyLock::new(|| (LEAST_GAIN..=MOST_GAIN).map(|gain| (f64::from(gain) / 4.0).exp2() as f32).collect());

/// 2^(quarters/4)
pub(super) fn power(quarters: i32) -> f32 {
    GAINS[(quarters - LEAST_GAIN) as usize]
}

/// A channel's scale factors; the highest bands have none and stay 0.
#[derive(Clone, Copy)]
pub(super) struct Factors {
    pub(super) values: [u8; MAX_BANDS],
    /// From this value on, a factor is not a valid intensity stereo position.
    pub(super) limits: [u8; MAX_BANDS],
}

impl Default for Factors {
    fn default() -> Self {
        Self { values: [0; MAX_BANDS], limits: [7; MAX_BANDS] }
    }
}

impl Factors {
    /// Reads a granule's scale factors; `self` holds those of the previous granule.
    pub(super) fn read(&mut self, bits: &mut Bits, header: Header, granule: &Granule, is_right: bool) {
        let kind = match (granule.blocks.window, granule.blocks.is_mixed) {
            (Window::Short, false) => 1,
            (Window::Short, true) => 2,
            _ => 0,
        };
        let (lengths, counts) = if header.is_full_rate {
            let [lower, upper] = LENGTHS[granule.scale_lengths as usize];
            let counts = [[6, 5, 5, 5], [9, 9, 9, 9], [8, 9, 9, 9]][kind];
            ([lower, lower, upper, upper], counts)
        } else {
            let (lengths, case, counts) = lower_rate(granule.scale_lengths as usize, is_right && header.is_intensity);
            (lengths, counts[case][kind])
        };
        let mut at = 0;
        for ((length, count), is_reused) in lengths.into_iter().zip(counts).zip(granule.reused) {
            let group = at..at + count;
            at += count;
            if is_reused && kind == 0 {
                continue;
            }
            for value in &mut self.values[group.clone()] {
                *value = if length > 0 { bits.take(length) as u8 } else { 0 };
            }
            if !header.is_full_rate {
                self.limits[group].fill(((1u8 << length) - 1).max(1));
            }
        }
        self.values[at..].fill(0);
    }

    /// The gain of each band's lines.
    pub(super) fn gains(&self, granule: &Granule, layout: &Layout) -> [f32; MAX_BANDS] {
        let mut gains = [0.0; MAX_BANDS];
        for (band, gain) in gains[..layout.ends.len()].iter_mut().enumerate() {
            let (mut factor, mut quarters) = (i32::from(self.values[band]), granule.gain);
            if band >= layout.long {
                quarters -= 8 * granule.window_gains[(band - layout.long) % 3];
            } else if granule.has_emphasis && granule.blocks.window != Window::Short {
                factor += i32::from(EMPHASIS[band]);
            }
            *gain = power(quarters - granule.scale_unit * factor);
        }
        gains
    }
}

/// Lengths of the four groups of scale factors at the lower rates, and the number of factors in each.
fn lower_rate(code: usize, is_intensity: bool) -> ([usize; 4], usize, &'static [[[usize; 4]; 3]; 3]) {
    let (lengths, case) = if is_intensity {
        match code / 2 {
            code @ 0..180 => ([code / 36, code % 36 / 6, code % 6, 0], 0),
            code @ 180..244 => ([(code - 180) / 16, (code - 180) / 4 % 4, (code - 180) % 4, 0], 1),
            code => ([(code - 244) / 3, (code - 244) % 3, 0, 0], 2),
        }
    } else {
        match code {
            0..400 => ([code / 80, code / 16 % 5, code / 4 % 4, code % 4], 0),
            400..500 => ([(code - 400) / 20, (code - 400) / 4 % 5, (code - 400) % 4, 0], 1),
            _ => ([(code - 500) / 3, (code - 500) % 3, 0, 0], 2),
        }
    };
    (lengths, case, if is_intensity { &INTENSITY_COUNTS } else { &COUNTS })
}
