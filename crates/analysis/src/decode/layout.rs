//! Channel positions of a decoded buffer.

use symphonia::core::audio::{ChannelLabel, Channels, Position};

use crate::{
    AudioError,
    dsp::{MAX_CHANNELS, Speaker, default_layout},
};

/// Refuses channels that cannot be folded to mono, before anything is decoded.
///
/// # Errors
/// Names the excessive or unknown channels.
pub(super) fn check(channels: &Channels) -> Result<(), AudioError> {
    match channels {
        Channels::Ambisonic(_) => Err(AudioError::UnsupportedChannels("a sound field (Ambisonics)")),
        Channels::Custom(labels) if positions(labels).is_none() => {
            Err(AudioError::UnsupportedChannels("channels that are no loudspeakers"))
        }
        channels if channels.count() > MAX_CHANNELS => Err(AudioError::TooManyChannels(channels.count())),
        _ => Ok(()),
    }
}

/// Position of each channel; empty for no channels.
///
/// # Errors
/// As [`check`].
pub(super) fn speakers(channels: &Channels) -> Result<Vec<Speaker>, AudioError> {
    check(channels)?;
    Ok(match channels {
        Channels::None => Vec::new(),
        Channels::Positioned(positions) if channels.count() > 2 => positions.iter().map(speaker).collect(),
        Channels::Custom(labels) if channels.count() > 2 => {
            positions(labels).unwrap_or_default().into_iter().map(speaker).collect()
        }
        channels => default_layout(channels.count()),
    })
}

/// ALAC's channels as symphonia outputs them. symphonia names the last ones in another order than it writes them.
pub(super) fn alac(channels: usize) -> Option<Vec<Speaker>> {
    use Speaker::{
        Centre as C, Left as L, LowFrequency as Lfe, Right as R, SurroundCentre as Sc, SurroundLeft as Sl,
        SurroundRight as Sr,
    };
    match channels {
        7 => Some(vec![L, R, C, Lfe, Sc, Sl, Sr]),
        8 => Some(vec![L, R, C, Lfe, L, R, Sl, Sr]),
        _ => None,
    }
}

/// Vorbis's channel order (Vorbis I, section 4.3.9), also used by Opus.
pub(super) fn vorbis(channels: usize) -> Vec<Speaker> {
    use Speaker::{
        Centre as C, Left as L, LowFrequency as Lfe, Right as R, SurroundCentre as Sc, SurroundLeft as Sl,
        SurroundRight as Sr,
    };
    match channels {
        3 => vec![L, C, R],
        5 => vec![L, C, R, Sl, Sr],
        6 => vec![L, C, R, Sl, Sr, Lfe],
        7 => vec![L, C, R, Sl, Sr, Sc, Lfe],
        8 => vec![L, C, R, Sl, Sr, Sl, Sr, Lfe],
        channels => default_layout(channels),
    }
}

/// Positions of individually labelled channels; none if one of them has no position.
fn positions(labels: &[ChannelLabel]) -> Option<Vec<Position>> {
    let position = |label: &ChannelLabel| match label {
        ChannelLabel::Positioned(position) => Some(*position),
        _ => None,
    };
    labels.iter().map(position).collect()
}

fn speaker(position: Position) -> Speaker {
    const CENTRES: Position = Position::FRONT_CENTER.union(Position::TOP_FRONT_CENTER);
    const LOW: Position = Position::LFE1.union(Position::LFE2);
    const LEFT: Position = Position::FRONT_LEFT.union(Position::FRONT_LEFT_CENTER).union(Position::FRONT_LEFT_WIDE);
    const RIGHT: Position = Position::FRONT_RIGHT.union(Position::FRONT_RIGHT_CENTER).union(Position::FRONT_RIGHT_WIDE);
    const SURROUND_LEFT: Position = Position::REAR_LEFT
        .union(Position::SIDE_LEFT)
        .union(Position::TOP_FRONT_LEFT)
        .union(Position::TOP_REAR_LEFT)
        .union(Position::TOP_SIDE_LEFT);
    const SURROUND_RIGHT: Position = Position::REAR_RIGHT
        .union(Position::SIDE_RIGHT)
        .union(Position::TOP_FRONT_RIGHT)
        .union(Position::TOP_REAR_RIGHT)
        .union(Position::TOP_SIDE_RIGHT);
    match position {
        p if LEFT.contains(p) => Speaker::Left,
        p if RIGHT.contains(p) => Speaker::Right,
        p if CENTRES.contains(p) => Speaker::Centre,
        p if LOW.contains(p) => Speaker::LowFrequency,
        p if SURROUND_LEFT.contains(p) => Speaker::SurroundLeft,
        p if SURROUND_RIGHT.contains(p) => Speaker::SurroundRight,
        _ => Speaker::SurroundCentre,
    }
}
