//! WavPack: `wavicle` decodes its blocks one by one and verifies their checksums.

use symphonia::core::{audio::Channels, errors::Error as SymphoniaError};
use wavicle::{DecodedStream, Error as WavpackError};

use super::{
    chunks::Pages,
    container::Content,
    sound::{Packets, Sound, pcm},
};
use crate::AudioError;

/// Size of a block's header.
const HEADER_BYTES: usize = 32;

/// Maximum block size in bytes (`WavPack 4 & 5 Binary File / Block Format`, 2.0).
const MAX_BLOCK_BYTES: usize = 1 << 20;

/// After this many consecutive blocks without a sample, the rest is given up.
const MAX_EMPTY_BLOCKS: usize = 1000;

/// Flags of a block that contains all channels of its samples: first and last of its group.
const FIRST_AND_LAST: u32 = 1 << 11 | 1 << 12;

/// Returns the content of a WavPack file, or none if the file is not one; it begins with `start`.
///
/// # Errors
/// When the file cannot be read, or has content that is not supported.
pub(super) fn open(pages: &Pages<'_>, start: &[u8]) -> Result<Option<Content>, AudioError> {
    if !start.starts_with(b"wvpk") {
        return Ok(None);
    }
    let number = |at: usize| start.get(at..)?.first_chunk().map(|&bytes| u32::from_le_bytes(bytes));
    let said = number(12).filter(|&samples| samples != u32::MAX && samples > 0);
    let samples = said.map(|low| u64::from(start.get(11).copied().unwrap_or(0)) << 32 | u64::from(low));
    let mut blocks = Blocks { file: pages.file().clone(), at: 0 };
    let first = match blocks.next() {
        Ok(Some(first)) => first,
        Ok(None) => return Err(AudioError::Damaged("WavPack: it has no samples".to_owned())),
        Err(Fault::Read(error)) => return Err(error),
        Err(Fault::Wavpack(WavpackError::OutOfScope(what))) => {
            return Err(AudioError::UnsupportedFormat(format!("WavPack with {what}")));
        }
        Err(Fault::Wavpack(WavpackError::NotYetImplemented(_))) => {
            return Err(AudioError::UnsupportedFormat("WavPack of 8 bits".to_owned()));
        }
        Err(Fault::Wavpack(WavpackError::UnsupportedVersion(version))) => {
            return Err(AudioError::UnsupportedFormat(format!("WavPack of version {version:#x}")));
        }
        Err(Fault::Wavpack(error)) => return Err(AudioError::Damaged(format!("WavPack: {error}"))),
        Err(Fault::Channels) => {
            return Err(AudioError::UnsupportedFormat("WavPack of more than two channels".to_owned()));
        }
    };
    let bytes = first.bits_per_sample / 8;
    let Some(codec) = pcm(bytes, first.is_float, false) else {
        return Err(AudioError::UnsupportedFormat(format!("WavPack of {} bits", first.bits_per_sample)));
    };
    let (rate, channels, is_float) = (first.sample_rate, first.channels, first.is_float);
    let mut waiting = Some(first);
    let next = move || {
        let block = match waiting.take() {
            Some(first) => Some(first),
            None => blocks.next().map_err(|fault| match fault {
                Fault::Read(AudioError::Read(error)) => SymphoniaError::IoError(error),
                _ => SymphoniaError::DecodeError("wavpack: damaged block"),
            })?,
        };
        let Some(block) = block else { return Ok(None) };
        if (block.channels, block.bits_per_sample / 8, block.is_float) != (channels, bytes, is_float) {
            return Err(SymphoniaError::DecodeError("wavpack: another format in the middle"));
        }
        Ok(Some(
            block.samples.iter().flat_map(|sample| sample.to_le_bytes().into_iter().take(bytes as usize)).collect(),
        ))
    };
    let packets = Packets::Made { next: Box::new(next), bytes: bytes * channels, samples };
    let channels = Channels::Discrete(channels as u16);
    let sound = Sound { codec, rate, channels, packets, convert: None, extra: None, start: 0, bytes: None };
    Ok(Some(Content::Sound(sound)))
}

enum Fault {
    Read(AudioError),
    Wavpack(WavpackError),
    Channels,
}

struct Blocks {
    file: super::source::File,
    at: u64,
}

impl Blocks {
    /// The next block with samples; none at the end, or when other data begins.
    fn next(&mut self) -> Result<Option<DecodedStream>, Fault> {
        let pages = Pages::of(&self.file);
        for _ in 0..MAX_EMPTY_BLOCKS {
            let header = pages.read(self.at, HEADER_BYTES).map_err(Fault::Read)?;
            let number = |at: usize| header.get(at..)?.first_chunk().map(|&bytes| u32::from_le_bytes(bytes));
            let (Some(b"wvpk"), Some(size), Some(samples), Some(flags)) =
                (header.get(..4), number(4), number(20), number(24))
            else {
                return Ok(None);
            };
            let bytes = size as usize + 8;
            if !(HEADER_BYTES..=MAX_BLOCK_BYTES).contains(&bytes) {
                return Err(Fault::Wavpack(WavpackError::BadBlockSize(size)));
            }
            let at = self.at;
            self.at += bytes as u64;
            if samples > 0 {
                if flags & FIRST_AND_LAST != FIRST_AND_LAST {
                    return Err(Fault::Channels);
                }
                let block = pages.read(at, bytes).map_err(Fault::Read)?;
                return wavicle::decode_stream(&block).map(Some).map_err(Fault::Wavpack);
            }
        }
        Ok(None)
    }
}
