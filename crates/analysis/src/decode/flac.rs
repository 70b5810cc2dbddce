//! FLAC (RFC 9639): finds the frames of a file regardless of its metadata.
//!
//! Only STREAMINFO is read from the metadata, and only the fields needed for decoding: programs write metadata wrongly in
//! many ways that players tolerate. A frame begins with a header whose CRC-8 is correct, and ends where its CRC-16 is
//! correct and is followed by another header or the end of the music.

use symphonia::core::{
    checksum::{Crc8Ccitt, Crc16Ansi},
    codecs::{
        CodecParameters,
        audio::{AudioCodecParameters, well_known::CODEC_ID_FLAC},
    },
    errors::{Error as SymphoniaError, Result},
    formats::{FormatInfo, FormatReader, Track, well_known::FORMAT_ID_FLAC},
    io::{MediaSourceStream, Monitor},
    packet::Packet,
};

use super::{
    reader::{PacketStream, StreamReader, hole, packet},
    window::Window,
};
use crate::AudioError;

/// The marker at the start of a file, after tags.
pub(super) const MARKER: &[u8; 4] = b"fLaC";

/// The marker and the header of STREAMINFO, which may be the last metadata block.
pub(super) const STARTS: [&[u8]; 2] = [b"fLaC\0\0\0\x22", b"fLaC\x80\0\0\x22"];

const INFO: FormatInfo =
    FormatInfo { format: FORMAT_ID_FLAC, short_name: "flac", long_name: "Free Lossless Audio Codec" };

/// Bytes of a metadata block's header (section 8.1).
const BLOCK_HEADER_BYTES: usize = 4;

/// Bytes of STREAMINFO (section 8.2).
const STREAMINFO_BYTES: usize = 34;

/// Maximum number of metadata blocks. The longest known lists, of seek tables and pictures, have a dozen.
const MAX_BLOCKS: usize = 1_000;

/// Data that may follow the last frame.
const FOLLOWERS: [&[u8]; 5] = [MARKER, b"TAG", b"ID3", b"APETAGEX", b"LYRICSBEGIN"];

/// Bytes of the longest frame header (section 9.1): 4 fixed, 7 for the number, 2 each for block size and rate, 1 CRC.
pub(super) const MAX_HEADER_BYTES: usize = 16;

/// Bytes of the shortest frame: a header of 6, a constant subframe of 2, a CRC of 2.
const MIN_FRAME_BYTES: usize = 10;

/// The largest block, in samples per channel.
const MAX_BLOCK: u16 = 65_535;

/// After this many plausible headers at which the CRC-16 does not match, a frame is given up. In real audio, one frame in
/// a thousand contains one.
const MAX_FALSE_HEADERS: u32 = 16;

/// Sample format as given by STREAMINFO and by every frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Format {
    rate: u32,
    channels: u8,
    bits: u8,
}

/// The fields of STREAMINFO that are used here.
#[derive(Debug, Clone, Copy)]
pub(super) struct StreamInfo {
    pub(super) format: Format,
    /// Samples per channel; 0 if unknown.
    samples: u64,
}

impl StreamInfo {
    /// Parses a block (section 8.2). None if it is cut off.
    pub(super) fn parse(block: &[u8]) -> Option<Self> {
        let fields = u64::from_be_bytes(*block.get(10..18)?.first_chunk()?);
        Some(Self {
            format: Format {
                rate: (fields >> 44) as u32,
                channels: (fields >> 41 & 7) as u8 + 1,
                bits: (fields >> 36 & 31) as u8 + 1,
            },
            samples: fields & 0xF_FFFF_FFFF,
        })
    }
}

impl Format {
    /// A block with this format; all other fields are set to the widest limits or to unknown.
    fn to_streaminfo(self) -> [u8; STREAMINFO_BYTES] {
        let mut block = [0; STREAMINFO_BYTES];
        block[..2].copy_from_slice(&16u16.to_be_bytes());
        block[2..4].copy_from_slice(&MAX_BLOCK.to_be_bytes());
        let fields =
            u64::from(self.rate) << 44 | (u64::from(self.channels) - 1) << 41 | (u64::from(self.bits) - 1) << 36;
        block[10..18].copy_from_slice(&fields.to_be_bytes());
        block
    }

    pub(super) fn parameters(self) -> AudioCodecParameters {
        let mut parameters = AudioCodecParameters::new();
        parameters
            .for_codec(CODEC_ID_FLAC)
            .with_sample_rate(self.rate)
            .with_bits_per_sample(u32::from(self.bits))
            .with_extra_data(Box::new(self.to_streaminfo()));
        parameters
    }
}

/// A STREAMINFO derived from the frame at the start of `frame`, if its header is complete.
pub(super) fn info_of(frame: &[u8]) -> Option<Vec<u8>> {
    let header = header(frame, Format { rate: 0, channels: 0, bits: 0 })?;
    Some(header.format.to_streaminfo().to_vec())
}

/// Parameters that symphonia's decoder accepts, regardless of the block and frame sizes in a container's STREAMINFO.
pub(super) fn mended(parameters: &AudioCodecParameters) -> AudioCodecParameters {
    let mut mended = parameters.clone();
    if let Some(info) = parameters.extra_data.as_deref().and_then(StreamInfo::parse) {
        mended.extra_data = Some(Box::new(info.format.to_streaminfo()));
        mended.verification_check = None;
    }
    mended
}

/// A frame's header (section 9.1).
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    format: Format,
    /// Samples per channel.
    pub(super) block: u32,
    /// Number of the frame, or of its first sample.
    number: u64,
    counts_samples: bool,
    bytes: usize,
}

/// Parses the header at the start of `bytes`. Fields that it leaves to STREAMINFO come from `default`.
pub(super) fn header(bytes: &[u8], default: Format) -> Option<Header> {
    let &[0xFF, sync, sizes, channels, first, ..] = bytes else { return None };
    if sync & 0xFE != 0xF8 || channels & 1 == 1 {
        return None;
    }
    let mut at = 5;
    // Encoded like UTF-8, but with up to 36 bits.
    let more = match first.leading_ones() {
        0 => 0,
        ones @ 2..=7 => ones as usize - 1,
        _ => return None,
    };
    let mut number = u64::from(first) & (0x7F >> first.leading_ones().min(7));
    for &byte in bytes.get(at..at + more)? {
        if byte >> 6 != 2 {
            return None;
        }
        number = number << 6 | u64::from(byte & 0x3F);
    }
    at += more;
    let mut next = |count: usize| {
        let field = bytes.get(at..at + count)?.iter().fold(0u32, |field, &byte| field << 8 | u32::from(byte));
        at += count;
        Some(field)
    };
    let block = match sizes >> 4 {
        0 => return None,
        1 => 192,
        code @ 2..=5 => 144 << code,
        6 => next(1)? + 1,
        7 => next(2)? + 1,
        code => 1 << code,
    };
    let rate = match sizes & 15 {
        0 => default.rate,
        1 => 88_200,
        2 => 176_400,
        3 => 192_000,
        4 => 8_000,
        5 => 16_000,
        6 => 22_050,
        7 => 24_000,
        8 => 32_000,
        9 => 44_100,
        10 => 48_000,
        11 => 96_000,
        12 => next(1)? * 1000,
        13 => next(2)?,
        14 => next(2)? * 10,
        _ => return None,
    };
    let channel_count = match channels >> 4 {
        code @ 0..=7 => code + 1,
        8..=10 => 2,
        _ => return None,
    };
    let bits = match channels >> 1 & 7 {
        0 => default.bits,
        3 => return None,
        code => [0, 8, 12, 0, 16, 20, 24, 32][usize::from(code)],
    };
    let mut crc = Crc8Ccitt::new(0);
    crc.process_buf_bytes(&bytes[..at]);
    let is_right = *bytes.get(at)? == crc.crc() && block <= u32::from(MAX_BLOCK) && rate > 0 && bits > 0;
    let format = Format { rate, channels: channel_count, bits };
    is_right.then_some(Header { format, block, number, counts_samples: sync & 1 == 1, bytes: at + 1 })
}

impl Header {
    /// A generous limit for a frame: twice the size of the uncompressed samples, plus headers.
    fn max_frame_bytes(&self) -> usize {
        let sample_bytes = usize::from(self.format.bits / 8 + 1) * usize::from(self.format.channels);
        2 * self.block as usize * sample_bytes + 1024
    }
}

/// The frames of a file.
pub(super) struct FlacStream {
    window: Window,
    track: Track,
    format: Format,
    /// Samples in every block but the last, if frames are numbered.
    usual_block: u64,
    /// Position of the next frame in samples per channel, derived from earlier frame numbers.
    expected: Option<u64>,
    /// Whether data before the next frame was skipped.
    is_behind_damage: bool,
}

/// Opens a file at its marker.
///
/// # Errors
/// When the file cannot be read, or has no frame.
pub(super) fn open(mut window: Window) -> std::result::Result<Box<dyn FormatReader>, AudioError> {
    let (format, track) = begin(&mut window)
        .map_err(AudioError::Read)?
        .ok_or_else(|| AudioError::Damaged("flac: no frame follows the metadata".to_owned()))?;
    let stream = FlacStream { window, track, format, usual_block: 0, expected: None, is_behind_damage: false };
    Ok(StreamReader::boxed(Box::new(stream), INFO))
}

/// Moves from the marker to the first frame, if there is one.
fn begin(window: &mut Window) -> std::io::Result<Option<(Format, Track)>> {
    window.skip(MARKER.len() as u64)?;
    let (first_block, mut info, mut is_last) = (window.at(), None, false);
    for _ in 0..MAX_BLOCKS {
        let Some([kind, length @ ..]) = window.array::<BLOCK_HEADER_BYTES>()? else { break };
        let length = length.iter().fold(0u64, |length, &byte| length << 8 | u64::from(byte));
        window.skip(BLOCK_HEADER_BYTES as u64)?;
        if kind & 0x7F == 0 && info.is_none() {
            info = window.array::<STREAMINFO_BYTES>()?.and_then(|block| StreamInfo::parse(&block));
        }
        window.skip(length)?;
        is_last = kind & 0x80 != 0;
        if is_last {
            break;
        }
    }
    let unknown = Format { rate: 0, channels: 0, bits: 0 };
    let default = info.map_or(unknown, |info| info.format);
    let mut first = header(window.ahead(MAX_HEADER_BYTES)?, default).filter(|_| is_last);
    if first.is_none() {
        // The declared lengths are wrong. The first frame comes somewhere after the start of the first block.
        window.go(first_block)?;
        while let Next::Frame(found) = next_header(window, default, info.map(|info| info.format))? {
            if frame_bytes(window, &found)?.is_ok() {
                first = Some(found);
                break;
            }
            window.skip(1)?;
        }
    }
    let Some(Header { format, .. }) = first else { return Ok(None) };
    let mut track = Track::new(0);
    track.with_codec_params(CodecParameters::Audio(format.parameters()));
    if let Some(info) = info.filter(|info| info.samples > 0) {
        track.with_num_frames(info.samples);
    }
    Ok(Some((format, track)))
}

/// Moves to the next header at or after the window's start, of the given format if any; stops at the marker of another
/// file.
fn next_header(window: &mut Window, default: Format, format: Option<Format>) -> std::io::Result<Next> {
    loop {
        let bytes = window.ahead(MAX_HEADER_BYTES)?;
        if bytes.len() < MIN_FRAME_BYTES {
            return Ok(Next::End);
        }
        let last = bytes.len().saturating_sub(MAX_HEADER_BYTES - 1).max(1);
        let found = candidates(bytes, 0)
            .take_while(|&at| at < last)
            .filter_map(|at| Some((at, header(&bytes[at..], default)?)))
            .find(|(_, header)| format.is_none_or(|format| format == header.format));
        let before = found.map_or(last, |(at, _)| at);
        let markers = memchr::memmem::find_iter(bytes, MARKER).take_while(|&at| at < before);
        if let Some(at) = markers.into_iter().find(|&at| STARTS.iter().any(|start| bytes[at..].starts_with(start))) {
            window.skip(at as u64)?;
            return Ok(Next::File);
        }
        match found {
            Some((at, header)) => {
                window.skip(at as u64)?;
                return Ok(Next::Frame(header));
            }
            None => window.skip(last as u64)?,
        }
    }
}

/// The next element in a stream.
enum Next {
    Frame(Header),
    File,
    End,
}

/// Positions where a frame may begin.
fn candidates(bytes: &[u8], from: usize) -> impl Iterator<Item = usize> {
    memchr::memchr_iter(0xFF, &bytes[from..])
        .map(move |at| from + at)
        .filter(|&at| bytes.get(at + 1).is_some_and(|next| next & 0xFE == 0xF8))
}

/// The length of the frame at the window's start, or as an error the length to skip if the frame's end cannot be found.
fn frame_bytes(window: &mut Window, first: &Header) -> std::io::Result<std::result::Result<usize, usize>> {
    let limit = first.max_frame_bytes();
    let (mut crc, mut summed, mut from) = (Crc16Ansi::new(0), 0, first.bytes);
    // The first following header at which the CRC does not match, and the number of such headers.
    let (mut other, mut others) = (None, 0);
    let mut wanted = 32 * 1024;
    loop {
        let bytes = window.ahead(wanted.min(limit + MAX_HEADER_BYTES))?;
        let is_all = bytes.len() < wanted || wanted >= limit + MAX_HEADER_BYTES;
        let bytes = &bytes[..bytes.len().min(limit + MAX_HEADER_BYTES)];
        // A header that extends beyond the bytes read so far is checked after reading more.
        let end = if is_all { bytes.len() } else { bytes.len() - MAX_HEADER_BYTES };
        for at in candidates(bytes, from).take_while(|&at| at < end) {
            if header(&bytes[at..], first.format).is_some() {
                crc.process_buf_bytes(&bytes[summed..at]);
                summed = at;
                if crc.crc() == 0 {
                    return Ok(Ok(at));
                }
                other = other.or(Some(at));
                others += 1;
            }
        }
        if is_all || others > MAX_FALSE_HEADERS {
            return Ok(last_frame_bytes(&bytes[..other.unwrap_or(bytes.len())]));
        }
        from = end;
        wanted *= 2;
    }
}

/// The length of a frame that is not followed by another frame: up to where the CRC-16 matches before a tag or another
/// file, or else the last match. A later match by chance does no harm: the decoder ignores extra bytes.
fn last_frame_bytes(bytes: &[u8]) -> std::result::Result<usize, usize> {
    let mut crc = Crc16Ansi::new(0);
    let mut end = None;
    for (at, &byte) in bytes.iter().enumerate() {
        crc.process_byte(byte);
        if crc.crc() == 0 && at + 1 >= MIN_FRAME_BYTES {
            end = Some(at + 1);
            if FOLLOWERS.iter().any(|follower| bytes[at + 1..].starts_with(follower)) {
                break;
            }
        }
    }
    end.ok_or(bytes.len())
}

impl FlacStream {
    /// Position of a frame's first sample, from the frame's number.
    fn position(&mut self, header: &Header) -> u64 {
        if header.counts_samples {
            return header.number;
        }
        if self.usual_block == 0 {
            self.usual_block = u64::from(header.block);
        }
        header.number.saturating_mul(self.usual_block)
    }

    /// Skips damage up to the next frame or the next file.
    fn resynchronise(&mut self) -> std::io::Result<bool> {
        self.is_behind_damage = true;
        Ok(!matches!(next_header(&mut self.window, self.format, Some(self.format))?, Next::End))
    }
}

impl PacketStream for FlacStream {
    fn track(&self) -> &Track {
        &self.track
    }

    fn next_packet(&mut self) -> Result<Option<Packet>> {
        loop {
            let Some(header) = header(self.window.ahead(MAX_HEADER_BYTES)?, self.format) else {
                if self.window.ahead(MARKER.len())?.starts_with(MARKER) {
                    return self.next_file();
                }
                if !self.resynchronise()? {
                    return Ok(None);
                }
                continue;
            };
            let length = match frame_bytes(&mut self.window, &header)? {
                Ok(length) => length,
                Err(length) => {
                    self.window.skip(length as u64)?;
                    self.is_behind_damage = true;
                    self.expected = Some(self.position(&header) + u64::from(header.block));
                    return Ok(Some(hole(u64::from(header.block))));
                }
            };
            let position = self.position(&header);
            if std::mem::take(&mut self.is_behind_damage) {
                let missing = self.expected.map_or(0, |expected| position.saturating_sub(expected));
                if missing > 0 {
                    self.expected = Some(position);
                    return Ok(Some(hole(missing)));
                }
            }
            if header.format != self.format {
                return self.change(header.format);
            }
            self.expected = Some(position + u64::from(header.block));
            let data = &self.window.ahead(length)?[..length];
            let packet = packet(data, u64::from(header.block), (0, 0));
            self.window.skip(length as u64)?;
            return Ok(Some(packet));
        }
    }

    fn into_source(self: Box<Self>) -> MediaSourceStream<'static> {
        self.window.into_source()
    }
}

impl FlacStream {
    /// Starts another file appended to this one.
    fn next_file(&mut self) -> Result<Option<Packet>> {
        let (format, track) = loop {
            match begin(&mut self.window)? {
                Some(begun) => break begun,
                None if self.window.ahead(MARKER.len())?.starts_with(MARKER) => {}
                None => return Ok(None),
            }
        };
        (self.format, self.track) = (format, track);
        (self.usual_block, self.expected) = (0, None);
        Err(SymphoniaError::ResetRequired)
    }

    /// Continues with a frame of another format.
    fn change(&mut self, format: Format) -> Result<Option<Packet>> {
        self.format = format;
        self.track = Track::new(0);
        self.track.with_codec_params(CodecParameters::Audio(format.parameters()));
        self.usual_block = 0;
        Err(SymphoniaError::ResetRequired)
    }
}
