//! Boxes (ISO/IEC 14496-12, section 4.2), which QuickTime calls atoms: a length, a name, and what is in it.

use std::io::Result;

use super::super::stream::{Fields, Stream};

/// The name of a box, four letters.
pub(super) type Name = [u8; 4];

/// A box in a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct FileBox {
    pub(super) name: Name,
    /// Where the box begins, and what is in it.
    pub(super) start: u64,
    pub(super) body: u64,
    /// Where it ends, at the latest with what it is in.
    pub(super) end: u64,
    /// Whether it would be longer than what it is in.
    pub(super) is_cut: bool,
}

impl FileBox {
    pub(super) fn length(&self) -> u64 {
        self.end - self.body
    }
}

/// The box at a place in a file; none at `end`, or when something else is there.
pub(super) fn at(stream: &mut Stream, start: u64, end: u64) -> Result<Option<FileBox>> {
    if end.saturating_sub(start) < 8 {
        return Ok(None);
    }
    stream.go(start)?;
    let Some([a, b, c, d, name @ ..]) = stream.array::<8>()? else { return Ok(None) };
    let (body, length) = match u32::from_be_bytes([a, b, c, d]) {
        // To the end of what it is in.
        0 => (start + 8, end - start),
        1 => match stream.array()? {
            Some(length) => (start + 16, u64::from_be_bytes(length)),
            None => return Ok(None),
        },
        length => (start + 8, u64::from(length)),
    };
    let stated = start.saturating_add(length);
    if stated < body {
        return Ok(None);
    }
    Ok(Some(FileBox { name, start, body: body.min(end), end: stated.min(end), is_cut: stated > end }))
}

/// The boxes in a box of a file, at most `limit`.
pub(super) fn within(stream: &mut Stream, parent: &FileBox, limit: usize) -> Result<Vec<FileBox>> {
    let mut boxes = Vec::new();
    let mut place = parent.body;
    while boxes.len() < limit {
        let Some(child) = at(stream, place, parent.end)? else { break };
        place = child.end;
        boxes.push(child);
    }
    Ok(boxes)
}

/// The boxes one after the other in a piece of memory: names and what is in them.
pub(super) fn read(mut bytes: &[u8]) -> impl Iterator<Item = (Name, &[u8])> {
    std::iter::from_fn(move || {
        let mut fields = Fields(bytes);
        let length = fields.u32()?;
        let name = fields.array()?;
        let length = match length {
            0 => bytes.len(),
            1 => usize::try_from(fields.u64()?).unwrap_or(usize::MAX),
            length => length as usize,
        };
        let header = bytes.len() - fields.0.len();
        let end = length.min(bytes.len());
        let body = bytes.get(header..end)?;
        bytes = &bytes[end..];
        Some((name, body))
    })
}

/// What is in the first box of a name.
pub(super) fn find(bytes: &[u8], name: Name) -> Option<&[u8]> {
    read(bytes).find(|(other, _)| *other == name).map(|(_, body)| body)
}
