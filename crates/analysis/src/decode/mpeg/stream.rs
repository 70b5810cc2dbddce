//! Finds the frames of a file, regardless of other data before, between and after them.

use std::{collections::VecDeque, io::Result as IoResult};

use symphonia::core::{
    codecs::{CodecParameters, audio::AudioCodecParameters},
    errors::Result,
    formats::{FormatInfo, FormatReader, Track, well_known::FORMAT_ID_MP3},
    io::MediaSourceStream,
    packet::Packet,
};

use super::{
    super::{
        reader::{PacketStream, StreamReader, hole_of, packet},
        sync::{self, FIRST_FRAMES, FrameHeader, Search},
        tags,
        window::Window,
    },
    codec,
    header::{HEADER_BYTES, Header},
    info::Info,
};

const INFO: FormatInfo = FormatInfo { format: FORMAT_ID_MP3, short_name: "mpa", long_name: "MPEG audio" };

/// Number of frames passed to the decoder for each frame in free format: the two next frames reveal its length, and one
/// more allows for padding.
const FREE_FRAMES: usize = 4;

/// Reads the frames of a file from its start. `length` is the file's size in bytes, if known. Returns none if there are
/// no frames.
///
/// # Errors
/// When the file cannot be read.
pub(in super::super) fn open(
    mut window: Window,
    length: Option<u64>,
    search: Search,
) -> IoResult<Option<Box<dyn FormatReader>>> {
    let Some(mut header) = sync::first::<Header>(&mut window, search)? else { return Ok(None) };
    let at = window.at();
    if let Some(length) = length {
        let end = tags::start_of_last(&mut window, length)?;
        window.go(at)?;
        window.end_at(end.max(at));
    }
    let info = window.ahead(header.bytes)?.get(..header.bytes).and_then(|frame| Info::parse(frame, &header));
    if info.is_some() {
        window.skip(header.bytes as u64)?;
        // The info frame need not be of the same kind as the music frames.
        if let Some(next) = Header::parse(window.ahead(HEADER_BYTES)?) {
            header = next;
        }
    }
    let info = info.unwrap_or_default();
    let follow = length.map(|length| length.saturating_sub(window.at()));
    let frames = info.believable_frames(&header, follow);
    let mut parameters = AudioCodecParameters::new();
    parameters.for_codec(codec(&header)).with_sample_rate(header.rate);
    let mut track = Track::new(0);
    track.with_codec_params(CodecParameters::Audio(parameters));
    if let Some(frames) = frames {
        let samples = frames.saturating_mul(header.samples as u64);
        track.with_num_frames(samples.saturating_sub(info.delay + info.padding));
    }
    let stream = MpegStream {
        window,
        length: length.unwrap_or(u64::MAX),
        track,
        header,
        frames,
        delay: info.delay,
        padding: info.padding,
        held: VecDeque::new(),
        ready: VecDeque::new(),
        taken: Taken::default(),
        is_at_end: false,
    };
    Ok(Some(StreamReader::boxed(Box::new(stream), INFO)))
}

/// The frames of a file.
struct MpegStream {
    window: Window,
    /// Size of the file in bytes.
    length: u64,
    track: Track,
    /// Header of the latest frame.
    header: Header,
    /// Number of frames declared by the info frame.
    frames: Option<u64>,
    /// Samples still to be dropped at the start, and at the end.
    delay: u64,
    padding: u64,
    /// Frames held back because they may be the last, which lose the padding.
    held: VecDeque<Packet>,
    ready: VecDeque<Packet>,
    taken: Taken,
    is_at_end: bool,
}

/// Totals read so far.
#[derive(Default)]
struct Taken {
    frames: u64,
    samples: u64,
    bytes: u64,
}

impl MpegStream {
    /// Reads a frame or a tag, or skips unknown data.
    fn advance(&mut self) -> IoResult<()> {
        let bytes = self.window.ahead(FIRST_FRAMES * Header::MAX_FRAME_BYTES)?;
        let next = Header::parse(bytes)
            .filter(|next| next.goes_on_as(&self.header) || sync::chain::<Header>(bytes, FIRST_FRAMES).is_some());
        if let Some(header) = next {
            let Some(frame) = bytes.get(..header.bytes) else {
                // The file ends within this frame.
                self.end_part();
                self.is_at_end = true;
                return Ok(());
            };
            let begins_part = self.taken.frames > 0 && Info::parse(frame, &header).is_some();
            let samples = header.samples as u64;
            let start = self.delay.min(samples);
            self.delay -= start;
            // In free format the decoder derives a frame's length from the following frames, as the header parser does.
            let data = if header.is_free { &bytes[..bytes.len().min(FREE_FRAMES * header.bytes)] } else { frame };
            let packet = packet(data, samples - start, (start, 0));
            if begins_part {
                self.end_part();
            }
            self.hold(packet, samples);
            self.header = header;
            self.taken.frames += 1;
            self.taken.samples += samples;
            self.taken.bytes += header.bytes as u64;
            return self.window.skip(header.bytes as u64);
        }
        if bytes.is_empty() {
            self.end_part();
            self.is_at_end = true;
            return Ok(());
        }
        // A tag that would be longer than the rest of the file is not a tag.
        let rest = self.length.saturating_sub(self.window.at());
        if let Some(length) = tags::next(&mut self.window)?.filter(|&length| length <= rest) {
            // Tags may also lie between frames.
            if self.has_all_frames() {
                self.end_part();
            }
            return self.window.skip(length);
        }
        let before = self.window.at();
        if let Some(header) = sync::find(&mut self.window, Some(&self.header))? {
            let skipped = self.window.at() - before;
            self.hold(hole_of(skipped, self.taken.samples, self.taken.bytes), header.samples as u64);
            self.header = header;
        }
        Ok(())
    }

    /// Holds back a packet until enough follow that it contains no padding.
    fn hold(&mut self, packet: Packet, samples: u64) {
        self.held.push_back(packet);
        while self.held.len() as u64 > self.padding.div_ceil(samples) {
            self.ready.extend(self.held.pop_front());
        }
    }

    /// Whether the file may end here, according to the info frame.
    fn has_all_frames(&self) -> bool {
        self.frames.is_none_or(|frames| self.taken.frames >= frames)
    }

    /// Drops the padding at the end of the file, or at the end of the first of several joined files.
    fn end_part(&mut self) {
        let mut padding = if self.has_all_frames() { self.padding } else { 0 };
        for packet in self.held.iter_mut().rev() {
            let trimmed = packet.dur.get().min(padding);
            padding -= trimmed;
            packet.trim_end = trimmed.into();
            packet.dur = (packet.dur.get() - trimmed).into();
        }
        self.ready.append(&mut self.held);
        if self.taken.frames > 0 {
            self.padding = 0;
        }
    }
}

impl PacketStream for MpegStream {
    fn track(&self) -> &Track {
        &self.track
    }

    fn next_packet(&mut self) -> Result<Option<Packet>> {
        while self.ready.is_empty() && !self.is_at_end {
            self.advance()?;
        }
        Ok(self.ready.pop_front())
    }

    fn into_source(self: Box<Self>) -> MediaSourceStream<'static> {
        self.window.into_source()
    }
}
