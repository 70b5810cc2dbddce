//! The texts of a tag block, and how several blocks are combined.

use chaarfm_domain::{limits::MAX_TEXT_CHARS, text};

/// Maximum number of values kept per field.
const MAX_VALUES: usize = 64;

/// The meaning of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Title,
    Artist,
    AlbumArtist,
    Album,
}

impl Field {
    /// The field with this name in Vorbis comments, Matroska or CAF.
    pub(super) fn named(name: &str) -> Option<Self> {
        let is = |known: &[&str]| known.iter().any(|known| name.eq_ignore_ascii_case(known));
        Some(match () {
            () if is(&["TITLE"]) => Self::Title,
            () if is(&["ARTIST"]) => Self::Artist,
            () if is(&["ALBUMARTIST", "ALBUM ARTIST", "ALBUM_ARTIST", "ALBUM-ARTIST"]) => Self::AlbumArtist,
            () if is(&["ALBUM"]) => Self::Album,
            () => return None,
        })
    }
}

/// One block of tags; a file may have several.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) titles: Vec<String>,
    pub(super) artists: Vec<String>,
    pub(super) album_artists: Vec<String>,
    pub(super) albums: Vec<String>,
}

impl Block {
    /// Adds a value, or several separated by zeros. Empty and duplicate values are skipped.
    pub(super) fn add(&mut self, field: Field, values: &str) {
        let kept = match field {
            Field::Title => &mut self.titles,
            Field::Artist => &mut self.artists,
            Field::AlbumArtist => &mut self.album_artists,
            Field::Album => &mut self.albums,
        };
        for value in values.split('\0') {
            let value = text::cut(value.trim(), MAX_TEXT_CHARS);
            if !value.is_empty() && kept.len() < MAX_VALUES && !kept.contains(&value) {
                kept.push(value);
            }
        }
    }

    /// Adds the values after decoding them: see [`decoded`].
    pub(super) fn add_bytes(&mut self, field: Field, values: &[u8]) {
        self.add(field, &decoded(values));
    }
}

/// The joined values of the first block that has any.
pub(super) fn whole(blocks: &[Block], between: &str, field: impl Fn(&Block) -> &[String]) -> Option<String> {
    let values = blocks.iter().map(field).find(|values| !values.is_empty())?;
    Some(text::cut(&values.join(between), MAX_TEXT_CHARS))
}

/// 0x80 to 0x9f in Windows-1252, where ISO 8859-1 has control characters; the five unassigned ones keep those.
const WINDOWS_1252: [char; 32] = [
    '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}', '\u{90}', '‘', '’',
    '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
];

/// Decodes UTF-8 or, as older programs write it, Windows-1252.
pub(super) fn decoded(bytes: &[u8]) -> String {
    if let Ok(text) = str::from_utf8(bytes) {
        return text.to_owned();
    }
    let letter = |byte: &u8| match byte {
        0x80..=0x9f => WINDOWS_1252[usize::from(byte - 0x80)],
        byte => char::from(*byte),
    };
    bytes.iter().map(letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_values_count_once_and_the_first_block_that_has_some() {
        let (mut first, mut second) = (Block::default(), Block::default());
        first.add(Field::Artist, " ");
        second.add(Field::Artist, "Ann\0Bob\0Ann\0");
        second.add(Field::Artist, " Cid ");
        let blocks = [first, second];
        assert_eq!(whole(&blocks, ", ", |block| &block.artists).as_deref(), Some("Ann, Bob, Cid"));
        assert_eq!(whole(&blocks, "; ", |block| &block.titles), None);
    }

    #[test]
    fn texts_are_utf_8_or_else_windows_1252() {
        assert_eq!(decoded("Zoë – 音".as_bytes()), "Zoë – 音");
        assert_eq!(decoded(b"Zo\xeb \x96 \x80\x81"), "Zoë – €\u{81}");
    }
}
