//! Vorbis comments (the Vorbis I specification, section 5) in FLAC and Ogg.

use std::{
    collections::VecDeque,
    io::{self, Read},
};

use super::{
    Contents,
    fields::{Block, Field},
    source::{ReadExt, Source},
};

/// Maximum number of comments examined.
const MAX_COMMENTS: u32 = 10_000;

/// Maximum number of FLAC metadata blocks examined.
const MAX_FLAC_BLOCKS: u32 = 1_000;

/// Packets at the beginning of a stream that are searched for the comments.
const MAX_HEADER_PACKETS: u32 = 16;

/// Bytes at the end of a file searched for the last page of its stream; a page has 65 307 bytes at most.
const TAIL_BYTES: u64 = 128 * 1024;

/// Reads a list of comments as far as possible. A wrong count or length only loses the comments after it.
fn read_comments(reader: &mut impl Read, block: &mut Block) -> io::Result<()> {
    let vendor = u32::from_le_bytes(reader.array()?);
    skip(reader, vendor.into())?;
    let count = u32::from_le_bytes(reader.array()?);
    for _ in 0..count.min(MAX_COMMENTS) {
        let bytes = u32::from_le_bytes(reader.array()?).into();
        let Some(comment) = reader.text(bytes)? else {
            skip(reader, bytes)?;
            continue;
        };
        let Some(equals) = comment.iter().position(|byte| *byte == b'=') else { continue };
        if let Some(field) = str::from_utf8(&comment[..equals]).ok().and_then(Field::named) {
            block.add_bytes(field, &comment[equals + 1..]);
        }
    }
    Ok(())
}

fn skip(reader: &mut impl Read, bytes: u64) -> io::Result<()> {
    let skipped = io::copy(&mut reader.take(bytes), &mut io::sink())?;
    if skipped == bytes { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// RFC 9639, section 8.
pub(super) fn read_flac(source: &mut Source, start: u64, contents: &mut Contents) -> io::Result<()> {
    let mut place = start + 4;
    for _ in 0..MAX_FLAC_BLOCKS {
        source.go_to(place)?;
        let [kind, a, b, c] = source.array()?;
        let bytes = u64::from(u32::from_be_bytes([0, a, b, c]));
        match kind & 0x7f {
            0 => contents.seconds = flac_seconds(&source.array()?),
            4 => {
                let mut block = Block::default();
                let read = read_comments(&mut source.take(bytes), &mut block);
                contents.blocks.push(block);
                read?;
            }
            _ => {}
        }
        if kind & 0x80 != 0 {
            break;
        }
        place += 4 + bytes;
    }
    Ok(())
}

/// Length from STREAMINFO: RFC 9639, section 8.2. None when the encoder did not know it.
fn flac_seconds(info: &[u8; 18]) -> Option<f64> {
    let [.., a, b, c, d, e, f, g, h] = *info;
    let bits = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
    let (rate, samples) = (bits >> 44, bits & ((1 << 36) - 1));
    (rate > 0 && samples > 0).then(|| samples as f64 / rate as f64)
}

/// A codec in Ogg.
enum Codec {
    Vorbis,
    Opus,
    Speex,
    Flac,
}

/// RFC 3533. Reads the first audio stream if there are several.
pub(super) fn read_ogg(source: &mut Source, start: u64, contents: &mut Contents) -> io::Result<()> {
    source.go_to(start)?;
    loop {
        let page = Page::read(source)?;
        // Streams begin on the first pages, which contain one packet each.
        if !page.is_first {
            return Ok(());
        }
        let mut head = [0; 51];
        let bytes = page.bytes().min(head.len() as u64) as usize;
        source.read_exact(&mut head[..bytes])?;
        skip(source, page.bytes() - bytes as u64)?;
        let head = &head[..bytes];
        let number = |place: usize| Some(u32::from_le_bytes(head.get(place..place + 4)?.try_into().ok()?));
        let (codec, rate, lead) = match head {
            [1, b'v', b'o', b'r', b'b', b'i', b's', ..] => (Codec::Vorbis, number(12), 0),
            // RFC 7845, section 5.1.
            [b'O', b'p', b'u', b's', b'H', b'e', b'a', b'd', _, _, a, b, ..] => {
                (Codec::Opus, Some(48_000), u16::from_le_bytes([*a, *b]).into())
            }
            [b'S', b'p', b'e', b'e', b'x', b' ', ..] => (Codec::Speex, number(36), 0),
            // RFC 9639, section 10.1: nine bytes, the marker, the header of STREAMINFO and its content.
            [0x7f, b'F', b'L', b'A', b'C', ..] => {
                let rate = head.get(27..31).map(|bytes| u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]) >> 4);
                (Codec::Flac, rate, 0)
            }
            _ => continue,
        };
        let mut packets = Packets { source, serial: page.serial, lacing: VecDeque::new(), left: 0, is_last: true };
        let comments = packets.read_comments(&codec, &mut contents.blocks);
        if let Some(rate) = rate.filter(|rate| *rate > 0)
            && let Some(end) = last_granule(source, page.serial)?
        {
            contents.seconds = Some(end.saturating_sub(lead) as f64 / f64::from(rate));
        }
        return comments;
    }
}

struct Page {
    serial: u32,
    is_first: bool,
    lacing: Vec<u8>,
}

impl Page {
    fn read(source: &mut Source) -> io::Result<Self> {
        let header: [u8; 27] = source.array()?;
        let [b'O', b'g', b'g', b'S', 0, flags, ..] = header else {
            return Err(io::Error::other("a page of Ogg does not begin where it should"));
        };
        let mut lacing = vec![0; header[26].into()];
        source.read_exact(&mut lacing)?;
        let serial = [header[14], header[15], header[16], header[17]];
        Ok(Self { serial: u32::from_le_bytes(serial), is_first: flags & 2 != 0, lacing })
    }

    fn bytes(&self) -> u64 {
        self.lacing.iter().map(|segment| u64::from(*segment)).sum()
    }
}

/// The packets of one stream. Reading returns the content of the open packet.
struct Packets<'a> {
    source: &'a mut Source,
    serial: u32,
    /// Remaining segments of the page.
    lacing: VecDeque<u8>,
    /// Bytes left in the open segment.
    left: usize,
    /// Whether the open segment is the last one of its packet.
    is_last: bool,
}

impl Packets<'_> {
    fn read_comments(&mut self, codec: &Codec, blocks: &mut Vec<Block>) -> io::Result<()> {
        for _ in 0..MAX_HEADER_PACKETS {
            self.next()?;
            let is_it = match codec {
                Codec::Vorbis => self.array::<7>()? == *b"\x03vorbis",
                Codec::Opus => self.array::<8>()? == *b"OpusTags",
                Codec::Speex => true,
                Codec::Flac => {
                    let [kind, _, _, _] = self.array()?;
                    kind & 0x7f == 4
                }
            };
            if is_it {
                let mut block = Block::default();
                let read = read_comments(self, &mut block);
                blocks.push(block);
                return read;
            }
        }
        Ok(())
    }

    /// Skips the rest of the open packet, and opens the next one.
    fn next(&mut self) -> io::Result<()> {
        io::copy(self, &mut io::sink())?;
        self.open_segment()
    }

    fn open_segment(&mut self) -> io::Result<()> {
        loop {
            if let Some(segment) = self.lacing.pop_front() {
                (self.left, self.is_last) = (segment.into(), segment < 255);
                return Ok(());
            }
            let page = Page::read(self.source)?;
            if page.serial == self.serial {
                self.lacing = page.lacing.into();
            } else {
                skip(self.source, page.bytes())?;
            }
        }
    }
}

impl Read for Packets<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.left == 0 {
            if self.is_last {
                return Ok(0);
            }
            self.open_segment()?;
        }
        let limit = self.left.min(buffer.len());
        let count = self.source.read(&mut buffer[..limit])?;
        self.left -= count;
        Ok(count)
    }
}

/// The position at the end of the last page of the stream, in samples.
fn last_granule(source: &mut Source, serial: u32) -> io::Result<Option<u64>> {
    let mut tail = vec![0; TAIL_BYTES.min(source.len()) as usize];
    let place = source.len() - tail.len() as u64;
    let tail = source.head(place, &mut tail)?;
    let granule = |page: &[u8]| {
        let header = page.first_chunk::<27>().filter(|header| header.starts_with(b"OggS"))?;
        let [_, _, _, _, _, _, a, b, c, d, e, f, g, h, i, j, k, l, ..] = *header;
        let granule = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        (u32::from_le_bytes([i, j, k, l]) == serial && granule != u64::MAX).then_some(granule)
    };
    Ok((0..tail.len()).rev().find_map(|place| granule(&tail[place..])))
}
