//! MPEG audio and all other formats that the library (`lofty`) reads. ID3v2 is hidden from it: it keeps only one of several
//! frames, and logs a warning for every odd one.

use std::io::{self, Read, Seek};

use lofty::{
    config::ParseOptions,
    file::{AudioFile, FileType, TaggedFile, TaggedFileExt},
    probe::Probe,
    tag::{ItemKey, Tag, TagType},
};

use super::{
    Contents, behind,
    fields::{Block, Field},
    source::Source,
};

/// Reads any format known to the library from `start` on.
pub(super) fn read(source: &mut Source, start: u64) -> io::Result<Contents> {
    let guessed = Probe::new(source.rest(start)).guess_file_type()?.file_type();
    let Some(kind) = guessed else {
        return Ok(Contents { blocks: behind::read(source)?, seconds: None });
    };
    for with_length in [true, false] {
        if let Some(file) = parse(source.rest(start), kind, with_length) {
            let seconds = file.properties().duration().as_secs_f64();
            return Ok(Contents { blocks: blocks(&file), seconds: with_length.then_some(seconds) });
        }
    }
    Ok(Contents::default())
}

fn parse(reader: impl Read + Seek, kind: FileType, with_length: bool) -> Option<TaggedFile> {
    let options = ParseOptions::new().read_properties(with_length).read_cover_art(false);
    let probe = Probe::with_file_type(reader, kind).options(options);
    probe.read().inspect_err(|error| tracing::debug!("tags cannot be read: {error}")).ok()
}

/// The file's native tag comes first; ID3v1, which truncates its texts, comes last.
fn blocks(file: &TaggedFile) -> Vec<Block> {
    let rank = |tag: &&Tag| match tag.tag_type() {
        kind if kind == file.primary_tag_type() => 0,
        TagType::Id3v1 => 2,
        _ => 1,
    };
    let mut tags: Vec<_> = file.tags().iter().collect();
    tags.sort_by_key(rank);
    tags.into_iter().map(block).collect()
}

fn block(tag: &Tag) -> Block {
    let mut block = Block::default();
    for (key, field) in [
        (ItemKey::TrackTitle, Field::Title),
        (ItemKey::TrackArtist, Field::Artist),
        (ItemKey::AlbumArtist, Field::AlbumArtist),
        (ItemKey::AlbumTitle, Field::Album),
    ] {
        tag.get_strings(key).for_each(|value| block.add(field, value));
    }
    block
}
