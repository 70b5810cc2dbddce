//! Apple's Core Audio Format (Core Audio Format Specification 1.0).

use std::io::{self, Read};

use super::{
    Contents,
    fields::{Block, Field},
    source::{MAX_TEXT_BYTES, ReadExt, Source},
};

/// Maximum number of chunks examined.
const MAX_CHUNKS: u32 = 10_000;

/// Maximum number of texts examined per file.
const MAX_TEXTS: u32 = 10_000;

pub(super) fn read(source: &mut Source, start: u64, contents: &mut Contents) -> io::Result<()> {
    let (mut rate, mut packet) = (0.0, (0, 0));
    let mut place = start + 8;
    for _ in 0..MAX_CHUNKS {
        source.go_to(place)?;
        let Ok(name) = source.array::<4>() else { break };
        let bytes = i64::from_be_bytes(source.array()?);
        let content = place + 12;
        // Only the audio chunk may have an unknown size, and then it is the last one.
        let bytes = u64::try_from(bytes).unwrap_or_else(|_| source.len().saturating_sub(content));
        match &name {
            b"desc" => {
                rate = f64::from_be_bytes(source.array()?);
                let [_, _, _, _, _, _, _, _, a, b, c, d, e, f, g, h] = source.array()?;
                packet = (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]));
            }
            // The number of packets, and how many of their frames are music.
            b"pakt" => {
                let [_, _, _, _, _, _, _, _, frames @ ..] = source.array::<16>()?;
                set_seconds(contents, u64::from_be_bytes(frames) as f64, rate);
            }
            b"data" if packet.0 > 0 => {
                let packets =
                    bytes.saturating_sub(4).min(source.len().saturating_sub(content + 4)) / u64::from(packet.0);
                set_seconds(contents, packets as f64 * f64::from(packet.1), rate);
            }
            b"info" => contents.blocks.push(read_info(&mut source.by_ref().take(bytes))?),
            _ => {}
        }
        place = content.saturating_add(bytes);
    }
    Ok(())
}

fn set_seconds(contents: &mut Contents, frames: f64, rate: f64) {
    if rate >= 1.0 && rate.is_finite() {
        contents.seconds = Some(frames / rate);
    }
}

/// Alternating names and texts, each zero-terminated.
fn read_info(reader: &mut impl Read) -> io::Result<Block> {
    let mut block = Block::default();
    let count = u32::from_be_bytes(reader.array()?);
    let mut pieces = Vec::new();
    reader.take(MAX_TEXT_BYTES).read_to_end(&mut pieces)?;
    let mut pieces = pieces.split(|byte| *byte == 0);
    for _ in 0..count.min(MAX_TEXTS) {
        let (Some(name), Some(text)) = (pieces.next(), pieces.next()) else { break };
        if let Some(field) = str::from_utf8(name).ok().and_then(Field::named) {
            block.add_bytes(field, text);
        }
    }
    Ok(block)
}
