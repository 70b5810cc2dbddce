//! LATM in LOAS (ISO/IEC 14496-3, 1.7): AAC in digital television and radio. Finds the frames in a file, and the packets
//! in each.

use std::{collections::VecDeque, io::ErrorKind};

use rusty_aac::config::SAMPLE_RATES;
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
    bits::Bits,
    codec::unsupported,
    reader::{PacketStream, StreamReader, hole_of, packet},
    sync::{self, FrameHeader, Search},
    window::Window,
};
use crate::AudioError;

const INFO: FormatInfo =
    FormatInfo { format: FORMAT_ID_ADTS, short_name: "latm", long_name: "Low Overhead Audio Transport Multiplex" };

/// Bytes of a frame's header.
const HEADER_BYTES: usize = 3;

/// Maximum number of frames before the first one that describes the stream, in a recording that begins anywhere.
/// Broadcasters describe it about twice a second.
const MAX_UNDESCRIBED_FRAMES: usize = 1_000;

/// Samples per channel in a packet; some kinds of AAC have slightly fewer.
const PACKET_SAMPLES: u64 = 1024;

/// A frame's header.
#[derive(Debug, Clone, Copy)]
struct Header {
    bytes: usize,
}

impl FrameHeader for Header {
    const MARK: u8 = 0x56;

    /// The length field, which does not count the header, has 13 bits.
    const MAX_FRAME_BYTES: usize = HEADER_BYTES + (1 << 13) - 1;

    fn parse(bytes: &[u8]) -> Option<Self> {
        let &[Self::MARK, length, low, ..] = bytes else { return None };
        let bytes = HEADER_BYTES + (usize::from(length & 0x1F) << 8 | usize::from(low));
        (length >> 5 == 7 && bytes > HEADER_BYTES).then_some(Self { bytes })
    }

    fn bytes(&self) -> usize {
        self.bytes
    }

    fn goes_on_as(&self, _: &Self) -> bool {
        true
    }
}

/// Stream description, valid until a frame changes it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mux {
    /// The AudioSpecificConfig.
    config: Vec<u8>,
    /// The rate from the AudioSpecificConfig, in Hz.
    rate: u32,
    packets: usize,
}

/// Reads a new stream description in a frame, if there is one; an error if it is of a kind that is not supported.
fn described(bits: &mut Bits<'_>, end: usize) -> Option<std::result::Result<Mux, AudioError>> {
    let is_same = bits.flag();
    (!is_same)
        .then(|| Mux::read(bits).filter(|_| bits.at <= end).ok_or_else(|| unsupported("AAC in LATM of this kind")))
}

impl Mux {
    /// Reads a StreamMuxConfig (1.7.3.1). None for several programs or layers, and for payloads not counted in bytes; no
    /// known stream has these.
    fn read(bits: &mut Bits<'_>) -> Option<Self> {
        let has_lengths = bits.flag();
        if has_lengths {
            let is_reserved = bits.flag();
            value(bits);
            if is_reserved {
                return None;
            }
        }
        let is_framed_alike = bits.flag();
        let packets = bits.take(6) as usize + 1;
        let (programs, layers) = (bits.take(4) + 1, bits.take(3) + 1);
        if !is_framed_alike || programs > 1 || layers > 1 {
            return None;
        }
        let length = has_lengths.then(|| value(bits) as usize);
        let start = bits.at;
        let rate = config(bits)?;
        let length = length.unwrap_or(bits.at - start);
        if length > 8 * Header::MAX_FRAME_BYTES {
            return None;
        }
        bits.at = start;
        let config = (0..length).step_by(8).map(|at| {
            let count = (length - at).min(8);
            (bits.take(count) << (8 - count)) as u8
        });
        let config = config.collect();
        if bits.take(3) != 0 {
            return None;
        }
        // Buffer fullness, then optional data after the packets.
        bits.at += 8;
        if bits.flag() {
            if has_lengths {
                value(bits);
            } else {
                while bits.take(9) >> 8 == 1 {}
            }
        }
        if bits.flag() {
            bits.at += 8;
        }
        Some(Self { config, rate, packets })
    }
}

/// A number of one to four bytes.
fn value(bits: &mut Bits<'_>) -> u32 {
    let bytes = bits.take(2) as usize + 1;
    bits.take(8 * bytes)
}

/// Skips an AudioSpecificConfig (1.6.2.1), which does not contain its own length, and returns its rate in Hz.
fn config(bits: &mut Bits<'_>) -> Option<u32> {
    fn object(bits: &mut Bits<'_>) -> u32 {
        match bits.take(5) {
            31 => 32 + bits.take(6),
            object => object,
        }
    }
    fn rate(bits: &mut Bits<'_>) -> Option<u32> {
        match bits.take(4) {
            15 => Some(bits.take(24)),
            index => SAMPLE_RATES.get(index as usize).copied(),
        }
    }
    let start = bits.at;
    let mut kind = object(bits);
    let core_rate = rate(bits)?;
    let channels = bits.take(4);
    if matches!(kind, 5 | 29) {
        rate(bits)?;
        kind = object(bits);
    }
    // A GASpecificConfig (4.4.1); other object types have their own.
    if !matches!(kind, 1..=4 | 6 | 7 | 17 | 19 | 20 | 23) {
        return None;
    }
    bits.at += 1;
    if bits.flag() {
        bits.at += 14;
    }
    let is_extended = bits.flag();
    if channels == 0 {
        elements(bits, start);
    }
    if matches!(kind, 6 | 20) {
        bits.at += 3;
    }
    if is_extended {
        bits.at += if kind >= 17 { 4 } else { 1 };
    }
    if kind >= 17 && bits.take(2) > 1 {
        return None;
    }
    Some(core_rate)
}

/// Skips a program_config_element (4.4.1.1) of an AudioSpecificConfig that begins at bit `start`.
fn elements(bits: &mut Bits<'_>, start: usize) {
    bits.at += 4 + 2 + 4;
    let [front, side, back] = [4; 3].map(|count| bits.take(count) as usize);
    let [low, associated, coupling] = [2, 3, 4].map(|count| bits.take(count) as usize);
    for mixdown in [4, 4, 3] {
        if bits.flag() {
            bits.at += mixdown;
        }
    }
    bits.at += 5 * (front + side + back + coupling) + 4 * (low + associated);
    bits.at = start + (bits.at - start).next_multiple_of(8);
    bits.at += 8 * bits.take(8) as usize;
}

/// Reads the frames of a file from its start; none if there are none.
///
/// # Errors
/// When the file cannot be read, or has a kind of frames that is not supported.
pub(super) fn open(
    mut window: Window,
    search: Search,
) -> std::result::Result<Option<Box<dyn FormatReader>>, AudioError> {
    if sync::first::<Header>(&mut window, search).map_err(AudioError::Read)?.is_none() {
        return Ok(None);
    }
    for _ in 0..MAX_UNDESCRIBED_FRAMES {
        let bytes = window.ahead(Header::MAX_FRAME_BYTES).map_err(AudioError::Read)?;
        let Some(header) = Header::parse(bytes) else { break };
        let Some(body) = bytes.get(HEADER_BYTES..header.bytes) else { break };
        if let Some(mux) = described(&mut Bits::new(body), 8 * body.len()) {
            let mux = mux?;
            let track = track(&mux);
            let stream = LatmStream { window, mux, track, ready: VecDeque::new(), samples: 0, bytes: 0 };
            return Ok(Some(StreamReader::boxed(Box::new(stream), INFO)));
        }
        window.skip(header.bytes as u64).map_err(AudioError::Read)?;
    }
    Ok(None)
}

fn track(mux: &Mux) -> Track {
    let mut parameters = AudioCodecParameters::new();
    parameters.for_codec(CODEC_ID_AAC).with_sample_rate(mux.rate).with_extra_data(mux.config.clone().into());
    let mut track = Track::new(0);
    track.with_codec_params(CodecParameters::Audio(parameters));
    track
}

/// The frames of a file.
struct LatmStream {
    window: Window,
    mux: Mux,
    track: Track,
    ready: VecDeque<Packet>,
    /// Samples and bytes read so far.
    samples: u64,
    bytes: u64,
}

impl LatmStream {
    /// Reads a frame or skips unknown data; false at the end.
    fn advance(&mut self) -> Result<bool> {
        let bytes = self.window.ahead(Header::MAX_FRAME_BYTES)?;
        if bytes.is_empty() {
            return Ok(false);
        }
        let Some(header) = Header::parse(bytes) else {
            let before = self.window.at();
            if sync::find::<Header>(&mut self.window, Some(&Header { bytes: 0 }))?.is_some() {
                let skipped = self.window.at() - before;
                self.ready.push_back(hole_of(skipped, self.samples, self.bytes));
            }
            return Ok(true);
        };
        let Some(body) = bytes.get(HEADER_BYTES..header.bytes) else {
            return Err(SymphoniaError::IoError(ErrorKind::UnexpectedEof.into()));
        };
        let mut bits = Bits::new(body);
        let end = 8 * body.len();
        let mut is_changed = false;
        if let Some(Ok(mux)) = described(&mut bits, end) {
            is_changed = mux.config != self.mux.config;
            self.mux = mux;
        }
        if is_changed {
            self.track = track(&self.mux);
        }
        for _ in 0..self.mux.packets {
            let mut length = 0;
            while bits.at < end {
                let more = bits.take(8) as usize;
                length += more;
                if more < 255 {
                    break;
                }
            }
            // A damaged packet only counts with its duration.
            let is_whole = bits.at + 8 * length <= end;
            let data: Vec<u8> = (0..if is_whole { length } else { 0 }).map(|_| bits.take(8) as u8).collect();
            self.ready.push_back(packet(&data, PACKET_SAMPLES, (0, 0)));
        }
        self.samples += PACKET_SAMPLES * self.mux.packets as u64;
        self.bytes += header.bytes as u64;
        self.window.skip(header.bytes as u64)?;
        if is_changed { Err(SymphoniaError::ResetRequired) } else { Ok(true) }
    }
}

impl PacketStream for LatmStream {
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
