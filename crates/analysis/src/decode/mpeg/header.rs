//! The four bytes that every frame begins with (ISO/IEC 11172-3, 2.4.2.3).

/// Bytes of a frame's header.
pub(super) const HEADER_BYTES: usize = 4;

/// Bytes of the longest frame: layer 2 at 160 kbit/s and 8 kHz.
pub(super) const MAX_FRAME_BYTES: usize = 2_881;

/// What a frame says of itself. Free format, whose frames do not say how long they are, is no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    pub(super) rate: u32,
    pub(super) is_mono: bool,
    /// The whole frame.
    pub(super) bytes: usize,
    /// A channel.
    pub(super) samples: usize,
}

/// What stays the same from frame to frame but for the rate: version and layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kind {
    /// MPEG 1, whose rates are not halved.
    pub(super) is_full_rate: bool,
    pub(super) layer: u8,
}

impl Header {
    /// The header that the bytes begin with.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
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
        let kilobits = *kilobits.get(usize::from(rates >> 4).checked_sub(1)?)?;
        let rate = [44_100, 48_000, 32_000].get(usize::from(rates >> 2 & 3))? >> halvings;
        let padding = usize::from(rates >> 1 & 1);
        let samples = match layer {
            1 => 384,
            3 if !is_full_rate => 576,
            _ => 1152,
        };
        // Layer 1 counts in slots of four bytes.
        let bytes = match layer {
            1 => ((12_000 * kilobits / rate) as usize + padding) * 4,
            _ => (samples as u32 / 8 * 1_000 * kilobits / rate) as usize + padding,
        };
        Some(Self { kind: Kind { is_full_rate, layer }, rate, is_mono: mode >> 6 == 3, bytes, samples })
    }

    /// Whether a frame may follow this one without being another stream's.
    pub(super) fn goes_on_as(&self, other: &Self) -> bool {
        (self.kind, self.rate) == (other.kind, other.rate)
    }

    /// Bytes of the shortest frame of this kind and rate.
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
            // Layer 2 at 192 kbit/s and 48 kHz, and the longest of all.
            ([0xFF, 0xFD, 0xA4, 0x00], 576, 1152, 48_000),
            ([0xFF, 0xE5, 0xEA, 0x00], MAX_FRAME_BYTES, 1152, 8_000),
            // Layer 1 at 384 kbit/s and 44.1 kHz.
            ([0xFF, 0xFF, 0xC0, 0x00], 416, 384, 44_100),
        ] {
            let parsed = Header::parse(&header).unwrap();
            assert_eq!((parsed.bytes, parsed.samples, parsed.rate), (bytes, samples, rate), "{header:x?}");
        }
        // ADTS, a reserved version, free format, a reserved bit rate and rate and emphasis.
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
}
