//! The four-byte header of every frame (ISO/IEC 11172-3, 2.4.2.3).

use super::super::sync::FrameHeader;

/// Bytes of a frame's header.
pub(super) const HEADER_BYTES: usize = 4;

/// Maximum length of a frame in free format: LAME's maximum of 640 kbit/s at 44.1 kHz takes 2090 bytes.
const MAX_FREE_FRAME_BYTES: usize = 2_304;

/// Fields of a frame's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    pub(super) rate: u32,
    pub(super) is_mono: bool,
    /// Free format: the header does not contain the frame's length; it follows from the next frames.
    pub(super) is_free: bool,
    /// Length of the whole frame.
    pub(super) bytes: usize,
    /// Samples per channel.
    pub(super) samples: usize,
}

/// Version and layer: like the rate, they stay the same from frame to frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kind {
    /// MPEG 1, whose rates are not halved.
    pub(super) is_full_rate: bool,
    pub(super) layer: u8,
}

impl FrameHeader for Header {
    const MARK: u8 = 0xFF;

    /// The longest frame: layer 2 at 160 kbit/s and 8 kHz.
    const MAX_FRAME_BYTES: usize = 2_881;

    fn parse(bytes: &[u8]) -> Option<Self> {
        const FULL: [[u32; 14]; 3] = [
            [32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448],
            [32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384],
            [32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320],
        ];
        const HALF: [[u32; 14]; 2] = [
            [32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256],
            [8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160],
        ];
        let &[0xFF, sync, rates, mode, ..] = bytes else { return None };
        if sync & 0xE0 != 0xE0 || mode & 3 == 2 {
            return None;
        }
        let halvings = match sync >> 3 & 3 {
            0 => 2,
            2 => 1,
            3 => 0,
            _ => return None,
        };
        let layer = match sync >> 1 & 3 {
            0 => return None,
            code => 4 - code,
        };
        let is_full_rate = halvings == 0;
        let of_layer = usize::from(layer) - 1;
        let kilobits = if is_full_rate { &FULL[of_layer] } else { &HALF[of_layer.min(1)] };
        let kilobits = match rates >> 4 {
            0 => None,
            code => Some(*kilobits.get(usize::from(code) - 1)?),
        };
        let rate = [44_100, 48_000, 32_000].get(usize::from(rates >> 2 & 3))? >> halvings;
        let padding = usize::from(rates >> 1 & 1);
        let samples = match layer {
            1 => 384,
            3 if !is_full_rate => 576,
            _ => 1152,
        };
        // Layer 1 counts in slots of four bytes.
        let bytes = match (kilobits, layer) {
            (None, _) => free_bytes(bytes, if layer == 1 { 4 } else { 1 })?,
            (Some(kilobits), 1) => ((12_000 * kilobits / rate) as usize + padding) * 4,
            (Some(kilobits), _) => (samples as u32 / 8 * 1_000 * kilobits / rate) as usize + padding,
        };
        let (kind, is_mono, is_free) = (Kind { is_full_rate, layer }, mode >> 6 == 3, kilobits.is_none());
        Some(Self { kind, rate, is_mono, is_free, bytes, samples })
    }

    fn bytes(&self) -> usize {
        self.bytes
    }

    fn goes_on_as(&self, other: &Self) -> bool {
        (self.kind, self.rate, self.is_free) == (other.kind, other.rate, other.is_free)
    }
}

/// Length of the frame in free format at the start of `bytes`: the distance at which a second frame follows, and a third
/// at the same distance again, adjusted for `padding` bytes.
fn free_bytes(bytes: &[u8], padding: usize) -> Option<usize> {
    let fixed = |at: usize| bytes.get(at..)?.first_chunk().map(|&[a, b, c, _]| ([a, b, c & 0xFC], c >> 1 & 1));
    let (first, first_padding) = fixed(0)?;
    (HEADER_BYTES..MAX_FREE_FRAME_BYTES).find(|&at| {
        let Some((_, next_padding)) = fixed(at).filter(|(next, _)| *next == first) else { return false };
        let third = 2 * at + usize::from(next_padding) * padding - usize::from(first_padding) * padding;
        fixed(third).is_none_or(|(third, _)| third == first)
    })
}

impl Header {
    /// Length of the shortest frame of this kind and rate.
    pub(super) fn least_bytes(&self) -> u64 {
        let kilobits = if self.kind.is_full_rate || self.kind.layer == 1 { 32 } else { 8 };
        self.samples as u64 / 8 * 1_000 * kilobits / u64::from(self.rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_as_long_as_the_standard_says() {
        for (header, bytes, samples, rate) in [
            // Layer 3 of MPEG 1 at 128 kbit/s and 44.1 kHz, without and with padding.
            ([0xFF, 0xFB, 0x90, 0x00], 417, 1152, 44_100),
            ([0xFF, 0xFB, 0x92, 0x00], 418, 1152, 44_100),
            // MPEG 2 at 64 kbit/s and 22.05 kHz, MPEG 2.5 at 8 kbit/s and 8 kHz.
            ([0xFF, 0xF3, 0x80, 0x00], 208, 576, 22_050),
            ([0xFF, 0xE3, 0x18, 0x00], 72, 576, 8_000),
            // Layer 2 at 192 kbit/s and 48 kHz, and the longest frame of all.
            ([0xFF, 0xFD, 0xA4, 0x00], 576, 1152, 48_000),
            ([0xFF, 0xE5, 0xEA, 0x00], Header::MAX_FRAME_BYTES, 1152, 8_000),
            // Layer 1 at 384 kbit/s and 44.1 kHz.
            ([0xFF, 0xFF, 0xC0, 0x00], 416, 384, 44_100),
        ] {
            let parsed = Header::parse(&header).unwrap();
            assert_eq!((parsed.bytes, parsed.samples, parsed.rate), (bytes, samples, rate), "{header:x?}");
        }
        // ADTS, a reserved version, free format without another frame, a reserved bit rate and rate and emphasis.
        for header in [
            [0xFF, 0xF1, 0x50, 0x80],
            [0xFF, 0xEB, 0x90, 0x00],
            [0xFF, 0xFB, 0x00, 0x00],
            [0xFF, 0xFB, 0xF0, 0x00],
            [0xFF, 0xFB, 0x9C, 0x00],
            [0xFF, 0xFB, 0x90, 0x02],
        ] {
            assert_eq!(Header::parse(&header), None, "{header:x?}");
        }
    }

    #[test]
    fn frames_of_free_format_are_as_long_as_they_are_apart() {
        let frame = |padding: u8| {
            let mut frame = vec![0; 1_000 + usize::from(padding)];
            frame[..4].copy_from_slice(&[0xFF, 0xFB, padding << 1, 0x00]);
            // As if cut from the middle of music.
            frame[300..304].copy_from_slice(&[0xFF, 0xFB, 0x02, 0x00]);
            frame
        };
        for (paddings, expected) in [([0, 1, 0], 1_000), ([1, 0, 0], 1_001), ([1, 1, 0], 1_001)] {
            let bytes = paddings.map(frame).concat();
            let header = Header::parse(&bytes).unwrap();
            assert_eq!((header.bytes, header.is_free), (expected, true), "{paddings:?}");
        }
    }
}
