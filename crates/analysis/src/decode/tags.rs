//! Tags that lie before, between and behind the frames of a stream: how long they are, not what they say.

use std::io::Result;

use super::window::Window;

/// Bytes of an ID3v2 tag's header, and of its footer (ID3v2.4 structure, section 3.1).
pub(super) const ID3V2_HEADER_BYTES: usize = 10;

/// Bytes of an ID3v1 tag, and of its extension that lies before it.
const ID3V1_BYTES: u64 = 128;
const ID3V1_EXTENSION_BYTES: u64 = 227;

/// Bytes of an APE tag's header, and of its footer (APE tags header specification).
const APE_HEADER_BYTES: u64 = 32;

/// Bytes in which a Lyrics3 tag has to end: version 2 counts them in six digits.
const LYRICS_BYTES: usize = 1_000_000;

/// Tags at the end of a file that are looked for.
const MAX_TAGS: usize = 16;

/// The length of the ID3v2 tag that these bytes begin with.
pub(super) fn id3v2(bytes: &[u8]) -> Option<u64> {
    let &[b'I', b'D', b'3', major, minor, flags, a, b, c, d, ..] = bytes else { return None };
    if major == 0xFF || minor == 0xFF {
        return None;
    }
    let size = [a, b, c, d];
    // Seven bits of each byte; some programs write eight.
    let bits = if size.iter().all(|&byte| byte < 0x80) { 7 } else { 8 };
    let size = size.iter().fold(0u64, |size, &byte| size << bits | u64::from(byte));
    let footer = if major == 4 && flags & 0x10 != 0 { ID3V2_HEADER_BYTES } else { 0 };
    Some((ID3V2_HEADER_BYTES + footer) as u64 + size)
}

/// The length of the tag that the window begins with, if it does.
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
        // A footer whose tag has no header lies behind what could not be told from damage.
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
    /// Bytes of the items and the footer.
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

/// Where the tags at the end of a file of `length` bytes begin; `length` where it has none. The window has to be put back.
///
/// Only those are looked for that can be told from their ends alone. What an APE tag without a header says of its length is
/// checked item by item: it must not cost music.
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

/// Where the APE tag begins whose footer ends at `end`, if it says so rightly.
fn start_of_ape(window: &mut Window, ape: &Ape, end: u64) -> Result<Option<u64>> {
    /// Items of a tag; the specification recommends fewer than a hundred.
    const MAX_ITEMS: u32 = 10_000;
    /// Bytes before an item's value: two numbers, and a key of at most 255 with its 0.
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
