//! Matroska and WebM (RFC 9559): splits the selected track into packets.
//!
//! symphonia's reader takes clusters of unknown length for truncated ones, passes compressed frames on unchanged, and
//! plays the first track even if another one is the default.

mod codecs;
mod ebml;
mod encoding;
mod lacing;

use std::{
    collections::VecDeque,
    io::{Error as IoError, ErrorKind},
};

use symphonia::core::{
    codecs::{
        CodecParameters,
        audio::{AudioCodecParameters, well_known::CODEC_ID_AAC},
    },
    errors::Result as SymphoniaResult,
    formats::{FormatInfo, FormatReader, Track, well_known::FORMAT_ID_MKV},
    io::MediaSourceStream,
    packet::{Packet, PacketBuilder},
    units::{Duration, TimeBase, Timestamp},
};

use self::{
    codecs::Sound,
    ebml::{Element, Found},
    encoding::Encodings,
};
use super::{
    codec::first_decodable,
    reader::{PacketStream, StreamReader},
    stream::{Fields, Stream},
};
use crate::AudioError;

/// Maximum number of elements to visit in search of the tracks.
const MAX_ELEMENTS: usize = 100_000;

/// Maximum size in bytes of the list of tracks and of the segment information.
const MAX_HEADER_BYTES: usize = 4 * 1024 * 1024;

/// Maximum size in bytes of a block, and of a decompressed frame.
const MAX_BLOCK_BYTES: usize = 16 * 1024 * 1024;

/// Maximum number of unrecognised bytes to search for the next cluster.
const MAX_NOISE_BYTES: u64 = 64 * 1024 * 1024;

const NANOSECONDS: f64 = 1e9;

/// IDs of elements (RFC 9559, section 5).
const EBML: u32 = 0x1A45_DFA3;
const SEGMENT: u32 = 0x1853_8067;
const INFO: u32 = 0x1549_A966;
const TRACKS: u32 = 0x1654_AE6B;
const CLUSTER: u32 = 0x1F43_B675;
const SEEK_HEAD: u32 = 0x114D_9B74;
const SEEK: u32 = 0x4DBB;
const SEEK_POSITION: u32 = 0x53AC;
const CUES: u32 = 0x1C53_BB6B;
const TAGS: u32 = 0x1254_C367;
const SIMPLE_BLOCK: u32 = 0xA3;
const BLOCK_GROUP: u32 = 0xA0;
const BLOCK: u32 = 0xA1;
const DISCARD_PADDING: u32 = 0x75A2;

const FORMAT: FormatInfo = FormatInfo { format: FORMAT_ID_MKV, short_name: "matroska", long_name: "Matroska / WebM" };

/// Whether a file with this start is Matroska.
pub(super) fn is_matroska(start: &[u8]) -> bool {
    start.starts_with(&EBML.to_be_bytes())
}

/// Reads a file's structure up to its first packet.
///
/// # Errors
/// When the file ends before its list of tracks, has no audio track, or none that can be decoded.
pub(super) fn open(mut stream: Stream) -> Result<Box<dyn FormatReader>, AudioError> {
    let (head, clusters) = Head::read(&mut stream)?;
    let (segment_end, listed) = (head.segment_end, head.listed);
    // With several tracks the declared length may belong to another one.
    let seconds = head.seconds.filter(|_| head.tracks.len() == 1);
    let mut entries: Vec<Entry> = head.tracks.into_iter().filter(|entry| entry.is_sound).collect();
    entries.sort_by_key(|entry| (!entry.is_enabled, !entry.is_default));
    let opened = entries.into_iter().map(|entry| {
        let (number, frame) = (entry.number, entry.frame);
        let (encodings, parameters) = entry.opened()?;
        let rate = parameters.sample_rate.unwrap_or(0);
        let mut track = Track::new(number as u32);
        if let Some(base) = TimeBase::try_from_recip(rate) {
            track.with_time_base(base);
        }
        if let Some(seconds) = seconds {
            track.with_num_frames((seconds * f64::from(rate)) as u64);
        }
        let keeps_padding = parameters.codec == CODEC_ID_AAC;
        track.padding = Some(u32::MAX);
        track.with_codec_params(CodecParameters::Audio(parameters));
        Ok((track, Played { number, encodings, rate, frame, keeps_padding }))
    });
    let (track, played) = first_decodable(opened)?;
    let reader = Reader {
        stream,
        place: clusters,
        end: 0,
        segment_end,
        listed,
        is_behind_music: false,
        is_damaged: false,
        track,
        played,
        frames: VecDeque::new(),
        samples: 0,
    };
    Ok(StreamReader::boxed(Box::new(reader), FORMAT))
}

/// Information before the music.
#[derive(Default)]
struct Head {
    /// Length of the whole file in seconds, if declared.
    seconds: Option<f64>,
    tracks: Vec<Entry>,
    /// End of the segment, if declared.
    segment_end: Option<u64>,
    /// Positions of elements other than clusters, as far as they are listed.
    listed: Vec<u64>,
}

impl Head {
    /// Reads everything up to the first cluster, or further if the tracks are listed only after it. Also returns where
    /// the clusters begin.
    fn read(stream: &mut Stream) -> Result<(Self, u64), AudioError> {
        let damaged = |error: std::io::Error| match error.kind() {
            ErrorKind::UnexpectedEof => AudioError::Damaged("it ends within what it says of its tracks".to_owned()),
            ErrorKind::InvalidData => AudioError::Damaged(format!("what it says of its tracks has {error}")),
            _ => AudioError::Read(error),
        };
        let mut head = Self::default();
        let (mut place, mut clusters, mut segment) = (0, None, 0);
        for _ in 0..MAX_ELEMENTS {
            let Found::Element(element) = ebml::at(stream, place).map_err(damaged)? else { break };
            match element.id {
                SEGMENT => {
                    (place, segment, head.segment_end) = (element.body, element.body, element.end);
                    continue;
                }
                CLUSTER => {
                    clusters = clusters.or(Some(place));
                    if !head.tracks.is_empty() {
                        break;
                    }
                    if element.end.is_none() {
                        place = element.body;
                        continue;
                    }
                }
                INFO | TRACKS | SEEK_HEAD => {
                    let Some(end) = element.end else { break };
                    stream.go(element.body).map_err(damaged)?;
                    let body = stream.bytes(end - element.body, MAX_HEADER_BYTES).map_err(damaged)?;
                    if element.id == INFO {
                        head.seconds = head.seconds.or(seconds(&body));
                    } else if element.id == SEEK_HEAD {
                        head.listed.extend(positions(&body).map(|position| segment.saturating_add(position)));
                    } else if head.tracks.is_empty() {
                        head.tracks =
                            ebml::read(&body).filter(|(id, _)| *id == 0xAE).map(|(_, it)| Entry::read(it)).collect();
                    }
                }
                _ => {}
            }
            let Some(end) = element.end else { break };
            place = end;
        }
        if head.tracks.is_empty() {
            return Err(AudioError::Damaged("it ends before it says what tracks it has".to_owned()));
        }
        Ok((head, clusters.unwrap_or(place)))
    }
}

/// The positions in the element `SeekHead`, relative to the start of the segment's content.
fn positions(seek_head: &[u8]) -> impl Iterator<Item = u64> {
    let seeks = ebml::read(seek_head).filter(|(id, _)| *id == SEEK);
    seeks
        .filter_map(|(_, seek)| ebml::read(seek).find(|(id, _)| *id == SEEK_POSITION))
        .map(|(_, it)| ebml::unsigned(it))
}

/// The length in the element `Info`.
fn seconds(info: &[u8]) -> Option<f64> {
    let (mut scale, mut duration) = (1_000_000, None);
    for (id, body) in ebml::read(info) {
        match id {
            0x002A_D7B1 => scale = ebml::unsigned(body),
            0x4489 => duration = Some(ebml::float(body)),
            _ => {}
        }
    }
    duration.map(|duration| duration * scale as f64 / NANOSECONDS).filter(|seconds| *seconds > 0.0)
}

/// A track in the list of tracks.
struct Entry {
    number: u64,
    is_sound: bool,
    is_enabled: bool,
    is_default: bool,
    /// Nanoseconds per frame, if declared.
    frame: u64,
    sound: Sound,
    encodings: Result<Encodings, AudioError>,
}

impl Entry {
    fn read(body: &[u8]) -> Self {
        let mut entry = Self {
            number: 0,
            is_sound: false,
            is_enabled: true,
            is_default: true,
            frame: 0,
            sound: Sound { rate: 8000.0, channels: 1, ..Sound::default() },
            encodings: Ok(Encodings::default()),
        };
        for (id, body) in ebml::read(body) {
            match id {
                0xD7 => entry.number = ebml::unsigned(body),
                0x83 => entry.is_sound = ebml::unsigned(body) == 2,
                0xB9 => entry.is_enabled = ebml::unsigned(body) != 0,
                0x88 => entry.is_default = ebml::unsigned(body) != 0,
                0x0023_E383 => entry.frame = ebml::unsigned(body),
                0x86 => {
                    let codec = String::from_utf8_lossy(body);
                    codec.trim_end_matches('\0').clone_into(&mut entry.sound.codec);
                }
                0x63A2 => entry.sound.private = body.to_vec(),
                0x6D80 => entry.encodings = Encodings::read(body),
                0xE1 => {
                    for (id, body) in ebml::read(body) {
                        match id {
                            0xB5 => entry.sound.rate = ebml::float(body),
                            0x78B5 => entry.sound.output_rate = Some(ebml::float(body)),
                            0x9F => entry.sound.channels = ebml::unsigned(body),
                            0x6264 => entry.sound.bits = ebml::unsigned(body),
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        entry
    }

    /// The frames' encodings, and the parameters for the decoder.
    fn opened(mut self) -> Result<(Encodings, AudioCodecParameters), AudioError> {
        let encodings = self.encodings?;
        let private = encodings.private(self.sound.private, MAX_HEADER_BYTES);
        let damaged = || AudioError::Damaged("the parameters of its codec cannot be decompressed".to_owned());
        self.sound.private = private.ok_or_else(damaged)?;
        Ok((encodings, self.sound.parameters()?))
    }
}

/// The selected track.
struct Played {
    number: u64,
    encodings: Encodings,
    /// Its rate in Hz.
    rate: u32,
    /// Nanoseconds per frame, or 0 if not declared.
    frame: u64,
    /// Whether the encoder's padding before and after the music is kept, as the peer does.
    keeps_padding: bool,
}

impl Played {
    /// Converts nanoseconds to samples.
    fn samples(&self, nanoseconds: u64) -> Duration {
        Duration::new((u128::from(nanoseconds) * u128::from(self.rate) / NANOSECONDS as u128) as u64)
    }

    /// The frames of a block, of which `discard` nanoseconds are cut off: at the end, or at the start if negative.
    fn frames(&self, block: &[u8], discard: i64) -> Vec<Frame> {
        let mut fields = Fields(block);
        let head = lacing::head(&mut fields);
        let frames = head.and_then(|head| lacing::frames(head, fields));
        // A damaged block becomes an empty frame, which counts as missing when it is decoded.
        let mut frames: Vec<Frame> =
            frames.unwrap_or_else(|| vec![&[]]).into_iter().map(|frame| self.frame(frame)).collect();
        let samples = if self.keeps_padding { Duration::ZERO } else { self.samples(discard.unsigned_abs()) };
        if discard > 0 {
            frames.last_mut().into_iter().for_each(|last| last.trim_end = samples);
        } else {
            frames.first_mut().into_iter().for_each(|first| first.trim_start = samples);
        }
        frames
    }

    fn frame(&self, frame: &[u8]) -> Frame {
        let data = self.encodings.frame(frame.to_vec(), MAX_BLOCK_BYTES).unwrap_or_default();
        Frame { data, trim_start: Duration::ZERO, trim_end: Duration::ZERO }
    }
}

/// Input of a single decoder call.
struct Frame {
    data: Vec<u8>,
    trim_start: Duration,
    trim_end: Duration,
}

/// Reads the packets of the selected track.
struct Reader {
    stream: Stream,
    /// Where the next element begins.
    place: u64,
    /// End of all elements begun so far, as far as it is known.
    end: u64,
    /// End of the segment, and positions of elements other than clusters, as far as they are declared.
    segment_end: Option<u64>,
    listed: Vec<u64>,
    /// Whether the elements after the clusters have begun.
    is_behind_music: bool,
    /// Whether a part of the declared content could not be read.
    is_damaged: bool,
    track: Track,
    played: Played,
    frames: VecDeque<Frame>,
    /// Samples of the packets so far, if the container declares their durations.
    samples: u64,
}

impl Reader {
    /// Moves to the track's next block; false at the end.
    fn next_block(&mut self) -> SymphoniaResult<bool> {
        loop {
            let element = match ebml::at(&mut self.stream, self.place)? {
                Found::Element(element) => element,
                Found::Noise => {
                    self.is_damaged |= self.place < self.end;
                    if self.find_cluster()? {
                        continue;
                    }
                    return self.ended();
                }
                Found::End => {
                    let length = self.stream.length();
                    let misses_more = self.segment_end.is_some_and(|end| end > length);
                    let misses_music = !self.is_behind_music && !self.listed.contains(&self.place);
                    self.is_damaged |= length < self.end || misses_more && misses_music;
                    return self.ended();
                }
            };
            self.is_behind_music = matches!(element.id, CUES | TAGS) || self.is_behind_music && element.id != CLUSTER;
            // An element of unknown length continues until another begins, so its content is read in place.
            self.place = match (element.id, element.end) {
                (SEGMENT | CLUSTER | BLOCK_GROUP, None) | (SEGMENT, Some(_)) => element.body,
                (CLUSTER, Some(end)) => {
                    self.end = self.end.max(end);
                    element.body
                }
                (_, Some(end)) => end,
                (_, None) => element.body,
            };
            if let (SIMPLE_BLOCK | BLOCK | BLOCK_GROUP, Some(end)) = (element.id, element.end) {
                self.end = self.end.max(end);
                if self.read_block(&element, end - element.body)? {
                    return Ok(true);
                }
            }
        }
    }

    /// Returns false for the end, or an error if data is missing.
    fn ended(&self) -> SymphoniaResult<bool> {
        if self.is_damaged { Err(IoError::from(ErrorKind::UnexpectedEof).into()) } else { Ok(false) }
    }

    /// Takes the frames of a block, or of a block group, if they belong to the track.
    fn read_block(&mut self, element: &Element, length: u64) -> SymphoniaResult<bool> {
        // No audio block is this large.
        if length > MAX_BLOCK_BYTES as u64 {
            return Ok(false);
        }
        self.stream.go(element.body)?;
        if element.id != BLOCK_GROUP {
            let start = self.stream.up_to::<12>()?;
            if !self.is_played(&start) {
                return Ok(false);
            }
            self.stream.go(element.body)?;
        }
        let body = self.stream.bytes(length, MAX_BLOCK_BYTES)?;
        let (mut block, mut discard) = (Some(&body[..]), 0);
        if element.id == BLOCK_GROUP {
            block = ebml::read(&body).find(|(id, _)| *id == BLOCK).map(|(_, block)| block);
            discard = ebml::read(&body).find(|(id, _)| *id == DISCARD_PADDING).map_or(0, |(_, it)| ebml::signed(it));
        }
        let Some(block) = block.filter(|block| self.is_played(block)) else { return Ok(false) };
        self.frames.extend(self.played.frames(block, discard));
        Ok(true)
    }

    fn is_played(&self, block: &[u8]) -> bool {
        ebml::number(&mut Fields(block)).is_some_and(|(track, _)| track == self.played.number)
    }

    /// Moves from unrecognised bytes to the next cluster, if there is one.
    fn find_cluster(&mut self) -> SymphoniaResult<bool> {
        let mut last = 0;
        self.stream.go(self.place)?;
        for searched in 1..=MAX_NOISE_BYTES {
            let Some([byte]) = self.stream.array()? else { break };
            last = last << 8 | u32::from(byte);
            if last == CLUSTER && searched >= 4 {
                self.place += searched - 4;
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl PacketStream for Reader {
    fn track(&self) -> &Track {
        &self.track
    }

    fn next_packet(&mut self) -> SymphoniaResult<Option<Packet>> {
        while self.frames.is_empty() {
            if !self.next_block()? {
                return Ok(None);
            }
        }
        let Some(frame) = self.frames.pop_front() else { return Ok(None) };
        let duration = self.played.samples(self.played.frame);
        let start = Timestamp::new(i64::try_from(self.samples).unwrap_or(i64::MAX));
        self.samples = self.samples.saturating_add(duration.get());
        let packet = PacketBuilder::new()
            .track_id(self.played.number as u32)
            .pts(start)
            .dur(duration)
            .trim_start(frame.trim_start)
            .trim_end(frame.trim_end)
            .data(frame.data);
        Ok(Some(packet.build()))
    }

    fn into_source(self: Box<Self>) -> MediaSourceStream<'static> {
        self.stream.into_inner()
    }
}
