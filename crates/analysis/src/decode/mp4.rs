//! ISO base media files (ISO/IEC 14496-12: MP4, M4A, M4B, 3GP) and their ancestor QuickTime: splits the selected track
//! into packets.
//!
//! symphonia's reader ignores edit lists, and supports neither several sample entries nor most of QuickTime's features.

mod boxes;
mod edits;
mod entry;
mod fragments;
mod table;

use std::io::{Error as IoError, ErrorKind, Result as IoResult};

use symphonia::core::{
    codecs::{
        CodecParameters,
        audio::{
            AudioCodecParameters,
            well_known::{CODEC_ID_AAC, CODEC_ID_MP1, CODEC_ID_MP2, CODEC_ID_MP3, CODEC_ID_OPUS, CODEC_ID_VORBIS},
        },
    },
    errors::{Error as SymphoniaError, Result as SymphoniaResult, decode_error},
    formats::{FormatInfo, FormatReader, Track, well_known::FORMAT_ID_ISOMP4},
    io::MediaSourceStream,
    packet::{Packet, PacketBuilder},
    units::{Duration, TimeBase, Timestamp},
};

use self::{
    boxes::{FileBox, Name},
    edits::{Clocks, Edit},
    entry::Entry,
    fragments::{Defaults, Fragments},
    table::{Sample, Table},
};
use super::{
    codec::{first_decodable, unsupported},
    mpeg,
    reader::{PacketStream, StreamReader},
    stream::{Fields, Stream},
};
use crate::AudioError;

/// Maximum number of top-level boxes to visit in search of the index.
const MAX_FILE_BOXES: usize = 10_000;

/// Maximum number of boxes in a box. Writers use a few dozen at most, tracks included.
const MAX_BOXES: usize = 1000;

/// Maximum size of a box that is read as a whole. The largest is the description of a track's codec.
const MAX_BOX_BYTES: usize = 1024 * 1024;

/// Maximum size of a packet. FLAC's largest block, of 65 535 frames of eight channels, has 2 MiB.
const MAX_PACKET_BYTES: usize = 8 * 1024 * 1024;

/// Maximum number of AAC packets that encoders put before the music: Apple's 2112 samples, 5186 with HE-AAC. If an edit
/// list cuts off samples within them, these are the encoder's delay, which the peer keeps.
const PRIMING_PACKETS: u64 = 3;

const FORMAT: FormatInfo =
    FormatInfo { format: FORMAT_ID_ISOMP4, short_name: "isomp4", long_name: "ISO Base Media File Format" };

/// Whether a file with this start is MP4 or QuickTime. QuickTime files need not begin with `ftyp`.
pub(super) fn is_mp4(start: &[u8]) -> bool {
    let mut fields = Fields(start);
    let (Some(length), Some(name)) = (fields.u32(), fields.array::<4>()) else { return false };
    let is_length = length >= 8 || length == 1 || length == 0 && name == *b"mdat";
    is_length
        && matches!(
            &name,
            b"ftyp" | b"moov" | b"mdat" | b"wide" | b"free" | b"skip" | b"pnot" | b"uuid" | b"styp" | b"moof" | b"sidx"
        )
}

/// Reads the structure of a file whose boxes begin at `start`, up to its first packet.
///
/// # Errors
/// When the file ends before its index, has no audio track, or none that can be decoded.
pub(super) fn open(mut stream: Stream, start: u64) -> Result<Box<dyn FormatReader>, AudioError> {
    let index = index(&mut stream, start)?;
    let movie = boxes::within(&mut stream, &index, MAX_BOXES).map_err(damaged)?;
    if movie.iter().any(|part| part.name == *b"cmov") {
        return Err(unsupported("QuickTime with a compressed index (cmov)"));
    }
    let header = body(&mut stream, &movie, *b"mvhd").map_err(damaged)?;
    let (scale, length) = header.as_deref().and_then(clock).unwrap_or_default();
    let extension = body(&mut stream, &movie, *b"mvex").map_err(damaged)?;
    let mut parts = Vec::new();
    let tracks: Vec<_> = movie.iter().filter(|part| part.name == *b"trak").collect();
    for part in &tracks {
        parts.extend(TrackParts::read(&mut stream, part).map_err(damaged)?);
    }
    // Other tracks may be longer than the selected one.
    let is_alone = tracks.len() == 1;
    let seconds = match extension.as_deref().filter(|_| is_alone) {
        Some(extension) => {
            let length = length.max(fragments::length(extension).unwrap_or(0)) as f64 / f64::from(scale.max(1));
            length.max(indexed_seconds(&mut stream, start).map_err(damaged)?)
        }
        None => 0.0,
    };
    // Disabled tracks are alternatives, such as another language.
    parts.sort_by_key(|parts| !parts.is_enabled);
    let movie = Movie { scale, seconds, extension, start, end: index.end };
    let opened = parts.into_iter().map(|parts| {
        let played = Played::open(&mut stream, parts, &movie)?;
        Ok((played.track(), played))
    });
    let (track, played) = first_decodable(opened)?;
    Ok(StreamReader::boxed(Box::new(Reader { stream, played, track }), FORMAT))
}

/// Parameters from a QuickTime sample description, for containers that carry one.
///
/// # Errors
/// As [`open`].
pub(super) fn quicktime_entry(name: Name, entry: &[u8]) -> Result<AudioCodecParameters, AudioError> {
    entry::read(name, entry, true).map(|entry| entry.parameters)
}

/// Finds the index of a file, the box `moov`.
fn index(stream: &mut Stream, start: u64) -> Result<FileBox, AudioError> {
    let mut place = start;
    for _ in 0..MAX_FILE_BOXES {
        let Some(found) = boxes::at(stream, place, stream.length()).map_err(damaged)? else { break };
        if found.name == *b"moov" && !found.is_cut {
            return Ok(found);
        }
        place = found.end;
    }
    Err(AudioError::Damaged("it ends before its index (the box moov)".to_owned()))
}

/// The base of the offsets in a file's tables when a tag precedes the boxes, which begin at `start`. If a program put the
/// tag before a finished file, it is `start`. It is 0 if only then the chunks lie inside the media data, or if the first
/// chunk then lies at the beginning of the media data.
fn base(stream: &mut Stream, start: u64, table: &Table) -> IoResult<u64> {
    let Some((first, last)) = table.first_and_last_offset().filter(|_| start > 0) else { return Ok(start) };
    let mut place = start;
    for _ in 0..MAX_FILE_BOXES {
        let Some(found) = boxes::at(stream, place, stream.length())? else { break };
        let holds_all = |base: u64| {
            [first, last].iter().all(|offset| (found.body..found.end).contains(&offset.saturating_add(base)))
        };
        if found.name == *b"mdat" && holds_all(0) && (!holds_all(start) || first == found.body) {
            return Ok(0);
        }
        place = found.end;
    }
    Ok(start)
}

/// Converts a failure to read the index.
fn damaged(error: IoError) -> AudioError {
    match error.kind() {
        ErrorKind::UnexpectedEof => AudioError::Damaged("it ends within its index".to_owned()),
        ErrorKind::InvalidData => AudioError::Damaged(format!("its index has {error}")),
        _ => AudioError::Read(error),
    }
}

/// Content of the first box with a name, if there is one.
fn body(stream: &mut Stream, boxes: &[FileBox], name: Name) -> IoResult<Option<Vec<u8>>> {
    let Some(found) = boxes.iter().find(|found| found.name == name) else { return Ok(None) };
    stream.go(found.body)?;
    stream.bytes(found.length(), MAX_BOX_BYTES).map(Some)
}

/// Clock units per second in a box `mvhd` or `mdhd`, and the length in these units, 0 if unknown.
fn clock(header: &[u8]) -> Option<(u32, u64)> {
    let mut fields = Fields(header);
    let is_long = fields.u32()? >> 24 == 1;
    fields.take(if is_long { 16 } else { 8 })?;
    let scale = fields.u32()?;
    let unknown = if is_long { u64::MAX } else { u64::from(u32::MAX) };
    Some((scale, fields.u32_or_64(is_long).filter(|&length| length != unknown).unwrap_or(0)))
}

/// Total seconds of the fragments listed before the first fragment (box `sidx`, ISO/IEC 14496-12, section 8.16.3).
fn indexed_seconds(stream: &mut Stream, start: u64) -> IoResult<f64> {
    let mut place = start;
    let mut seconds = 0.0;
    for _ in 0..MAX_BOXES {
        let Some(found) = boxes::at(stream, place, stream.length())?.filter(|found| found.name != *b"moof") else {
            break;
        };
        if found.name == *b"sidx" && !found.is_cut && found.length() <= MAX_BOX_BYTES as u64 {
            stream.go(found.body)?;
            seconds += fragments::indexed_seconds(&stream.bytes(found.length(), MAX_BOX_BYTES)?).unwrap_or(0.0);
        }
        place = found.end;
    }
    Ok(seconds)
}

/// Properties shared by all tracks.
struct Movie {
    /// Units per second of its clock.
    scale: u32,
    /// Length in seconds including all fragments; 0 if not declared.
    seconds: f64,
    /// The fragments' common properties, if there are fragments.
    extension: Option<Vec<u8>>,
    /// Start of the first box, and end of the index.
    start: u64,
    end: u64,
}

/// The boxes of an audio track.
struct TrackParts {
    id: u32,
    is_enabled: bool,
    /// Units per second of its clock.
    scale: u32,
    edits: Option<Vec<u8>>,
    /// The sample tables.
    tables: Vec<FileBox>,
    /// The sample entries, and whether they are QuickTime's kind.
    entries: Vec<(Name, Vec<u8>)>,
    is_quicktime: bool,
}

impl TrackParts {
    /// None if the track is not audio.
    fn read(stream: &mut Stream, track: &FileBox) -> IoResult<Option<Self>> {
        let track = boxes::within(stream, track, MAX_BOXES)?;
        let inside = |stream: &mut Stream, boxes: &[FileBox], name: Name| match boxes.iter().find(|it| it.name == name)
        {
            Some(found) => boxes::within(stream, found, MAX_BOXES),
            None => Ok(Vec::new()),
        };
        let media = inside(stream, &track, *b"mdia")?;
        let handler = body(stream, &media, *b"hdlr")?;
        if handler.is_none_or(|handler| handler.get(8..12) != Some(b"soun")) {
            return Ok(None);
        }
        let header = body(stream, &track, *b"tkhd")?.unwrap_or_default();
        let mut header = Fields(&header);
        let flags = header.u32().unwrap_or(1);
        header.take(if flags >> 24 == 1 { 16 } else { 8 });
        let id = header.u32().unwrap_or(0);
        let scale = body(stream, &media, *b"mdhd")?.as_deref().and_then(clock).map_or(0, |clock| clock.0);
        let edits = inside(stream, &track, *b"edts")?;
        let edits = body(stream, &edits, *b"elst")?;
        let information = inside(stream, &media, *b"minf")?;
        let tables = inside(stream, &information, *b"stbl")?;
        let entries = body(stream, &tables, *b"stsd")?.unwrap_or_default();
        Ok(Some(Self {
            id,
            is_enabled: flags & 1 == 1,
            scale,
            edits,
            tables,
            is_quicktime: entries.first() == Some(&0),
            entries: boxes::read(entries.get(8..).unwrap_or(&[])).map(|(name, body)| (name, body.to_vec())).collect(),
        }))
    }

    /// The entry with a number, counted from 1.
    fn entry(&self, number: u32) -> Result<Entry, AudioError> {
        let index = (number as usize).saturating_sub(1);
        let entry = self.entries.get(index).or(self.entries.first());
        let Some((name, body)) = entry else { return Err(AudioError::NoAudio) };
        let mut entry = entry::read(*name, body, self.is_quicktime)?;
        if entry.parameters.sample_rate.unwrap_or(0) == 0 {
            entry.parameters.with_sample_rate(self.scale);
        }
        Ok(entry)
    }

    /// Whether two numbers refer to equal entries, as is common in files that were joined.
    fn are_alike(&self, a: u32, b: u32) -> bool {
        let entry = |number: u32| self.entries.get((number as usize).saturating_sub(1));
        a == b || entry(a) == entry(b)
    }
}

/// The selected track.
struct Played {
    parts: TrackParts,
    entry: Entry,
    /// Number of the current entry.
    number: u32,
    table: Table,
    fragments: Option<Fragments>,
    /// Length of all fragments in seconds; 0 if not declared.
    seconds: f64,
    edits: Vec<Edit>,
    /// Index of the current edit.
    edit: usize,
    /// A sample held back because it begins another entry.
    held: Option<Sample>,
    /// The remaining part of a chunk of MPEG audio.
    rest: Option<Sample>,
}

impl Played {
    fn open(stream: &mut Stream, parts: TrackParts, movie: &Movie) -> Result<Self, AudioError> {
        let mut table = Table::read(stream, &parts.tables).map_err(damaged)?;
        table.base = base(stream, movie.start, &table).map_err(damaged)?;
        let end = table.end();
        let fragments = || {
            let defaults = Defaults::of(movie.extension.as_deref()?, parts.id).unwrap_or_default();
            Some(Fragments::new(parts.id, defaults, (movie.start, movie.end), end))
        };
        let first = match (table.first_entry(), fragments()) {
            (None, Some(mut fragments)) => fragments.next(stream).map_err(damaged)?,
            _ => None,
        };
        let number = table.first_entry().or(first.map(|sample| sample.entry)).unwrap_or(1).max(1);
        let entry = parts.entry(number)?;
        table.pack(entry.packing);
        let clocks = Clocks { movie: movie.scale, track: parts.scale, end };
        let edits = match movie.extension {
            None => edits::read(parts.edits.as_deref(), clocks),
            // Lengths were written before the fragments existed, so only the start of the first edit is valid.
            Some(_) => {
                let list = edits::read(parts.edits.as_deref(), Clocks { end: u64::MAX, ..clocks });
                list.first().map(|edit| Edit { end: u64::MAX, ..*edit }).into_iter().collect()
            }
        };
        let fragments = fragments();
        let seconds = movie.seconds;
        let mut played =
            Self { parts, entry, number, table, fragments, seconds, edits, edit: 0, held: None, rest: None };
        if let Some(sample) = first.or_else(|| played.table.next()) {
            played.look_at(stream, sample)?;
            let delay = played.delay(sample.duration);
            if let Some(edit) = played.edits.first_mut().filter(|edit| edit.start <= delay) {
                edit.start = 0;
            }
        }
        played.begin_edit();
        Ok(played)
    }

    /// For MPEG audio, only a frame reveals the layer and the rate.
    fn look_at(&mut self, stream: &mut Stream, sample: Sample) -> Result<(), AudioError> {
        if self.entry.parameters.codec == CODEC_ID_MP3 {
            match mpeg_frame(stream, sample.offset) {
                Ok(Some(frame)) => drop(self.entry.parameters.for_codec(frame.codec).with_sample_rate(frame.rate)),
                Ok(None) => {}
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => {}
                Err(error) => return Err(AudioError::Read(error)),
            }
        }
        Ok(())
    }

    /// The first frame of a chunk of MPEG audio; the rest of the chunk follows later.
    fn first_frame(&mut self, stream: &mut Stream, chunk: Sample) -> IoResult<Sample> {
        let Some(frame) = mpeg_frame(stream, chunk.offset)? else { return Err(ErrorKind::InvalidData.into()) };
        let lasts =
            (frame.samples * u64::from(self.parts.scale) / u64::from(frame.rate)).clamp(1, chunk.duration.max(1));
        let rest = Sample {
            offset: chunk.offset.saturating_add(frame.bytes),
            time: chunk.time.saturating_add(lasts),
            duration: chunk.duration.saturating_sub(lasts),
            ..chunk
        };
        self.rest = Some(rest).filter(|rest| rest.duration > 0);
        Ok(Sample { bytes: frame.bytes, duration: lasts, ..chunk })
    }

    /// Maximum encoder delay before the music, on the track's clock. For Opus, the decoder drops the pre-skip itself.
    fn delay(&self, packet: u64) -> u64 {
        match self.entry.parameters.codec {
            CODEC_ID_AAC => PRIMING_PACKETS * packet,
            CODEC_ID_OPUS => {
                let header = self.entry.parameters.extra_data.as_deref().unwrap_or_default();
                let skip = header.get(10..).and_then(|header| Fields(header).u16()).unwrap_or(0);
                (u64::from(skip) * u64::from(self.parts.scale)).div_ceil(u64::from(super::opus::RATE))
            }
            _ => 0,
        }
    }

    /// Number of packets to decode before the first audible one, because they influence it.
    fn preroll(&self) -> u64 {
        match self.entry.parameters.codec {
            // Its windows overlap.
            CODEC_ID_AAC => 2,
            // Its windows overlap: the first packet yields no samples.
            CODEC_ID_VORBIS => 1,
            // 80 ms (RFC 7845, section 4.6), in packets of at least 2.5 ms.
            CODEC_ID_OPUS => 32,
            // The bit reservoir.
            CODEC_ID_MP1 | CODEC_ID_MP2 | CODEC_ID_MP3 => 10,
            _ => 0,
        }
    }

    fn rate(&self) -> u32 {
        self.entry.parameters.sample_rate.unwrap_or(0)
    }

    /// Converts a time on the track's clock to samples.
    fn samples(&self, time: u64) -> u64 {
        let samples = u128::from(time) * u128::from(self.rate()) / u128::from(self.parts.scale.max(1));
        u64::try_from(samples).unwrap_or(u64::MAX)
    }

    fn track(&self) -> Track {
        let mut track = Track::new(self.parts.id);
        track.with_codec_params(CodecParameters::Audio(self.entry.parameters.clone()));
        // Everything that the edit list cuts off may be dropped.
        track.padding = Some(u32::MAX);
        if let Some(base) = TimeBase::try_from_recip(self.rate()) {
            track.with_time_base(base);
        }
        let is_one = (1..=self.parts.entries.len() as u32).all(|number| self.parts.are_alike(number, 1));
        if self.fragments.is_none() && is_one {
            let lengths = self.edits.iter().map(|edit| self.samples(edit.end - edit.start));
            track.with_num_frames(lengths.fold(0, u64::saturating_add));
        }
        if self.fragments.is_some() && is_one && self.seconds > 0.0 {
            let start = self.edits.first().map_or(0, |edit| self.samples(edit.start));
            track.with_num_frames(((self.seconds * f64::from(self.rate())) as u64).saturating_sub(start));
        }
        track
    }

    /// Seeks to the start of the next edit. Fragments have only one.
    fn begin_edit(&mut self) {
        self.rest = None;
        if let Some(edit) = self.edits.get(self.edit) {
            let preroll = if edit.start > 0 { self.preroll() } else { 0 };
            self.table.seek(edit.start, preroll);
        }
    }

    /// The next sample that is audible or needed to decode an audible one, with its edit.
    fn next(&mut self, stream: &mut Stream) -> IoResult<Option<(Sample, Edit)>> {
        while let Some(&edit) = self.edits.get(self.edit) {
            let sample = match (self.held.take().or(self.rest.take()), self.table.gives_chunks()) {
                (Some(sample), false) => Some(sample),
                (None, false) => self.table.next(),
                (chunk, true) => match chunk.or_else(|| self.table.next()) {
                    Some(chunk) => Some(self.first_frame(stream, chunk)?),
                    None => None,
                },
            };
            let sample = match (sample, &mut self.fragments) {
                (None, Some(fragments)) => fragments.next(stream)?,
                (sample, _) => sample,
            };
            if let Some(sample) = sample.filter(|sample| sample.time < edit.end) {
                // If an edit begins in a fragment, all samples before it serve as preroll; a search is not worthwhile.
                return Ok(Some((sample, edit)));
            }
            self.edit += 1;
            self.begin_edit();
        }
        Ok(None)
    }

    /// Builds a packet for a sample; parts outside the edit are marked to be trimmed after decoding.
    fn packet(&self, sample: Sample, edit: Edit, data: Vec<u8>) -> Packet {
        let end = sample.time.saturating_add(sample.duration);
        let (start, length) = (self.samples(sample.time), self.samples(end) - self.samples(sample.time));
        let before = self.samples(edit.start).saturating_sub(start).min(length);
        // The peer plays AAC's last packet as a whole.
        let is_kept = self.entry.parameters.codec == CODEC_ID_AAC && self.edit + 1 == self.edits.len();
        let behind =
            if is_kept { 0 } else { (start + length).saturating_sub(self.samples(edit.end)).min(length - before) };
        PacketBuilder::new()
            .track_id(self.parts.id)
            .pts(Timestamp::new(i64::try_from(start).unwrap_or(i64::MAX)))
            .dur(Duration::new(length - before - behind))
            .trim_start(Duration::new(before))
            .trim_end(Duration::new(behind))
            .data(data)
            .build()
    }
}

/// The MPEG audio frame at a position, if there is one.
fn mpeg_frame(stream: &mut Stream, place: u64) -> IoResult<Option<mpeg::Frame>> {
    stream.go(place)?;
    Ok(stream.array::<4>()?.and_then(|header| mpeg::frame(&header)))
}

/// Reads the packets of the selected track.
struct Reader {
    stream: Stream,
    played: Played,
    track: Track,
}

impl PacketStream for Reader {
    fn track(&self) -> &Track {
        &self.track
    }

    fn next_packet(&mut self) -> SymphoniaResult<Option<Packet>> {
        let Some((sample, edit)) = self.played.next(&mut self.stream)? else { return Ok(None) };
        if !self.played.parts.are_alike(sample.entry, self.played.number) {
            return self.change(sample);
        }
        self.stream.go(sample.offset)?;
        let data = self.stream.bytes(sample.bytes, MAX_PACKET_BYTES)?;
        Ok(Some(self.played.packet(sample, edit, data)))
    }

    fn into_source(self: Box<Self>) -> MediaSourceStream<'static> {
        self.stream.into_inner()
    }
}

impl Reader {
    /// A sample with another entry starts a new track for the decoder.
    fn change(&mut self, sample: Sample) -> SymphoniaResult<Option<Packet>> {
        self.played.number = sample.entry;
        let Ok(entry) = self.played.parts.entry(sample.entry) else {
            return decode_error("mp4: the codec changes to one without a decoder");
        };
        self.played.table.pack(entry.packing);
        self.played.entry = entry;
        self.played.held = Some(sample);
        self.track = self.played.track();
        Err(SymphoniaError::ResetRequired)
    }
}
