//! The side information after a frame's header (ISO/IEC 11172-3, 2.4.1.7; 13818-3, 2.4.1.7).

use crate::decode::bits::Bits;

/// Spectral lines per granule.
pub(super) const LINES: usize = 576;

/// The relevant fields of a frame's header.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// MPEG 1, with two granules in a frame.
    pub(super) is_full_rate: bool,
    /// Index of the rate among the nine in [`super::bands`].
    pub(super) rate: usize,
    pub(super) channels: usize,
    pub(super) is_mid_side: bool,
    pub(super) is_intensity: bool,
    pub(super) has_checksum: bool,
}

impl Header {
    /// Reads the header of a frame. The caller has checked that it is valid.
    pub(super) fn of(frame: [u8; 4]) -> Self {
        let [_, version, rate, mode] = frame;
        let (generation, is_joint) = ([2, 2, 1, 0][usize::from(version >> 3 & 3)], mode >> 6 == 1);
        Self {
            is_full_rate: generation == 0,
            rate: 3 * generation + usize::from(rate >> 2 & 3).min(2),
            channels: if mode >> 6 == 3 { 1 } else { 2 },
            is_mid_side: is_joint && mode & 0x20 != 0,
            is_intensity: is_joint && mode & 0x10 != 0,
            has_checksum: version & 1 == 0,
        }
    }

    pub(super) fn granules(self) -> usize {
        if self.is_full_rate { 2 } else { 1 }
    }

    /// Length of the side information in bytes.
    pub(super) fn side_bytes(self) -> usize {
        match (self.is_full_rate, self.channels) {
            (true, 2) => 32,
            (true, _) | (false, 2) => 17,
            (false, _) => 9,
        }
    }
}

/// The kind of window that turns a granule's lines into samples.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Window {
    #[default]
    Normal,
    Start,
    Short,
    Stop,
}

/// The windows of one channel in a granule.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Blocks {
    pub(super) window: Window,
    /// The lowest bands use the normal window.
    pub(super) is_mixed: bool,
}

/// One channel of a granule.
#[derive(Clone, Copy, Default)]
pub(super) struct Granule {
    pub(super) blocks: Blocks,
    /// Bits taken by its scale factors and lines.
    pub(super) bits: usize,
    /// Number of lines coded in pairs.
    pub(super) paired: usize,
    /// Global gain, in quarters of powers of two.
    pub(super) gain: i32,
    /// Code for the bit lengths of the scale factors.
    pub(super) scale_lengths: u32,
    /// Huffman table numbers of up to three regions, and the number of scale-factor bands in the first two regions; none
    /// if the block type determines them.
    pub(super) tables: [usize; 3],
    pub(super) region_bands: Option<[usize; 2]>,
    /// Gains of the short windows; a unit is eight quarters of powers of two.
    pub(super) window_gains: [i32; 3],
    /// The standard's emphasis is added to the upper scale factors.
    pub(super) has_emphasis: bool,
    /// Quarters of powers of two per unit of the scale factors: 2 or 4.
    pub(super) scale_unit: i32,
    /// Index of the code used for fours.
    pub(super) quad_table: usize,
    /// For each of four groups of scale factors, whether the previous granule's are reused.
    pub(super) reused: [bool; 4],
}

/// The side information of a frame.
#[derive(Default)]
pub(super) struct Side {
    /// Distance in bytes from the frame back to the start of its data.
    pub(super) back: usize,
    /// Indexed by granule and channel.
    pub(super) granules: [[Granule; 2]; 2],
}

impl Side {
    /// None if a value is impossible.
    pub(super) fn parse(bytes: &[u8], header: Header) -> Option<Self> {
        let (mut bits, mut side) = (Bits::new(bytes), Self::default());
        let (full, channels) = (header.is_full_rate, header.channels);
        side.back = bits.take(if full { 9 } else { 8 }) as usize;
        // Private bits.
        bits.at += match (full, channels) {
            (true, 1) => 5,
            (true, _) => 3,
            (false, channels) => channels,
        };
        if full {
            for channel in 0..channels {
                side.granules[1][channel].reused = std::array::from_fn(|_| bits.flag());
            }
        }
        for granule in &mut side.granules[..header.granules()] {
            for (channel, granule) in granule[..channels].iter_mut().enumerate() {
                granule.read(&mut bits, full)?;
                if !full {
                    let has_positions = channel == 1 && header.is_intensity;
                    granule.has_emphasis = granule.scale_lengths >= 500 && !has_positions;
                }
            }
        }
        Some(side)
    }
}

impl Granule {
    fn read(&mut self, bits: &mut Bits, is_full_rate: bool) -> Option<()> {
        self.bits = bits.take(12) as usize;
        self.paired = 2 * bits.take(9) as usize;
        if self.paired > LINES {
            return None;
        }
        self.gain = bits.take(8) as i32 - 210;
        self.scale_lengths = bits.take(if is_full_rate { 4 } else { 9 });
        let table = |bits: &mut Bits| bits.take(5) as usize;
        if bits.flag() {
            self.blocks.window = match bits.take(2) {
                1 => Window::Start,
                2 => Window::Short,
                3 => Window::Stop,
                _ => return None,
            };
            self.blocks.is_mixed = bits.flag();
            self.tables = [table(bits), table(bits), 0];
            self.window_gains = std::array::from_fn(|_| bits.take(3) as i32);
        } else {
            self.tables = std::array::from_fn(|_| table(bits));
            self.region_bands = Some([bits.take(4) as usize + 1, bits.take(3) as usize + 1]);
        }
        self.has_emphasis = is_full_rate && bits.flag();
        self.scale_unit = if bits.flag() { 4 } else { 2 };
        self.quad_table = bits.take(1) as usize;
        Some(())
    }
}
