//! Where the channels of a decoded buffer stand.

use symphonia::core::audio::{Channels, Position};

use crate::{
    AudioError,
    dsp::{MAX_CHANNELS, Speaker, default_layout},
};

/// Refuses what cannot be folded, before anything is decoded.
///
/// # Errors
/// Names what is too much or unknown.
pub(super) fn check(channels: &Channels) -> Result<(), AudioError> {
    match channels {
        Channels::Ambisonic(_) => Err(AudioError::UnsupportedChannels("a sound field (Ambisonics)")),
        Channels::Custom(_) => Err(AudioError::UnsupportedChannels("channels that are no loudspeakers")),
        channels if channels.count() > MAX_CHANNELS => Err(AudioError::TooManyChannels(channels.count())),
        _ => Ok(()),
    }
}

/// Where each channel stands; none for no channels. `are_invented` says that the reader made the positions up.
///
/// # Errors
/// As [`check`].
pub(super) fn speakers(channels: &Channels, are_invented: bool) -> Result<Vec<Speaker>, AudioError> {
    check(channels)?;
    Ok(match channels {
        Channels::None => Vec::new(),
        Channels::Positioned(positions) if channels.count() > 2 && !are_invented => {
            positions.iter().map(speaker).collect()
        }
        channels => default_layout(channels.count()),
    })
}

/// Whether a file is a WAV that names no speakers: symphonia then takes those of the first bits of the mask, which makes
/// a low-frequency channel of the fourth.
///
/// Names are in the mask of `WAVEFORMATEXTENSIBLE` alone (Microsoft, "Multiple channel audio data and WAVE files"):
/// bytes 20 to 23 of the chunk `fmt `, where its tag, the first two bytes, is 0xFFFE.
pub(super) fn is_wave_without_speakers(start: &[u8]) -> bool {
    if !start.starts_with(b"RIFF") {
        return false;
    }
    let format = start.windows(4).position(|window| window == b"fmt ").map(|at| at + 8);
    let field = |from, to| format.and_then(|format| start.get(format + from..format + to));
    field(0, 2) != Some(&[0xFE, 0xFF]) || field(20, 24) == Some(&[0; 4])
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
