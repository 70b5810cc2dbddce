//! What a file says about itself.

use std::{borrow::Cow, fs::File, io::BufReader, panic};

use chaarfm_protocol::{Track, limits::MAX_TEXT_CHARS};
use lofty::{
    config::ParseOptions,
    file::{FileType, TaggedFileExt},
    probe::Probe,
    tag::Accessor,
};

use crate::text;

/// Fills in artist, title and album as far as they can be read from the track's file, which may be a copy under another
/// name. Tags are nothing to fail over, and the library that reads them has panicked on damaged files before. Blocks.
pub(super) fn read(file: File, track: &mut Track) {
    let named = FileType::from_path(&track.file);
    let read = || {
        let mut options = ParseOptions::new();
        options.read_properties(false).read_cover_art(false);
        let mut probe = Probe::new(BufReader::new(file)).options(options);
        if let Some(named) = named {
            probe = probe.set_file_type(named);
        }
        probe.guess_file_type().ok()?.read().ok()
    };
    let Ok(Some(file)) = panic::catch_unwind(read) else { return };
    let Some(tag) = file.primary_tag().or_else(|| file.first_tag()) else { return };
    let clean = |value: Option<Cow<'_, str>>| {
        let value = text::cut(value?.trim(), MAX_TEXT_CHARS);
        (!value.is_empty()).then_some(value)
    };
    track.artist = clean(tag.artist());
    track.title = clean(tag.title());
    track.album = clean(tag.album());
}
