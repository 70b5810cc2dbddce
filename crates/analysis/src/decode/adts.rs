//! ADTS (ISO/IEC 14496-3, 1.A.2): the AAC frames in a file, regardless of other data before, between and after them, and
//! the packets in each frame.

use std::{
    collections::VecDeque,
    io::{ErrorKind, Result as IoResult},
};

use rusty_aac::{
    config::{SAMPLE_RATES, StreamConfig},
    decode::Decoder,
};
use symphonia::core::{
    codecs::{
        CodecParameters,
        audio::{AudioCodecParameters, well_known::CODEC_ID_AAC},
    },
    errors::{Error as SymphoniaError, Result},
    formats::{FormatInfo, FormatReader, Track, well_known::FORMAT_ID_ADTS},
    io::MediaSourceStream,
    packet::Packet,
};

use super::{
    reader::{PacketStream, StreamReader, hole_of, packet},
    sync::{self, FIRST_FRAMES, FrameHeader, Search},
    tags,
    window::Window,
};

const INFO: FormatInfo =
    FormatInfo { format: FORMAT_ID_ADTS, short_name: "aac", long_name: "Audio Data Transport Stream" };

/// Bytes of a header without the protection fields.
const HEADER_BYTES: usize = 7;

/// Bytes of a checksum.
const CRC_BYTES: usize = 2;

/// Samples per channel in a packet.
const PACKET_SAMPLES: u64 = 1024;

/// Fields that stay the same from frame to frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Kind {
    /// The audio object type, 1 to 4.
    object: u8,
    /// Index of the rate in the standard's table.
    rate_index: u8,
    /// The channel configuration; 0 if a packet specifies the channels.
    channels: u8,
}

impl Kind {
    fn rate(self) -> u32 {
        SAMPLE_RATES.get(usize::from(self.rate_index)).copied().unwrap_or(0)
    }

    fn track(self) -> Track {
        let mut parameters = AudioCodecParameters::new();
        parameters.for_codec(CODEC_ID_AAC).with_sample_rate(self.rate());
        if self.channels > 0 {
            // An AudioSpecificConfig (1.6.2.1).
            let fields = u16::from(self.object) << 11 | u16::from(self.rate_index) << 7 | u16::from(self.channels) << 3;
            parameters.with_extra_data(Box::new(fields.to_be_bytes()));
        }
        let mut track = Track::new(0);
        track.with_codec_params(CodecParameters::Audio(parameters));
        track
    }
}

/// A frame's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Header {
    kind: Kind,
    bytes: usize,
    has_crc: bool,
    /// Packets in the frame, 1 to 4.
    packets: usize,
}

impl FrameHeader for Header {
    const MARK: u8 = 0xFF;

    /// The length field has 13 bits.
    const MAX_FRAME_BYTES: usize = (1 << 13) - 1;

    fn parse(bytes: &[u8]) -> Option<Self> {
        let &[0xFF, sync, a, b, c, d, e, ..] = bytes else { return None };
        if sync & 0xF6 != 0xF0 {
            return None;
        }
        let kind = Kind { object: (a >> 6) + 1, rate_index: a >> 2 & 15, channels: (a & 1) << 2 | b >> 6 };
        let header = Self {
            kind,
            bytes: usize::from(b & 3) << 11 | usize::from(c) << 3 | usize::from(d) >> 5,
            has_crc: sync & 1 == 0,
            packets: usize::from(e & 3) + 1,
        };
        (kind.rate() > 0 && header.bytes > header.header_bytes()).then_some(header)
    }

    fn bytes(&self) -> usize {
        self.bytes
    }

    fn goes_on_as(&self, other: &Self) -> bool {
        self.kind == other.kind
    }
}

impl Header {
    /// Bytes before the first packet. With protection and several packets, the positions of the others precede the
    /// checksum.
    fn header_bytes(&self) -> usize {
        HEADER_BYTES + if self.has_crc { 2 * (self.packets - 1) + CRC_BYTES } else { 0 }
    }
}

/// Reads the frames of a file from its start. `length` is the file's size in bytes, if known. Returns none if there are
/// no frames.
///
/// # Errors
/// When the file cannot be read.
pub(super) fn open(mut window: Window, length: Option<u64>, search: Search) -> IoResult<Option<Box<dyn FormatReader>>> {
    let Some(Header { kind, .. }) = sync::first(&mut window, search)? else { return Ok(None) };
    if let Some(length) = length {
        let at = window.at();
        let end = tags::start_of_last(&mut window, length)?;
        window.go(at)?;
        window.end_at(end.max(at));
    }
    let stream = AdtsStream {
        window,
        length: length.unwrap_or(u64::MAX),
        track: kind.track(),
        kind,
        decoder: None,
        ready: VecDeque::new(),
        samples: 0,
        bytes: 0,
    };
    Ok(Some(StreamReader::boxed(Box::new(stream), INFO)))
}

/// The frames of a file.
struct AdtsStream {
    window: Window,
    /// Size of the file in bytes.
    length: u64,
    track: Track,
    kind: Kind,
    /// Only used to measure packets in frames that hold several without giving their lengths.
    decoder: Option<Box<Decoder>>,
    ready: VecDeque<Packet>,
    /// Samples and bytes read so far.
    samples: u64,
    bytes: u64,
}

impl AdtsStream {
    /// Reads a frame, a tag, or unknown data; false at the end.
    fn advance(&mut self) -> Result<bool> {
        let bytes = self.window.ahead(FIRST_FRAMES * Header::MAX_FRAME_BYTES)?;
        if bytes.is_empty() {
            return Ok(false);
        }
        let here = Header::parse(bytes)
            .filter(|next| next.kind == self.kind || sync::chain::<Header>(bytes, FIRST_FRAMES).is_some());
        if let Some(header) = here {
            if header.kind != self.kind {
                return self.change(header.kind);
            }
            let Some(frame) = bytes.get(..header.bytes) else {
                return Err(SymphoniaError::IoError(ErrorKind::UnexpectedEof.into()));
            };
            let frame = frame.to_vec();
            self.window.skip(header.bytes as u64)?;
            self.samples += PACKET_SAMPLES * header.packets as u64;
            self.bytes += header.bytes as u64;
            self.divide(&header, &frame);
            return Ok(true);
        }
        // A tag that would be longer than the rest of the file is not a tag.
        let rest = self.length.saturating_sub(self.window.at());
        if let Some(length) = tags::next(&mut self.window)?.filter(|&length| length <= rest) {
            self.window.skip(length)?;
            return Ok(true);
        }
        let before = self.window.at();
        let known = Header { kind: self.kind, bytes: 0, has_crc: false, packets: 1 };
        if sync::find(&mut self.window, Some(&known))?.is_some() {
            let skipped = self.window.at() - before;
            self.ready.push_back(hole_of(skipped, self.samples, self.bytes));
        }
        Ok(true)
    }

    /// Splits a frame into its packets.
    fn divide(&mut self, header: &Header, frame: &[u8]) {
        let mut rest = &frame[header.header_bytes()..];
        for left in (0..header.packets).rev() {
            let length = if left == 0 { rest.len() } else { self.packet_bytes(header, frame, rest) };
            let (data, after) = rest.split_at(length.min(rest.len()));
            self.ready.push_back(packet(data, PACKET_SAMPLES, (0, 0)));
            // With protection, a checksum follows each of several packets.
            rest = after.get(if header.has_crc { CRC_BYTES } else { 0 }..).unwrap_or_default();
        }
    }

    /// Length of the packet at the start of `rest`, in a frame with several packets.
    fn packet_bytes(&mut self, header: &Header, frame: &[u8], rest: &[u8]) -> usize {
        if header.has_crc {
            // Positions of all packets but the first, relative to the first.
            let done = frame.len() - header.header_bytes() - rest.len();
            let places = frame[HEADER_BYTES..header.header_bytes() - CRC_BYTES].chunks_exact(2);
            let place = places.map(|place| usize::from(u16::from_be_bytes([place[0], place[1]]))).find(|&at| at > done);
            return place.map_or(rest.len(), |place| (place - done).saturating_sub(CRC_BYTES));
        }
        if self.decoder.is_none() {
            let Kind { object, channels, .. } = self.kind;
            let config = StreamConfig::lc(object, self.kind.rate(), channels);
            self.decoder = Decoder::with_stream_config(config).ok().map(Box::new);
        }
        let decoded = self.decoder.as_mut().and_then(|decoder| decoder.decode_block(rest, None).ok());
        // If the length is unknown, the remaining packets are lost.
        decoded.map_or(rest.len(), |(_, bytes)| bytes)
    }

    /// Switches to another kind of frames.
    fn change(&mut self, kind: Kind) -> Result<bool> {
        self.kind = kind;
        self.track = kind.track();
        self.decoder = None;
        Err(SymphoniaError::ResetRequired)
    }
}

impl PacketStream for AdtsStream {
    fn track(&self) -> &Track {
        &self.track
    }

    fn next_packet(&mut self) -> Result<Option<Packet>> {
        while self.ready.is_empty() {
            if !self.advance()? {
                return Ok(None);
            }
        }
        Ok(self.ready.pop_front())
    }

    fn into_source(self: Box<Self>) -> MediaSourceStream<'static> {
        self.window.into_source()
    }
}
