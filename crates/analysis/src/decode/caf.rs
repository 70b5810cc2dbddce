//! Core Audio Format (Apple, "Core Audio Format Specification 1.0").

use std::collections::VecDeque;

use symphonia::core::{
    audio::Channels,
    codecs::audio::well_known::{
        CODEC_ID_AAC, CODEC_ID_ADPCM_IMA_QT, CODEC_ID_ALAC, CODEC_ID_FLAC, CODEC_ID_OPUS, CODEC_ID_PCM_ALAW,
        CODEC_ID_PCM_MULAW,
    },
};

use super::{
    aiff::IMA_BLOCK,
    chunks::{Chunk, Chunks, Pages, Style},
    container::Content,
    core_audio, flac,
    riff::bytes_of,
    sound::{Packets, Sound, pcm, rate},
};
use crate::AudioError;

/// Maximum size of a magic cookie in bytes. ALAC's has 48, AAC's somewhat more.
const MAX_COOKIE_BYTES: usize = 4096;

/// Maximum number of packets: 12 hours of AAC at 48 kHz.
const MAX_PACKETS: usize = 1 << 21;

/// Maximum number of samples per channel in a packet. ALAC mostly has 4096; the longest FLAC frames have this many.
const MAX_PACKET_SAMPLES: u32 = 1 << 16;

/// Bytes of a packet table's header.
const TABLE_HEADER_BYTES: usize = 24;

/// Maximum number of bytes of a number in the packet table, as far as packet sizes need.
const MAX_NUMBER_BYTES: usize = 5;

/// Fields of the `desc` chunk.
struct Description {
    rate: f64,
    format: [u8; 4],
    flags: u32,
    packet_bytes: u32,
    packet_samples: u32,
    channels: u32,
    bits: u32,
}

/// Returns the content of a CAF, or none if the file is not one; it begins with `start`.
///
/// # Errors
/// When the file cannot be read, or its content is unknown or cannot be decoded.
pub(super) fn open(pages: &Pages<'_>, start: &[u8]) -> Result<Option<Content>, AudioError> {
    if !start.starts_with(b"caff") {
        return Ok(None);
    }
    let damaged = |what: &str| AudioError::Damaged(format!("CAF: {what}"));
    let mut chunks = Chunks::new(pages, Style::Caf, 8, &[b"desc", b"data", b"pakt", b"kuki", b"chan"]);
    let (mut description, mut data, mut table) = (None, None, None);
    let (mut layout, mut cookie) = (Vec::new(), Vec::new());
    while let Some(chunk) = chunks.next()? {
        match &chunk.name {
            b"desc" => description = Description::read(&pages.read(chunk.start, 32)?),
            b"chan" => layout = pages.read(chunk.start, core_audio::MAX_LAYOUT_BYTES)?,
            b"kuki" => {
                let bytes = usize::try_from(chunk.length).map_or(MAX_COOKIE_BYTES, |bytes| bytes.min(MAX_COOKIE_BYTES));
                cookie = pages.read(chunk.start, bytes)?;
            }
            b"pakt" => table = Some(chunk),
            b"data" if data.is_none() => data = Some(chunk),
            _ => {}
        }
    }
    let description: Description = description.ok_or_else(|| damaged("it has no usable 'desc' chunk"))?;
    let data = data.ok_or_else(|| damaged("it has no 'data' chunk"))?;
    // An edit counter precedes the sound.
    let start = data.start + 4;
    let bytes = bytes_of(data.length.saturating_sub(4), start, pages.length());
    let Ok(count) = u16::try_from(description.channels) else {
        return Err(AudioError::TooManyChannels(description.channels as usize));
    };
    if count == 0 {
        return Err(damaged("it has no channels"));
    }
    if description.packet_samples > MAX_PACKET_SAMPLES {
        let samples = description.packet_samples;
        return Err(damaged(&format!("packets of {samples} samples; the limit is {MAX_PACKET_SAMPLES}")));
    }
    let channels = core_audio::channels(&layout, count).unwrap_or(Channels::Discrete(count));
    let blocks = |bytes: u32, samples| Packets::Blocks { bytes: bytes * u32::from(count), samples };
    let table = || -> Result<Packets, AudioError> {
        match table {
            _ if description.packet_bytes > 0 && description.packet_samples > 0 => {
                Ok(Packets::Blocks { bytes: description.packet_bytes, samples: description.packet_samples })
            }
            Some(chunk) => description.packets(pages, &chunk),
            None => Err(damaged("it has no table of packets")),
        }
    };
    let (codec, packets, extra) = match &description.format {
        b"lpcm" => {
            let (is_float, is_big_endian) = (description.flags & 1 != 0, description.flags & 2 == 0);
            let needed = description.bits.div_ceil(8);
            let of_packet = description.packet_bytes / description.channels;
            let bytes = if of_packet >= needed && of_packet > 0 { of_packet } else { needed };
            let Some(codec) = pcm(bytes, is_float, is_big_endian) else {
                return Err(AudioError::UnsupportedFormat(format!("PCM of {} bits in CAF", description.bits)));
            };
            (codec, blocks(bytes, 1), None)
        }
        b"alaw" => (CODEC_ID_PCM_ALAW, blocks(1, 1), None),
        b"ulaw" => (CODEC_ID_PCM_MULAW, blocks(1, 1), None),
        b"ima4" => (CODEC_ID_ADPCM_IMA_QT, blocks(IMA_BLOCK.0, IMA_BLOCK.1), None),
        b"alac" => (CODEC_ID_ALAC, table()?, Some(alac(&cookie).to_vec())),
        b"aac " => (CODEC_ID_AAC, table()?, aac(&cookie).map(<[u8]>::to_vec)),
        b"flac" => {
            // FFmpeg omits STREAMINFO; a frame header has the same information.
            let of_frame = || flac::info_of(&pages.read(start, flac::MAX_HEADER_BYTES).ok()?);
            // Frames contain their own lengths. If the lengths differ, FFmpeg writes a mean of the wrong numbers into the
            // table.
            let packets = match table()? {
                Packets::Table(table, _) => Packets::Table(table, None),
                other => other,
            };
            (CODEC_ID_FLAC, packets, stream_info(&cookie).map(<[u8]>::to_vec).or_else(of_frame))
        }
        b"opus" => (CODEC_ID_OPUS, table()?, Some(opus(&cookie, count))),
        b".mp1" | b".mp2" | b".mp3" => {
            let packets_per_second = description.rate / f64::from(description.packet_samples.max(1));
            let bytes_per_second = (f64::from(description.packet_bytes) * packets_per_second) as u32;
            return Ok(Some(Content::Inside { start, bytes, bytes_per_second }));
        }
        other => {
            let name = String::from_utf8_lossy(other);
            return Err(AudioError::UnsupportedFormat(format!("'{}' in CAF", name.trim())));
        }
    };
    let (rate, extra) = (rate(description.rate), extra.map(Vec::into_boxed_slice));
    Ok(Some(Content::Sound(Sound { codec, rate, channels, packets, convert: None, extra, start, bytes })))
}

impl Description {
    fn read(bytes: &[u8]) -> Option<Self> {
        let u32_at = |at: usize| Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?));
        Some(Self {
            rate: f64::from_be_bytes(*bytes.first_chunk()?),
            format: *bytes.get(8..)?.first_chunk()?,
            flags: u32_at(12)?,
            packet_bytes: u32_at(16)?,
            packet_samples: u32_at(20)?,
            channels: u32_at(24)?,
            bits: u32_at(28)?,
        })
    }

    /// Reads the packet table ("Packet Table Chunk"): a size or a number of samples for each packet, or both, with seven
    /// bits per byte.
    fn packets(&self, pages: &Pages<'_>, chunk: &Chunk) -> Result<Packets, AudioError> {
        let damaged = |what: String| AudioError::Damaged(format!("CAF: {what}"));
        let most = TABLE_HEADER_BYTES + 2 * MAX_NUMBER_BYTES * MAX_PACKETS;
        let bytes = pages.read(chunk.start, usize::try_from(chunk.length).map_or(most, |length| length.min(most)))?;
        let (Some(&packets), Some(&valid)) =
            (bytes.first_chunk(), bytes.get(8..).and_then(|bytes| bytes.first_chunk()))
        else {
            return Err(damaged("its table of packets is too short".to_owned()));
        };
        let packets = u64::from_be_bytes(packets);
        if packets > MAX_PACKETS as u64 {
            return Err(damaged(format!("a table of {packets} packets; the limit is {MAX_PACKETS}")));
        }
        let mut bytes = bytes.get(TABLE_HEADER_BYTES..).unwrap_or_default();
        let mut next = |fixed: u32| if fixed > 0 { Some(fixed) } else { number(&mut bytes) };
        let table: VecDeque<_> =
            (0..packets).map_while(|_| Some((next(self.packet_bytes)?, next(self.packet_samples)?))).collect();
        Ok(Packets::Table(table, Some(u64::from_be_bytes(valid))))
    }
}

/// Reads the next number, seven bits per byte, highest bits first.
fn number(bytes: &mut &[u8]) -> Option<u32> {
    let mut number = 0u32;
    for _ in 0..MAX_NUMBER_BYTES {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number = number << 7 | u32::from(byte & 0x7F);
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// ALAC's own parameters; older files wrap them in two atoms.
fn alac(cookie: &[u8]) -> &[u8] {
    let cookie = if cookie.get(4..8) == Some(b"frma") { cookie.get(12..).unwrap_or_default() } else { cookie };
    if cookie.get(4..8) == Some(b"alac") { cookie.get(12..).unwrap_or_default() } else { cookie }
}

/// AAC's own parameters, from a descriptor of the elementary stream (ISO/IEC 14496-1, 7.2.6.5).
fn aac(cookie: &[u8]) -> Option<&[u8]> {
    let mut rest = cookie;
    loop {
        let (&tag, mut body) = rest.split_first()?;
        let length = number(&mut body)? as usize;
        let skipped = match tag {
            // ES_Descriptor, whose optional fields no CAF writer uses; DecoderConfigDescriptor.
            3 => 3,
            4 => 13,
            5 => return body.get(..length),
            _ => length,
        };
        rest = body.get(skipped..)?;
    }
}

/// FLAC's `STREAMINFO`, either in the box `dfLa` or on its own.
fn stream_info(cookie: &[u8]) -> Option<&[u8]> {
    const STREAMINFO_BYTES: usize = 34;
    let at = cookie.windows(4).position(|window| window == b"dfLa").map_or(0, |at| at + 12);
    cookie.get(at..at + STREAMINFO_BYTES)
}

/// Opus's identification header (RFC 7845, section 5.1); a default one if the cookie has none.
fn opus(cookie: &[u8], channels: u16) -> Vec<u8> {
    if let Some(at) = cookie.windows(8).position(|window| window == b"OpusHead") {
        return cookie[at..].to_vec();
    }
    let mut header = b"OpusHead\x01".to_vec();
    header.push(channels.min(255) as u8);
    header.extend([0, 0, 0x80, 0xBB, 0, 0, 0, 0, 0]);
    header
}
