//! Edit lists (ISO/IEC 14496-12, section 8.6.6): which parts of a track are played, and in what order.

use super::super::stream::Fields;

/// Maximum number of edits in a track. Editors that keep every cut have dozens.
pub(super) const MAX_EDITS: usize = 1000;

/// A played part of a track, in units of the track's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Edit {
    pub(super) start: u64,
    pub(super) end: u64,
}

/// The clocks that edits refer to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clocks {
    /// Units per second of the movie's clock, which the edits' lengths use.
    pub(super) movie: u32,
    /// Units per second of the track's clock.
    pub(super) track: u32,
    /// The track's length on its clock.
    pub(super) end: u64,
}

/// The parts selected by a box `elst`; the whole track if the box contains no valid edit.
///
/// An empty edit only delays the next one, and a held picture has no sound: neither plays anything. The file does not
/// contain the sound of such gaps, and FFmpeg, which the peer uses, leaves them out.
pub(super) fn read(list: Option<&[u8]>, clocks: Clocks) -> Vec<Edit> {
    let edits = list.and_then(|list| listed(Fields(list), clocks)).unwrap_or_default();
    if edits.is_empty() { vec![Edit { start: 0, end: clocks.end }] } else { edits }
}

fn listed(mut fields: Fields<'_>, clocks: Clocks) -> Option<Vec<Edit>> {
    let is_long = fields.u32()? >> 24 == 1;
    let count = fields.u32()?;
    let mut edits = Vec::new();
    for _ in 0..count.min(MAX_EDITS as u32) {
        let Some(duration) = fields.u32_or_64(is_long) else { break };
        let start = if is_long { fields.u64()?.cast_signed() } else { i64::from(fields.u32()?.cast_signed()) };
        let rate = fields.u32()?;
        let (Ok(start), true) = (u64::try_from(start), rate != 0) else { continue };
        // A length of zero was left by a program still writing the track: it means up to the end.
        let end = if duration == 0 {
            clocks.end
        } else {
            let length = u128::from(duration) * u128::from(clocks.track) / u128::from(clocks.movie.max(1));
            start.saturating_add(u64::try_from(length).unwrap_or(u64::MAX)).min(clocks.end)
        };
        if start < end {
            edits.push(Edit { start, end });
        }
    }
    Some(edits)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLOCKS: Clocks = Clocks { movie: 1000, track: 44_100, end: 882_000 };

    fn list(edits: &[(u32, i32, u32)]) -> Vec<u8> {
        let rows = edits.iter().flat_map(|&(duration, start, rate)| [duration, start.cast_unsigned(), rate]);
        [0, edits.len() as u32].into_iter().chain(rows).flat_map(u32::to_be_bytes).collect()
    }

    fn edits(list: &[u8]) -> Vec<(u64, u64)> {
        read(Some(list), CLOCKS).into_iter().map(|edit| (edit.start, edit.end)).collect()
    }

    #[test]
    fn parts_are_played_in_the_lists_order() {
        const RATE: u32 = 0x1_0000;
        for (what, list, expected) in [
            ("a cut", list(&[(8000, 221_524, RATE)]), vec![(221_524, 574_324)]),
            ("two parts", list(&[(1000, 441_000, RATE), (1000, 0, RATE)]), vec![(441_000, 485_100), (0, 44_100)]),
            ("a delay", list(&[(500, -1, RATE), (20_000, 0, RATE)]), vec![(0, 882_000)]),
            ("a part that is held", list(&[(500, 0, 0), (1000, 44_100, RATE)]), vec![(44_100, 88_200)]),
            ("no length", list(&[(0, 1024, RATE)]), vec![(1024, 882_000)]),
            ("longer than the track", list(&[(99_000, 1024, RATE)]), vec![(1024, 882_000)]),
            ("nothing of the track", list(&[(1000, 882_000, RATE)]), vec![(0, 882_000)]),
            ("nothing", list(&[]), vec![(0, 882_000)]),
        ] {
            assert_eq!(edits(&list), expected, "{what}");
        }
        let mut long: Vec<u8> = [1u32 << 24, 1].into_iter().flat_map(u32::to_be_bytes).collect();
        long.extend([2000u64, 44_100].into_iter().flat_map(u64::to_be_bytes));
        long.extend(RATE.to_be_bytes());
        assert_eq!(edits(&long), [(44_100, 132_300)]);
    }
}
