//! Files of each kind that consist of little more than their tags.

use std::{
    io::{Seek, Write},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::*;

/// More than the library accepts, and more than should be in memory.
const COVER_BYTES: usize = 20 * 1024 * 1024;

fn file_of(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    file
}

fn read_bytes(bytes: &[u8]) -> Tags {
    read(file_of(bytes), "test")
}

fn deadline() -> Instant {
    Instant::now() + Duration::from_secs(MAX_SECONDS)
}

#[test]
fn a_file_that_takes_too_long_has_no_tags() {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&[id3v2(&[("TIT2", b"\x03A title")]), mpeg_frames(10)].concat()).unwrap();
    let read = |file: &File, deadline| {
        let mut file = file.try_clone().unwrap();
        file.rewind().unwrap();
        read_until(file, deadline)
    };
    let now = Instant::now();
    assert_eq!(texts(&read(&file, now + Duration::from_secs(MAX_SECONDS)))[1], "A title");
    assert_eq!(read(&file, now), Tags::default(), "the time is over");
}

/// Artist, title and album; empty when missing.
fn texts(tags: &Tags) -> [&str; 3] {
    [&tags.artist, &tags.title, &tags.album].map(|text| text.as_deref().unwrap_or_default())
}

/// An ID3v2.4 tag with synchsafe frame sizes.
fn id3v2(frames: &[(&str, &[u8])]) -> Vec<u8> {
    let size = |bytes: usize| [21, 14, 7, 0].map(|shift| (bytes >> shift) as u8 & 0x7f);
    let mut content = Vec::new();
    for (name, text) in frames {
        content.extend([name.as_bytes(), &size(text.len()), &[0, 0], text].concat());
    }
    [b"ID3\x04\0\0".as_slice(), &size(content.len()), &content].concat()
}

fn id3v1(title: &str, artist: &str) -> Vec<u8> {
    let mut tag = vec![0; 128];
    for (place, text) in [(0, "TAG"), (3, title), (33, artist)] {
        tag[place..place + text.len()].copy_from_slice(text.as_bytes());
    }
    tag
}

/// Frames of silence: MPEG 1, layer III, 128 kbit/s, 44.1 kHz.
fn mpeg_frames(count: usize) -> Vec<u8> {
    let frame: Vec<u8> = [0xff, 0xfb, 0x90, 0xc0].into_iter().chain([0; 413]).collect();
    frame.repeat(count)
}

/// An APEv2 tag with only a footer.
fn ape(items: &[(&str, &str)]) -> Vec<u8> {
    let mut content = Vec::new();
    for (key, value) in items {
        content.extend((value.len() as u32).to_le_bytes());
        content.extend([0; 4]);
        content.extend([key.as_bytes(), b"\0", value.as_bytes()].concat());
    }
    let (size, count) = (content.len() as u32 + 32, items.len() as u32);
    content.extend(b"APETAGEX\xd0\x07\0\0");
    content.extend([size.to_le_bytes(), count.to_le_bytes(), [0; 4], [0; 4], [0; 4]].concat());
    content
}

#[test]
fn all_blocks_of_an_mpeg_file_count_and_all_values_of_a_field() {
    let music = mpeg_frames(100);
    let two = id3v2(&[("TPE1", b"\x03Ann\0Bob"), ("TIT2", b"\x03Duet"), ("TPE2", b"\x03Various")]);
    let tags = read_bytes(&[two, music.clone()].concat());
    assert_eq!(texts(&tags), ["Ann, Bob", "Duet", ""]);
    assert!((tags.seconds.unwrap() - 2.6).abs() < 0.1, "{:?}", tags.seconds);

    let encoder_only = id3v2(&[("TSSE", b"\x03Lavf")]);
    let old = id3v1("Only in v1", "Vee One");
    assert_eq!(
        texts(&read_bytes(&[encoder_only.clone(), music.clone(), old.clone()].concat())),
        ["Vee One", "Only in v1", ""]
    );
    let ape = ape(&[("Artist", "Ann\0Bob"), ("Title", "In APE"), ("Album", "Long ago")]);
    let both = [encoder_only, music.clone(), ape, old].concat();
    assert_eq!(texts(&read_bytes(&both)), ["Ann, Bob", "In APE", "Long ago"]);
    let ensemble = id3v2(&[("TPE2", b"\x03The Ensemble"), ("TIT2", b"\x03Movement"), ("TALB", b"\x03Suite")]);
    assert_eq!(texts(&read_bytes(&[ensemble, music].concat())), ["The Ensemble", "Movement", "Suite"]);
}

#[test]
fn id3v2_is_read_in_all_its_versions() {
    let music = mpeg_frames(10);
    let of = |tag: Vec<u8>| read_bytes(&[tag, music.clone()].concat());
    let frames =
        id3v2(&[("TPE1", b"\x03Ann"), ("PRIV", &[7; 300]), ("TPE1", b"\0Zo\xeb"), ("TIT2", b"\x01\xff\xfeS\0")]);
    assert_eq!(texts(&of(frames.clone())), ["Ann, Zoë", "S", ""], "several frames");
    // Some programs write no synchsafe sizes in version 4.
    let mut plain = frames;
    let private = plain.windows(4).position(|name| name == b"PRIV").unwrap();
    plain[private + 4..private + 8].copy_from_slice(&300_u32.to_be_bytes());
    assert_eq!(texts(&of(plain)), ["Ann, Zoë", "S", ""]);

    let three =
        |flags: u8, content: &[u8]| [b"ID3\x03\0".as_slice(), &[flags, 0, 0, 0, content.len() as u8], content].concat();
    let utf_16 = b"TPE1\0\0\0\x09\0\0\x01\xfe\xff\0A\0\0\0B";
    assert_eq!(texts(&of(three(0, utf_16)))[0], "A, B");
    let extended = [b"\0\0\0\x06\0\0\0\0\0\0".as_slice(), b"TIT2\0\0\0\x02\0\0\0S"].concat();
    assert_eq!(texts(&of(three(0x40, &extended)))[1], "S");
    // Each 0xff is followed by a zero that must be ignored.
    let unsynchronised = b"APIC\0\0\0\x03\0\0\xff\0\xff\0\xe0TIT2\0\0\0\x05\0\0\x01\xff\0\xfeS\0";
    assert_eq!(texts(&of(three(0x80, unsynchronised)))[1], "S");
    let two = b"ID3\x02\0\0\0\0\0\x14TP1\0\0\x04\0AnnTT2\0\0\x03\0It\0";
    assert_eq!(texts(&of(two.to_vec())), ["Ann", "It", ""]);
    let pair = [id3v2(&[("TSSE", b"\x03x")]), id3v2(&[("TIT2", b"\x03Second")])].concat();
    assert_eq!(texts(&of(pair))[1], "Second");
    let compressed = b"TIT2\0\0\0\x06\0\x80\0\0\0\x02xy";
    assert_eq!(texts(&of(three(0, compressed)))[1], "");
}

/// A frame with a picture.
fn cover() -> Vec<u8> {
    let mut cover = b"\x00image/jpeg\0\x03\0".to_vec();
    cover.resize(COVER_BYTES, 0x55);
    cover
}

#[test]
fn a_large_picture_costs_no_tags() {
    let pictured = id3v2(&[("APIC", &cover()), ("TPE1", b"\x03Painter"), ("TIT2", b"\x03Large")]);
    assert_eq!(texts(&read_bytes(&[pictured.clone(), mpeg_frames(10)].concat())), ["Painter", "Large", ""]);
    let aiff = form(&[("COMM", &aiff_common(44_100)), ("ID3 ", &pictured), ("SSND", &[0; 16])]);
    assert_eq!(texts(&read_bytes(&aiff)), ["Painter", "Large", ""]);
    let wave = riff(b"RIFF", &[("fmt ", &wave_format()), ("data", &[0; 32_000]), ("id3 ", &pictured)]);
    assert_eq!(texts(&read_bytes(&wave)), ["Painter", "Large", ""]);
    assert_eq!(texts(&read_bytes(&[pictured.clone(), flac(&[])].concat())), ["Painter", "Large", ""]);

    let items =
        [mp4_item(b"covr", &[&cover()]), mp4_item(b"\xa9ART", &[b"Painter"]), mp4_item(b"\xa9nam", &[b"Large"])];
    assert_eq!(texts(&read_bytes(&mp4(&items.concat()))), ["Painter", "Large", ""]);
    let picture = format!("METADATA_BLOCK_PICTURE={}", "A".repeat(COVER_BYTES));
    let opus =
        ogg(b"OpusHead\x01\x02\x38\x01\x80\xbb\0\0\0\0\0", b"OpusTags", &["ARTIST=Painter", &picture, "TITLE=Large"]);
    assert_eq!(texts(&read_bytes(&opus)), ["Painter", "Large", ""]);
}

/// Bytes that may be read from a file for its tags, however many pictures it has.
const MAX_READ_BYTES: u64 = 1024 * 1024;

/// A sparse file with a hole of 100 MB.
fn with_hole(before: &[u8], behind: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(before).unwrap();
    file.seek_relative(i64::from(HOLE_BYTES)).unwrap();
    file.write_all(behind).unwrap();
    let len = file.stream_position().unwrap();
    file.set_len(len).unwrap();
    file.rewind().unwrap();
    file
}

const HOLE_BYTES: u32 = 100_000_000;

#[test]
fn no_picture_is_read() {
    let music = mpeg_frames(100);
    let safe = |bytes: u32| [21, 14, 7, 0].map(|shift| (bytes >> shift) as u8 & 0x7f);
    let text = [b"TPE1".as_slice(), &safe(8), &[0, 0], b"\x03Painter"].concat();
    let id3v2 =
        [b"ID3\x04\0\0".as_slice(), &safe(HOLE_BYTES + 10 + text.len() as u32), b"APIC", &safe(HOLE_BYTES), &[0, 0]]
            .concat();
    let ape_item = [HOLE_BYTES.to_le_bytes().as_slice(), &[0; 4], b"Cover Art (Front)\0"].concat();
    let mut ape_end = ape(&[("Artist", "Painter")]);
    let footer = ape_end.len() - 32;
    let size = ape_end.len() as u32 + HOLE_BYTES + ape_item.len() as u32;
    ape_end[footer + 12..footer + 20].copy_from_slice(&[size, 2].map(u32::to_le_bytes).concat());
    let with_ape = |music: &[u8]| with_hole(&[music, &ape_item].concat(), &ape_end);
    let wavpack = {
        // One block without samples, and one with samples at 44.1 kHz.
        let numbers = [24, 0x0410, 44_100, 0, 44_100, 0x0480_1821, 0].map(u32::to_le_bytes).concat();
        [b"wvpk".as_slice(), &numbers].concat()
    };
    let chunk = [b"id3 ".as_slice(), &(id3v2.len() as u32 + HOLE_BYTES + text.len() as u32).to_le_bytes()].concat();
    let wave = [riff(b"RIFF", &[("fmt ", &wave_format()), ("data", &[0; 32_000])]), chunk, id3v2.clone()].concat();
    let covered = |inside: u32, name: &[u8; 4]| [&(HOLE_BYTES + inside + 8).to_be_bytes(), name.as_slice()].concat();
    let items = mp4_item(b"\xa9ART", &[b"Painter"]);
    let all = items.len() as u32;
    let mp4 = [
        mp4_box(b"ftyp", b"M4A \0\0\0\0"),
        covered(all + 44, b"moov"),
        covered(all + 36, b"udta"),
        covered(all + 28, b"meta"),
        vec![0; 4],
        covered(all + 16, b"ilst"),
        covered(8, b"covr"),
        covered(0, b"data"),
    ]
    .concat();
    let attachment = [b"\x19\x41\xa4\x69".as_slice(), &(u64::from(HOLE_BYTES) | 1 << 56).to_be_bytes()].concat();
    let matroska = [element(b"\x1a\x45\xdf\xa3", b""), b"\x18\x53\x80\x67\xff".to_vec(), attachment].concat();
    let tags = element(b"\x12\x54\xc3\x67", &tag(b"", &[("ARTIST", "Painter")]));
    for (what, file) in [
        ("ID3v2", with_hole(&id3v2, &[text.clone(), music.clone()].concat())),
        ("ID3v2 before FLAC", with_hole(&id3v2, &[text.clone(), flac(&[])].concat())),
        ("ID3v2 in WAV", with_hole(&wave, &text)),
        ("APE", with_ape(&music)),
        ("APE behind FLAC", with_ape(&flac(&[]))),
        ("APE behind WavPack", with_ape(&wavpack)),
        ("MP4", with_hole(&mp4, &items)),
        ("Matroska", with_hole(&matroska, &tags)),
    ] {
        let mut source = Source::new(file, deadline()).unwrap();
        let contents = contents(&mut source).unwrap();
        assert_eq!(whole(&contents.blocks, ", ", |block| &block.artists).as_deref(), Some("Painter"), "{what}");
        assert!(source.bytes_read() <= MAX_READ_BYTES, "{what}: {} bytes were read", source.bytes_read());
    }
}

fn comments(texts: &[&str]) -> Vec<u8> {
    let mut list = Vec::new();
    for text in ["vendor"].iter().chain(texts) {
        list.extend((text.len() as u32).to_le_bytes());
        list.extend(text.as_bytes());
    }
    list.splice(10..10, (texts.len() as u32).to_le_bytes());
    list
}

/// 10 s at 44.1 kHz.
fn flac(texts: &[&str]) -> Vec<u8> {
    let comments = comments(texts);
    let mut file = b"fLaC\0\0\0\x22\x10\0\x10\0\0\0\0\0\0\0\x0a\xc4\x42\xf0\0\x06\xba\xa8".to_vec();
    file.extend([0; 16]);
    file.extend([0x84, 0]);
    file.extend(&(comments.len() as u32).to_be_bytes()[2..]);
    file.extend(comments);
    // The smallest size plausible for 10 s.
    file.extend([0; 500]);
    file
}

/// Consecutive pages; the last one ends at 2 s.
fn ogg(ident: &[u8], mark: &[u8], texts: &[&str]) -> Vec<u8> {
    let mut file = Vec::new();
    let mut page = |flags: u8, granule: u64, packet: &[u8], is_end: bool| {
        let mut lacing = vec![255; packet.len() / 255];
        if is_end {
            lacing.push((packet.len() % 255) as u8);
        }
        file.extend(b"OggS\0");
        file.push(flags);
        file.extend(granule.to_le_bytes());
        file.extend([7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, lacing.len() as u8]);
        file.extend(lacing);
        file.extend(packet);
    };
    page(2, 0, ident, true);
    let packet = [mark, &comments(texts)].concat();
    let pieces = packet.chunks(255 * 200);
    let last = pieces.len() - 1;
    pieces.enumerate().for_each(|(number, piece)| page(0, 0, piece, number == last));
    page(4, 96_312, &[0; 9], true);
    file
}

#[test]
fn comments_keep_all_their_values_whatever_else_is_in_the_list() {
    let texts_of = [
        "TITLE=Living Caves",
        "title=Crossroads",
        "nonsense",
        "ARTIST=Ann",
        "Artist=Bob",
        "ALBUM=Hyper",
        "x=\u{1f3b5}",
    ];
    let tags = read_bytes(&flac(&texts_of));
    assert_eq!((texts(&tags), tags.seconds), (["Ann, Bob", "Living Caves; Crossroads", "Hyper"], Some(10.0)));
    let opus = read_bytes(&ogg(b"OpusHead\x01\x02\x38\x01\x80\xbb\0\0\0\0\0", b"OpusTags", &texts_of));
    assert_eq!((texts(&opus), opus.seconds), (["Ann, Bob", "Living Caves; Crossroads", "Hyper"], Some(2.0)));
    let vorbis = b"\x01vorbis\0\0\0\0\x02\x80\xbb\0\0\0\0\0\0\0\0\0\0\0\0\0\0\xb8\x01";
    assert_eq!(texts(&read_bytes(&ogg(vorbis, b"\x03vorbis", &texts_of)))[0], "Ann, Bob");

    // A wrong count and a wrong length.
    let mut lying = comments(&["ARTIST=Ann", "TITLE=T"]);
    lying[10] = 0xff;
    lying.extend(u32::MAX.to_le_bytes());
    let mut file = b"fLaC\x84".to_vec();
    file.extend(&(lying.len() as u32).to_be_bytes()[1..]);
    file.extend(lying);
    assert_eq!(texts(&read_bytes(&file)), ["Ann", "T", ""]);
}

#[test]
fn tags_around_a_container_count_after_its_own() {
    let outer = id3v2(&[("TPE1", b"\x03Outer"), ("TIT2", b"\x03Outer title")]);
    let around = [outer, flac(&["TITLE=Inner"]), id3v1("Old", "Older")].concat();
    let tags = read_bytes(&around);
    assert_eq!((texts(&tags), tags.seconds), (["Outer", "Inner", ""], Some(10.0)));
    let followed = [flac(&[]), vec![0; 3000], ape(&[("Artist", "Behind"), ("Title", "All")])].concat();
    assert_eq!(texts(&read_bytes(&followed)), ["Behind", "All", ""]);
}

fn chunks(list: &[(&str, &[u8])], size: fn(u32) -> [u8; 4], pad: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, content) in list {
        bytes.extend([name.as_bytes(), &size(content.len() as u32), content].concat());
        if pad && content.len() % 2 == 1 {
            bytes.push(0);
        }
    }
    bytes
}

fn riff(name: &[u8; 4], list: &[(&str, &[u8])]) -> Vec<u8> {
    [name.as_slice(), &[0xff; 4], b"WAVE", &chunks(list, u32::to_le_bytes, true)].concat()
}

fn form(list: &[(&str, &[u8])]) -> Vec<u8> {
    [b"FORM".as_slice(), &[0; 4], b"AIFF", &chunks(list, u32::to_be_bytes, true)].concat()
}

/// 16 kHz, 16 bits, mono.
fn wave_format() -> Vec<u8> {
    [b"\x01\0\x01\0".as_slice(), &16_000_u32.to_le_bytes(), &32_000_u32.to_le_bytes(), b"\x02\0\x10\0"].concat()
}

/// At 44.1 kHz.
fn aiff_common(frames: u32) -> Vec<u8> {
    [b"\0\x01".as_slice(), &frames.to_be_bytes(), b"\0\x10\x40\x0e\xac\x44\0\0\0\0\0\0"].concat()
}

#[test]
fn wave_files_tell_by_info_and_id3_padded_or_not() {
    let (format, second) = (wave_format(), vec![0; 32_000]);
    let info: [(&str, &[u8]); 3] = [("IART", b"Zo\xeb"), ("INAM", b"Caf\xe9\0"), ("IPRD", "Ünï".as_bytes())];
    for pad in [true, false] {
        let list = [b"INFO".as_slice(), &chunks(&info, u32::to_le_bytes, pad)].concat();
        let file = riff(b"RIFF", &[("fmt ", &format), ("LIST", &list), ("data", &second)]);
        let tags = read_bytes(&file);
        assert_eq!((texts(&tags), tags.seconds), (["Zoë", "Café", "Ünï"], Some(1.0)), "{pad}");
    }
    let list =
        [b"INFO".as_slice(), &chunks(&[("IART", b"Info"), ("INAM", b"Info Title")], u32::to_le_bytes, true)].concat();
    let id3 = id3v2(&[("TSSE", b"\x03x"), ("TPE1", b"\x03Of ID3")]);
    for first in [[("id3 ", &id3), ("LIST", &list)], [("LIST", &list), ("id3 ", &id3)]] {
        let [a, b] = first.map(|(name, content)| (name, content.as_slice()));
        let tags = read_bytes(&riff(b"RIFF", &[("fmt ", &format), ("data", &second), a, b]));
        assert_eq!(tags.title.as_deref(), Some("Info Title"));
        assert!(tags.artist.is_some());
    }
    let sizes =
        [[0_u64.to_le_bytes(), 32_000_u64.to_le_bytes(), 16_000_u64.to_le_bytes()].concat(), vec![0; 4]].concat();
    let mut long = riff(b"RF64", &[("ds64", &sizes), ("fmt ", &format), ("data", &second), ("LIST", &list)]);
    let data = long.windows(4).position(|name| name == b"data").unwrap();
    long[data + 4..data + 8].fill(0xff);
    let tags = read_bytes(&long);
    assert_eq!((texts(&tags), tags.seconds), (["Info", "Info Title", ""], Some(1.0)));

    let aiff = form(&[("NAME", b"Odd"), ("AUTH", b"Ann"), ("COMM", &aiff_common(88_200)), ("SSND", &[0; 400])]);
    let tags = read_bytes(&aiff);
    assert_eq!((texts(&tags), tags.seconds), (["Ann", "Odd", ""], Some(2.0)));
}

fn mp4_box(name: &[u8; 4], content: &[u8]) -> Vec<u8> {
    [&(content.len() as u32 + 8).to_be_bytes(), name.as_slice(), content].concat()
}

fn mp4_item(name: &[u8; 4], values: &[&[u8]]) -> Vec<u8> {
    let data = |value: &&[u8]| mp4_box(b"data", &[b"\0\0\0\x01\0\0\0\0".as_slice(), value].concat());
    mp4_box(name, &values.iter().flat_map(data).collect::<Vec<_>>())
}

/// 3 s; the music comes first.
fn mp4(items: &[u8]) -> Vec<u8> {
    let header = [[0; 12].as_slice(), &1000_u32.to_be_bytes(), &3000_u32.to_be_bytes(), &[0; 80]].concat();
    let meta = [[0; 4].as_slice(), &mp4_box(b"hdlr", &[0; 24]), &mp4_box(b"ilst", items)].concat();
    let movie = [mp4_box(b"mvhd", &header), mp4_box(b"udta", &mp4_box(b"meta", &meta))].concat();
    [mp4_box(b"ftyp", b"M4A \0\0\0\0"), mp4_box(b"mdat", &[0; 5000]), mp4_box(b"moov", &movie)].concat()
}

#[test]
fn mp4_tells_by_its_items_and_quicktime_by_its_texts() {
    let items = [
        mp4_item(b"\xa9ART", &[b"Ann", "Zoë".as_bytes()]),
        mp4_item(b"\xa9nam", &[b"Song"]),
        mp4_item(b"aART", &[b"Various"]),
        mp4_item(b"\xa9alb", &[b"Album"]),
    ];
    let tags = read_bytes(&mp4(&items.concat()));
    assert_eq!((texts(&tags), tags.seconds), (["Ann, Zoë", "Song", "Album"], Some(3.0)));
    let texts_of = [mp4_box(b"\xa9nam", b"\0\x04\0\0Song"), mp4_box(b"\xa9ART", b"\0\x03\0\0Ann")].concat();
    let movie = mp4_box(b"moov", &mp4_box(b"udta", &texts_of));
    assert_eq!(texts(&read_bytes(&[mp4_box(b"wide", b""), movie].concat())), ["Ann", "Song", ""]);
    let texts_of = [mp4_box(b"titl", b"\0\0\0\0\x15\xc7Song\0"), mp4_box(b"perf", b"\0\0\0\0\x15\xc7Ann\0")].concat();
    let movie = mp4_box(b"moov", &mp4_box(b"udta", &texts_of));
    assert_eq!(texts(&read_bytes(&[mp4_box(b"ftyp", b"3gp4\0\0\0\0"), movie].concat())), ["Ann", "Song", ""]);
}

#[test]
fn caf_tells_by_its_information_chunk() {
    let chunk =
        |name: &[u8; 4], content: &[u8]| [name.as_slice(), &(content.len() as i64).to_be_bytes(), content].concat();
    let description =
        [&8000_f64.to_be_bytes(), b"lpcm\0\0\0\0\0\0\0\x02\0\0\0\x01\0\0\0\x01\0\0\0\x10".as_slice()].concat();
    let info = chunk(b"info", b"\0\0\0\x03artist\0Ann\0title\0Caf\xc3\xa9\0comments\0x\0");
    let mut data = chunk(b"data", &[0; 16_004]);
    // Of unknown size, as recorders leave it.
    data[4..12].fill(0xff);
    let file = [b"caff\0\x01\0\0".to_vec(), chunk(b"desc", &description), info, data].concat();
    let tags = read_bytes(&file);
    assert_eq!((texts(&tags), tags.seconds), (["Ann", "Café", ""], Some(1.0)));
}

fn element(id: &[u8], content: &[u8]) -> Vec<u8> {
    let mut size = (content.len() as u64 | 1 << 56).to_be_bytes().to_vec();
    size.splice(0..0, id.iter().copied());
    [size, content.to_vec()].concat()
}

fn tag(targets: &[u8], texts: &[(&str, &str)]) -> Vec<u8> {
    let simple = |(name, text): &(&str, &str)| {
        let inside = [element(b"\x45\xa3", name.as_bytes()), element(b"\x44\x87", text.as_bytes())].concat();
        element(b"\x67\xc8", &inside)
    };
    let texts: Vec<u8> = texts.iter().flat_map(simple).collect();
    element(b"\x73\x73", &[element(b"\x63\xc0", targets), texts].concat())
}

#[test]
fn matroska_tells_of_the_track_and_of_the_album() {
    const TRACK: &[u8] = b"\x68\xca\x81\x1e";
    let header = element(b"\x1a\x45\xdf\xa3", &element(b"\x42\x82", b"matroska"));
    let info = |title: &str| {
        let duration = element(b"\x44\x89", &5000_f64.to_be_bytes());
        element(b"\x15\x49\xa9\x66", &[duration, element(b"\x7b\xa9", title.as_bytes())].concat())
    };
    let tags = |tags: &[Vec<u8>]| element(b"\x12\x54\xc3\x67", &tags.concat());
    let cluster = element(b"\x1f\x43\xb6\x75", &[0; 700]);
    let file = |segment: &[Vec<u8>]| [header.clone(), element(b"\x18\x53\x80\x67", &segment.concat())].concat();

    let album = tag(b"", &[("TITLE", "Album"), ("ARTIST", "Various")]);
    let track = tag(TRACK, &[("TITLE", "Song"), ("ARTIST", "Ann"), ("ARTIST", "Bob")]);
    let read = read_bytes(&file(&[info("File"), cluster.clone(), tags(&[album, track])]));
    assert_eq!((texts(&read), read.seconds), (["Ann, Bob", "Song", "Album"], Some(5.0)));

    let plain = tag(b"", &[("ARTIST", "In mka"), ("ALBUM", "Album")]);
    let chapter = tag(b"\x63\xc4\x81\x07", &[("ARTIST", "Of a chapter"), ("TITLE", "Chapter")]);
    let own = tags(&[chapter, plain]);
    assert_eq!(texts(&read_bytes(&file(&[info("Song"), own.clone()]))), ["In mka", "Song", "Album"]);

    // A live stream: segment and cluster of unknown size, the cluster containing a block.
    let live = [header, b"\x18\x53\x80\x67\x01\xff\xff\xff\xff\xff\xff\xff".to_vec(), info("Live"), own];
    let block = [b"\x1f\x43\xb6\x75\xff".to_vec(), element(b"\xe7", &[1]), element(b"\xa3", &[0; 100])].concat();
    assert_eq!(texts(&read_bytes(&[live.concat(), block].concat())), ["In mka", "Live", "Album"]);
}

/// The server's log excludes the library's own lines (see `main.rs`).
#[test]
fn no_file_fills_the_log() {
    const ODD: usize = 50_000;
    const MAX_LINES: usize = 2;
    let music = mpeg_frames(10);
    let texts = vec!["no comment"; ODD];
    let frame: (&str, &[u8]) = ("T\x1b\n!", b"\x09\xff\xfe\n");
    let item = ["\u{1b}[31m\n", "\n"];
    for (what, file) in [
        ("frames", [id3v2(&vec![frame; ODD]), music.clone()].concat()),
        ("named frames", [id3v2(&vec![("TIT2", b"\x09\xff\n".as_slice()); ODD]), music.clone()].concat()),
        ("tags", [id3v2(&[frame]).repeat(ODD), music.clone()].concat()),
        ("items", [music.clone(), ape(&vec![(item[0], item[1]); ODD])].concat()),
        ("comments", flac(&texts)),
        ("chunks", riff(b"RIFF", &vec![("LIST", b"INFO\x1b\n\n\n\xff\xff\xff\xff".as_slice()); ODD])),
        ("boxes", mp4(&mp4_item(b"\xa9nam", &[b"\n"]).repeat(ODD))),
        ("elements", [element(b"\x1a\x45\xdf\xa3", b""), element(b"\x73\x73", b"\x01").repeat(ODD)].concat()),
    ] {
        let count = Arc::new(AtomicUsize::new(0));
        let lines = Mutex::new(Lines(Arc::clone(&count)));
        let log = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(lines).finish();
        tracing::subscriber::with_default(log, || read_until(file_of(&file), deadline()));
        let count = count.load(Ordering::Relaxed);
        assert!(count <= MAX_LINES, "{what}: {count} lines");
    }
}

/// Counts lines.
struct Lines(Arc<AtomicUsize>);

impl Write for Lines {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.0.fetch_add(text.iter().filter(|byte| **byte == b'\n').count(), Ordering::Relaxed);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn nothing_in_a_file_panics_or_is_believed_blindly() {
    let track = tag(b"\x68\xca\x81\x1e", &[("TITLE", "Song")]);
    let files = [
        id3v2(&[("TPE1", b"\x03Ann")]),
        flac(&["ARTIST=Ann", "TITLE=T"]),
        ogg(b"OpusHead\x01\x02\x38\x01\x80\xbb\0\0\0\0\0", b"OpusTags", &["ARTIST=Ann"]),
        riff(b"RIFF", &[("fmt ", &wave_format()), ("LIST", b"INFOIART\x03\0\0\0Ann"), ("data", &[0; 99])]),
        form(&[("COMM", &aiff_common(1)), ("NAME", b"Odd")]),
        mp4(&mp4_item(b"\xa9nam", &[b"Song"])),
        [element(b"\x1a\x45\xdf\xa3", b""), element(b"\x18\x53\x80\x67", &element(b"\x12\x54\xc3\x67", &track))]
            .concat(),
        [b"caff\0\x01\0\0".as_slice(), b"info\0\0\0\0\0\0\0\x10\0\0\0\x03artist\0Ann\0"].concat(),
    ];
    for file in &files {
        for place in 0..file.len().min(400) {
            read_bytes(&file[..place]);
            for byte in [0, 0x7f, 0xff] {
                let mut damaged = file.clone();
                damaged[place] = byte;
                let tags = read_bytes(&damaged);
                assert!(tags.seconds.is_none_or(|seconds| seconds * 50.0 <= damaged.len() as f64), "{tags:?}");
            }
        }
    }
}

/// Crashes found by fuzzing; see `fuzz/` at the top.
#[test]
fn what_once_crashed_does_not() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/crashes/tags");
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        read_bytes(&std::fs::read(entry.unwrap().path()).unwrap());
    }
}
