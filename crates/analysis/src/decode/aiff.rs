//! AIFF and AIFF-C (Apple, "Audio Interchange File Format", versions 1.3 and C).

use symphonia::core::{
    audio::Channels,
    codecs::audio::well_known::{CODEC_ID_ADPCM_IMA_QT, CODEC_ID_PCM_ALAW, CODEC_ID_PCM_MULAW, CODEC_ID_PCM_U8},
};

use super::{
    chunks::{Chunks, Pages, Style},
    container::Content,
    core_audio,
    riff::bytes_of,
    sound::{Packets, Sound, pcm, rate},
};
use crate::AudioError;

/// Bytes of `COMM` that are read, without the name of the compression.
const COMMON_BYTES: usize = 22;

/// Bytes and samples in a block of QuickTime's IMA ADPCM for one channel.
pub(super) const IMA_BLOCK: (u32, u32) = (34, 64);

/// Returns the content of an AIFF, or none if the file is not one; it begins with `start`.
///
/// # Errors
/// When the file cannot be read, or its content is unknown or cannot be decoded.
pub(super) fn open(pages: &Pages<'_>, start: &[u8]) -> Result<Option<Content>, AudioError> {
    let (Some(b"FORM"), Some(b"AIFF" | b"AIFC")) = (start.get(..4), start.get(8..12)) else { return Ok(None) };
    let damaged = |what: &str| AudioError::Damaged(format!("AIFF: {what}"));
    let mut chunks = Chunks::new(pages, Style::Form, 12, &[b"COMM", b"SSND"]);
    let (mut common, mut sound, mut layout) = (None, None, Vec::new());
    while common.is_none() || sound.is_none() {
        let Some(chunk) = chunks.next()? else { break };
        match &chunk.name {
            b"COMM" => common = Some(pages.read(chunk.start, COMMON_BYTES)?),
            b"CHAN" => layout = pages.read(chunk.start, core_audio::MAX_LAYOUT_BYTES)?,
            b"SSND" => sound = Some(chunk),
            _ => {}
        }
    }
    let common = common.ok_or_else(|| damaged("it has no 'COMM' chunk"))?;
    let sound = sound.ok_or_else(|| damaged("it has no 'SSND' chunk"))?;
    let (channels, bits, hertz) = read(&common).ok_or_else(|| damaged("its 'COMM' chunk is too short"))?;
    let compression = if start.get(8..12) == Some(b"AIFC") { common.get(18..22).unwrap_or(b"NONE") } else { b"NONE" };
    if channels == 0 {
        return Err(damaged("it has no channels"));
    }
    let plain = |is_float, is_big_endian, bytes: u32| {
        Some((pcm(bytes, is_float, is_big_endian)?, Packets::Blocks { bytes: bytes * u32::from(channels), samples: 1 }))
    };
    // Samples fill the upper bits of the smallest sufficient number of bytes.
    let needed = u32::from(bits.div_ceil(8));
    let byte = || Packets::Blocks { bytes: channels.into(), samples: 1 };
    let coded = match compression.to_ascii_lowercase().as_slice() {
        b"none" | b"twos" => plain(false, true, needed),
        b"sowt" => plain(false, false, needed),
        b"in16" => plain(false, true, 2),
        b"in24" => plain(false, true, 3),
        b"in32" => plain(false, true, 4),
        b"42ni" | b"42n1" => plain(false, false, 3),
        b"23ni" => plain(false, false, 4),
        b"fl32" => plain(true, true, 4),
        b"fl64" => plain(true, true, 8),
        b"raw " => Some((CODEC_ID_PCM_U8, byte())),
        b"alaw" => Some((CODEC_ID_PCM_ALAW, byte())),
        b"ulaw" => Some((CODEC_ID_PCM_MULAW, byte())),
        b"ima4" => {
            let (bytes, samples) = IMA_BLOCK;
            Some((CODEC_ID_ADPCM_IMA_QT, Packets::Blocks { bytes: bytes * u32::from(channels), samples }))
        }
        _ => None,
    };
    let Some((codec, packets)) = coded else {
        let name = String::from_utf8_lossy(compression);
        return Err(AudioError::UnsupportedFormat(format!("'{}' of {bits} bits in AIFF", name.trim())));
    };
    // The offset of the first sample after the chunk's own header, and the number of bytes.
    let offset = pages.read(sound.start, 4)?.first_chunk().map_or(0, |&bytes| u32::from_be_bytes(bytes));
    let begin = 8 + u64::from(offset);
    let said = sound.length.saturating_sub(begin);
    let begin = if sound.length > 8 && begin > sound.length { 8 } else { begin };
    let start = sound.start.saturating_add(begin);
    let bytes = bytes_of(said, start, pages.length());
    let channels = core_audio::channels(&layout, channels).unwrap_or(Channels::Discrete(channels));
    let rate = rate(hertz);
    Ok(Some(Content::Sound(Sound { codec, rate, channels, packets, convert: None, extra: None, start, bytes })))
}

/// Reads channels, bits per sample and the rate in Hz from `COMM`.
fn read(common: &[u8]) -> Option<(u16, u16, f64)> {
    let channels = u16::from_be_bytes(*common.first_chunk()?);
    let bits = u16::from_be_bytes(*common.get(6..)?.first_chunk()?);
    // An 80-bit number (IEEE 754, extended): the exponent's bias is 16 383; the significand has 63 bits after its point.
    let exponent = u16::from_be_bytes(*common.get(8..)?.first_chunk()?);
    let significand = u64::from_be_bytes(*common.get(10..)?.first_chunk()?);
    Some((channels, bits, significand as f64 * 2f64.powi(i32::from(exponent & 0x7FFF) - 16_383 - 63)))
}
