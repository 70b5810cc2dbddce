//! Ogg (RFC 3533): the packets of its first audio track, and of tracks that follow in the same file.
//!
//! Only the current page and the packet being assembled are kept in memory; comments and pictures, which may be of any
//! size, are skipped as they arrive.

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

/// Maximum size of a packet: eight channels of the largest FLAC block. Longer packets are skipped.
const MAX_PACKET_BYTES: usize = 4 * 1024 * 1024;

/// Number of bytes that suffice to decide whether a packet is needed.
const KIND_BYTES: usize = 8;

/// The packets of a file.
struct OggStream {
    pages: Pages,
    track: Track,
    /// The current track; none before it has begun.
    playing: Option<Playing>,
    /// Whether the file is still at the first pages of tracks that begin together.
    is_beginning: bool,
    /// The first page of the next track.
    next: Option<Page>,
    ready: VecDeque<Packet>,
}

/// A track of the file.
struct Playing {
    serial: u32,
    mapping: Mapping,
    /// Expected number of its next page.
    sequence: u32,
    /// The part read so far of a packet that continues on the next page.
    partial: Partial,
    /// Position at the end of the latest page that has one.
    position: Option<i64>,
    /// Samples since then, as counted by positions.
    counted: i64,
    /// Samples that the decoder outputs beyond those counted by positions.
    surplus: i64,
    /// Whether data before the next page is missing.
    is_behind_damage: bool,
}

/// A packet being assembled.
enum Partial {
    None,
    Some(Vec<u8>),
    /// Not needed, or its beginning is missing.
    PassedOver,
}

/// Opens a file at its first page. `length` is the file's size in bytes, if known.
///
/// # Errors
/// When the file cannot be read, or has no track that can be decoded.
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
    // Reads until the position where the music begins is known, and so its length.
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
    /// Reads until the headers of the first decodable track are complete.
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
                // This track's headers are incomplete.
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

    /// Processes a page of the current track, or keeps the first page of the next one.
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
                    // The next track cannot be decoded.
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

    /// Appends the packets that end in this page, and a hole for what is missing before them.
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

    /// Processes a page's end position. Its packets begin at index `before`.
    fn arrive(&mut self, position: i64, is_last: bool, before: usize, ready: &mut VecDeque<Packet>) {
        // Samples at a stream's start that its positions do not count are not music.
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

/// Drops samples from the first packets.
fn trim_start(packets: &mut VecDeque<Packet>, samples: i64) {
    let mut left = u64::try_from(samples).unwrap_or(0);
    for packet in packets {
        let trimmed = packet.dur.get().min(left);
        left -= trimmed;
        packet.trim_start = trimmed.into();
        packet.dur = (packet.dur.get() - trimmed).into();
    }
}

/// Drops samples from the last packets.
fn trim_end(packets: &mut VecDeque<Packet>, samples: i64) {
    let mut left = u64::try_from(samples).unwrap_or(0);
    for packet in packets.iter_mut().rev() {
        let trimmed = packet.dur.get().min(left);
        left -= trimmed;
        packet.trim_end = trimmed.into();
        packet.dur = (packet.dur.get() - trimmed).into();
    }
}
