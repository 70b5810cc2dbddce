//! The pages of a file (RFC 3533, section 6).

use std::io::Result;

use symphonia::core::{
    checksum::Crc32,
    io::{MediaSourceStream, Monitor},
};

use super::super::window::Window;

/// The marker at the start of every page.
pub(in super::super) const MARKER: &[u8; 4] = b"OggS";

/// Bytes before the segment table, which has up to 255 segments of up to 255 bytes.
const HEADER_BYTES: usize = 27;
const MAX_PAGE_BYTES: usize = HEADER_BYTES + 255 + 255 * 255;

/// A page with a correct checksum.
pub(super) struct Page {
    bytes: Vec<u8>,
    /// It begins with the rest of a packet.
    pub(super) is_continued: bool,
    /// It is its track's first page, or last.
    pub(super) is_first: bool,
    pub(super) is_last: bool,
    /// Position at the end of the last packet that ends in it, in the codec's unit; none for −1.
    pub(super) position: Option<i64>,
    pub(super) serial: u32,
    pub(super) sequence: u32,
}

impl Page {
    /// Length of the page at the start of `bytes`; none if the bytes end before the page does, an error if there is no
    /// page.
    fn length(bytes: &[u8]) -> std::result::Result<Option<usize>, NoPage> {
        let Some(header) = bytes.get(..HEADER_BYTES) else {
            return if MARKER.starts_with(&bytes[..bytes.len().min(MARKER.len())]) { Ok(None) } else { Err(NoPage) };
        };
        if !header.starts_with(MARKER) || header[4] != 0 {
            return Err(NoPage);
        }
        let Some(segments) = bytes.get(HEADER_BYTES..HEADER_BYTES + usize::from(header[26])) else { return Ok(None) };
        let length = HEADER_BYTES + segments.len() + segments.iter().map(|&length| usize::from(length)).sum::<usize>();
        let Some(page) = bytes.get(..length) else { return Ok(None) };
        let mut crc = Crc32::new(0);
        crc.process_buf_bytes(&page[..22]);
        crc.process_buf_bytes(&[0; 4]);
        crc.process_buf_bytes(&page[26..]);
        if crc.crc().to_le_bytes() == page[22..26] { Ok(Some(length)) } else { Err(NoPage) }
    }

    fn parse(bytes: &[u8]) -> Self {
        let u32_at = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let position = i64::from(u32_at(6)) | i64::from(u32_at(10)) << 32;
        Self {
            is_continued: bytes[5] & 1 != 0,
            is_first: bytes[5] & 2 != 0,
            is_last: bytes[5] & 4 != 0,
            position: Some(position).filter(|&position| position >= 0),
            serial: u32_at(14),
            sequence: u32_at(18),
            bytes: bytes.to_vec(),
        }
    }

    /// The pieces of packets in this page, and whether each is the last of its packet.
    pub(super) fn pieces(&self) -> impl Iterator<Item = (&[u8], bool)> {
        let (segments, mut rest) = self.bytes[HEADER_BYTES..].split_at(usize::from(self.bytes[26]));
        // A packet ends with the first segment that is shorter than 255 bytes.
        segments.split_inclusive(|&length| length < 255).map(move |segments| {
            let (piece, after) = rest.split_at(segments.iter().map(|&length| usize::from(length)).sum());
            rest = after;
            (piece, segments.last().is_some_and(|&length| length < 255))
        })
    }
}

struct NoPage;

/// The pages of a file in order; other data is skipped.
pub(super) struct Pages {
    window: Window,
    /// Whether the file ends within a page.
    pub(super) is_cut: bool,
}

impl Pages {
    pub(super) fn new(window: Window) -> Self {
        Self { window, is_cut: false }
    }

    /// The next page; none at the end.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(super) fn next(&mut self) -> Result<Option<Page>> {
        loop {
            let bytes = self.window.ahead(MAX_PAGE_BYTES)?;
            if bytes.is_empty() {
                return Ok(None);
            }
            let is_cut = match Page::length(bytes) {
                Ok(Some(length)) => {
                    let page = Page::parse(&bytes[..length]);
                    self.window.skip(length as u64)?;
                    return Ok(Some(page));
                }
                Ok(None) => true,
                Err(NoPage) => false,
            };
            self.is_cut = is_cut;
            // A wrong length may have made this page incomplete; the next marker may still begin a complete one.
            let next = memchr::memmem::find(&bytes[1..], MARKER).map_or(bytes.len(), |at| at + 1);
            self.window.skip(next as u64)?;
        }
    }

    /// Serial number and position of the last page that has one, in a file of `length` bytes. The window does not move.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(super) fn last_position(&mut self, length: u64) -> Result<Option<(u32, i64)>> {
        let at = self.window.at();
        self.window.go(length.saturating_sub(2 * MAX_PAGE_BYTES as u64).max(at))?;
        let bytes = self.window.ahead(2 * MAX_PAGE_BYTES)?;
        let last = memchr::memmem::rfind_iter(bytes, MARKER).find_map(|at| {
            let length = Page::length(&bytes[at..]).ok().flatten()?;
            let page = Page::parse(&bytes[at..at + length]);
            page.position.map(|position| (page.serial, position))
        });
        self.window.go(at)?;
        Ok(last)
    }

    pub(super) fn into_source(self) -> MediaSourceStream<'static> {
        self.window.into_source()
    }
}
