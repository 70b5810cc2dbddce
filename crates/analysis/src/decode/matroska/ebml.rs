//! EBML elements (RFC 8794): an ID, a length that may be unknown, and the content.

use std::io::{ErrorKind, Result};

use super::super::stream::{Fields, Stream};

/// An element in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Element {
    /// Its ID, including the bits that encode the ID's length, as the specifications write it.
    pub(super) id: u32,
    pub(super) body: u64,
    /// End of its content; none if it continues until an element begins that cannot be inside it.
    pub(super) end: Option<u64>,
}

/// Result of looking at a position in a file.
pub(super) enum Found {
    Element(Element),
    /// Bytes that are not an element.
    Noise,
    /// The end of the file.
    End,
}

/// Parses the element at a position in a file.
pub(super) fn at(stream: &mut Stream, place: u64) -> Result<Found> {
    // An ID has at most four bytes, a length at most eight.
    match stream.go(place) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(Found::End),
        other => other?,
    }
    let start = stream.up_to::<12>()?;
    if start.is_empty() {
        return Ok(Found::End);
    }
    let mut fields = Fields(&start);
    let Some(id) = name(&mut fields) else { return Ok(Found::Noise) };
    let Some(length) = length(&mut fields) else {
        return Ok(if start.len() < 12 { Found::End } else { Found::Noise });
    };
    let body = place + (start.len() - fields.0.len()) as u64;
    Ok(Found::Element(Element { id, body, end: length.map(|length| body.saturating_add(length)) }))
}

/// Iterates over consecutive elements in memory: IDs and contents.
pub(super) fn read(mut bytes: &[u8]) -> impl Iterator<Item = (u32, &[u8])> {
    std::iter::from_fn(move || {
        let mut fields = Fields(bytes);
        let id = name(&mut fields)?;
        let length = length(&mut fields)?;
        let length = length.map_or(fields.0.len(), |length| usize::try_from(length).unwrap_or(usize::MAX));
        let body = fields.take(length)?;
        bytes = fields.0;
        Some((id, body))
    })
}

/// Reads an ID of one to four bytes.
fn name(fields: &mut Fields<'_>) -> Option<u32> {
    let width = fields.0.first()?.leading_zeros() as usize + 1;
    let bytes = fields.take(width).filter(|_| width <= 4)?;
    Some(bytes.iter().fold(0, |id, &byte| id << 8 | u32::from(byte)))
}

/// Reads a length of one to eight bytes; the inner none stands for an unknown length.
fn length(fields: &mut Fields<'_>) -> Option<Option<u64>> {
    let (number, width) = number(fields)?;
    Some((number != (1 << (7 * width)) - 1).then_some(number))
}

/// Reads a number of one to eight bytes, whose first byte encodes the width; returns it with its width in bytes.
pub(super) fn number(fields: &mut Fields<'_>) -> Option<(u64, usize)> {
    let width = fields.0.first()?.leading_zeros() as usize + 1;
    let bytes = fields.take(width).filter(|_| width <= 8)?;
    let number = bytes.iter().fold(0u64, |number, &byte| number << 8 | u64::from(byte));
    Some((number & ((1 << (7 * width)) - 1), width))
}

/// Content of an element as an unsigned number.
pub(super) fn unsigned(body: &[u8]) -> u64 {
    body.iter().take(8).fold(0, |number, &byte| number << 8 | u64::from(byte))
}

/// Content of an element as a signed number.
pub(super) fn signed(body: &[u8]) -> i64 {
    let unused = 64 - 8 * body.len().min(8) as u32;
    if unused == 64 { 0 } else { (unsigned(body) << unused).cast_signed() >> unused }
}

/// Content of an element as a floating-point number of four or eight bytes.
pub(super) fn float(body: &[u8]) -> f64 {
    match *body {
        [a, b, c, d] => f64::from(f32::from_be_bytes([a, b, c, d])),
        [a, b, c, d, e, f, g, h] => f64::from_be_bytes([a, b, c, d, e, f, g, h]),
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_width_that_their_first_byte_says() {
        for (bytes, expected) in [
            (&[0x82][..], Some((2, 1))),
            (&[0x40, 0x02], Some((2, 2))),
            (&[0x01, 0, 0, 0, 0, 0, 1, 0], Some((256, 8))),
            (&[0x40], None),
            (&[0x00, 0, 0, 0, 0, 0, 0, 0, 0], None),
        ] {
            assert_eq!(number(&mut Fields(bytes)), expected, "{bytes:x?}");
        }
        assert_eq!(length(&mut Fields(&[0xFF])), Some(None));
        assert_eq!(length(&mut Fields(&[0x01, 255, 255, 255, 255, 255, 255, 255])), Some(None));
        assert_eq!(length(&mut Fields(&[0x01, 255, 255, 255, 255, 255, 255, 254])), Some(Some((1 << 56) - 2)));
        assert_eq!((signed(&[0xFF]), signed(&[0x01, 0x00]), signed(&[])), (-1, 256, 0));
    }
}
