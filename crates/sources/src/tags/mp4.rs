//! MP4 and its relatives: M4A, M4B, QuickTime, 3GP (ISO/IEC 14496-12, QuickTime File Format, 3GPP TS 26.244).

use std::io;

use super::{
    Contents,
    fields::{Block, Field},
    source::{ReadExt, Source},
};

/// Maximum number of boxes examined per parent.
const MAX_BOXES: u32 = 10_000;

/// Box names that a file can begin with.
const FIRST_BOXES: [&[u8; 4]; 8] = [b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"styp"];

/// Whether a file with this start consists of boxes.
pub(super) fn is_box(head: &[u8]) -> bool {
    head.get(4..8).is_some_and(|name| FIRST_BOXES.iter().any(|first| name == *first))
}

#[derive(Clone, Copy)]
struct Content {
    start: u64,
    end: u64,
}

/// Called with a box's name and content.
type Visit<'a> = &'a mut dyn FnMut(&mut Source, [u8; 4], Content) -> io::Result<()>;

/// Passes the boxes between two positions to `visit`. A box longer than its parent is cut at the parent's end.
fn boxes(source: &mut Source, within: Content, visit: Visit<'_>) -> io::Result<()> {
    let mut place = within.start;
    for _ in 0..MAX_BOXES {
        if place.saturating_add(8) > within.end {
            break;
        }
        source.go_to(place)?;
        let (short, name): (_, [u8; 4]) = (u32::from_be_bytes(source.array()?), source.array()?);
        let (header, bytes) = match short {
            0 => (8, within.end - place),
            1 => (16, u64::from_be_bytes(source.array()?)),
            bytes => (8, bytes.into()),
        };
        if bytes < header {
            break;
        }
        let end = place.saturating_add(bytes).min(within.end);
        let start = place + header;
        visit(source, name, Content { start, end: end.max(start) })?;
        place = end;
    }
    Ok(())
}

pub(super) fn read(source: &mut Source, start: u64, contents: &mut Contents) -> io::Result<()> {
    let (mut items, mut texts) = (Block::default(), Block::default());
    let file = Content { start, end: source.len() };
    let read = boxes(source, file, &mut |source, name, content| match &name {
        b"moov" => boxes(source, content, &mut |source, name, content| match &name {
            b"mvhd" => {
                contents.seconds = seconds(source, content)?;
                Ok(())
            }
            b"udta" => read_user_data(source, content, &mut items, &mut texts),
            b"meta" => read_meta(source, content, &mut items),
            _ => Ok(()),
        }),
        b"meta" => read_meta(source, content, &mut items),
        _ => Ok(()),
    });
    contents.blocks.extend([items, texts]);
    read
}

/// Length from the movie header. None in a fragmented file, whose movie header has none.
fn seconds(source: &mut Source, content: Content) -> io::Result<Option<f64>> {
    source.go_to(content.start)?;
    let [version, ..] = source.array::<4>()?;
    let (scale, units) = if version == 1 {
        source.array::<16>()?;
        (u32::from_be_bytes(source.array()?), u64::from_be_bytes(source.array()?))
    } else {
        source.array::<8>()?;
        (u32::from_be_bytes(source.array()?), u32::from_be_bytes(source.array()?).into())
    };
    Ok((scale > 0 && units > 0).then(|| units as f64 / f64::from(scale)))
}

fn read_user_data(source: &mut Source, content: Content, items: &mut Block, texts: &mut Block) -> io::Result<()> {
    boxes(source, content, &mut |source, name, content| match &name {
        b"meta" => read_meta(source, content, items),
        b"\xa9nam" => add_text(source, content, 4, Field::Title, texts),
        b"\xa9ART" => add_text(source, content, 4, Field::Artist, texts),
        b"\xa9alb" => add_text(source, content, 4, Field::Album, texts),
        // 3GP texts follow version, flags and language.
        b"titl" => add_text(source, content, 6, Field::Title, texts),
        b"perf" => add_text(source, content, 6, Field::Artist, texts),
        b"albm" => add_text(source, content, 6, Field::Album, texts),
        _ => Ok(()),
    })
}

/// Adds a text that begins after `before` bytes.
fn add_text(source: &mut Source, content: Content, before: u64, field: Field, block: &mut Block) -> io::Result<()> {
    source.go_to(content.start + before)?;
    let text = source.text((content.end - content.start).saturating_sub(before))?;
    if let Some(text) = text {
        block.add_bytes(field, text.split(|byte| *byte == 0).next().unwrap_or_default());
    }
    Ok(())
}

fn read_meta(source: &mut Source, content: Content, block: &mut Block) -> io::Result<()> {
    // QuickTime omits version and flags.
    source.go_to(content.start + 4)?;
    let is_bare = source.array::<4>().is_ok_and(|name| matches!(&name, b"hdlr" | b"ilst" | b"keys" | b"mhdr"));
    let content = Content { start: content.start + if is_bare { 0 } else { 4 }, ..content };
    boxes(source, content, &mut |source, name, content| match &name {
        b"ilst" => boxes(source, content, &mut |source, name, content| {
            let field = match &name {
                b"\xa9nam" => Field::Title,
                b"\xa9ART" => Field::Artist,
                b"aART" => Field::AlbumArtist,
                b"\xa9alb" => Field::Album,
                _ => return Ok(()),
            };
            boxes(source, content, &mut |source, name, content| match &name {
                // The value follows its type and language.
                b"data" => add_value(source, content, field, block),
                _ => Ok(()),
            })
        }),
        _ => Ok(()),
    })
}

fn add_value(source: &mut Source, content: Content, field: Field, block: &mut Block) -> io::Result<()> {
    const UTF_16: u32 = 2;
    source.go_to(content.start)?;
    let kind = u32::from_be_bytes(source.array()?);
    source.array::<4>()?;
    let Some(text) = source.text((content.end - content.start).saturating_sub(8))? else { return Ok(()) };
    if kind == UTF_16 {
        let units: Vec<_> = text.as_chunks().0.iter().map(|pair| u16::from_be_bytes(*pair)).collect();
        block.add(field, &String::from_utf16_lossy(&units));
    } else {
        block.add_bytes(field, &text);
    }
    Ok(())
}
