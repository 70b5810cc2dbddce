//! ID3v2 in versions 2.2 to 2.4 (id3.org), before the music or in its own chunk. Keeps all values of a field, even from
//! several frames; skips frames that are not text, whatever their size, without loading them.

use std::io;

use super::{
    fields::{Block, Field, decoded},
    source::{MAX_TEXT_BYTES, ReadExt, Source},
};

/// Maximum number of consecutive tags read.
const MAX_TAGS: u32 = 16;

/// Maximum number of frames examined per tag.
const MAX_FRAMES: u32 = 10_000;

const HEADER_BYTES: u64 = 10;

/// Bytes read at a time when skipping requires reading.
const SKIP_BYTES: usize = 8 * 1024;

/// Reads the tags at `start`, and returns where they end.
pub(super) fn read_all(source: &mut Source, start: u64, blocks: &mut Vec<Block>) -> io::Result<u64> {
    let mut end = start;
    for _ in 0..MAX_TAGS {
        match read(source, end, blocks)? {
            Some(after) => end = after,
            None => break,
        }
    }
    Ok(end)
}

/// Reads the tag at `start`, and returns where it ends; none when there is no tag.
fn read(source: &mut Source, start: u64, blocks: &mut Vec<Block>) -> io::Result<Option<u64>> {
    let mut header = [0; HEADER_BYTES as usize];
    if source.head(start, &mut header)?.len() < header.len() {
        return Ok(None);
    }
    let [b'I', b'D', b'3', version, revision, flags, a, b, c, d] = header else { return Ok(None) };
    let Some(size) = synchsafe(&[a, b, c, d]).filter(|_| version != 0xff && revision != 0xff) else { return Ok(None) };
    let content = start + HEADER_BYTES;
    let end = content + u64::from(size);
    let mut frames = Frames {
        stream: Stream {
            source,
            place: content,
            end,
            is_unsynchronised: version < 4 && flags & 0x80 != 0,
            after_ff: false,
        },
        version,
        is_unsynchronised: version == 4 && flags & 0x80 != 0,
    };
    let mut block = Block::default();
    if let Err(error) = frames.read(flags & 0x40 != 0, &mut block) {
        tracing::debug!("an ID3v2 tag breaks off: {error}");
    }
    blocks.push(block);
    // ID3v2.4, section 3.4: a copy of the header, of the same length.
    let footer = if version == 4 && flags & 0x10 != 0 { HEADER_BYTES } else { 0 };
    Ok(Some(end + footer))
}

/// A 28-bit number, 7 bits per byte.
fn synchsafe(bytes: &[u8; 4]) -> Option<u32> {
    let number = bytes.iter().fold(0, |number, byte| number << 7 | u32::from(*byte));
    bytes.iter().all(|byte| *byte < 0x80).then_some(number)
}

struct Frames<'a> {
    stream: Stream<'a>,
    version: u8,
    /// Every frame is unsynchronised individually.
    is_unsynchronised: bool,
}

/// A frame's header.
struct Frame {
    name: [u8; 4],
    bytes: u64,
    flags: u8,
}

impl Frames<'_> {
    fn read(&mut self, is_extended: bool, block: &mut Block) -> io::Result<()> {
        if is_extended && self.version > 2 {
            let size: [u8; 4] = self.stream.array()?;
            // From version 2.4 on the size includes its own bytes.
            let rest = if self.version == 3 { Some(u32::from_be_bytes(size)) } else { synchsafe(&size) };
            let own = if self.version == 3 { 0 } else { 4 };
            self.stream.skip(rest.unwrap_or(0).saturating_sub(own).into())?;
        }
        for _ in 0..MAX_FRAMES {
            let Some(frame) = self.next()? else { break };
            let field = match &frame.name {
                b"TIT2" | b"TT2\0" => Field::Title,
                b"TPE1" | b"TP1\0" => Field::Artist,
                b"TPE2" | b"TP2\0" => Field::AlbumArtist,
                b"TALB" | b"TAL\0" => Field::Album,
                _ => {
                    self.stream.skip(frame.bytes)?;
                    continue;
                }
            };
            if frame.bytes > MAX_TEXT_BYTES {
                self.stream.skip(frame.bytes)?;
                continue;
            }
            let mut content = vec![0; frame.bytes as usize];
            self.stream.read(&mut content)?;
            if let Some(text) = self.text(&frame, content) {
                block.add(field, &text);
            }
        }
        Ok(())
    }

    /// The header of the next frame; none where the padding begins.
    fn next(&mut self) -> io::Result<Option<Frame>> {
        let header_bytes = if self.version == 2 { 6 } else { 10 };
        if self.stream.place + header_bytes > self.stream.end {
            return Ok(None);
        }
        let frame = if self.version == 2 {
            let [a, b, c, size @ ..] = self.stream.array::<6>()?;
            let [x, y, z] = size;
            Frame { name: [a, b, c, 0], bytes: u32::from_be_bytes([0, x, y, z]).into(), flags: 0 }
        } else {
            let name = self.stream.array()?;
            let size: [u8; 4] = self.stream.array()?;
            let [_, flags] = self.stream.array()?;
            Frame { name, bytes: self.size(size)?, flags }
        };
        let is_name = |byte: &u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
        let letters = if self.version == 2 { &frame.name[..3] } else { &frame.name };
        Ok(letters.iter().all(is_name).then_some(frame))
    }

    /// Version 2.4 has synchsafe sizes, but a well-known program wrote plain ones for years. If both are possible, the
    /// right size is the one followed by another frame, by padding, or by the tag's end.
    fn size(&mut self, size: [u8; 4]) -> io::Result<u64> {
        let plain = u64::from(u32::from_be_bytes(size));
        let safe = synchsafe(&size).map(u64::from).filter(|_| self.version == 4);
        Ok(match safe {
            Some(safe) if safe == plain || self.stream.begins_at(safe)? || !self.stream.begins_at(plain)? => safe,
            _ => plain,
        })
    }

    /// A frame's text; none when it is compressed or encrypted.
    fn text(&self, frame: &Frame, content: Vec<u8>) -> Option<String> {
        let (packed, extra, is_unsynchronised) = match self.version {
            3 => (frame.flags & 0xc0, usize::from(frame.flags & 0x20 != 0), false),
            4 => {
                let extra = usize::from(frame.flags & 0x40 != 0) + if frame.flags & 1 != 0 { 4 } else { 0 };
                (frame.flags & 0x0c, extra, self.is_unsynchronised || frame.flags & 2 != 0)
            }
            _ => (0, 0, false),
        };
        if packed != 0 {
            return None;
        }
        let mut content = content.get(extra..)?.to_vec();
        if is_unsynchronised {
            let mut before = 0;
            content.retain(|byte| !(std::mem::replace(&mut before, *byte) == 0xff && *byte == 0));
        }
        let (encoding, text) = content.split_first()?;
        Some(match encoding {
            1 | 2 => utf_16(text, *encoding == 2),
            // Officially ISO 8859-1, but programs write other encodings too.
            _ => decoded(text),
        })
    }
}

/// Each value may have a byte order mark; a value without one uses the previous value's order.
fn utf_16(text: &[u8], mut is_big_endian: bool) -> String {
    let mut units = Vec::with_capacity(text.len() / 2);
    for pair in text.as_chunks::<2>().0 {
        match pair {
            [0xfe, 0xff] => is_big_endian = true,
            [0xff, 0xfe] => is_big_endian = false,
            pair => units.push(if is_big_endian { u16::from_be_bytes(*pair) } else { u16::from_le_bytes(*pair) }),
        }
    }
    String::from_utf16_lossy(&units)
}

/// The content of a tag.
struct Stream<'a> {
    source: &'a mut Source,
    place: u64,
    end: u64,
    /// A zero was inserted after each 0xff: ID3v2.3, section 5.
    is_unsynchronised: bool,
    after_ff: bool,
}

impl Stream<'_> {
    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.read(&mut bytes)?;
        Ok(bytes)
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        let mut filled = 0;
        while filled < buffer.len() {
            let wanted = (buffer.len() - filled) as u64;
            let count = wanted.min(self.end.saturating_sub(self.place)) as usize;
            let piece = &mut buffer[filled..filled + count];
            let read = self.source.head(self.place, piece)?.len();
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.place += read as u64;
            filled +=
                if self.is_unsynchronised { self.resynchronise(&mut buffer[filled..filled + read]) } else { read };
        }
        Ok(())
    }

    /// Removes the inserted zeros, and returns the number of bytes left.
    fn resynchronise(&mut self, bytes: &mut [u8]) -> usize {
        let mut kept = 0;
        for place in 0..bytes.len() {
            let byte = bytes[place];
            if !(self.after_ff && byte == 0) {
                bytes[kept] = byte;
                kept += 1;
            }
            self.after_ff = byte == 0xff;
        }
        kept
    }

    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        if !self.is_unsynchronised {
            self.place = self.place.saturating_add(bytes);
            return Ok(());
        }
        let (mut left, mut scratch) = (bytes, vec![0; SKIP_BYTES]);
        while left > 0 {
            let count = left.min(SKIP_BYTES as u64);
            self.read(&mut scratch[..count as usize])?;
            left -= count;
        }
        Ok(())
    }

    /// Whether `bytes` further on a frame or padding begins, or the tag ends.
    fn begins_at(&mut self, bytes: u64) -> io::Result<bool> {
        let place = self.place.saturating_add(bytes);
        if place >= self.end {
            return Ok(place == self.end);
        }
        self.source.go_to(place)?;
        let name: [u8; 4] = self.source.array().unwrap_or_default();
        Ok(name == [0; 4] || name.iter().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit()))
    }
}
