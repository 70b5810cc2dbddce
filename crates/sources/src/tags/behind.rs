//! Tags that any file may have at its end: ID3v1 (id3.org), and APE (APE tags header specification), with Lyrics3 between
//! them.

use std::io;

use super::{
    fields::{Block, Field},
    source::{ReadExt, Source},
};

const ID3V1_BYTES: u64 = 128;

/// Bytes of an APE tag's footer.
const FOOTER_BYTES: u64 = 32;

/// Bytes at the end of Lyrics3: six digits, and its marker.
const LYRICS_END_BYTES: u64 = 15;

/// Maximum number of APE items examined.
const MAX_ITEMS: u32 = 10_000;

/// Bytes of an item before its value: two numbers, and a zero-terminated key of at most 255 bytes.
const ITEM_BYTES: usize = 8 + 256;

/// Reads the tags; ID3v1 comes last because it truncates its texts.
pub(super) fn read(source: &mut Source) -> io::Result<Vec<Block>> {
    let mut end = source.len();
    let mut old = None;
    if let Some(start) = end.checked_sub(ID3V1_BYTES) {
        source.go_to(start)?;
        let tag: [u8; ID3V1_BYTES as usize] = source.array()?;
        if tag.starts_with(b"TAG") {
            (old, end) = (Some(id3v1(&tag)), start);
        }
    }
    if let Some(start) = end.checked_sub(LYRICS_END_BYTES) {
        source.go_to(start)?;
        if let [digits @ .., b'L', b'Y', b'R', b'I', b'C', b'S', b'2', b'0', b'0'] = source.array::<15>()? {
            let size = str::from_utf8(&digits).ok().and_then(|digits| digits.parse().ok());
            end = size.and_then(|size: u64| start.checked_sub(size)).unwrap_or(end);
        }
    }
    Ok(ape(source, end)?.into_iter().chain(old).collect())
}

fn id3v1(tag: &[u8; ID3V1_BYTES as usize]) -> Block {
    let mut block = Block::default();
    for (field, place) in [(Field::Title, 3), (Field::Artist, 33), (Field::Album, 63)] {
        let text = &tag[place..place + 30];
        block.add_bytes(field, text.split(|byte| *byte == 0).next().unwrap_or_default());
    }
    block
}

/// The APE tag that ends at `end`, if there is one.
fn ape(source: &mut Source, end: u64) -> io::Result<Option<Block>> {
    let Some(footer) = end.checked_sub(FOOTER_BYTES) else { return Ok(None) };
    source.go_to(footer)?;
    let [b'A', b'P', b'E', b'T', b'A', b'G', b'E', b'X', _, _, _, _, a, b, c, d, e, f, g, h, ..] =
        source.array::<32>()?
    else {
        return Ok(None);
    };
    let (bytes, items) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]));
    let mut block = Block::default();
    let Some(mut place) = end.checked_sub(bytes.into()) else { return Ok(Some(block)) };
    for _ in 0..items.min(MAX_ITEMS) {
        let mut item = [0; ITEM_BYTES];
        let item = source.head(place, &mut item)?;
        let [a, b, c, d, kind, _, _, _, key @ ..] = item else { break };
        let Some(length) = key.iter().position(|byte| *byte == 0) else { break };
        let value = place + 8 + length as u64 + 1;
        let bytes = u64::from(u32::from_le_bytes([*a, *b, *c, *d]));
        place = value.saturating_add(bytes);
        if place > footer {
            break;
        }
        // Other kinds are pictures, and links to files.
        let is_text = kind & 6 == 0;
        let field = str::from_utf8(&key[..length]).ok().and_then(Field::named).filter(|_| is_text);
        if let Some(field) = field {
            source.go_to(value)?;
            if let Some(text) = source.text(bytes)? {
                block.add_bytes(field, &text);
            }
        }
    }
    Ok(Some(block))
}
