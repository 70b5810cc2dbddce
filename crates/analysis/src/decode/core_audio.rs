//! Channel positions in Core Audio's `AudioChannelLayout` (CoreAudioBaseTypes.h), used in QuickTime's box `chan`, CAF's
//! chunk `chan` and AIFF's chunk `CHAN`.

use symphonia::core::audio::{ChannelLabel, Channels, Position};

use super::stream::Fields;

/// Tags of layouts given as a list of channels, and as a mask like WAV's.
const BY_LIST: u32 = 0;
const BY_MASK: u32 = 1 << 16;

/// Maximum number of bytes read from a layout: its header, and descriptions of 27 channels.
pub(super) const MAX_LAYOUT_BYTES: usize = 12 + 27 * 20;

/// The channels of a layout in order, starting after a box's version field; none if the layout is unknown or has another
/// number of channels.
pub(super) fn channels(layout: &[u8], count: u16) -> Option<Channels> {
    let mut fields = Fields(layout);
    let (tag, mask, listed) = (fields.u32()?, fields.u32()?, fields.u32()?);
    let positions: Vec<Position> = match tag {
        BY_LIST => (0..listed.min(u32::from(count)))
            .map(|_| {
                let label = fields.u32()?;
                fields.take(16)?;
                position(label)
            })
            .collect::<Option<_>>()?,
        BY_MASK => Position::from_bits(u64::from(mask))?.iter().collect(),
        // The upper half is the layout, the lower half its number of channels.
        tag => labels(tag >> 16)?.iter().map(|&label| position(label)).collect::<Option<_>>()?,
    };
    let labels: Box<[ChannelLabel]> = positions.into_iter().map(ChannelLabel::Positioned).collect();
    (labels.len() == usize::from(count)).then_some(Channels::Custom(labels))
}

/// Position for a label.
fn position(label: u32) -> Option<Position> {
    Some(match label {
        1 | 38 => Position::FRONT_LEFT,
        2 | 39 => Position::FRONT_RIGHT,
        3 | 42 => Position::FRONT_CENTER,
        4 | 37 => Position::LFE1,
        5 => Position::SIDE_LEFT,
        6 => Position::SIDE_RIGHT,
        7 => Position::FRONT_LEFT_CENTER,
        8 => Position::FRONT_RIGHT_CENTER,
        9 => Position::REAR_CENTER,
        10 | 33 => Position::REAR_LEFT,
        11 | 34 => Position::REAR_RIGHT,
        12 => Position::TOP_CENTER,
        13 => Position::TOP_FRONT_LEFT,
        14 => Position::TOP_FRONT_CENTER,
        15 => Position::TOP_FRONT_RIGHT,
        16 => Position::TOP_REAR_LEFT,
        17 => Position::TOP_REAR_CENTER,
        18 => Position::TOP_REAR_RIGHT,
        35 => Position::FRONT_LEFT_WIDE,
        36 => Position::FRONT_RIGHT_WIDE,
        _ => return None,
    })
}

/// Labels of the layouts that have their own tag.
fn labels(tag: u32) -> Option<&'static [u32]> {
    const L: u32 = 1;
    const R: u32 = 2;
    const C: u32 = 3;
    const LFE: u32 = 4;
    const LS: u32 = 5;
    const RS: u32 = 6;
    const LC: u32 = 7;
    const RC: u32 = 8;
    const CS: u32 = 9;
    const RLS: u32 = 33;
    const RRS: u32 = 34;
    Some(match tag {
        100 => &[C],
        101..=103 | 106 => &[L, R],
        108 | 132 => &[L, R, LS, RS],
        113 => &[L, R, C],
        114 => &[C, L, R],
        115 => &[L, R, C, CS],
        116 => &[C, L, R, CS],
        117 => &[L, R, C, LS, RS],
        109 | 118 => &[L, R, LS, RS, C],
        119 => &[L, C, R, LS, RS],
        120 => &[C, L, R, LS, RS],
        121 => &[L, R, C, LFE, LS, RS],
        122 => &[L, R, LS, RS, C, LFE],
        123 => &[L, C, R, LS, RS, LFE],
        124 => &[C, L, R, LS, RS, LFE],
        125 => &[L, R, C, LFE, LS, RS, CS],
        126 => &[L, R, C, LFE, LS, RS, LC, RC],
        127 => &[C, LC, RC, L, R, LS, RS, LFE],
        128 => &[L, R, C, LFE, LS, RS, RLS, RRS],
        129 => &[L, R, LS, RS, C, LFE, LC, RC],
        131 => &[L, R, CS],
        133 => &[L, R, LFE],
        134 => &[L, R, LFE, CS],
        135 => &[L, R, LFE, LS, RS],
        136 => &[L, R, C, LFE],
        137 => &[L, R, C, LFE, CS],
        138 => &[L, R, LS, RS, LFE],
        139 => &[L, R, LS, RS, C, CS],
        141 => &[C, L, R, LS, RS, CS],
        142 => &[C, L, R, LS, RS, CS, LFE],
        _ => return None,
    })
}
