//! AU, by Sun and NeXT: a header of six numbers, followed by sound to the end of the file.

use symphonia::core::{
    audio::Channels,
    codecs::audio::well_known::{CODEC_ID_PCM_ALAW, CODEC_ID_PCM_MULAW},
};

use super::{
    chunks::Pages,
    container::Content,
    riff::bytes_of,
    sound::{Packets, Sound, pcm},
};
use crate::AudioError;

/// Minimum header size in bytes.
const HEADER_BYTES: u32 = 24;

/// Returns the content of an AU, or none if the file is not one; it begins with `start`.
///
/// # Errors
/// When its content is unknown or cannot be decoded.
pub(super) fn open(pages: &Pages<'_>, start: &[u8]) -> Result<Option<Content>, AudioError> {
    // DEC wrote the numbers little-endian.
    let number = match start.get(..4) {
        Some(b".snd") => u32::from_be_bytes,
        Some(b"dns.") => u32::from_le_bytes,
        _ => return Ok(None),
    };
    let is_big_endian = start.starts_with(b".");
    let numbers: Vec<u32> = start[4..].as_chunks().0.iter().take(5).map(|&bytes| number(bytes)).collect();
    let [offset, said, encoding, rate, channels] = numbers[..] else {
        return Err(AudioError::Damaged("AU: its header is too short".to_owned()));
    };
    let Some(channels) = u16::try_from(channels).ok().filter(|&channels| channels > 0) else {
        return Err(AudioError::Damaged(format!("AU: it says that it has {channels} channels")));
    };
    let (bytes, codec) = match encoding {
        1 => (1, Some(CODEC_ID_PCM_MULAW)),
        27 => (1, Some(CODEC_ID_PCM_ALAW)),
        2..=5 => (encoding - 1, pcm(encoding - 1, false, is_big_endian)),
        6 => (4, pcm(4, true, is_big_endian)),
        7 => (8, pcm(8, true, is_big_endian)),
        _ => (0, None),
    };
    let Some(codec) = codec else {
        let name = match encoding {
            23 => "G.721 ADPCM".to_owned(),
            24 => "G.722".to_owned(),
            25 | 26 => "G.723 ADPCM".to_owned(),
            other => format!("the encoding {other}"),
        };
        return Err(AudioError::UnsupportedFormat(format!("{name} in AU")));
    };
    let start = u64::from(offset.max(HEADER_BYTES));
    let bytes_said = bytes_of(said.into(), start, pages.length());
    let packets = Packets::Blocks { bytes: bytes * u32::from(channels), samples: 1 };
    let channels = Channels::Discrete(channels);
    Ok(Some(Content::Sound(Sound {
        codec,
        rate,
        channels,
        packets,
        convert: None,
        extra: None,
        start,
        bytes: bytes_said,
    })))
}
