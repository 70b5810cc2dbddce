//! Walks through files that consist of named chunks with lengths, tolerating wrong headers.

use std::{
    collections::HashMap,
    io::{Read, Seek, SeekFrom},
};

use super::source::File;
use crate::AudioError;

/// Maximum number of chunks to visit; each costs a seek. Programs write a handful.
const MAX_CHUNKS: usize = 4096;

/// Bytes searched for the next known chunk after a chunk with an impossible length.
const MAX_SEARCH_BYTES: usize = 1 << 20;

/// Maximum number of such searches per file.
const MAX_SEARCHES: usize = 16;

/// How a family of containers writes its chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// RIFF and RF64: four letters, 32 bits of length, padded to two bytes, little-endian.
    Riff,
    /// RIFX and AIFF: the same, big-endian.
    Form,
    /// Sony Wave64: a GUID and 64 bits of length, which include the header, padded to eight bytes.
    Wave64,
    /// DSDIFF: four letters and 64 bits of length, big-endian, padded to two bytes.
    Dsdiff,
    /// CAF: four letters and a signed length of 64 bits, big-endian, not padded.
    Caf,
}

/// A chunk's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chunk {
    pub(super) name: [u8; 4],
    /// Start of its content, in bytes from the start of the file.
    pub(super) start: u64,
    /// Declared length of its content, in bytes.
    pub(super) length: u64,
}

/// A file with random access.
pub(super) struct Pages<'a> {
    file: &'a File,
}

impl<'a> Pages<'a> {
    pub(super) fn of(file: &'a File) -> Self {
        Self { file }
    }

    /// Reads up to `most` bytes from `at`: fewer if the file ends, none beyond its end.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(super) fn read(&self, at: u64, most: usize) -> Result<Vec<u8>, AudioError> {
        let mut bytes = Vec::new();
        if self.file.length().is_none_or(|length| at < length) {
            let mut view = self.file.view().map_err(AudioError::Read)?;
            // The position comes from the file's headers, so a failed seek is not a read error.
            if view.seek(SeekFrom::Start(at)).is_ok() {
                view.take(most as u64).read_to_end(&mut bytes).map_err(AudioError::Read)?;
            }
        }
        Ok(bytes)
    }

    pub(super) fn file(&self) -> &'a File {
        self.file
    }

    /// Size of the file in bytes; the largest number if unknown.
    pub(super) fn length(&self) -> u64 {
        self.file.length().unwrap_or(u64::MAX)
    }
}

impl Style {
    fn header_bytes(self) -> usize {
        match self {
            Self::Riff | Self::Form => 8,
            Self::Caf | Self::Dsdiff => 12,
            Self::Wave64 => 24,
        }
    }

    /// Parses the header of a chunk at `at`.
    fn chunk(self, header: &[u8], at: u64) -> Option<Chunk> {
        let header = header.get(..self.header_bytes())?;
        let name = *header.first_chunk()?;
        let length = match self {
            Self::Riff => u32::from_le_bytes(*header[4..].first_chunk()?).into(),
            Self::Form => u32::from_be_bytes(*header[4..].first_chunk()?).into(),
            // −1 (unknown length) becomes the largest number.
            Self::Caf | Self::Dsdiff => u64::from_be_bytes(*header[4..].first_chunk()?),
            Self::Wave64 => u64::from_le_bytes(*header[16..].first_chunk()?).saturating_sub(24),
        };
        Some(Chunk { name, start: at + self.header_bytes() as u64, length })
    }
}

/// The chunks of a file, starting at some position.
pub(super) struct Chunks<'a> {
    pages: &'a Pages<'a>,
    style: Style,
    at: u64,
    left: usize,
    searches: usize,
    known: &'a [&'a [u8; 4]],
    /// Lengths from elsewhere in the file, for chunks whose own length field is saturated.
    pub(super) lengths: HashMap<[u8; 4], u64>,
}

impl<'a> Chunks<'a> {
    /// Starts at `at`. `known` are the names of the relevant chunks.
    pub(super) fn new(pages: &'a Pages<'a>, style: Style, at: u64, known: &'a [&'a [u8; 4]]) -> Self {
        Self { pages, style, at, left: MAX_CHUNKS, searches: 0, known, lengths: HashMap::new() }
    }

    /// The next chunk; none at the end of the file or of the intelligible part.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(super) fn next(&mut self) -> Result<Option<Chunk>, AudioError> {
        while self.left > 0 {
            self.left -= 1;
            let header = self.pages.read(self.at, self.style.header_bytes())?;
            let Some(mut chunk) = self.style.chunk(&header, self.at) else { return Ok(None) };
            if chunk.length == u64::from(u32::MAX)
                && let Some(&length) = self.lengths.get(&chunk.name)
            {
                chunk.length = length;
            }
            let end = chunk.start.saturating_add(chunk.length);
            if self.known.contains(&&chunk.name) || self.is_chunk(&chunk) {
                self.at = self.behind(end)?;
                return Ok(Some(chunk));
            }
            if !self.search()? {
                break;
            }
        }
        Ok(None)
    }

    /// Continues at `at`, for example inside a chunk that contains others.
    pub(super) fn go_on_at(&mut self, at: u64) {
        self.at = at;
    }

    /// Whether this header is plausible, regardless of the chunk's name.
    fn is_chunk(&self, chunk: &Chunk) -> bool {
        let is_named = self.style == Style::Wave64 || is_name(&chunk.name);
        is_named && chunk.start.saturating_add(chunk.length) <= self.pages.length()
    }

    /// Start of the chunk after one that ends at `end`. Some programs omit the padding.
    fn behind(&self, end: u64) -> Result<u64, AudioError> {
        match self.style {
            Style::Caf => Ok(end),
            Style::Wave64 => Ok(end.checked_next_multiple_of(8).unwrap_or(u64::MAX)),
            Style::Riff | Style::Form | Style::Dsdiff if end.is_multiple_of(2) => Ok(end),
            Style::Riff | Style::Form | Style::Dsdiff => {
                let bytes = self.pages.read(end, self.style.header_bytes())?;
                let is_padded = bytes.first() == Some(&0)
                    || self.style.chunk(&bytes, end).is_none_or(|chunk| !is_name(&chunk.name));
                Ok(end.saturating_add(u64::from(is_padded)))
            }
        }
    }

    /// Moves to the next name of a known chunk, if there is no chunk at the current position.
    fn search(&mut self) -> Result<bool, AudioError> {
        self.searches += 1;
        if self.searches > MAX_SEARCHES || self.style == Style::Wave64 {
            return Ok(false);
        }
        let bytes = self.pages.read(self.at, MAX_SEARCH_BYTES)?;
        let found = bytes.windows(4).position(|window| self.known.iter().any(|name| window == *name));
        self.at += found.unwrap_or_default() as u64;
        Ok(found.is_some())
    }

    /// Whether the rest of the file from `at` consists of chunks up to its last byte.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(super) fn are_all_from(&self, at: u64) -> Result<bool, AudioError> {
        let length = self.pages.length();
        let mut at = at;
        for _ in 0..MAX_CHUNKS {
            let header = self.pages.read(at, self.style.header_bytes())?;
            let Some(chunk) = self.style.chunk(&header, at).filter(|chunk| self.is_chunk(chunk)) else {
                return Ok(at >= length);
            };
            at = self.behind(chunk.start.saturating_add(chunk.length))?;
        }
        Ok(false)
    }
}

/// Whether four bytes can be a chunk's name: printable ASCII.
fn is_name(name: &[u8; 4]) -> bool {
    name.iter().all(|byte| matches!(byte, b' '..=b'~'))
}
