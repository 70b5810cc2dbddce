//! What a frame says of its parts, behind the header (ISO/IEC 11172-3, 2.4.1.7; 13818-3, 2.4.1.7).

use crate::decode::bits::Bits;

/// Lines of a granule's spectrum.
pub(super) const LINES: usize = 576;

/// What matters of a frame's header.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// MPEG 1, with two granules in a frame.
    pub(super) is_full_rate: bool,
    /// One of the nine rates, as [`super::bands`] has them.
    pub(super) rate: usize,
    pub(super) channels: usize,
    pub(super) is_mid_side: bool,
    pub(super) is_intensity: bool,
    pub(super) has_checksum: bool,
}

impl Header {
    /// Of a frame whose header is known to be one.
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

    /// Bytes of the side information.
    pub(super) fn side_bytes(self) -> usize {
        match (self.is_full_rate, self.channels) {
            (true, 2) => 32,
            (true, _) | (false, 2) => 17,
            (false, _) => 9,
        }
    }
}

/// How the lines of a granule become samples.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Window {
    #[default]
    Normal,
    Start,
    Short,
    Stop,
}

/// The windows of a channel's granule.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Blocks {
    pub(super) window: Window,
    /// The lowest bands have the normal window all the same.
    pub(super) is_mixed: bool,
}

/// One channel of a granule.
#[derive(Clone, Copy, Default)]
pub(super) struct Granule {
    pub(super) blocks: Blocks,
    /// Bits of its scale factors and its lines.
    pub(super) bits: usize,
    /// Lines that are coded in pairs.
    pub(super) paired: usize,
    /// In quarters of powers of two.
    pub(super) gain: i32,
    /// Which lengths the scale factors have.
    pub(super) scale_lengths: u32,
    /// Of the Huffman codes of up to three regions, and how many scale-factor bands the first two have; none where the
    /// blocks decide.
    pub(super) tables: [usize; 3],
    pub(super) region_bands: Option<[usize; 2]>,
    /// Of the short windows, in eights of quarters of powers of two.
    pub(super) window_gains: [i32; 3],
    /// The upper scale factors are larger by what the standard says.
    pub(super) has_emphasis: bool,
    /// Quarters of powers of two in a unit of the scale factors: 2 or 4.
    pub(super) scale_unit: i32,
    /// Which of the two codes for fours.
    pub(super) quad_table: usize,
    /// Whether each of four groups of scale factors is the granule's before.
    pub(super) reused: [bool; 4],
}

/// The side information of a frame.
#[derive(Default)]
pub(super) struct Side {
    /// Bytes before the frame where its data begin.
    pub(super) back: usize,
    /// By granule and channel.
    pub(super) granules: [[Granule; 2]; 2],
}

impl Side {
    /// None where it says what cannot be.
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
