//! Containers that are parsed here instead of by symphonia, because real files deviate from the specifications.

use symphonia::core::formats::{
    FormatInfo, FormatReader,
    well_known::{FORMAT_ID_AIFF, FORMAT_ID_CAF, FORMAT_ID_WAVE, FORMAT_ID_WAVPACK},
};

use super::{aiff, au, caf, chunks::Pages, dsd, monkeys, names, riff, sound::Sound, source::File, tags, tta, wavpack};
use crate::AudioError;

/// Bytes at the start of a file that identify its kind.
const START_BYTES: usize = 2048;

/// Maximum number of tags before the container; there should be at most one.
const MAX_TAGS: usize = 16;

/// Content of a container.
pub(super) enum Content {
    /// Sound that only needs to be split into packets.
    Sound(Sound),
    /// Another file at `start`; `bytes` is its size, if known.
    Inside { start: u64, bytes: Option<u64>, bytes_per_second: u32 },
}

/// A file in one of these containers.
pub(super) enum Opened {
    Reader(Box<dyn FormatReader>),
    /// The file inside, and how many seconds of it are missing.
    Inside(File, f64),
}

type Open = fn(&Pages<'_>, &[u8]) -> Result<Option<Content>, AudioError>;

/// Every container with its name.
const CONTAINERS: &[(Open, FormatInfo)] = &[
    (riff::open, FormatInfo { format: FORMAT_ID_WAVE, short_name: "wave", long_name: "WAVE" }),
    (aiff::open, FormatInfo { format: FORMAT_ID_AIFF, short_name: "aiff", long_name: "AIFF" }),
    (caf::open, FormatInfo { format: FORMAT_ID_CAF, short_name: "caf", long_name: "Core Audio Format" }),
    (au::open, FormatInfo { format: FORMAT_ID_WAVE, short_name: "au", long_name: "AU" }),
    (dsd::open, FormatInfo { format: FORMAT_ID_WAVE, short_name: "dsd", long_name: "Direct Stream Digital" }),
    (wavpack::open, FormatInfo { format: FORMAT_ID_WAVPACK, short_name: "wv", long_name: "WavPack" }),
    (monkeys::open, FormatInfo { format: FORMAT_ID_WAVE, short_name: "ape", long_name: "Monkey's Audio" }),
    (tta::open, FormatInfo { format: FORMAT_ID_WAVE, short_name: "tta", long_name: "True Audio" }),
];

/// Opens a file in one of these containers. Files of undecodable kinds are refused by name.
///
/// # Errors
/// When the file cannot be read, is empty, damaged or unsupported.
pub(super) fn open(file: &File) -> Result<Option<Opened>, AudioError> {
    let mut at = 0;
    let mut start = Pages::of(file).read(at, START_BYTES)?;
    if start.is_empty() {
        return Err(AudioError::Empty);
    }
    for _ in 0..MAX_TAGS {
        let Some(bytes) = tags::id3v2(&start) else { break };
        at += bytes;
        start = Pages::of(file).read(at, START_BYTES)?;
    }
    let file = &file.part(at, None);
    let pages = Pages::of(file);
    names::refuse(&start)?;
    for (open, info) in CONTAINERS {
        return Ok(Some(match open(&pages, &start)? {
            None => continue,
            Some(Content::Sound(sound)) => Opened::Reader(sound.reader(file, *info)?),
            Some(Content::Inside { start, bytes, bytes_per_second }) => {
                let end = bytes.map(|bytes| start.saturating_add(bytes));
                let missing = end.map_or(0, |end| end.saturating_sub(pages.length()));
                let seconds = missing as f64 / f64::from(bytes_per_second.max(1));
                Opened::Inside(file.part(start, end), seconds)
            }
        }));
    }
    Ok(None)
}
