//! A file to read tags from, with a limit on the bytes read.

use std::{
    fs::File,
    io::{self, BufReader, Read, Seek, SeekFrom},
    time::Instant,
};

/// The read limit is this many times the file's size plus a constant. It bounds the cost of a file that makes its reader
/// jump back and forth.
const MAX_PASSES: u64 = 2;
const MAX_EXTRA_BYTES: u64 = 16 * 1024 * 1024;

/// Longest text read; anything longer is a picture or not meant for people.
pub(super) const MAX_TEXT_BYTES: u64 = 64 * 1024;

/// Largest position in a file that is accepted: half the range of a signed number.
const MAX_PLACE: u64 = i64::MAX as u64 / 2;

pub(super) struct Source {
    reader: BufReader<Budget>,
    len: u64,
}

struct Budget {
    file: File,
    bytes: u64,
    /// Nothing is read after this time.
    deadline: Instant,
}

impl Read for Budget {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.bytes == 0 {
            return Err(io::Error::other("more would have to be read for its tags than the file is worth"));
        }
        if Instant::now() >= self.deadline {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let count = self.file.read(buffer)?;
        self.bytes = self.bytes.saturating_sub(count as u64);
        Ok(count)
    }
}

impl Seek for Budget {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

/// Bytes that may be read from a file of this size.
fn budget(len: u64) -> u64 {
    len.saturating_mul(MAX_PASSES).saturating_add(MAX_EXTRA_BYTES)
}

impl Source {
    pub(super) fn new(file: File, deadline: Instant) -> io::Result<Self> {
        let len = file.metadata()?.len();
        Ok(Self { reader: BufReader::new(Budget { file, bytes: budget(len), deadline }), len })
    }

    /// The file's size in bytes.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Bytes read so far; bytes read again count again.
    #[cfg(test)]
    pub(super) fn bytes_read(&self) -> u64 {
        budget(self.len) - self.reader.get_ref().bytes
    }

    /// Seeks to a position, which may be beyond the end.
    pub(super) fn go_to(&mut self, place: u64) -> io::Result<()> {
        let here = self.reader.stream_position()?;
        match i64::try_from(i128::from(place) - i128::from(here)) {
            Ok(offset) => self.reader.seek_relative(offset),
            Err(_) => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    /// Reads as many bytes at `place` as exist and fit.
    pub(super) fn head<'a>(&mut self, place: u64, buffer: &'a mut [u8]) -> io::Result<&'a [u8]> {
        self.go_to(place)?;
        let mut count = 0;
        while count < buffer.len() {
            match self.read(&mut buffer[count..]) {
                Ok(0) => break,
                Ok(more) => count += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(&buffer[..count])
    }

    /// The file from `start` on.
    pub(super) fn rest(&mut self, start: u64) -> Rest<'_> {
        Rest { source: self, start, at: 0 }
    }
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader.read(buffer)
    }
}

/// A file from some position on, as if it began there.
pub(super) struct Rest<'a> {
    source: &'a mut Source,
    start: u64,
    at: u64,
}

impl Read for Rest<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.source.go_to(self.start + self.at)?;
        let count = self.source.read(buffer)?;
        self.at += count as u64;
        Ok(count)
    }
}

impl Seek for Rest<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let place = match to {
            SeekFrom::Start(place) => Some(place),
            SeekFrom::End(offset) => self.source.len.saturating_sub(self.start).checked_add_signed(offset),
            SeekFrom::Current(offset) => self.at.checked_add_signed(offset),
        };
        // A position far beyond the end is invalid in any file.
        self.at = place.filter(|place| *place <= MAX_PLACE).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

/// Reads numbers and short texts from any reader.
pub(super) trait ReadExt: Read {
    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// Reads a text of that many bytes; none when it is too long for a text.
    fn text(&mut self, bytes: u64) -> io::Result<Option<Vec<u8>>> {
        if bytes > MAX_TEXT_BYTES {
            return Ok(None);
        }
        let mut text = vec![0; bytes as usize];
        self.read_exact(&mut text)?;
        Ok(Some(text))
    }
}

impl<R: Read + ?Sized> ReadExt for R {}
