//! Sequential reading of a file with lookahead: the basis of the frame and page readers.

use std::io::{ErrorKind, Read, Result, Seek, SeekFrom};

use symphonia::core::io::MediaSourceStream;

use super::source::View;

/// Read size in bytes.
const READ_BYTES: usize = 64 * 1024;

/// A file's bytes from the current position on.
pub(super) struct Window {
    source: View,
    buffer: Vec<u8>,
    /// Index of the next byte in `buffer`.
    start: usize,
    /// Position of the next byte in the file.
    at: u64,
    /// Position where reading stops, if before the end of the file.
    end: u64,
    is_at_end: bool,
}

impl Window {
    /// A window on a file that is at its start.
    pub(super) fn new(source: View) -> Self {
        Self { source, buffer: Vec::new(), start: 0, at: 0, end: u64::MAX, is_at_end: false }
    }

    /// Position of the next byte in the file.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// Stops reading at `end`, before the end of the file.
    pub(super) fn end_at(&mut self, end: u64) {
        self.end = end;
        let kept = usize::try_from(end.saturating_sub(self.at)).unwrap_or(usize::MAX);
        if self.buffer.len() - self.start > kept {
            self.buffer.truncate(self.start + kept);
        }
    }

    /// The next bytes: at least `count`, fewer only at the end.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(super) fn ahead(&mut self, count: usize) -> Result<&[u8]> {
        if self.buffer.len() - self.start < count && !self.is_at_end {
            self.buffer.drain(..self.start);
            self.start = 0;
            let wanted = count.next_multiple_of(READ_BYTES) as u64;
            let left = self.end.saturating_sub(self.at);
            let more = wanted.min(left).saturating_sub(self.buffer.len() as u64);
            // This also retries interrupted reads.
            let read = (&mut self.source).take(more).read_to_end(&mut self.buffer)?;
            self.is_at_end = (read as u64) < more || wanted >= left;
        }
        Ok(&self.buffer[self.start..])
    }

    /// The next `N` bytes; none if the file ends before them.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(super) fn array<const N: usize>(&mut self) -> Result<Option<[u8; N]>> {
        Ok(self.ahead(N)?.first_chunk().copied())
    }

    /// Skips `count` bytes, possibly beyond the end.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(super) fn skip(&mut self, count: u64) -> Result<()> {
        self.go(self.at.saturating_add(count))
    }

    /// Moves to a position in the file.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(super) fn go(&mut self, to: u64) -> Result<()> {
        let ahead = to.checked_sub(self.at).and_then(|by| usize::try_from(by).ok());
        if let Some(by) = ahead.filter(|&by| by <= self.buffer.len() - self.start) {
            self.start += by;
        } else {
            self.buffer.clear();
            self.start = 0;
            match self.source.seek(SeekFrom::Start(to)) {
                Ok(_) => self.is_at_end = to >= self.end,
                // The position is beyond any possible file.
                Err(error) if error.kind() == ErrorKind::InvalidInput => self.is_at_end = true,
                Err(error) => return Err(error),
            }
        }
        self.at = to;
        Ok(())
    }

    pub(super) fn into_source(self) -> MediaSourceStream<'static> {
        MediaSourceStream::new(Box::new(self.source), Default::default())
    }
}
