//! Files with pictures of 100 MB in every place that formats allow: no picture may be held in memory.
#![expect(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

use std::{
    alloc::System,
    fs::{self, File},
    io::{Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use cap::Cap;
use chaarfm_analysis::{Limits, stages};
use symphonia::core::{checksum::Crc32, io::Monitor};

#[global_allocator]
static MEMORY: Cap<System> = Cap::new(System, usize::MAX);

const LIMITS: Limits = Limits { max_bytes: 1_000_000_000, max_seconds: 3600 };

const PICTURE_BYTES: u64 = 100_000_000;

/// Maximum number of live bytes while a file is decoded; its samples take 4 MiB of them.
const MAX_BYTES: usize = 24 << 20;

/// A piece of a file.
enum Piece {
    Bytes(Vec<u8>),
    /// Zeros, which take no space on the disk.
    Picture(u64),
}
use Piece::{Bytes, Picture};

fn fixture(file: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures").join(file)).unwrap()
}

fn position(bytes: &[u8], what: &[u8]) -> usize {
    bytes.windows(what.len()).position(|window| window == what).unwrap()
}

/// An ID3v2 tag of the given version with a picture, to be put before a file.
fn id3v2(version: u8) -> Vec<Piece> {
    let safe = |bytes: u64| [21, 14, 7, 0].map(|shift| (bytes >> shift) as u8 & 0x7F);
    let frame = if version == 4 { safe(PICTURE_BYTES) } else { (PICTURE_BYTES as u32).to_be_bytes() };
    let head = [&b"ID3"[..], &[version, 0, 0], &safe(PICTURE_BYTES + 10), b"APIC", &frame, &[0, 0]].concat();
    vec![Bytes(head), Picture(PICTURE_BYTES)]
}

fn behind(mut before: Vec<Piece>, file: Vec<u8>) -> Vec<Piece> {
    before.push(Bytes(file));
    before
}

/// An APE tag with a picture, appended to `file`.
fn ape(file: Vec<u8>) -> Vec<Piece> {
    let head = [&(PICTURE_BYTES as u32).to_le_bytes()[..], &[0; 4], b"Cover Art (Front)\0"].concat();
    let size = head.len() as u32 + PICTURE_BYTES as u32 + 32;
    let footer = [b"APETAGEX".as_slice(), &[2_000, size, 1, 0].map(u32::to_le_bytes).concat(), &[0; 8]].concat();
    vec![Bytes([file, head].concat()), Picture(PICTURE_BYTES), Bytes(footer)]
}

/// FLAC metadata blocks of the maximum size.
fn flac() -> Vec<Piece> {
    const BLOCK_BYTES: u64 = (1 << 24) - 1;
    let file = fixture("music/band.flac");
    let mut pieces = vec![Bytes(file[..42].to_vec())];
    for _ in 0..6 {
        pieces.extend([Bytes(vec![6, 0xFF, 0xFF, 0xFF]), Picture(BLOCK_BYTES)]);
    }
    behind(pieces, file[42..].to_vec())
}

/// A cover among the items of the index, which is the last box.
fn mp4() -> Vec<Piece> {
    let mut file = fixture("music/band.m4a");
    let moov = position(&file, b"moov") - 4;
    assert_eq!(moov + u32::from_be_bytes(file[moov..moov + 4].try_into().unwrap()) as usize, file.len());
    let mut boxes = Vec::new();
    for (name, extra) in [(b"udta", 44), (b"meta", 36), (b"ilst", 24), (b"covr", 16), (b"data", 8)] {
        boxes.extend((PICTURE_BYTES as u32 + extra + 8).to_be_bytes());
        boxes.extend(name);
        if name == b"meta" {
            boxes.extend([0; 4]);
        }
    }
    boxes.extend([0, 0, 0, 13, 0, 0, 0, 0]);
    let length = (file.len() - moov) as u32 + PICTURE_BYTES as u32 + 52;
    file[moov..moov + 4].copy_from_slice(&length.to_be_bytes());
    vec![Bytes([file, boxes].concat()), Picture(PICTURE_BYTES)]
}

/// Opus comments in Ogg, in pages with correct checksums.
fn ogg() -> Vec<Piece> {
    const SEGMENTS: u64 = 255;
    let file = fixture("music/band.opus");
    let second = position(&file[4..], b"OggS") + 4;
    let third = position(&file[second + 4..], b"OggS") + second + 4;
    let serial = &file[14..18];
    let name = "METADATA_BLOCK_PICTURE=";
    let pages = PICTURE_BYTES / (SEGMENTS * 255);
    let comment = (pages * SEGMENTS * 255) as u32 - 8 - 8 - 4 - 4;
    let head = [b"OpusTags".as_slice(), &[0; 4], &1u32.to_le_bytes(), &comment.to_le_bytes(), name.as_bytes()].concat();
    let mut pieces = vec![Bytes(file[..second].to_vec())];
    for number in 0..=pages {
        let mut packet = if number == 0 { head.clone() } else { Vec::new() };
        packet.resize(if number < pages { (SEGMENTS * 255) as usize } else { 0 }, b'A');
        let lacing = if number < pages { vec![255; SEGMENTS as usize] } else { vec![0] };
        let sequence = (number as u32 + 1).to_le_bytes();
        let flags = u8::from(number > 0);
        let mut page = [b"OggS\0".as_slice(), &[flags], &[0; 8], serial, &sequence, &[0; 4]].concat();
        page.push(lacing.len() as u8);
        page.extend([lacing, packet].concat());
        let mut crc = Crc32::new(0);
        crc.process_buf_bytes(&page);
        page[22..26].copy_from_slice(&crc.crc().to_le_bytes());
        pieces.push(Bytes(page));
    }
    behind(pieces, file[third..].to_vec())
}

/// A chunk before the music.
fn chunk(file: &str, name: &[u8; 4], at: usize, is_big: bool) -> Vec<Piece> {
    let file = fixture(file);
    let length = PICTURE_BYTES as u32 + 20;
    let length = if is_big { length.to_be_bytes() } else { length.to_le_bytes() };
    let mut pieces = vec![Bytes([&file[..at], name, &length].concat())];
    pieces.extend(id3v2(3));
    behind(pieces, file[at..].to_vec())
}

/// An attachment after the clusters.
fn matroska() -> Vec<Piece> {
    let head = [&[0x19, 0x41, 0xA4, 0x69][..], &(PICTURE_BYTES | 1 << 56).to_be_bytes()].concat();
    vec![Bytes([fixture("music/band_opus.webm"), head].concat()), Picture(PICTURE_BYTES)]
}

fn write(name: &str, pieces: Vec<Piece>) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let mut file = File::create(&path).unwrap();
    for piece in pieces {
        match piece {
            Bytes(bytes) => file.write_all(&bytes).unwrap(),
            Picture(bytes) => drop(file.seek(SeekFrom::Current(bytes as i64)).unwrap()),
        }
    }
    let length = file.stream_position().unwrap();
    file.set_len(length).unwrap();
    path
}

/// Creates a file.
type Make = fn() -> Vec<Piece>;

/// A single test, because tests of the same file share the measured memory.
#[test]
fn no_picture_is_ever_in_memory() {
    let files: [(&str, f64, Make); 13] = [
        ("id3v2_3.mp3", 12.0, || behind(id3v2(3), fixture("music/band.mp3"))),
        ("id3v2_4.mp3", 12.0, || behind(id3v2(4), fixture("music/band.mp3"))),
        ("ape.mp3", 12.0, || ape(fixture("music/band.mp3"))),
        ("blocks.flac", 12.0, flac),
        ("id3v2.flac", 12.0, || behind(id3v2(4), fixture("music/band.flac"))),
        ("covr.m4a", 12.03, mp4),
        ("id3v2.m4a", 12.03, || behind(id3v2(3), fixture("music/band.m4a"))),
        ("comments.opus", 12.0, ogg),
        ("ape.wv", 1.0, || ape(fixture("lossless/band.wv"))),
        ("id3v2.tta", 1.0, || behind(id3v2(3), fixture("lossless/band.tta"))),
        ("id3.wav", 12.0, || chunk("music/band.wav", b"id3 ", 12, false)),
        ("id3.aiff", 12.0, || chunk("music/band.aiff", b"ID3 ", 12, true)),
        ("attachment.webm", 12.0, matroska),
    ];
    for (name, seconds, pieces) in files {
        let path = write(name, pieces());
        let before = MEMORY.allocated();
        // Allocations beyond the limit fail, and the test with them.
        MEMORY.set_limit(before + MAX_BYTES).unwrap();
        let decoded = stages::decode(Box::new(File::open(&path).unwrap()), &LIMITS);
        MEMORY.set_limit(usize::MAX).unwrap();
        let (samples, rate) = decoded.unwrap_or_else(|error| panic!("{name}: {error}"));
        let decoded = samples.len() as f64 / f64::from(rate);
        assert!((decoded - seconds).abs() < 0.06, "{name}: {decoded} s");
        fs::remove_file(path).unwrap();
    }
}
