//! A file's metadata: artist, title, album and length.
//!
//! The external library (`lofty`) is used where it works well: for the length of MPEG audio, and its ID3v1 and APE tags.
//! Tags that may include pictures are read here, piece by piece: the library loads whole boxes and packets into memory, and
//! drops all of a file's tags if one is too large. Here no picture is ever in memory.

mod behind;
mod caf;
mod fields;
mod id3v2;
mod iff;
mod limit;
mod matroska;
mod mp4;
mod mpeg;
mod source;
mod vorbis;

use std::{
    fs::File,
    io,
    sync::{Arc, LazyLock, atomic::AtomicUsize},
    time::{Duration, Instant},
};

use self::{
    fields::{Block, whole},
    source::Source,
};

/// Time limit for the tags of one file.
const MAX_SECONDS: u64 = 30;

/// Minimum bitrate of audio: a claimed length that would require less is ignored.
const MIN_BYTES_PER_SECOND: f64 = 50.0;

/// Metadata according to the file itself.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Tags {
    /// All artists, or the album's artists if the track has none of its own.
    pub(super) artist: Option<String>,
    pub(super) title: Option<String>,
    pub(super) album: Option<String>,
    /// Length in seconds.
    pub(super) seconds: Option<f64>,
}

/// The contents of a container: tag blocks, the most informative one first, and the length in seconds.
#[derive(Debug, Default)]
struct Contents {
    blocks: Vec<Block>,
    seconds: Option<f64>,
}

/// Reads all available tags. Never fails: tags are optional, and the library that reads some of them has panicked on
/// damaged files before. Blocks, but no longer than [`MAX_SECONDS`], even if the storage hangs.
pub(super) fn read(file: File, name: &str) -> Tags {
    static LEFT: LazyLock<Arc<AtomicUsize>> = LazyLock::new(Arc::default);
    let limit = Duration::from_secs(MAX_SECONDS);
    let read = limit::within(limit, &LEFT, move || read_until(file, Instant::now() + limit));
    read.unwrap_or_else(|reason| {
        tracing::warn!("the tags of {name} cannot be read: {reason}");
        Tags::default()
    })
}

fn read_until(file: File, deadline: Instant) -> Tags {
    let read = Source::new(file, deadline).and_then(|mut source| Ok((contents(&mut source)?, source.len())));
    let Ok((contents, bytes)) = read else { return Tags::default() };
    let is_possible = |seconds: &f64| *seconds > 0.0 && *seconds * MIN_BYTES_PER_SECOND <= bytes as f64;
    let Contents { blocks, seconds } = contents;
    let artist = whole(&blocks, ", ", |block| &block.artists);
    Tags {
        artist: artist.or_else(|| whole(&blocks, ", ", |block| &block.album_artists)),
        title: whole(&blocks, "; ", |block| &block.titles),
        album: whole(&blocks, "; ", |block| &block.albums),
        seconds: seconds.filter(is_possible),
    }
}

fn contents(source: &mut Source) -> io::Result<Contents> {
    let mut before = Vec::new();
    let start = id3v2::read_all(source, 0, &mut before)?;
    let mut head = [0; 16];
    let head = source.head(start, &mut head)?;
    let mut contents = Contents::default();
    // If reading breaks off, everything read so far counts.
    let read = match head {
        [b'f', b'L', b'a', b'C', ..] => vorbis::read_flac(source, start, &mut contents),
        [b'O', b'g', b'g', b'S', ..] => vorbis::read_ogg(source, start, &mut contents),
        [b'c', b'a', b'f', b'f', ..] => caf::read(source, start, &mut contents),
        [0x1a, 0x45, 0xdf, 0xa3, ..] => matroska::read(source, start, &mut contents),
        _ if mp4::is_box(head) => mp4::read(source, start, &mut contents),
        _ if iff::is_iff(head) => iff::read(source, start, &mut contents),
        _ => {
            let Contents { blocks, seconds } = mpeg::read(source, start)?;
            return Ok(Contents { blocks: [before, blocks].concat(), seconds });
        }
    };
    if let Err(error) = read {
        tracing::debug!("the tags of a file break off: {error}");
    }
    contents.blocks.extend(before);
    contents.blocks.extend(behind::read(source)?);
    Ok(contents)
}

#[cfg(test)]
mod tests;
