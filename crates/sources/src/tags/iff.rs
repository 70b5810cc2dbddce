//! Chunk-based files: WAV (RIFF, RF64 and BW64, Sony's Wave64) and AIFF.

use std::io;

use super::{
    Contents,
    fields::{Block, Field},
    id3v2,
    source::{ReadExt, Source},
};

/// Maximum number of chunks examined.
const MAX_CHUNKS: u32 = 10_000;

/// How a file lays out its chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// RIFF, RF64, BW64: little endian.
    Riff,
    /// 16-byte names, 8-byte sizes that include both; each chunk is aligned to 8 bytes.
    Wave64,
    /// AIFF and AIFF-C: big endian.
    Aiff,
}

/// Wave64's name for RIFF, and the suffix of its chunk names.
const WAVE64_RIFF: [u8; 16] = *b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00";

pub(super) fn is_iff(head: &[u8]) -> bool {
    layout(head).is_some()
}

fn layout(head: &[u8]) -> Option<Layout> {
    let head = head.first_chunk::<16>()?;
    match head {
        _ if *head == WAVE64_RIFF => Some(Layout::Wave64),
        [b'R', b'I', b'F', b'F' | b'X', .., b'W', b'A', b'V', b'E', _, _, _, _]
        | [b'R', b'F', b'6', b'4', .., b'W', b'A', b'V', b'E', _, _, _, _]
        | [b'B', b'W', b'6', b'4', .., b'W', b'A', b'V', b'E', _, _, _, _] => Some(Layout::Riff),
        [b'F', b'O', b'R', b'M', .., b'A', b'I', b'F', b'F' | b'C', _, _, _, _] => Some(Layout::Aiff),
        _ => None,
    }
}

/// A chunk's name, the start of its content, and its claimed size.
struct Chunk {
    name: [u8; 4],
    start: u64,
    bytes: u64,
}

impl Layout {
    /// Position of the first chunk.
    fn first(self) -> u64 {
        match self {
            Self::Riff | Self::Aiff => 12,
            Self::Wave64 => 40,
        }
    }

    fn read_chunk(self, source: &mut Source, place: u64) -> io::Result<Chunk> {
        source.go_to(place)?;
        Ok(match self {
            Self::Riff | Self::Aiff => {
                let (name, bytes) = (source.array()?, source.array()?);
                let bytes = if self == Self::Riff { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) };
                Chunk { name, start: place + 8, bytes: bytes.into() }
            }
            Self::Wave64 => {
                let [a, b, c, d, ..] = source.array::<16>()?;
                let bytes = u64::from_le_bytes(source.array()?).saturating_sub(24);
                Chunk { name: [a, b, c, d], start: place + 24, bytes }
            }
        })
    }

    /// Position of the next chunk.
    fn after(self, source: &mut Source, chunk: &Chunk) -> io::Result<u64> {
        let end = chunk.start.saturating_add(chunk.bytes);
        match self {
            Self::Wave64 => Ok(end.checked_next_multiple_of(8).unwrap_or(u64::MAX)),
            Self::Riff | Self::Aiff => after_padding(source, end, chunk.bytes),
        }
    }
}

/// Position after the padding that the format requires after an odd number of bytes. Not all programs write it.
fn after_padding(source: &mut Source, end: u64, bytes: u64) -> io::Result<u64> {
    let mut next = [0; 1];
    let is_padded = bytes % 2 == 1 && source.head(end, &mut next)? == [0];
    Ok(end + u64::from(is_padded))
}

pub(super) fn read(source: &mut Source, start: u64, contents: &mut Contents) -> io::Result<()> {
    let mut head = [0; 16];
    let Some(layout) = layout(source.head(start, &mut head)?) else { return Ok(()) };
    let mut own = Block::default();
    let read = read_chunks(source, layout, start, &mut own, contents);
    contents.blocks.push(own);
    read
}

fn read_chunks(
    source: &mut Source,
    layout: Layout,
    start: u64,
    own: &mut Block,
    contents: &mut Contents,
) -> io::Result<()> {
    let (mut bytes_per_second, mut long_data) = (0, None);
    let mut place = start + layout.first();
    for _ in 0..MAX_CHUNKS {
        let Ok(mut chunk) = layout.read_chunk(source, place) else { break };
        if !chunk.name.iter().all(|byte| (b' '..=b'~').contains(byte)) {
            break;
        }
        match (layout, &chunk.name) {
            (Layout::Riff | Layout::Wave64, b"fmt ") => {
                let [.., a, b, c, d] = source.array::<12>()?;
                bytes_per_second = u32::from_le_bytes([a, b, c, d]);
            }
            // EBU Tech 3306: the true sizes of chunks whose size field is 0xffffffff.
            (Layout::Riff, b"ds64") => {
                let [_, _, _, _, _, _, _, _, a, b, c, d, e, f, g, h] = source.array()?;
                long_data = Some(u64::from_le_bytes([a, b, c, d, e, f, g, h]));
            }
            (Layout::Riff | Layout::Wave64, b"data") => {
                if chunk.bytes == u64::from(u32::MAX) {
                    chunk.bytes = long_data.unwrap_or(u64::MAX);
                }
                let here = source.len().saturating_sub(chunk.start);
                // Interrupted recorders leave 0 or the maximum.
                if chunk.bytes == 0 || chunk.bytes > here {
                    chunk.bytes = here;
                }
                if bytes_per_second > 0 {
                    contents.seconds = Some(chunk.bytes as f64 / f64::from(bytes_per_second));
                }
            }
            (Layout::Riff, b"LIST") | (Layout::Wave64, b"list") => read_info(source, &chunk, own)?,
            (_, b"ID3 " | b"id3 ") => {
                id3v2::read_all(source, chunk.start, &mut contents.blocks)?;
            }
            (Layout::Aiff, b"COMM") => contents.seconds = aiff_seconds(&source.array()?),
            (Layout::Aiff, b"NAME") => add(source, chunk.bytes, Field::Title, own)?,
            (Layout::Aiff, b"AUTH") => add(source, chunk.bytes, Field::Artist, own)?,
            _ => {}
        }
        place = layout.after(source, &chunk)?;
    }
    Ok(())
}

fn add(source: &mut Source, bytes: u64, field: Field, block: &mut Block) -> io::Result<()> {
    if let Some(text) = source.text(bytes)? {
        block.add_bytes(field, &text);
    }
    Ok(())
}

/// The texts of a LIST chunk of type INFO: Multimedia Programming Interface and Data Specifications 1.0, chapter 2.
fn read_info(source: &mut Source, list: &Chunk, block: &mut Block) -> io::Result<()> {
    if list.bytes < 4 || source.array::<4>()? != *b"INFO" {
        return Ok(());
    }
    let end = list.start.saturating_add(list.bytes).min(source.len());
    let mut place = list.start + 4;
    for _ in 0..MAX_CHUNKS {
        if place + 8 > end {
            break;
        }
        let item = Layout::Riff.read_chunk(source, place)?;
        if item.start.saturating_add(item.bytes) > end {
            break;
        }
        match &item.name {
            b"INAM" => add(source, item.bytes, Field::Title, block)?,
            b"IART" => add(source, item.bytes, Field::Artist, block)?,
            b"IPRD" => add(source, item.bytes, Field::Album, block)?,
            _ => {}
        }
        place = after_padding(source, item.start + item.bytes, item.bytes)?;
    }
    Ok(())
}

/// AIFF 1.3: channels, frames, bits per sample, and the rate as an 80-bit number.
fn aiff_seconds(common: &[u8; 18]) -> Option<f64> {
    let [_, _, a, b, c, d, _, _, e, f, m @ ..] = *common;
    let frames = u32::from_be_bytes([a, b, c, d]);
    let exponent = i32::from(u16::from_be_bytes([e, f]) & 0x7fff) - 16383 - 63;
    let rate = u64::from_be_bytes(m) as f64 * 2_f64.powi(exponent);
    (rate >= 1.0 && rate.is_finite()).then(|| f64::from(frames) / rate)
}
