//! Blocks and their frames (RFC 9559, section 10.2). Several frames may share a block; their lengths are encoded in one
//! of three ways.

use super::{
    super::{stream::Fields, xiph},
    ebml,
};

/// Header of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) track: u64,
    lacing: u8,
}

/// Reads a block's header, up to its frames.
pub(super) fn head(fields: &mut Fields<'_>) -> Option<Head> {
    let (track, _) = ebml::number(fields)?;
    // The timestamp relative to the cluster is not needed.
    fields.take(2)?;
    Some(Head { track, lacing: fields.u8()? >> 1 & 3 })
}

/// The frames of a block; none if its lengths are impossible.
pub(super) fn frames<'a>(head: Head, mut fields: Fields<'a>) -> Option<Vec<&'a [u8]>> {
    if head.lacing == 0 {
        return Some(vec![fields.0]);
    }
    let others = usize::from(fields.u8()?);
    let mut lengths = Vec::with_capacity(others + 1);
    match head.lacing {
        // Xiph lacing, as in Ogg.
        1 => {
            for _ in 0..others {
                lengths.push(xiph::laced_length(&mut fields)?);
            }
        }
        // Frames of equal length.
        2 => lengths.resize(others, fields.0.len() / (others + 1)),
        // The first length, then the difference of each length from the previous one.
        _ => {
            let mut length = 0i64;
            for index in 0..others {
                let (number, width) = ebml::number(&mut fields)?;
                let number = i64::try_from(number).ok()?;
                let middle = (1i64 << (7 * width - 1)) - 1;
                length = if index == 0 { number } else { length.checked_add(number - middle)? };
                lengths.push(usize::try_from(length).ok()?);
            }
        }
    }
    let mut frames = Vec::with_capacity(others + 1);
    for length in lengths {
        frames.push(fields.take(length)?);
    }
    frames.push(fields.0);
    Some(frames)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(block: &[u8]) -> Option<(u64, Vec<Vec<u8>>)> {
        let mut fields = Fields(block);
        let head = head(&mut fields)?;
        Some((head.track, frames(head, fields)?.into_iter().map(<[u8]>::to_vec).collect()))
    }

    #[test]
    fn frames_are_found_however_they_are_laced() {
        let frames = [vec![1; 300], vec![2; 10], vec![3; 40]];
        for (what, flags, lengths) in [
            ("Xiph", 2, vec![2, 255, 45, 10]),
            // 300, then 290 less: offset by 0x1FFF in two bytes.
            ("EBML", 6, vec![2, 0x41, 0x2C, 0x5E, 0xDD]),
        ] {
            let block = [&[0x81, 0, 0, flags][..], &lengths, &frames.concat()].concat();
            assert_eq!(read(&block), Some((1, frames.to_vec())), "{what}");
        }
        let alike = [vec![1; 20], vec![2; 20]];
        assert_eq!(read(&[&[0x40, 2, 0, 0, 4, 1][..], &alike.concat()].concat()), Some((2, alike.to_vec())));
        assert_eq!(read(&[0x81, 0, 0, 0, 7, 8]), Some((1, vec![vec![7, 8]])));
        assert_eq!(read(&[0x81, 0, 0, 2, 1, 200, 1, 2]), None);
    }
}
