//! Boxes (ISO/IEC 14496-12, section 4.2), called atoms in QuickTime: a length, a name, and the content.

use std::io::Result;

use super::super::stream::{Fields, Stream};

/// The name of a box, four letters.
pub(super) type Name = [u8; 4];

/// A box in a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct FileBox {
    pub(super) name: Name,
    /// Start of the box, and of its content.
    pub(super) start: u64,
    pub(super) body: u64,
    /// End of the box, limited to the end of its parent.
    pub(super) end: u64,
    /// Whether its declared length exceeds its parent.
    pub(super) is_cut: bool,
}

impl FileBox {
    pub(super) fn length(&self) -> u64 {
        self.end - self.body
    }
}

/// The box at a position in a file; none at `end`, or if there is no box.
pub(super) fn at(stream: &mut Stream, start: u64, end: u64) -> Result<Option<FileBox>> {
    if end.saturating_sub(start) < 8 {
        return Ok(None);
    }
    stream.go(start)?;
    let Some([a, b, c, d, name @ ..]) = stream.array::<8>()? else { return Ok(None) };
    let (body, length) = match u32::from_be_bytes([a, b, c, d]) {
        // Up to the end of its parent.
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

/// The children of a box in a file, at most `limit`.
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

/// Iterates over consecutive boxes in memory: names and contents.
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

/// Content of the first box with a name.
pub(super) fn find(bytes: &[u8], name: Name) -> Option<&[u8]> {
    read(bytes).find(|(other, _)| *other == name).map(|(_, body)| body)
}
