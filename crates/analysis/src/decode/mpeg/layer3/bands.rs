//! The scale-factor bands of each rate (ISO/IEC 11172-3, table B.8; 13818-3, table B.2), and the subband positions of the
//! lines in each kind of block.

use std::sync::LazyLock;

use super::side::{Blocks, LINES, Window};

/// Subbands of the polyphase filter, and lines per subband.
pub(super) const SUBBANDS: usize = 32;
pub(super) const SUBBAND_LINES: usize = LINES / SUBBANDS;

/// Maximum number of bands in a granule: 13 for each short window.
pub(super) const MAX_BANDS: usize = 39;

/// Widths of the bands of long blocks, for 44.1, 48, 32; 22.05, 24, 16; 11.025, 12 and 8 kHz.
const LONG: [[usize; 22]; 9] = [
    [4, 4, 4, 4, 4, 4, 6, 6, 8, 8, 10, 12, 16, 20, 24, 28, 34, 42, 50, 54, 76, 158],
    [4, 4, 4, 4, 4, 4, 6, 6, 6, 8, 10, 12, 16, 18, 22, 28, 34, 40, 46, 54, 54, 192],
    [4, 4, 4, 4, 4, 4, 6, 6, 8, 10, 12, 16, 20, 24, 30, 38, 46, 56, 68, 84, 102, 26],
    [6, 6, 6, 6, 6, 6, 8, 10, 12, 14, 16, 20, 24, 28, 32, 38, 46, 52, 60, 68, 58, 54],
    [6, 6, 6, 6, 6, 6, 8, 10, 12, 14, 16, 18, 22, 26, 32, 38, 46, 54, 62, 70, 76, 36],
    [6, 6, 6, 6, 6, 6, 8, 10, 12, 14, 16, 20, 24, 28, 32, 38, 46, 52, 60, 68, 58, 54],
    [6, 6, 6, 6, 6, 6, 8, 10, 12, 14, 16, 20, 24, 28, 32, 38, 46, 52, 60, 68, 58, 54],
    [6, 6, 6, 6, 6, 6, 8, 10, 12, 14, 16, 20, 24, 28, 32, 38, 46, 52, 60, 68, 58, 54],
    [12, 12, 12, 12, 12, 12, 16, 20, 24, 28, 32, 40, 48, 56, 64, 76, 90, 2, 2, 2, 2, 2],
];

/// Widths of the bands of each window in short blocks, for the same rates.
const SHORT: [[usize; 13]; 9] = [
    [4, 4, 4, 4, 6, 8, 10, 12, 14, 18, 22, 30, 56],
    [4, 4, 4, 4, 6, 6, 10, 12, 14, 16, 20, 26, 66],
    [4, 4, 4, 4, 6, 8, 12, 16, 20, 26, 34, 42, 12],
    [4, 4, 4, 6, 6, 8, 10, 14, 18, 26, 32, 42, 18],
    [4, 4, 4, 6, 8, 10, 12, 14, 18, 24, 32, 44, 12],
    [4, 4, 4, 6, 8, 10, 12, 14, 18, 24, 30, 40, 18],
    [4, 4, 4, 6, 8, 10, 12, 14, 18, 24, 30, 40, 18],
    [4, 4, 4, 6, 8, 10, 12, 14, 18, 24, 30, 40, 18],
    [8, 8, 8, 12, 16, 20, 24, 28, 36, 2, 2, 2, 26],
];

/// Number of short bands that the long bands of mixed blocks replace.
const FIRST_MIXED_SHORT: usize = 3;

/// The bands of a kind of block, in coding order: band by band, in short blocks window by window within each band.
pub(super) struct Layout {
    /// End (exclusive) of each band, in lines.
    pub(super) ends: Vec<usize>,
    /// Number of long bands; the ones after them come in threes, one per window.
    pub(super) long: usize,
    /// End of the first region if the granule does not specify it, and the number of long subbands.
    pub(super) first_region: usize,
    pub(super) long_subbands: usize,
    /// Position of each line: its index within the subband times [`SUBBANDS`], plus the subband.
    pub(super) places: [u16; LINES],
    /// Number of subbands up to the highest one, for each number of lines.
    pub(super) reach: [u8; LINES + 1],
}

/// By rate, for long, short and mixed blocks.
static LAYOUTS: LazyLock<Vec<[Layout; 3]>> =
    LazyLock::new(|| (0..9).map(|rate| [0, 1, 2].map(|kind| Layout::new(rate, kind > 0, kind == 2))).collect());

impl Layout {
    pub(super) fn of(rate: usize, blocks: Blocks) -> &'static Self {
        let kind = match blocks {
            Blocks { window: Window::Short, is_mixed: false } => 1,
            Blocks { window: Window::Short, is_mixed: true } => 2,
            _ => 0,
        };
        &LAYOUTS[rate][kind]
    }

    fn new(rate: usize, is_short: bool, is_mixed: bool) -> Self {
        let first_short = if is_mixed { FIRST_MIXED_SHORT } else { 0 };
        // These bands have as many lines as the short bands that they replace.
        let long = match (is_short, is_mixed) {
            (false, _) => LONG[rate].len(),
            (true, true) if rate < 3 => 8,
            (true, true) => 6,
            (true, false) => 0,
        };
        let mut widths = LONG[rate][..long].to_vec();
        let long_lines: usize = widths.iter().sum();
        let mut places: [u16; LINES] = std::array::from_fn(place);
        if is_short {
            let mut line = long_lines;
            for &width in &SHORT[rate][first_short..] {
                let start = line;
                for window in 0..3 {
                    widths.push(width);
                    for step in 0..width {
                        places[line] = place(start + 3 * step + window);
                        line += 1;
                    }
                }
            }
        }
        let ends = widths.iter().scan(0, |end, width| {
            *end += width;
            Some(*end)
        });
        let mut reach = [0; LINES + 1];
        for line in 0..LINES {
            reach[line + 1] = reach[line].max((places[line] as usize % SUBBANDS) as u8 + 1);
        }
        // The first nine short bands, or eight long ones.
        let of_short = SHORT[rate][..3].iter().sum::<usize>() * 3;
        let first_region = if is_short { of_short } else { LONG[rate][..8].iter().sum() };
        Self { ends: ends.collect(), long, first_region, long_subbands: long_lines / SUBBAND_LINES, places, reach }
    }
}

/// Position of a line in an ordered spectrum.
pub(super) fn place(line: usize) -> u16 {
    (line % SUBBAND_LINES * SUBBANDS + line / SUBBAND_LINES) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_has_a_place_of_its_own_in_every_kind_of_block() {
        for (rate, layouts) in LAYOUTS.iter().enumerate() {
            for (layout, bands) in layouts.iter().zip([22, 39, if rate < 3 { 38 } else { 36 }]) {
                assert_eq!((layout.ends.len(), layout.ends.last()), (bands, Some(&LINES)), "{rate}");
                let mut places = layout.places;
                places.sort_unstable();
                assert!(places.iter().enumerate().all(|(at, &place)| at == usize::from(place)), "{rate}");
                assert_eq!(layout.reach[LINES], 32);
            }
        }
    }
}
