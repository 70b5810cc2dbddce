//! Movie fragments (ISO/IEC 14496-12, section 8.8): samples described piece by piece. Streams use them, and recorders
//! that may be interrupted.

use std::{
    collections::VecDeque,
    io::{ErrorKind, Result},
};

use super::{
    super::stream::{Fields, Stream},
    boxes,
    table::Sample,
};

/// Maximum size of one fragment's description, which covers seconds or minutes of a film.
const MAX_FRAGMENT_BYTES: usize = 16 * 1024 * 1024;

/// Default properties of samples (boxes `trex` and `tfhd`).
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Defaults {
    pub(super) entry: u32,
    pub(super) duration: u32,
    pub(super) size: u32,
}

impl Defaults {
    /// The defaults of a track in a box `mvex`, if present.
    pub(super) fn of(mvex: &[u8], track: u32) -> Option<Self> {
        boxes::read(mvex).filter(|(name, _)| name == b"trex").find_map(|(_, trex)| {
            let mut fields = Fields(trex);
            fields.take(4)?;
            let id = fields.u32()?;
            let defaults = Self { entry: fields.u32()?, duration: fields.u32()?, size: fields.u32()? };
            (id == track).then_some(defaults)
        })
    }
}

/// Length of a movie including all fragments, on its clock, from a box `mehd` in `mvex`.
pub(super) fn length(mvex: &[u8]) -> Option<u64> {
    let mut fields = Fields(boxes::find(mvex, *b"mehd")?);
    let is_long = fields.u32()? >> 24 == 1;
    fields.u32_or_64(is_long)
}

/// Total seconds of the fragments listed in a box `sidx`.
pub(super) fn indexed_seconds(sidx: &[u8]) -> Option<f64> {
    let mut fields = Fields(sidx);
    let is_long = fields.u32()? >> 24 == 1;
    fields.u32()?;
    let scale = fields.u32()?;
    // The earliest time and the first offset.
    fields.take(if is_long { 16 } else { 8 })?;
    let count = fields.u32()? & 0xFFFF;
    let rows = (0..count).map_while(|_| {
        let mut row = Fields(fields.take(12)?);
        Some((row.u32()?, row.u32()?))
    });
    // The highest bit marks a reference to another `sidx`, which lists its own fragments.
    let durations = rows.filter(|(reference, _)| reference >> 31 == 0).map(|(_, duration)| f64::from(duration));
    Some(durations.sum::<f64>() / f64::from(scale.max(1)))
}

/// The samples of one track in all fragments of a file.
pub(super) struct Fragments {
    track: u32,
    defaults: Defaults,
    /// The position that offsets are relative to, and the position of the next box.
    base: u64,
    place: u64,
    runs: VecDeque<Run>,
    /// Time of the next sample.
    time: u64,
}

/// Samples stored consecutively.
struct Run {
    defaults: Defaults,
    flags: u32,
    offset: u64,
    left: u32,
    /// One row per sample; the flags say which numbers it has.
    rows: Vec<u8>,
    read: usize,
    /// Time of the first sample, if declared.
    time: Option<u64>,
}

/// Flags of a box `trun` for the numbers in its rows.
const DURATION: u32 = 0x100;
const SIZE: u32 = 0x200;
const ROW: [u32; 4] = [DURATION, SIZE, 0x400, 0x800];

impl Run {
    /// Duration and size of the next sample.
    fn next(&mut self) -> Option<(u64, u64)> {
        self.left = self.left.checked_sub(1)?;
        let mut fields = Fields(self.rows.get(self.read..)?);
        let before = fields.0.len();
        let (mut duration, mut size) = (self.defaults.duration, self.defaults.size);
        for flag in ROW.into_iter().filter(|flag| self.flags & flag != 0) {
            let number = fields.u32()?;
            match flag {
                DURATION => duration = number,
                SIZE => size = number,
                _ => {}
            }
        }
        self.read += before - fields.0.len();
        Some((u64::from(duration), u64::from(size)))
    }

    /// Total bytes of the remaining samples.
    fn bytes(&self) -> u64 {
        if self.flags & SIZE == 0 {
            return u64::from(self.left) * u64::from(self.defaults.size);
        }
        let numbers = ROW.iter().filter(|&&flag| self.flags & flag != 0).count();
        let size_at = 4 * usize::from(self.flags & DURATION != 0);
        let sizes = self.rows.chunks_exact(4 * numbers).filter_map(|row| Fields(row.get(size_at..)?).u32());
        sizes.take(self.left as usize).map(u64::from).sum()
    }
}

impl Fragments {
    /// The samples of a track in the boxes from `place` on. The file's first box begins at `base`; the samples begin at
    /// `time`.
    pub(super) fn new(track: u32, defaults: Defaults, (base, place): (u64, u64), time: u64) -> Self {
        Self { track, defaults, base, place, runs: VecDeque::new(), time }
    }

    /// The next sample; none after the last.
    ///
    /// # Errors
    /// [`ErrorKind::UnexpectedEof`] when the file ends within a fragment's description.
    pub(super) fn next(&mut self, stream: &mut Stream) -> Result<Option<Sample>> {
        loop {
            while let Some(run) = self.runs.front_mut() {
                if let Some(time) = run.time.take() {
                    self.time = time;
                }
                let Some((duration, bytes)) = run.next() else {
                    self.runs.pop_front();
                    continue;
                };
                let sample = Sample { offset: run.offset, bytes, time: self.time, duration, entry: run.defaults.entry };
                run.offset = run.offset.saturating_add(bytes);
                self.time = self.time.saturating_add(duration);
                return Ok(Some(sample));
            }
            let Some(next) = boxes::at(stream, self.place, stream.length())? else { return Ok(None) };
            self.place = next.end;
            if next.name == *b"moof" {
                if next.is_cut {
                    return Err(ErrorKind::UnexpectedEof.into());
                }
                stream.go(next.body)?;
                let moof = stream.bytes(next.length(), MAX_FRAGMENT_BYTES)?;
                self.describe(&moof, next.start);
            }
        }
    }

    fn describe(&mut self, moof: &[u8], start: u64) {
        // End of the previous track's samples: the next track's samples begin there by default.
        let mut end = start;
        for (_, traf) in boxes::read(moof).filter(|(name, _)| name == b"traf") {
            end = self.track_fragment(traf, start, end).unwrap_or(end);
        }
    }

    /// Reads one track's part of a fragment. Returns where its samples end.
    fn track_fragment(&mut self, traf: &[u8], start: u64, before: u64) -> Option<u64> {
        let mut header = Fields(boxes::find(traf, *b"tfhd")?);
        let flags = header.u32()?;
        let track = header.u32()?;
        let base = if flags & 1 != 0 { Some(header.u64()?.saturating_add(self.base)) } else { None };
        let mut defaults = if track == self.track { self.defaults } else { Defaults::default() };
        for (flag, number) in [(2, &mut defaults.entry), (8, &mut defaults.duration), (0x10, &mut defaults.size)] {
            if flags & flag != 0 {
                *number = header.u32()?;
            }
        }
        let is_from_start = flags & 0x2_0000 != 0;
        let base = base.unwrap_or(if is_from_start { start } else { before });
        let mut time = boxes::find(traf, *b"tfdt").and_then(|tfdt| {
            let mut fields = Fields(tfdt);
            let is_long = fields.u32()? >> 24 == 1;
            fields.u32_or_64(is_long)
        });
        let mut end = base;
        for (_, trun) in boxes::read(traf).filter(|(name, _)| name == b"trun") {
            let mut fields = Fields(trun);
            let flags = fields.u32()? & 0xFF_FFFF;
            let left = fields.u32()?;
            let offset = match flags & 1 {
                0 => end,
                _ => base.saturating_add_signed(i64::from(fields.u32()?.cast_signed())),
            };
            if flags & 4 != 0 {
                fields.u32()?;
            }
            let run = Run { defaults, flags, offset, left, rows: fields.0.to_vec(), read: 0, time: time.take() };
            end = offset.saturating_add(run.bytes());
            if track == self.track {
                self.runs.push_back(run);
            }
        }
        Some(end)
    }
}
