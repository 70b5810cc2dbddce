//! Ogg (RFC 3533): the packets of its first audio track, and of those that follow in the same file.
//!
//! Nothing is held but the page that is being read and the packet that is being put together; comments and pictures, which
//! may be of any size, are passed over as they come.

mod mapping;
mod page;

use std::{collections::VecDeque, io::ErrorKind};

use symphonia::core::{
    errors::{Error as SymphoniaError, Result, decode_error},
    formats::{FormatInfo, FormatReader, Track, well_known::FORMAT_ID_OGG},
    io::MediaSourceStream,
    packet::Packet,
};

pub(super) use self::page::MARKER;
use self::{
    mapping::{Mapping, Measured},
    page::{Page, Pages},
};
use super::{
    reader::{PacketStream, StreamReader, hole, packet},
    window::Window,
};
use crate::AudioError;

const INFO: FormatInfo = FormatInfo { format: FORMAT_ID_OGG, short_name: "ogg", long_name: "Ogg" };

/// Bytes of the longest packet: eight channels of the largest FLAC block. What is longer is left out.
const MAX_PACKET_BYTES: usize = 4 * 1024 * 1024;

/// Bytes of a packet that tell whether it is of use.
const KIND_BYTES: usize = 8;

/// The packets of a file.
struct OggStream {
    pages: Pages,
    track: Track,
    /// What is read; none before it has begun.
    playing: Option<Playing>,
    /// Whether the tracks that begin together are still beginning.
    is_beginning: bool,
    /// The first page of what follows.
    next: Option<Page>,
    ready: VecDeque<Packet>,
}

/// A track of the file.
struct Playing {
    serial: u32,
    mapping: Mapping,
    /// The number that its next page should have.
    sequence: u32,
    /// What has come of the packet that goes on in the next page.
    partial: Partial,
    /// Position of the end of the latest page that has one.
    position: Option<i64>,
    /// Samples since then, as positions count them.
    counted: i64,
    /// Samples that a decoder gives beyond those that positions have counted.
    surplus: i64,
    /// Whether something before the next page is missing.
    is_behind_damage: bool,
}

/// A packet that is being put together.
enum Partial {
    None,
    Some(Vec<u8>),
    /// It is of no use, or its beginning is missing.
    PassedOver,
}

/// Opens a file of `length` bytes, if that is known, at its first page.
///
/// # Errors
/// When it cannot be read, or there is no track in it that can be decoded.
pub(super) fn open(window: Window, length: Option<u64>) -> std::result::Result<Box<dyn FormatReader>, AudioError> {
    let mut pages = Pages::new(window);
    let last = length.map(|length| pages.last_position(length)).transpose().map_err(AudioError::Read)?.flatten();
    let mut stream = OggStream {
        pages,
        track: Track::new(0),
        playing: None,
        is_beginning: true,
        next: None,
        ready: VecDeque::new(),
    };
    stream.begin()?;
    // As far as it takes to know where the music begins, and so how long it is.
    while let Some(playing) = stream.playing.as_ref().filter(|playing| playing.position.is_none())
        && stream.next.is_none()
    {
        let serial = playing.serial;
        let Some(page) = stream.pages.next().map_err(AudioError::Read)? else { break };
        stream.take(page)?;
        if let (Some((last_serial, end)), Some(position)) = (last, stream.playing.as_ref().and_then(|p| p.position))
            && serial == last_serial
        {
            let ready: u64 = stream.ready.iter().map(|packet| packet.dur.get()).sum();
            stream.track.num_frames = u64::try_from(end - position).ok().map(|samples| samples + ready);
        }
    }
    Ok(StreamReader::boxed(Box::new(stream), INFO))
}

impl OggStream {
    /// Reads until the headers of the first track that can be decoded are complete.
    fn begin(&mut self) -> std::result::Result<(), AudioError> {
        let mut error = AudioError::NoAudio;
        loop {
            let page = match self.next.take() {
                Some(page) => page,
                None => match self.pages.next().map_err(AudioError::Read)? {
                    Some(page) => page,
                    None => break,
                },
            };
            if !page.is_first {
                self.is_beginning = false;
            } else if !std::mem::replace(&mut self.is_beginning, true) {
                // Its headers never came.
                self.playing = None;
            }
            match &self.playing {
                Some(_) => self.take(page)?,
                None if page.is_first => match Mapping::of(page.pieces().next().unwrap_or_default().0) {
                    Ok(mapping) => self.playing = Some(Playing::new(mapping, &page)),
                    Err(AudioError::NoAudio) => {}
                    Err(other) => error = other,
                },
                None => {}
            }
            if let Some(track) = self.playing.as_ref().and_then(|playing| playing.mapping.track()) {
                self.track = track;
                return Ok(());
            }
        }
        Err(error)
    }

    /// Takes in a page of the track that is read, or of what follows it.
    fn take(&mut self, page: Page) -> std::result::Result<(), AudioError> {
        if page.is_first {
            if !self.is_beginning {
                self.next = Some(page);
            }
            return Ok(());
        }
        self.is_beginning = false;
        if let Some(playing) = self.playing.as_mut().filter(|playing| playing.serial == page.serial) {
            playing.take(&page, &mut self.ready)?;
        }
        Ok(())
    }
}

impl PacketStream for OggStream {
    fn track(&self) -> &Track {
        &self.track
    }

    fn next_packet(&mut self) -> Result<Option<Packet>> {
        loop {
            if let Some(packet) = self.ready.pop_front() {
                return Ok(Some(packet));
            }
            if self.next.is_some() {
                self.playing = None;
                if self.begin().is_err() {
                    // Nothing to decode in it.
                    self.track = Track::new(0);
                }
                return Err(SymphoniaError::ResetRequired);
            }
            let Some(page) = self.pages.next()? else {
                let is_cut = self.playing.take().is_some_and(|playing| !matches!(playing.partial, Partial::None));
                if is_cut || std::mem::take(&mut self.pages.is_cut) {
                    return Err(SymphoniaError::IoError(ErrorKind::UnexpectedEof.into()));
                }
                return Ok(None);
            };
            if self.take(page).is_err() {
                return decode_error("ogg: a header is damaged");
            }
        }
    }

    fn into_source(self: Box<Self>) -> MediaSourceStream<'static> {
        self.pages.into_source()
    }
}

impl Playing {
    fn new(mapping: Mapping, first: &Page) -> Self {
        Self {
            serial: first.serial,
            mapping,
            sequence: first.sequence.wrapping_add(1),
            partial: Partial::None,
            position: None,
            counted: 0,
            surplus: 0,
            is_behind_damage: false,
        }
    }

    /// Appends the packets that end in a page, and what is missing before them.
    fn take(&mut self, page: &Page, ready: &mut VecDeque<Packet>) -> std::result::Result<(), AudioError> {
        let has_partial = !matches!(self.partial, Partial::None);
        if page.sequence != self.sequence || page.is_continued != has_partial {
            self.is_behind_damage |= self.position.is_some();
            self.partial = if page.is_continued { Partial::PassedOver } else { Partial::None };
        }
        self.sequence = page.sequence.wrapping_add(1);
        let before = ready.len();
        for (piece, is_last) in page.pieces() {
            self.add(piece);
            if is_last
                && let Partial::Some(data) = std::mem::replace(&mut self.partial, Partial::None)
                && self.mapping.uses(&data)
                && let Some(Measured { data, counted, decoded }) = self.mapping.packet(data)?
            {
                self.counted += counted as i64;
                self.surplus += decoded as i64 - counted as i64;
                ready.push_back(packet(&data, decoded, (0, 0)));
            }
        }
        if let Some(position) = page.position.filter(|_| self.counted > 0 || ready.len() > before) {
            self.arrive(position, page.is_last, before, ready);
        }
        Ok(())
    }

    /// Notes where a page ends, whose packets are those from `before` on.
    fn arrive(&mut self, position: i64, is_last: bool, before: usize, ready: &mut VecDeque<Packet>) {
        // What a stream begins with that its positions do not count is no music.
        let start = self.position.unwrap_or(0).saturating_add(self.counted);
        let excess = start.saturating_sub(position);
        if is_last {
            trim_end(ready, excess.max(0).saturating_add(self.surplus));
        } else if self.position.is_none() {
            trim_start(ready, excess);
        } else if self.is_behind_damage && excess < 0 {
            ready.insert(before, hole(excess.unsigned_abs()));
        }
        self.is_behind_damage = false;
        self.position = Some(position);
        self.counted = 0;
    }

    fn add(&mut self, piece: &[u8]) {
        if let Partial::None = self.partial {
            self.partial = Partial::Some(Vec::new());
        }
        if let Partial::Some(data) = &mut self.partial {
            data.extend_from_slice(piece);
            let is_useless = data.len() >= KIND_BYTES && !self.mapping.uses(data);
            if is_useless || data.len() > MAX_PACKET_BYTES {
                self.partial = Partial::PassedOver;
            }
        }
    }
}

/// Drops samples of the first packets.
fn trim_start(packets: &mut VecDeque<Packet>, samples: i64) {
    let mut left = u64::try_from(samples).unwrap_or(0);
    for packet in packets {
        let trimmed = packet.dur.get().min(left);
        left -= trimmed;
        packet.trim_start = trimmed.into();
        packet.dur = (packet.dur.get() - trimmed).into();
    }
}

/// Drops samples of the last packets.
fn trim_end(packets: &mut VecDeque<Packet>, samples: i64) {
    let mut left = u64::try_from(samples).unwrap_or(0);
    for packet in packets.iter_mut().rev() {
        let trimmed = packet.dur.get().min(left);
        left -= trimmed;
        packet.trim_end = trimmed.into();
        packet.dur = (packet.dur.get() - trimmed).into();
    }
}
