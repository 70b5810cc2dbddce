//! Lengths of the tags before, between and after the frames of a stream. Their contents are not read.

use std::io::Result;

use super::window::Window;

/// Size of an ID3v2 tag's header, and of its footer (ID3v2.4 structure, section 3.1).
pub(super) const ID3V2_HEADER_BYTES: usize = 10;

/// Size of an ID3v1 tag, and of the extension before it.
const ID3V1_BYTES: u64 = 128;
const ID3V1_EXTENSION_BYTES: u64 = 227;

/// Size of an APE tag's header, and of its footer (APE tags header specification).
const APE_HEADER_BYTES: u64 = 32;

/// Maximum length of a Lyrics3 tag: version 2 stores it in six digits.
const LYRICS_BYTES: usize = 1_000_000;

/// Maximum number of tags at the end of a file.
const MAX_TAGS: usize = 16;

/// The length of the ID3v2 tag at the start of `bytes`.
pub(super) fn id3v2(bytes: &[u8]) -> Option<u64> {
    let &[b'I', b'D', b'3', major, minor, flags, a, b, c, d, ..] = bytes else { return None };
    if major == 0xFF || minor == 0xFF {
        return None;
    }
    let size = [a, b, c, d];
    // Seven bits per byte; some programs write eight.
    let bits = if size.iter().all(|&byte| byte < 0x80) { 7 } else { 8 };
    let size = size.iter().fold(0u64, |size, &byte| size << bits | u64::from(byte));
    let footer = if major == 4 && flags & 0x10 != 0 { ID3V2_HEADER_BYTES } else { 0 };
    Some((ID3V2_HEADER_BYTES + footer) as u64 + size)
}

/// The length of the tag at the window's position, if there is one.
///
/// # Errors
/// When the file cannot be read.
pub(super) fn next(window: &mut Window) -> Result<Option<u64>> {
    let bytes = window.ahead(APE_HEADER_BYTES as usize)?;
    if let Some(length) = id3v2(bytes) {
        return Ok(Some(length));
    }
    if bytes.starts_with(b"TAG+") {
        return Ok(Some(ID3V1_EXTENSION_BYTES));
    }
    if bytes.starts_with(b"TAG") {
        return Ok(Some(ID3V1_BYTES));
    }
    if let Some(ape) = Ape::parse(bytes) {
        // This footer belongs to a tag without a header; the tag's items before it were skipped as damage.
        return Ok(Some(if ape.is_header { APE_HEADER_BYTES + ape.size } else { APE_HEADER_BYTES }));
    }
    if bytes.starts_with(b"LYRICSBEGIN") {
        let bytes = window.ahead(LYRICS_BYTES)?;
        let bytes = &bytes[..bytes.len().min(LYRICS_BYTES)];
        let end = [b"LYRICS200", b"LYRICSEND"].iter().filter_map(|end| memchr::memmem::find(bytes, *end)).min();
        return Ok(end.map(|end| end as u64 + 9));
    }
    Ok(None)
}

/// The header or the footer of an APE tag.
struct Ape {
    /// Total bytes of the items and the footer.
    size: u64,
    items: u32,
    is_header: bool,
    has_header: bool,
}

impl Ape {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let fields = bytes.strip_prefix(b"APETAGEX")?.first_chunk::<24>()?;
        let field = |at: usize| u32::from_le_bytes([fields[at], fields[at + 1], fields[at + 2], fields[at + 3]]);
        let flags = field(12);
        Some(Self {
            size: u64::from(field(4)),
            items: field(8),
            is_header: flags >> 29 & 1 == 1,
            has_header: flags >> 31 & 1 == 1,
        })
    }
}

/// Start of the tags at the end of a file of `length` bytes; `length` if there are none. The caller must restore the
/// window's position.
///
/// Only tags recognisable by their ends are found. The length declared by an APE tag is verified item by item, so that a
/// wrong one does not cost music.
///
/// # Errors
/// When the file cannot be read.
pub(super) fn start_of_last(window: &mut Window, length: u64) -> Result<u64> {
    let mut end = length;
    for _ in 0..MAX_TAGS {
        let before = end;
        if let Some(start) = end.checked_sub(ID3V1_BYTES) {
            window.go(start)?;
            if window.ahead(3)?.starts_with(b"TAG") {
                end = start;
            }
        }
        if let Some(footer) = end.checked_sub(APE_HEADER_BYTES) {
            window.go(footer)?;
            if let Some(ape) = Ape::parse(window.ahead(APE_HEADER_BYTES as usize)?)
                && let Some(start) = start_of_ape(window, &ape, end)?
            {
                end = start;
            }
        }
        if let Some(footer) = end.checked_sub(15) {
            window.go(footer)?;
            let bytes = window.ahead(15)?;
            let size = bytes.get(..6).and_then(|digits| std::str::from_utf8(digits).ok()?.parse::<u64>().ok());
            if bytes.get(6..15) == Some(&b"LYRICS200"[..])
                && let Some(start) = size.and_then(|size| footer.checked_sub(size))
            {
                window.go(start)?;
                if window.ahead(11)?.starts_with(b"LYRICSBEGIN") {
                    end = start;
                }
            }
        }
        if end == before {
            break;
        }
    }
    Ok(end)
}

/// Start of the APE tag whose footer ends at `end`, if its declared length is right.
fn start_of_ape(window: &mut Window, ape: &Ape, end: u64) -> Result<Option<u64>> {
    /// Maximum number of items in a tag; the specification recommends fewer than a hundred.
    const MAX_ITEMS: u32 = 10_000;
    /// Bytes before an item's value: two numbers, and a key of at most 255 bytes with a terminating 0.
    const ITEM_BYTES: usize = 8 + 256;
    let Some(mut at) = end.checked_sub(ape.size).filter(|_| !ape.is_header && ape.items <= MAX_ITEMS) else {
        return Ok(None);
    };
    let start = if ape.has_header { at.checked_sub(APE_HEADER_BYTES) } else { Some(at) };
    for _ in 0..ape.items {
        window.go(at)?;
        let bytes = window.ahead(ITEM_BYTES)?;
        let Some(&[a, b, c, d]) = bytes.first_chunk() else { return Ok(None) };
        let key = bytes.get(8..bytes.len().min(ITEM_BYTES)).and_then(|key| memchr::memchr(0, key));
        let Some(key) = key else { return Ok(None) };
        at += 8 + key as u64 + 1 + u64::from(u32::from_le_bytes([a, b, c, d]));
        if at > end {
            return Ok(None);
        }
    }
    Ok(start.filter(|_| at + APE_HEADER_BYTES == end))
}
