//! An info frame in place of the first music frame describes the others: the headers of Xing, LAME and Fraunhofer.

use super::header::{HEADER_BYTES, Header};

/// Samples by which a layer 3 decoder lags. LAME's numbers do not include them.
const DECODER_DELAY: u64 = 529;

/// Content of an info frame.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Info {
    /// Number of music frames.
    pub(super) frames: Option<u64>,
    /// Their total size in bytes.
    bytes: Option<u64>,
    /// Samples per channel before and after the music.
    pub(super) delay: u64,
    pub(super) padding: u64,
}

impl Info {
    /// Parses an info frame; none if the frame is music.
    pub(super) fn parse(frame: &[u8], header: &Header) -> Option<Self> {
        // The header follows the side information (ISO/IEC 11172-3, 2.4.1.7), whose length is counted without a CRC.
        let side = match (header.kind.is_full_rate, header.is_mono) {
            (true, false) => 32,
            (true, true) | (false, false) => 17,
            (false, true) => 9,
        };
        Self::xing(frame.get(HEADER_BYTES + side..)?).or_else(|| Self::vbri(frame.get(HEADER_BYTES + 32..)?))
    }

    fn xing(bytes: &[u8]) -> Option<Self> {
        let rest = bytes.strip_prefix(b"Xing").or_else(|| bytes.strip_prefix(b"Info"))?;
        let (flags, mut rest) = rest.split_first_chunk().map(|(flags, rest)| (u32::from_be_bytes(*flags), rest))?;
        let mut number = |flag: u32| {
            let (number, after) = rest.split_first_chunk().filter(|_| flags & flag != 0)?;
            rest = after;
            Some(u64::from(u32::from_be_bytes(*number)))
        };
        let (frames, bytes) = (number(1), number(2));
        // Seek positions for each per cent of the music, and the quality.
        let lame = rest.get(if flags & 4 != 0 { 100 } else { 0 } + if flags & 8 != 0 { 4 } else { 0 }..);
        let (delay, padding) = lame.and_then(lame_trim).unwrap_or_default();
        Some(Self { frames, bytes, delay, padding })
    }

    fn vbri(bytes: &[u8]) -> Option<Self> {
        let fields: &[u8; 14] = bytes.strip_prefix(b"VBRI")?.first_chunk()?;
        let number = |at: usize| {
            Some(u64::from(u32::from_be_bytes([fields[at], fields[at + 1], fields[at + 2], fields[at + 3]])))
        };
        Some(Self { frames: number(10), bytes: number(6), ..Self::default() })
    }

    /// Number of music frames, if plausible: they must fit into the declared number of bytes, or if none is declared,
    /// into the bytes that follow.
    pub(super) fn believable_frames(&self, header: &Header, follow: Option<u64>) -> Option<u64> {
        let bytes = self.bytes.filter(|&bytes| bytes > 0).or(follow);
        let most = bytes.map_or(u64::MAX, |bytes| bytes / header.least_bytes().max(1));
        self.frames.filter(|&frames| frames > 0 && frames <= most)
    }
}

/// Samples before and after the music, from LAME's extension of the header, which FFmpeg also writes.
fn lame_trim(bytes: &[u8]) -> Option<(u64, u64)> {
    let is_known = [b"LAME", b"Lavf", b"Lavc"].iter().any(|name| bytes.starts_with(*name));
    let &[a, b, c] = bytes.get(21..24).filter(|_| is_known)? else { return None };
    let (delay, padding) = (u64::from(a) << 4 | u64::from(b) >> 4, u64::from(b & 15) << 8 | u64::from(c));
    Some((delay + DECODER_DELAY, padding.saturating_sub(DECODER_DELAY)))
}
