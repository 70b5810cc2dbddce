//! Matroska and WebM (RFC 9559, on EBML, RFC 8794).

use std::io;

use super::{
    Contents,
    fields::{Block, Field},
    source::{ReadExt, Source},
};

/// Maximum number of elements examined.
const MAX_ELEMENTS: u32 = 1_000_000;

/// Maximum nesting depth of elements.
const MAX_DEPTH: u32 = 8;

/// Maximum number of texts kept per tag.
const MAX_TEXTS: usize = 256;

// Element numbers, including the bits that encode their length.
const SEGMENT: u32 = 0x1853_8067;
const CLUSTER: u32 = 0x1f43_b675;
const INFO: u32 = 0x1549_a966;
const TIMESTAMP_SCALE: u32 = 0x002a_d7b1;
const DURATION: u32 = 0x4489;
const SEGMENT_TITLE: u32 = 0x7ba9;
const TAGS: u32 = 0x1254_c367;
const TAG: u32 = 0x7373;
const TARGETS: u32 = 0x63c0;
const TARGET_TYPE_VALUE: u32 = 0x68ca;
const TAG_EDITION: u32 = 0x63c9;
const TAG_CHAPTER: u32 = 0x63c4;
const TAG_ATTACHMENT: u32 = 0x63c6;
const TAG_TRACK: u32 = 0x63c5;
const SIMPLE_TAG: u32 = 0x67c8;
const TAG_NAME: u32 = 0x45a3;
const TAG_STRING: u32 = 0x4487;

/// `TargetTypeValue` of an album, the default, and of a track.
const ALBUM: u64 = 50;
const TRACK: u64 = 30;

/// Default nanoseconds per tick.
const DEFAULT_SCALE: u64 = 1_000_000;

pub(super) fn read(source: &mut Source, start: u64, contents: &mut Contents) -> io::Result<()> {
    let mut reader = Reader { source, elements: 0, found: Found { scale: DEFAULT_SCALE, ..Found::default() } };
    let end = reader.source.len();
    let read = reader.read(start, end, 0);
    let Found { scale, ticks, mut track, titles, mut album, .. } = reader.found;
    contents.seconds = ticks.map(|ticks| ticks * scale as f64 / 1e9);
    if track.albums.is_empty() && !track.titles.is_empty() {
        // Then the title tagged for the album is the album's name.
        track.albums = std::mem::take(&mut album.titles);
    }
    contents.blocks.extend([track, titles, album]);
    read
}

struct Reader<'a> {
    source: &'a mut Source,
    elements: u32,
    found: Found,
}

#[derive(Default)]
struct Found {
    scale: u64,
    ticks: Option<f64>,
    /// Texts about a track.
    track: Block,
    /// The segment's own title.
    titles: Block,
    /// Texts about the album, or without a target.
    album: Block,
    tag: OpenTag,
}

/// The tag being read.
#[derive(Default)]
struct OpenTag {
    /// Its `TargetTypeValue`.
    target: Option<u64>,
    /// It is about one track of the file.
    is_of_track: bool,
    /// It is about a chapter, an edition or an attachment.
    is_of_part: bool,
    name: Vec<u8>,
    texts: Vec<(Field, Vec<u8>)>,
}

impl Reader<'_> {
    /// Reads the elements between two positions.
    fn read(&mut self, start: u64, end: u64, depth: u32) -> io::Result<()> {
        let mut place = start;
        while place < end {
            self.elements += 1;
            if self.elements > MAX_ELEMENTS {
                return Err(io::Error::other(format!("more than {MAX_ELEMENTS} elements")));
            }
            self.source.go_to(place)?;
            let id = self.id()?;
            let (bytes, header) = self.size()?;
            let content = place + u64::from(id.1) + header;
            // In live streams, segment and cluster have unknown sizes: their children are read like siblings.
            let Some(bytes) = bytes.filter(|_| id.0 != SEGMENT) else {
                if !matches!(id.0, SEGMENT | CLUSTER) {
                    return Err(io::Error::other("an element of unknown size"));
                }
                place = content;
                continue;
            };
            // An element may claim to begin after the end of its parent.
            let close = content.saturating_add(bytes).min(end).max(content);
            if depth < MAX_DEPTH {
                self.element(id.0, content, close, depth)?;
            }
            place = close;
        }
        Ok(())
    }

    fn element(&mut self, id: u32, start: u64, end: u64, depth: u32) -> io::Result<()> {
        let bytes = end - start;
        match id {
            INFO | TAGS | TARGETS => self.read(start, end, depth + 1)?,
            TAG => {
                self.found.tag = OpenTag::default();
                self.read(start, end, depth + 1)?;
                self.found.close_tag();
            }
            SIMPLE_TAG => {
                self.found.tag.name.clear();
                self.read(start, end, depth + 1)?;
            }
            TIMESTAMP_SCALE => self.found.scale = self.number(bytes)?,
            DURATION => {
                self.found.ticks = match bytes {
                    4 => Some(f32::from_be_bytes(self.source.array()?).into()),
                    8 => Some(f64::from_be_bytes(self.source.array()?)),
                    _ => None,
                }
            }
            SEGMENT_TITLE => {
                if let Some(text) = self.source.text(bytes)? {
                    self.found.titles.add_bytes(Field::Title, &text);
                }
            }
            TARGET_TYPE_VALUE => self.found.tag.target = Some(self.number(bytes)?),
            // Zero means all tracks.
            TAG_TRACK => self.found.tag.is_of_track |= self.number(bytes)? != 0,
            TAG_EDITION | TAG_CHAPTER | TAG_ATTACHMENT => self.found.tag.is_of_part |= self.number(bytes)? != 0,
            TAG_NAME => self.found.tag.name = self.source.text(bytes)?.unwrap_or_default(),
            TAG_STRING => {
                let field = str::from_utf8(&self.found.tag.name).ok().and_then(Field::named);
                if let Some(field) = field.filter(|_| self.found.tag.texts.len() < MAX_TEXTS)
                    && let Some(text) = self.source.text(bytes)?
                {
                    self.found.tag.texts.push((field, text));
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// An element's number, including the bits that encode its length, and that length.
    fn id(&mut self) -> io::Result<(u32, u8)> {
        let [first] = self.source.array()?;
        let more = first.leading_zeros();
        if more > 3 {
            return Err(io::Error::other("no element begins like this"));
        }
        let mut id = u32::from(first);
        for _ in 0..more {
            let [next] = self.source.array()?;
            id = id << 8 | u32::from(next);
        }
        Ok((id, more as u8 + 1))
    }

    /// An element's size, none when unknown, and the number of bytes that encode it.
    fn size(&mut self) -> io::Result<(Option<u64>, u64)> {
        let [first] = self.source.array()?;
        let more = first.leading_zeros();
        if more > 7 {
            return Err(io::Error::other("no size begins like this"));
        }
        let mut size = u64::from(first) & (0x7f >> more);
        for _ in 0..more {
            let [next] = self.source.array()?;
            size = size << 8 | u64::from(next);
        }
        let unknown = (1 << (7 * (more + 1))) - 1;
        Ok(((size != unknown).then_some(size), u64::from(more) + 1))
    }

    fn number(&mut self, bytes: u64) -> io::Result<u64> {
        let mut number = 0;
        for _ in 0..bytes.min(8) {
            let [next] = self.source.array()?;
            number = number << 8 | u64::from(next);
        }
        Ok(number)
    }
}

impl Found {
    fn close_tag(&mut self) {
        let tag = std::mem::take(&mut self.tag);
        let target = tag.target.unwrap_or(if tag.is_of_track { TRACK } else { ALBUM });
        if tag.is_of_part {
            return;
        }
        let block = if target < ALBUM { &mut self.track } else { &mut self.album };
        tag.texts.iter().for_each(|(field, text)| block.add_bytes(*field, text));
    }
}
