//! The sample tables of a track (ISO/IEC 14496-12, sections 8.6.1 and 8.7): positions, sizes and durations of its
//! samples. They are kept as in the file, so that even a track of a day takes no more memory than its tables.

use std::io::Result;

use super::{
    super::stream::{Fields, Stream},
    boxes::FileBox,
    entry::Packing,
};

/// Maximum size of a table: four bytes for each of the 4 million packets in 24 hours of AAC.
const MAX_TABLE_BYTES: usize = 16 * 1024 * 1024;

/// Frames grouped into one packet when samples are single frames, as in PCM.
pub(super) const PIECE_FRAMES: u32 = 4096;

/// A piece of a track, decoded in one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sample {
    /// Position in the file.
    pub(super) offset: u64,
    pub(super) bytes: u64,
    /// Start on the track's clock, and duration.
    pub(super) time: u64,
    pub(super) duration: u64,
    /// Number of its sample entry, from 1.
    pub(super) entry: u32,
}

/// Rows of numbers of equal width, as stored in the file.
#[derive(Default)]
struct Rows {
    bytes: Vec<u8>,
    width: usize,
}

impl Rows {
    fn count(&self) -> u64 {
        (self.bytes.len() / self.width.max(1)) as u64
    }

    fn row(&self, index: u64) -> Option<Fields<'_>> {
        let start = usize::try_from(index).ok()?.checked_mul(self.width)?;
        self.bytes.get(start..)?.get(..self.width).map(Fields)
    }
}

/// Lengths of samples in bytes.
enum Sizes {
    /// A common size, and the number of samples.
    Same(u32, u64),
    /// Individual sizes: the bytes, the bits per size, and the number of samples.
    Each(Vec<u8>, u8, u64),
}

impl Sizes {
    fn count(&self) -> u64 {
        match self {
            Self::Same(_, count) | Self::Each(_, _, count) => *count,
        }
    }

    fn get(&self, index: u64) -> Option<u64> {
        match self {
            Self::Same(size, count) => (index < *count).then_some(u64::from(*size)),
            Self::Each(_, _, count) if index >= *count => None,
            Self::Each(bytes, bits, _) => {
                let at = usize::try_from(index * u64::from(*bits) / 8).ok()?;
                let mut fields = Fields(bytes.get(at..)?);
                match bits {
                    // Two sizes per byte, upper half first.
                    4 => {
                        fields.u8().map(|byte| u64::from(if index.is_multiple_of(2) { byte >> 4 } else { byte & 0xF }))
                    }
                    8 => fields.u8().map(u64::from),
                    16 => fields.u16().map(u64::from),
                    _ => fields.u32().map(u64::from),
                }
            }
        }
    }
}

/// All tables of a track.
pub(super) struct Table {
    /// Rows of `stts`: number of samples, and the duration of each.
    durations: Rows,
    /// Rows of `stsc`: first chunk, samples per chunk, and their entry.
    chunks: Rows,
    /// Rows of `stco` or `co64`: position of each chunk.
    offsets: Rows,
    /// The position in the file that `offsets` are relative to.
    pub(super) base: u64,
    sizes: Sizes,
    packing: Packing,
    /// The row of `stts` visited last, with its first sample and that sample's time.
    place: (u64, u64, u64),
    /// The next sample.
    next: Next,
}

/// Position of the next sample.
#[derive(Default)]
struct Next {
    sample: u64,
    /// Row of `stsc`, chunk counted from 0, and sample within the chunk.
    row: u64,
    chunk: u64,
    within: u64,
    /// Bytes of the chunk before the sample.
    skipped: u64,
}

impl Table {
    /// Reads the tables in a box `stbl`; missing ones have no rows.
    pub(super) fn read(stream: &mut Stream, stbl: &[FileBox]) -> Result<Self> {
        let rows =
            |stream: &mut Stream, name: &[u8; 4], width: usize| match stbl.iter().find(|child| child.name == *name) {
                Some(table) => rows(stream, table, 4, width).map(|(_, rows)| rows),
                None => Ok(Rows { width, ..Rows::default() }),
            };
        let durations = rows(stream, b"stts", 8)?;
        let chunks = rows(stream, b"stsc", 12)?;
        let mut offsets = rows(stream, b"stco", 4)?;
        if offsets.bytes.is_empty() {
            offsets = rows(stream, b"co64", 8)?;
        }
        Ok(Self {
            durations,
            chunks,
            offsets,
            base: 0,
            sizes: sizes(stream, stbl)?,
            packing: Packing::Samples,
            place: (0, 0, 0),
            next: Next::default(),
        })
    }

    /// Entry number of the first sample, if there are samples.
    pub(super) fn first_entry(&self) -> Option<u32> {
        (self.offsets.count() > 0).then(|| self.chunk_row(0).map(|(_, entry, _)| entry)).flatten()
    }

    /// Positions of the first and the last chunk, relative to the base.
    pub(super) fn first_and_last_offset(&self) -> Option<(u64, u64)> {
        Some((self.offset(0)?, self.offset(self.offsets.count().checked_sub(1)?)?))
    }

    fn offset(&self, chunk: u64) -> Option<u64> {
        self.offsets.row(chunk)?.u32_or_64(self.offsets.width == 8)
    }

    /// Sets how packets are stored in chunks from here on.
    ///
    /// PCM and ADPCM are mostly stored as samples of one frame each; if a writer made larger samples, each is a packet.
    pub(super) fn pack(&mut self, packing: Packing) {
        let lasts_one = self.duration_row(0).is_none_or(|(_, delta)| delta == 1);
        let is_larger = |bytes| self.sizes.get(0).is_some_and(|size| size > bytes);
        self.packing = match packing {
            Packing::Frames { bytes, .. } if !lasts_one || is_larger(bytes) => Packing::Samples,
            Packing::MpegFrames if !lasts_one => Packing::Samples,
            packing => packing,
        };
    }

    /// Whether the next sample is a whole chunk of MPEG audio instead of a packet.
    pub(super) fn gives_chunks(&self) -> bool {
        self.packing == Packing::MpegFrames
    }

    /// Total duration of all samples on the track's clock.
    pub(super) fn end(&self) -> u64 {
        let mut left = self.sizes.count();
        let mut end = 0u64;
        let mut last = 0;
        for index in 0..self.durations.count() {
            let Some((count, delta)) = self.duration_row(index) else { break };
            let count = count.min(left);
            end = end.saturating_add(count.saturating_mul(delta));
            left -= count;
            last = delta;
        }
        end.saturating_add(left.saturating_mul(last))
    }

    fn duration_row(&self, index: u64) -> Option<(u64, u64)> {
        let mut row = self.durations.row(index)?;
        Some((u64::from(row.u32()?), u64::from(row.u32()?)))
    }

    /// Start and duration of a sample. Samples beyond the last row have the last row's duration.
    fn time(&mut self, sample: u64) -> (u64, u64) {
        if sample < self.place.1 {
            self.place = (0, 0, 0);
        }
        loop {
            let (row, first, time) = self.place;
            let Some((count, delta)) = self.duration_row(row) else { return (time, 0) };
            let is_last = row + 1 >= self.durations.count();
            if sample - first < count || is_last {
                return (time.saturating_add((sample - first).saturating_mul(delta)), delta);
            }
            self.place = (row + 1, first + count, time.saturating_add(count.saturating_mul(delta)));
        }
    }

    /// The sample that is playing at a time.
    fn sample_at(&self, time: u64) -> u64 {
        let (mut first, mut start) = (0u64, 0u64);
        for index in 0..self.durations.count() {
            let Some((count, delta)) = self.duration_row(index) else { break };
            let end = start.saturating_add(count.saturating_mul(delta));
            let is_last = index + 1 == self.durations.count();
            if time < end || is_last && delta > 0 {
                return first + (time - start) / delta.max(1);
            }
            (first, start) = (first.saturating_add(count), end);
        }
        first
    }

    /// Seeks to the sample that is playing at a time, then back by `preroll` samples.
    pub(super) fn seek(&mut self, time: u64, preroll: u64) {
        let target = self.sample_at(time).saturating_sub(preroll);
        let mut next = Next::default();
        while let Some((per_chunk, _, until)) = self.chunk_row(next.row) {
            let samples = until.saturating_sub(next.chunk).saturating_mul(per_chunk);
            if target - next.sample < samples {
                let chunks = (target - next.sample) / per_chunk;
                next.chunk += chunks;
                next.sample += chunks * per_chunk;
                break;
            }
            (next.sample, next.chunk, next.row) = (next.sample + samples, until.max(next.chunk), next.row + 1);
        }
        let within = target - next.sample;
        match self.packing {
            Packing::Frames { frames, bytes } => {
                let packets = within / u64::from(frames.max(1));
                next.within = packets * u64::from(frames);
                next.skipped = packets.saturating_mul(bytes);
            }
            // Starts at the first frame of the chunk.
            Packing::MpegFrames => {}
            Packing::Samples => {
                next.within = within;
                let sizes = (next.sample..target).filter_map(|sample| self.sizes.get(sample));
                next.skipped = sizes.fold(0, u64::saturating_add);
            }
        }
        next.sample += next.within;
        self.next = next;
    }

    /// Samples per chunk, their entry, and the end of the row's chunks (exclusive, counted from 0).
    fn chunk_row(&self, index: u64) -> Option<(u64, u32, u64)> {
        let mut row = self.chunks.row(index)?;
        let (_, per_chunk, entry) = (row.u32()?, row.u32()?, row.u32()?);
        let until = self.chunks.row(index + 1).and_then(|mut row| row.u32());
        let until = until.map_or(self.offsets.count(), |first| u64::from(first).saturating_sub(1));
        Some((u64::from(per_chunk), entry, until.min(self.offsets.count())))
    }

    /// The next sample; none after the last.
    pub(super) fn next(&mut self) -> Option<Sample> {
        let (per_chunk, entry) = loop {
            let (per_chunk, entry, until) = self.chunk_row(self.next.row)?;
            if self.next.chunk >= until {
                self.next.row += 1;
            } else if self.next.within >= per_chunk {
                self.next.chunk += 1;
                (self.next.within, self.next.skipped) = (0, 0);
            } else {
                break (per_chunk, entry);
            }
        };
        let offset = self.offset(self.next.chunk)?.saturating_add(self.base);
        let sample = self.next.sample;
        let (count, bytes) = match self.packing {
            Packing::Samples => (1, self.sizes.get(sample)?),
            // All frames of the chunk; their sizes in bytes are unknown.
            Packing::MpegFrames => (per_chunk.min(self.sizes.count().checked_sub(sample).filter(|&left| left > 0)?), 0),
            Packing::Frames { frames, bytes } => {
                let left = (per_chunk - self.next.within).min(self.sizes.count().checked_sub(sample)?);
                let packets = left.min(u64::from(PIECE_FRAMES)) / u64::from(frames.max(1));
                if left == 0 {
                    return None;
                }
                // A chunk may end with an incomplete packet, which cannot be decoded.
                (if packets == 0 { left } else { packets * u64::from(frames) }, packets * bytes)
            }
        };
        let (time, delta) = self.time(sample);
        let found = Sample {
            offset: offset.saturating_add(self.next.skipped),
            bytes,
            time,
            duration: delta.saturating_mul(count),
            entry,
        };
        self.next.sample += count;
        self.next.within += count;
        self.next.skipped = self.next.skipped.saturating_add(bytes);
        Some(found)
    }
}

/// Reads a table's header and its rows. The header is `fixed` bytes after version and flags, and ends with the number of
/// rows.
fn rows(stream: &mut Stream, table: &FileBox, fixed: usize, width: usize) -> Result<(Vec<u8>, Rows)> {
    let header = 4 + fixed as u64;
    if table.length() < header {
        return Ok((Vec::new(), Rows { width, ..Rows::default() }));
    }
    stream.go(table.body + 4)?;
    let head = stream.bytes(fixed as u64, fixed)?;
    let count = Fields(&head[fixed - 4..]).u32().unwrap_or(0);
    let bytes = (u64::from(count) * width as u64).min(table.length() - header);
    Ok((head, Rows { bytes: stream.bytes(bytes, MAX_TABLE_BYTES)?, width }))
}

fn sizes(stream: &mut Stream, stbl: &[FileBox]) -> Result<Sizes> {
    let none = Sizes::Same(0, 0);
    let find = |name: &[u8; 4]| stbl.iter().find(|child| child.name == *name);
    if let Some(table) = find(b"stsz") {
        let (head, rows) = rows(stream, table, 8, 4)?;
        let mut head = Fields(&head);
        return Ok(match (head.u32(), head.u32()) {
            (Some(0), Some(_)) => {
                let count = rows.count();
                Sizes::Each(rows.bytes, 32, count)
            }
            (Some(size), Some(count)) => Sizes::Same(size, u64::from(count)),
            _ => none,
        });
    }
    let Some(table) = find(b"stz2") else { return Ok(none) };
    // The last byte of the first field is the width of a row in bits.
    let (head, rows) = rows(stream, table, 8, 2)?;
    let (Some(&bits @ (4 | 8 | 16)), Some(count)) = (head.get(3), Fields(head.get(4..).unwrap_or(&[])).u32()) else {
        return Ok(none);
    };
    let count = u64::from(count).min(rows.bytes.len() as u64 * 8 / u64::from(bits));
    Ok(Sizes::Each(rows.bytes, bits, count))
}
