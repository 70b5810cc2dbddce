//! The WAVE family: RIFF, RIFX, RF64 and BW64 (EBU Tech 3306, ITU-R BS.2088), Sony Wave64.
//!
//! Sizes in headers are trusted only if the file confirms them. Programs that could not seek back leave a placeholder;
//! then the sound continues to the end of the file.

use symphonia::core::{
    audio::{Channels, Position},
    codecs::audio::{
        AudioCodecId,
        well_known::{
            CODEC_ID_ADPCM_IMA_WAV, CODEC_ID_ADPCM_MS, CODEC_ID_PCM_ALAW, CODEC_ID_PCM_MULAW, CODEC_ID_PCM_U8,
        },
    },
};

use super::{
    chunks::{Chunk, Chunks, Pages, Style},
    container::Content,
    sound::{Packets, Sound, pcm},
    spdif,
};
use crate::AudioError;

/// Bytes of `fmt ` that are read: `WAVEFORMATEXTENSIBLE`.
const MAX_FORMAT_BYTES: usize = 40;

/// Bytes of `ds64` that are read: the sizes, and a table of further sizes for 64 chunks.
const MAX_SIZES_BYTES: usize = 28 + 64 * 12;

/// Maximum distance of a placeholder from 2³¹ or 2³²: programs subtract what they have written, or round down to blocks.
const PLACEHOLDER_MARGIN_BYTES: u64 = 1 << 16;

/// The last twelve bytes of a subformat GUID whose first four hold a format tag (`KSDATAFORMAT_SUBTYPE_WAVEFORMATEX`).
const TAG_SUBFORMAT: [u8; 12] = [0, 0, 0x10, 0, 0x80, 0, 0, 0xAA, 0, 0x38, 0x9B, 0x71];

/// The same for an ambisonic sound field (`KSDATAFORMAT_SUBTYPE_AMBISONIC_B_FORMAT_PCM`).
const AMBISONIC_SUBFORMAT: [u8; 12] = [0x21, 7, 0xD3, 0x11, 0x86, 0x44, 0xC8, 0xC1, 0xCA, 0, 0, 0];

/// The GUID of Wave64's first chunk, as the standard writes it, and the start of the form's GUID after the length.
const WAVE64: [u8; 16] = *b"riff\x2E\x91\xCF\x11\xA5\xD6\x28\xDB\x04\xC1\x00\x00";
const WAVE64_FORM: [u8; 4] = *b"wave";

/// Returns the content of a file of this family, or none if the file is not one; it begins with `start`.
///
/// # Errors
/// When the file cannot be read, or its content is unknown or cannot be decoded.
pub(super) fn open(pages: &Pages<'_>, start: &[u8]) -> Result<Option<Content>, AudioError> {
    let name = start.get(..4).unwrap_or_default();
    let form = start.get(8..12).unwrap_or_default();
    let (style, at) = match (name, form) {
        (b"RIFF" | b"RF64" | b"BW64", b"WAVE") => (Style::Riff, 12),
        (b"RIFX", b"WAVE") => (Style::Form, 12),
        // MP3 with only a RIFF header before it.
        (b"RIFF", b"RMP3") => (Style::Riff, 12),
        _ if start.starts_with(&WAVE64) && start.get(24..28) == Some(&WAVE64_FORM) => (Style::Wave64, 40),
        _ => return Ok(None),
    };
    let mut chunks = Chunks::new(pages, style, at, &[b"fmt ", b"data", b"ds64"]);
    let (mut format, mut data, mut long_data) = (None, None, None);
    while format.is_none() || data.is_none() {
        let Some(chunk) = chunks.next()? else { break };
        match &chunk.name {
            b"fmt " if format.is_none() => {
                format = Format::read(&pages.read(chunk.start, length(&chunk, MAX_FORMAT_BYTES))?, style);
            }
            b"data" if data.is_none() => {
                let is_empty = chunk.length == 0 && chunks.are_all_from(chunk.start)?;
                data = (!is_empty).then_some(chunk);
            }
            b"ds64" => {
                let sizes = pages.read(chunk.start, length(&chunk, MAX_SIZES_BYTES))?;
                long_data = sizes.get(8..16).and_then(|size| size.first_chunk()).map(|&size| u64::from_le_bytes(size));
                let table = sizes.get(28..).unwrap_or_default().as_chunks::<12>().0;
                chunks.lengths.extend(table.iter().map(|entry| {
                    let [a, b, c, d, size @ ..] = *entry;
                    ([a, b, c, d], u64::from_le_bytes(size))
                }));
            }
            _ => {}
        }
    }
    if form == b"RMP3" {
        let start = data.map_or(at, |data| data.start);
        return Ok(Some(Content::Inside { start, bytes: None, bytes_per_second: 0 }));
    }
    let format = format.ok_or_else(|| AudioError::Damaged("WAV: it has no usable 'fmt ' chunk".to_owned()))?;
    let data = data.ok_or_else(|| AudioError::Damaged("WAV: it has no 'data' chunk".to_owned()))?;
    let said = if data.length == u64::from(u32::MAX) { long_data.unwrap_or(data.length) } else { data.length };
    format.content(pages, data.start, bytes_of(said, data.start, pages.length())).map(Some)
}

fn length(chunk: &Chunk, most: usize) -> usize {
    usize::try_from(chunk.length).map_or(most, |length| length.min(most))
}

/// The number of bytes of sound declared by a header; none for 0 and for placeholders.
pub(super) fn bytes_of(said: u64, start: u64, length: u64) -> Option<u64> {
    let near = |power: u64| said.abs_diff(power) <= PLACEHOLDER_MARGIN_BYTES;
    let is_placeholder = near(1 << 31) || near(1 << 32) || said >= 1 << 62;
    // An unknown file length is the largest number.
    let is_missing = start.saturating_add(said) > length || length == u64::MAX;
    (said > 0 && !(is_placeholder && is_missing)).then_some(said)
}

/// Fields of `fmt ` (`WAVEFORMATEX` and its extension).
struct Format {
    tag: u16,
    channels: u16,
    rate: u32,
    bytes_per_second: u32,
    block: u16,
    bits: u16,
    /// Speakers, one bit each.
    mask: u32,
    is_sound_field: bool,
    is_big_endian: bool,
}

impl Format {
    /// None if the chunk is too short or holds no valid format.
    fn read(bytes: &[u8], style: Style) -> Option<Self> {
        let is_big_endian = style == Style::Form;
        let u16_at = |at: usize| {
            let bytes = *bytes.get(at..)?.first_chunk()?;
            Some(if is_big_endian { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
        };
        let u32_at = |at: usize| {
            let bytes = *bytes.get(at..)?.first_chunk()?;
            Some(if is_big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
        };
        let mut format = Self {
            tag: u16_at(0)?,
            channels: u16_at(2)?,
            rate: u32_at(4)?,
            bytes_per_second: u32_at(8)?,
            block: u16_at(12)?,
            // The first version of the chunk ends before this field.
            bits: u16_at(14).unwrap_or(0),
            mask: 0,
            is_sound_field: false,
            is_big_endian,
        };
        if format.tag == EXTENSIBLE {
            format.mask = u32_at(20)?;
            format.tag = u16_at(24)?;
            // If the chunk ends early, only the tag decides.
            format.is_sound_field = bytes.get(28..40) == Some(&AMBISONIC_SUBFORMAT);
            let is_known = bytes.get(28..40).is_none_or(|rest| rest == TAG_SUBFORMAT || rest == AMBISONIC_SUBFORMAT);
            if !is_known {
                format.tag = EXTENSIBLE;
            }
        }
        (format.channels > 0 && format.rate > 0).then_some(format)
    }

    /// Describes the sound at `start`; `bytes` is its size, if known.
    fn content(&self, pages: &Pages<'_>, start: u64, bytes: Option<u64>) -> Result<Content, AudioError> {
        if self.is_sound_field {
            return Err(AudioError::UnsupportedChannels("a sound field (Ambisonics)"));
        }
        let inside = Content::Inside { start, bytes, bytes_per_second: self.bytes_per_second };
        let unsupported = |what: String| Err(AudioError::UnsupportedFormat(format!("{what} in WAV")));
        let (codec, packets) = match self.tag {
            PCM | FLOAT => {
                let bytes = self.sample_bytes();
                let codec = match (self.tag, bytes) {
                    (PCM, 1) => Some(CODEC_ID_PCM_U8),
                    _ => pcm(bytes, self.tag == FLOAT, self.is_big_endian),
                };
                let Some(codec) = codec else {
                    return unsupported(format!("{} of {} bits", self.name(), self.bits));
                };
                if let Some(name) = spdif::name(&pages.read(start, spdif::LOOK_BYTES)?).filter(|_| bytes == 2) {
                    return Err(AudioError::UnsupportedFormat(name.to_owned()));
                }
                (codec, self.samples(bytes))
            }
            ALAW => (CODEC_ID_PCM_ALAW, self.samples(1)),
            MULAW => (CODEC_ID_PCM_MULAW, self.samples(1)),
            MS_ADPCM | IMA_ADPCM if self.bits == 4 || self.bits == 0 => self.adpcm()?,
            // For these formats, searching for frames is better than splitting into blocks.
            MPEG | MP3 | ADTS | OGG_1..=OGG_3_PLUS | FLAC => return Ok(inside),
            AAC | MPEG_4_AAC if pages.read(start, 2)?.first_chunk().is_some_and(is_adts) => return Ok(inside),
            _ => return unsupported(self.name()),
        };
        let extra = None;
        Ok(Content::Sound(Sound {
            codec,
            rate: self.rate,
            channels: self.channels(),
            packets,
            convert: None,
            extra,
            start,
            bytes,
        }))
    }

    fn samples(&self, bytes: u32) -> Packets {
        Packets::Blocks { bytes: bytes * u32::from(self.channels), samples: 1 }
    }

    /// Bytes per sample: at least enough for its bits, or more if the block size says so. The sample is in the upper
    /// bits.
    fn sample_bytes(&self) -> u32 {
        let needed = u32::from(self.bits.div_ceil(8));
        let block = u32::from(self.block);
        let of_block = block / u32::from(self.channels);
        let is_block = block.is_multiple_of(self.channels.into()) && of_block >= needed && (1..=8).contains(&of_block);
        if is_block { of_block } else { needed }
    }

    /// Samples per channel in a block: one or two in its header, and two in each byte of the rest.
    fn adpcm(&self) -> Result<(AudioCodecId, Packets), AudioError> {
        let (block, channels) = (u32::from(self.block), u32::from(self.channels));
        let (codec, header, first) =
            if self.tag == MS_ADPCM { (CODEC_ID_ADPCM_MS, 7, 2) } else { (CODEC_ID_ADPCM_IMA_WAV, 4, 1) };
        let Some(rest) = block.checked_sub(header * channels).filter(|&rest| rest > 0) else {
            return Err(AudioError::Damaged(format!("WAV: blocks of {block} bytes are too short for {}", self.name())));
        };
        let mut coded = rest * 2 / channels;
        if self.tag == IMA_ADPCM {
            // Groups of eight samples alternate between the channels.
            coded -= coded % 8;
        }
        Ok((codec, Packets::Blocks { bytes: block, samples: coded + first }))
    }

    /// The named speakers, or just the number of channels.
    fn channels(&self) -> Channels {
        Position::from_wave_channel_mask(self.mask)
            .filter(|_| self.mask.count_ones() == u32::from(self.channels))
            .map_or(Channels::Discrete(self.channels), Channels::Positioned)
    }

    fn name(&self) -> String {
        NAMES
            .iter()
            .find(|(tag, _)| *tag == self.tag)
            .map_or_else(|| format!("the format {:#06x}", self.tag), |(_, name)| (*name).to_owned())
    }
}

/// Whether two bytes begin a frame of ADTS (ISO/IEC 14496-3, 1.A.2.2).
fn is_adts(bytes: &[u8; 2]) -> bool {
    u16::from_be_bytes(*bytes) & 0xFFF6 == 0xFFF0
}

// Tags of formats (RFC 2361; `mmreg.h`).
const PCM: u16 = 0x0001;
const MS_ADPCM: u16 = 0x0002;
const FLOAT: u16 = 0x0003;
const ALAW: u16 = 0x0006;
const MULAW: u16 = 0x0007;
const IMA_ADPCM: u16 = 0x0011;
const MPEG: u16 = 0x0050;
const MP3: u16 = 0x0055;
const AAC: u16 = 0x00FF;
const ADTS: u16 = 0x1600;
const MPEG_4_AAC: u16 = 0x1610;
const OGG_1: u16 = 0x674F;
const OGG_3_PLUS: u16 = 0x6771;
const FLAC: u16 = 0xF1AC;
const EXTENSIBLE: u16 = 0xFFFE;

/// Names for format tags of files that users may have.
const NAMES: &[(u16, &str)] = &[
    (PCM, "PCM"),
    (MS_ADPCM, "Microsoft ADPCM"),
    (FLOAT, "floating-point PCM"),
    (IMA_ADPCM, "IMA ADPCM"),
    (0x0010, "OKI ADPCM"),
    (0x0017, "Dialogic ADPCM"),
    (0x0020, "Yamaha ADPCM"),
    (0x0022, "TrueSpeech"),
    (0x0031, "GSM 6.10"),
    (0x0040, "G.721 ADPCM"),
    (0x0042, "G.723.1"),
    (0x0045, "G.726 ADPCM"),
    (0x0061, "Duck DK4 ADPCM"),
    (0x0062, "Duck DK3 ADPCM"),
    (0x0064, "G.726 ADPCM"),
    (0x0065, "G.722"),
    (0x0069, "Xbox ADPCM"),
    (0x0075, "Voxware"),
    (0x0083, "G.729"),
    (0x0092, "AC-3"),
    (AAC, "AAC without ADTS"),
    (0x0130, "ACELP"),
    (0x0160, "Windows Media Audio"),
    (0x0161, "Windows Media Audio"),
    (0x0162, "Windows Media Audio Professional"),
    (0x0163, "Windows Media Audio Lossless"),
    (0x0200, "Creative ADPCM"),
    (0x0270, "ATRAC3"),
    (0x0401, "Indeo Audio"),
    (MPEG_4_AAC, "AAC without ADTS"),
    (0x2000, "AC-3"),
    (0x2001, "DTS"),
    (0x5756, "WavPack"),
    (0x594A, "Xan DPCM"),
    (0xA106, "AAC without ADTS"),
    (0xA109, "Speex"),
    (EXTENSIBLE, "an unknown format"),
];
