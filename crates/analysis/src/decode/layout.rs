//! Where the channels of a decoded buffer stand.

use std::io::{self, ErrorKind, Read, Seek, SeekFrom};

use symphonia::core::audio::{Channels, Position};

use crate::{
    AudioError,
    dsp::{MAX_CHANNELS, Speaker, default_layout},
};

/// Bytes before the first chunk of a WAV: `RIFF`, a length and `WAVE`.
const RIFF_HEADER_BYTES: u64 = 12;

/// Bytes before what a chunk holds: its name and its length.
const CHUNK_HEADER_BYTES: usize = 8;

/// Chunks of a WAV that are looked at for its `fmt `, each at the cost of a seek. Those that programs put before it are a
/// handful, but as long as they like: a broadcaster's `bext` (EBU Tech 3285) has 602 bytes and more.
const MAX_CHUNKS: usize = 100;

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

/// Vorbis's order of channels (Vorbis I, section 4.3.9), which Opus has as well.
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

/// Whether a file, which has to be at its start, is a WAV that names no speakers: symphonia then takes those of the first
/// bits of the mask, which makes a low-frequency channel of the fourth.
///
/// Names are in the mask of `WAVEFORMATEXTENSIBLE` alone (Microsoft, "Multiple channel audio data and WAVE files"):
/// bytes 20 to 23 of the chunk `fmt `, where its tag, the first two bytes, is 0xFFFE.
///
/// # Errors
/// When the file cannot be read; that it ends is none.
pub(super) fn is_wave_without_speakers(file: &mut (impl Read + Seek)) -> io::Result<bool> {
    if bytes::<4>(file)? != Some(*b"RIFF") {
        return Ok(false);
    }
    let mut at = RIFF_HEADER_BYTES;
    for _ in 0..MAX_CHUNKS {
        // Where to is a matter of what the file says: an error here is not one of reading.
        if file.seek(SeekFrom::Start(at)).is_err() {
            break;
        }
        let Some([name @ .., a, b, c, d]) = bytes::<CHUNK_HEADER_BYTES>(file)? else { break };
        if name == *b"fmt " {
            let format = bytes::<24>(file)?;
            return Ok(format.is_none_or(|format| !format.starts_with(&[0xFE, 0xFF]) || format.ends_with(&[0; 4])));
        }
        // Behind a chunk of odd length is a byte that it does not count.
        let length = u64::from(u32::from_le_bytes([a, b, c, d]));
        at += CHUNK_HEADER_BYTES as u64 + length.next_multiple_of(2);
    }
    Ok(true)
}

/// The next bytes of a file; none where it ends before them.
fn bytes<const N: usize>(file: &mut impl Read) -> io::Result<Option<[u8; N]>> {
    let mut bytes = [0; N];
    match file.read_exact(&mut bytes) {
        Ok(()) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
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
