//! Input of the container readers: random access to a file, and parsing of header fields.

use std::io::{BufReader, Error, ErrorKind, Read, Result, Seek, SeekFrom};

use symphonia::core::io::{MediaSource, MediaSourceStream};

/// Read-ahead buffer size. Interleaved videos store sound in pieces of about this size.
const READ_AHEAD_BYTES: usize = 32 * 1024;

/// A file with random access.
pub(super) struct Stream {
    inner: BufReader<Box<dyn MediaSource>>,
    at: u64,
    /// Size in bytes; the largest number if unknown.
    length: u64,
}

impl Stream {
    /// Wraps a source, which must be at its start.
    pub(super) fn new(source: Box<dyn MediaSource>) -> Self {
        let length = source.byte_len().unwrap_or(u64::MAX);
        Self { inner: BufReader::with_capacity(READ_AHEAD_BYTES, source), at: 0, length }
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Moves to a position, counted from the file's start.
    ///
    /// # Errors
    /// [`ErrorKind::UnexpectedEof`] when the position lies beyond the file's end.
    pub(super) fn go(&mut self, to: u64) -> Result<()> {
        if to > self.length {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let moved = match i64::try_from(i128::from(to) - i128::from(self.at)) {
            Ok(0) => Ok(()),
            Ok(by) => self.inner.seek_relative(by),
            Err(_) => self.inner.seek(SeekFrom::Start(to)).map(drop),
        };
        // The position comes from the file's headers, so a failed seek is not a read error.
        moved.map_err(|_| ErrorKind::UnexpectedEof)?;
        self.at = to;
        Ok(())
    }

    /// The next `count` bytes.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidData`] for more than `limit`, [`ErrorKind::UnexpectedEof`] when the file ends before them.
    pub(super) fn bytes(&mut self, count: u64, limit: usize) -> Result<Vec<u8>> {
        if count > limit as u64 {
            let reason = format!("{count} bytes where at most {limit} are expected");
            return Err(Error::new(ErrorKind::InvalidData, reason));
        }
        if count > self.length.saturating_sub(self.at) {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let mut bytes = Vec::new();
        let read = self.inner.by_ref().take(count).read_to_end(&mut bytes)?;
        self.at += read as u64;
        if (read as u64) < count {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok(bytes)
    }

    /// The next `N` bytes; none if the file ends before them.
    pub(super) fn array<const N: usize>(&mut self) -> Result<Option<[u8; N]>> {
        Ok(self.up_to::<N>()?.try_into().ok())
    }

    /// The next `N` bytes, or fewer at the end of the file.
    pub(super) fn up_to<const N: usize>(&mut self) -> Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(N);
        let read = self.inner.by_ref().take(N as u64).read_to_end(&mut bytes)?;
        self.at += read as u64;
        Ok(bytes)
    }

    pub(super) fn into_inner(self) -> MediaSourceStream<'static> {
        MediaSourceStream::new(self.inner.into_inner(), Default::default())
    }
}

/// Parses consecutive fields of a header; numbers are big-endian. Each result is none if the header ends before the
/// field.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u24(&mut self) -> Option<u32> {
        self.array().map(|[a, b, c]| u32::from_be_bytes([0, a, b, c]))
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    /// A number of four or eight bytes.
    pub(super) fn u32_or_64(&mut self, is_long: bool) -> Option<u64> {
        if is_long { self.u64() } else { self.u32().map(u64::from) }
    }
}
