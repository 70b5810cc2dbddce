//! Streams of frames and pages with everything that programs put before, between and after the music: decoding must
//! return the same samples.

use super::{super::flac::StreamInfo, *};

/// A version 2.4 tag with `bytes` bytes that resemble frames.
fn id3v2(bytes: usize) -> Vec<u8> {
    let size: Vec<u8> = (0..4).rev().map(|i| (bytes >> (7 * i) & 0x7F) as u8).collect();
    [b"ID3\x04\0\0".as_slice(), &size, &like_frames(bytes)].concat()
}

fn id3v1() -> Vec<u8> {
    [b"TAG".as_slice(), &[b'x'; 125]].concat()
}

/// An APE tag of one item whose value resembles frames.
fn ape(bytes: usize, has_header: bool) -> Vec<u8> {
    let item = [&(bytes as u32).to_le_bytes()[..], &[0; 4], b"Cover\0", &like_frames(bytes)].concat();
    let end = |is_header: bool| {
        let flags = u32::from(has_header) << 31 | u32::from(is_header) << 29;
        let numbers = [2_000, item.len() as u32 + 32, 1, flags];
        [b"APETAGEX".as_slice(), &numbers.map(u32::to_le_bytes).concat(), &[0; 8]].concat()
    };
    [if has_header { end(true) } else { Vec::new() }, item.clone(), end(false)].concat()
}

fn lyrics() -> Vec<u8> {
    let text = b"LYRICSBEGININD0000211EAL00004\xFF\xFB\x90\x00".to_vec();
    [&text[..], format!("{:06}LYRICS200", text.len()).as_bytes()].concat()
}

/// Bytes full of MPEG audio and FLAC frame headers, none of which is followed by another frame.
fn like_frames(bytes: usize) -> Vec<u8> {
    [0xFF, 0xFB, 0x90, 0x64, 0xFF, 0xF8, 0xC9, 0xA8, 0x00].iter().copied().cycle().take(bytes).collect()
}

/// Pseudo-random bytes.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..bytes).map(|_| next()).collect()
}

/// Asserts that a file decodes to `samples` and nothing is missing.
fn same(what: &str, bytes: Vec<u8>, samples: &[f32]) {
    let decoded = decoded(bytes).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(decoded.samples.len(), samples.len(), "{what}");
    assert!(decoded.samples == samples, "{what}");
    assert!(!decoded.is_truncated, "{what}");
}

/// The STREAMINFO and the frames of the fixture.
fn flac() -> ([u8; 34], Vec<u8>) {
    let bytes = fixture("band.flac");
    let mut at = 4;
    while bytes[at] & 0x80 == 0 {
        at += 4 + usize::from(bytes[at + 2]) * 256 + usize::from(bytes[at + 3]);
    }
    at += 4 + usize::from(bytes[at + 2]) * 256 + usize::from(bytes[at + 3]);
    (bytes[8..42].try_into().unwrap(), bytes[at..].to_vec())
}

/// A metadata block. Its length is truncated to the size of its field.
fn block(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind], &(body.len() as u32).to_be_bytes()[1..], body].concat()
}

#[test]
fn flac_metadata_never_cost_the_music() {
    let (info, frames) = flac();
    let plain = whole(fixture("band.flac"), 12.0);
    let file = |info: &[u8], blocks: &[Vec<u8>]| {
        [&b"fLaC"[..], &block(0, info), &blocks.concat(), &block(0x81, &[0; 100]), &frames].concat()
    };
    let with = |at: std::ops::Range<usize>, bytes: &[u8]| {
        let mut info = info;
        info[at].copy_from_slice(bytes);
        file(&info, &[])
    };
    let most = u32::MAX.to_le_bytes();
    for (what, bytes) in [
        ("nothing odd", file(&info, &[])),
        ("no smallest block", with(0..2, &[0, 0])),
        ("the last block is the smallest", with(0..2, &[0, 20])),
        ("a range of blocks", with(0..4, &[0, 16, 0xFF, 0xFF])),
        ("no block sizes", with(0..4, &[0; 4])),
        ("no frame sizes", with(4..10, &[0; 6])),
        ("wrong frame sizes", with(4..10, &[0, 0, 9, 0, 0, 3])),
        ("a wrong MD5", with(18..34, &[7; 16])),
        ("no count of samples", with(13..18, &[info[13] & 0xF0, 0, 0, 0, 0])),
        ("a third of the samples", with(13..18, &[info[13] & 0xF0, 0, 2, 0xB1, 0x10])),
        ("two seek tables", file(&info, &[block(3, &[0xFF; 36]), block(3, &[0; 18])])),
        ("comments that lie", file(&info, &[block(4, &[&[0; 4][..], &most].concat())])),
        ("a vendor that lies", file(&info, &[block(4, &most)])),
        ("a picture that lies", file(&info, &[block(6, &[&[0; 4][..], &[0xFF; 4]].concat())])),
        ("a comment that is longer than its block", file(&info, &[block(4, &[0, 0, 0, 0, 1, 0, 0, 0, 99])])),
        ("an unknown block", file(&info, &[block(77, &[1; 50])])),
        ("a picture that its length has no room for", file(&info, &[block(6, &like_frames((1 << 24) + 5_000))])),
        ("ID3v2 before", [id3v2(3_000_000), id3v2(10), file(&info, &[])].concat()),
    ] {
        same(what, bytes, &plain);
    }
}

#[test]
fn a_flac_ends_with_its_last_frame() {
    let flac = fixture("band.flac");
    let plain = whole(flac.clone(), 12.0);
    for (what, behind) in [
        ("ID3v1", id3v1()),
        ("APE", ape(200, true)),
        ("APE without a header", ape(5_000, false)),
        ("ID3v2", id3v2(100_000)),
        ("text", b"ripped with care; ".repeat(9)),
        ("zeros", vec![0; 70_000]),
        ("noise", noise(1_000_000)),
        ("headers of frames", like_frames(100_000)),
        ("one byte", vec![0xFF]),
    ] {
        same(what, [flac.clone(), behind].concat(), &plain);
    }
}

#[test]
fn a_flac_that_says_that_it_lasts_hours_is_as_long_as_it_is() {
    let flac = fixture("band.flac");
    let plain = whole(flac.clone(), 12.0);
    let mut long = flac.clone();
    long[21] |= 15;
    let decoded = decoded(long).unwrap();
    assert_eq!(decoded.samples, plain);
    // A cut file would look the same.
    assert!(decoded.is_truncated);
}

#[test]
fn what_is_missing_in_a_flac_is_missed() {
    let (mut info, frames) = flac();
    info[13] &= 0xF0;
    info[14..18].fill(0);
    let file = |frames: &[u8]| [&b"fLaC"[..], &block(0x80, &info), frames].concat();
    let broken = |share: std::ops::Range<usize>, byte: u8| {
        let mut frames = frames.clone();
        let length = frames.len();
        frames[share.start * length / 100..share.end * length / 100].fill(byte);
        file(&frames)
    };
    same("nothing", file(&frames), &whole(fixture("band.flac"), 12.0));
    cut(broken(50..70, 0), 9.0..10.5);
    cut(broken(50..70, 0xFF), 9.0..10.5);
    // Three frames.
    whole(broken(50..51, 0), 11.7);
}

#[test]
fn flacs_that_were_joined_are_all_decoded() {
    let (stereo, surround) = (fixture("band.flac"), fixture("band_5_1.flac"));
    let (first, second) = (whole(stereo.clone(), 12.0), whole(surround.clone(), 12.0));
    for between in [Vec::new(), id3v1()] {
        let joined = [&stereo[..], &between, &surround, &between, &stereo].concat();
        same("three", joined, &[&first[..], &second, &first].concat());
    }
}

#[test]
fn an_mp3_is_found_behind_anything() {
    let (frames, _) = without_tag("band.mp3");
    let plain = whole(fixture("band.mp3"), 12.0);
    let mut wrong_size = id3v2(5_000);
    // Eight bits per byte.
    wrong_size[6..10].copy_from_slice(&5_000u32.to_be_bytes());
    wrong_size[9] |= 0x80;
    wrong_size.resize(10 + (5_000 | 0x80), 0);
    let mut too_long = id3v2(5_000);
    too_long[6] = 0x7F;
    for (what, before) in [
        ("nothing", Vec::new()),
        ("tags in a row", [id3v2(100), id3v2(70_000), id3v2(0), vec![0; 300]].concat()),
        ("a long tag", id3v2(20_000_000)),
        ("a tag whose size is written in eight bits", wrong_size),
        ("a tag that is longer than the file", too_long),
        ("zeros", vec![0; 6_000_000]),
        ("zeros and a tag", [vec![0; 2_000_000], id3v2(3_000)].concat()),
        ("noise", noise(2_000_000)),
        ("headers of frames", like_frames(1_500_000)),
    ] {
        same(what, [before, frames.clone()].concat(), &plain);
    }
}

#[test]
fn an_mp3_ends_with_its_last_frame() {
    let (frames, first) = without_tag("band.mp3");
    // Also without an info frame.
    for (frames, padding) in [(frames.clone(), "with a count"), (frames[first..].to_vec(), "without a count")] {
        let plain = whole(frames.clone(), 12.03);
        for (what, behind) in [
            ("ID3v1", id3v1()),
            ("APE", ape(40_000, true)),
            ("APE without a header", ape(40_000, false)),
            ("all of them", [ape(40_000, true), lyrics(), id3v2(9_000), id3v1()].concat()),
            ("others", [ape(40_000, false), lyrics(), id3v1()].concat()),
            ("noise", noise(500_000)),
            ("zeros", vec![0; 200_000]),
        ] {
            same(&format!("{what} {padding}"), [frames.clone(), behind].concat(), &plain);
        }
    }
}

#[test]
fn a_tag_that_says_that_it_is_the_music_is_none() {
    let (frames, _) = without_tag("band.mp3");
    let plain = whole(fixture("band.mp3"), 12.0);
    let mut lies = ape(100, false);
    let footer = lies.len() - 32;
    lies[footer + 12..footer + 16].copy_from_slice(&100_000u32.to_le_bytes());
    same("APE", [frames, lies].concat(), &plain);
}

#[test]
fn a_count_of_frames_that_cannot_be_is_not_believed() {
    let mp3 = fixture("band.mp3");
    let plain = whole(mp3.clone(), 12.0);
    let count = position(&mp3, b"Info") + 8;
    for frames in [u32::MAX, 1 << 31, 1_000_000, 0, 46] {
        let mut lies = mp3.clone();
        lies[count..count + 4].copy_from_slice(&frames.to_be_bytes());
        same(&format!("{frames} frames"), lies, &plain);
    }
}

#[test]
fn what_is_missing_in_an_mp3_is_missed() {
    let (frames, first) = without_tag("band.mp3");
    let mut holes = frames[first..].to_vec();
    let third = holes.len() / 3;
    holes[third..third + 40_000].fill(0);
    cut(holes, 8.0..11.5);
}

/// `frames` frames of silence.
fn silence(header: [u8; 4], bytes: usize, frames: usize) -> Vec<u8> {
    let mut frame = vec![0; bytes];
    frame[..4].copy_from_slice(&header);
    frame.repeat(frames)
}

#[test]
fn every_part_of_an_mp3_whose_rate_changes_is_decoded_at_its_own() {
    let (frames, first) = without_tag("band.mp3");
    let music = &frames[first..];
    let plain = whole(music.to_vec(), 12.04);
    // Layer 3 at 48 kHz, mono; at 22.05 kHz; layer 2 at 32 kHz. Each lasts about a second.
    let parts = [
        (silence([0xFF, 0xFB, 0x14, 0xC0], 96, 42), 48_000, 42 * 1152),
        (silence([0xFF, 0xF3, 0x40, 0xC0], 104, 38), 22_050, 38 * 576),
        (silence([0xFF, 0xFD, 0x18, 0xC0], 144, 28), 32_000, 28 * 1152),
    ];
    for (part, rate, samples) in parts {
        let source = Box::new(Cursor::new([music, &part, music].concat()));
        let mut decoder = Decoder::open(source, None, &LIMITS).unwrap();
        let (mut counts, mut out) = (Vec::new(), Vec::new());
        loop {
            out.clear();
            let more = decoder.next(&mut out).unwrap();
            match (counts.last_mut(), decoder.rate()) {
                (Some((last, count)), Some(rate)) if *last == rate => *count += out.len(),
                (_, Some(rate)) => counts.push((rate, out.len())),
                _ => {}
            }
            if !more {
                break;
            }
        }
        assert_eq!(counts, [(44_100, plain.len()), (rate, samples), (44_100, plain.len())]);
        let seconds = 2.0 * plain.len() as f64 / 44_100.0 + samples as f64 / f64::from(rate);
        assert!((decoder.seconds() - seconds).abs() < 1e-9);
        assert!(!decoder.is_truncated());
    }
}

#[test]
fn a_rate_that_changes_for_ever_is_given_up() {
    let part = |header, bytes| silence(header, bytes, 4);
    let pair = [part([0xFF, 0xFB, 0x14, 0xC0], 96), part([0xFF, 0xFB, 0x18, 0xC0], 144)].concat();
    let decoded = decoded(pair.repeat(MAX_RATE_CHANGES as usize)).unwrap();
    assert!(decoded.is_truncated);
    assert!((0.4..0.6).contains(&(decoded.seconds / (f64::from(MAX_RATE_CHANGES) * 4.0 * (0.024 + 0.036)))));
}

/// Writes packets as pages of a track; each packet comes with a position. A page ends after every packet, or when it is
/// full.
fn pages(serial: u32, packets: &[(Vec<u8>, i64)]) -> Vec<u8> {
    let (mut out, mut sequence) = (Vec::new(), 0);
    let mut is_continued = false;
    let count = packets.len();
    for (i, (packet, position)) in packets.iter().enumerate() {
        let mut lengths = vec![255u8; packet.len() / 255];
        lengths.push((packet.len() % 255) as u8);
        let mut body = &packet[..];
        for lengths in lengths.chunks(255) {
            let is_end = lengths.last() != Some(&255);
            let (piece, rest) = body.split_at(lengths.iter().map(|&length| usize::from(length)).sum());
            body = rest;
            let flags = u8::from(is_continued)
                | if sequence == 0 { OGG_START } else { 0 }
                | if is_end && i + 1 == count { OGG_END } else { 0 };
            let mut page = [b"OggS\x00".as_slice(), &[flags]].concat();
            page.extend(if is_end { *position } else { -1 }.to_le_bytes());
            page.extend([serial, sequence, 0].iter().flat_map(|x| x.to_le_bytes()));
            page.push(lengths.len() as u8);
            page.extend(lengths);
            page.extend(piece);
            seal(&mut page);
            out.extend(page);
            sequence += 1;
            is_continued = !is_end;
        }
    }
    out
}

/// The packets of an Ogg. The last packet that ends in a page has the page's position.
pub(super) fn packets(ogg: &[u8]) -> Vec<(Vec<u8>, i64)> {
    let (mut out, mut partial) = (Vec::new(), Vec::new());
    for page in ogg_pages(ogg) {
        let page = &ogg[page];
        let segments = &page[27..27 + usize::from(page[26])];
        let mut body = &page[27 + segments.len()..];
        for &length in segments {
            let (piece, rest) = body.split_at(usize::from(length));
            body = rest;
            partial.extend_from_slice(piece);
            if length < 255 {
                out.push((std::mem::take(&mut partial), -1));
            }
        }
        if let Some((_, position)) = out.last_mut() {
            *position = i64::from_le_bytes(page[6..14].try_into().unwrap());
        }
    }
    out
}

#[test]
fn comments_and_pictures_in_ogg_never_cost_the_music() {
    let lies = [&[0xFF; 8][..], &noise(1_000)].concat();
    for (file, start) in [("band.ogg", &b"\x03vorbis"[..]), ("band.opus", b"OpusTags")] {
        let bytes = fixture(file);
        let plain = whole(bytes.clone(), 12.0);
        let packets = packets(&bytes);
        for comment in [lies.clone(), noise(3_000_000), noise(15_000_000), Vec::new()] {
            let mut packets = packets.clone();
            packets[1] = ([start, &comment].concat(), 0);
            same(&format!("{file} with {} bytes", comment.len()), pages(7, &packets), &plain);
        }
    }
}

/// The individual frames.
fn flac_frames(info: [u8; 34], frames: &[u8]) -> Vec<&[u8]> {
    let format = StreamInfo::parse(&info).unwrap().format;
    let mut starts: Vec<usize> =
        (0..frames.len()).filter(|&at| flac::header(&frames[at..], format).is_some()).collect();
    starts.push(frames.len());
    starts.windows(2).map(|frame| &frames[frame[0]..frame[1]]).collect()
}

/// An Ogg with the fixture's frames.
fn ogg_flac(info: [u8; 34], metadata: &[Vec<u8>]) -> Vec<u8> {
    let (_, frames) = flac();
    let first = [&b"\x7fFLAC\x01\0\0\0fLaC"[..], &block(0, &info)].concat();
    let mut packets = vec![(first, 0)];
    packets.extend(metadata.iter().map(|block| (block.clone(), 0)));
    let mut position = 0;
    for frame in flac_frames(info, &frames) {
        position = (position + 4608).min(529_200);
        packets.push((frame.to_vec(), position));
    }
    pages(9, &packets)
}

#[test]
fn flac_in_ogg_is_flac() {
    let (info, _) = flac();
    let plain = whole(fixture("band.flac"), 12.0);
    let mut no_least = info;
    no_least[..2].fill(0);
    let comment = block(0x84, &[0; 8]);
    same("nothing odd", ogg_flac(info, std::slice::from_ref(&comment)), &plain);
    same("no smallest block", ogg_flac(no_least, std::slice::from_ref(&comment)), &plain);
    same("a picture", ogg_flac(info, &[comment, block(6, &noise(15_000_000))]), &plain);
    same("no metadata", ogg_flac(info, &[]), &plain);
}

#[test]
fn flac_in_caf_is_flac_even_if_only_its_frames_say_what_it_is() {
    let (info, frames) = flac();
    let plain = whole(fixture("band.flac"), 12.0);
    let chunk = |name: &[u8; 4], body: &[u8]| [name, &(body.len() as u64).to_be_bytes()[..], body].concat();
    let packets = flac_frames(info, &frames);
    // Lengths with seven bits per byte.
    let lengths: Vec<_> = packets
        .iter()
        .flat_map(|packet| {
            [packet.len() >> 14 | 0x80, packet.len() >> 7 | 0x80, packet.len() & 0x7F].map(|part| part as u8)
        })
        .collect();
    let file = |samples: u32, cookie: &[u8]| {
        let description =
            [&44_100f64.to_be_bytes()[..], b"flac", &[0, 0, samples, 2, 0].map(u32::to_be_bytes).concat()].concat();
        let all = (packets.len() as u64 * u64::from(samples)).max(529_200);
        let table = [&[packets.len() as u64, all, 0].map(u64::to_be_bytes).concat()[..], &lengths].concat();
        [
            &b"caff\0\x01\0\0"[..],
            &chunk(b"desc", &description),
            cookie,
            &chunk(b"pakt", &table),
            &chunk(b"data", &[&[0; 4][..], &frames].concat()),
        ]
        .concat()
    };
    for cookie in [Vec::new(), chunk(b"kuki", &info)] {
        // FFmpeg writes this wrong number as the samples per packet.
        for samples in [4608, 6453] {
            let file = file(samples, &cookie);
            let cut_short = file[..file.len() * 3 / 4].to_vec();
            same(&format!("{samples} samples, a cookie of {} bytes", cookie.len()), file, &plain);
            cut(cut_short, 8.0..9.5);
        }
    }
}

#[test]
fn what_is_missing_in_an_ogg_is_missed() {
    let ogg = fixture("band.ogg");
    let pages = ogg_pages(&ogg);
    let middle = pages.len() / 2;
    // A damaged page, then two missing pages.
    let mut damaged = ogg.clone();
    damaged[pages[middle].start + 100] ^= 1;
    cut(damaged, 10.0..11.5);
    cut([&ogg[..pages[middle].start], &ogg[pages[middle + 1].end..]].concat(), 8.0..11.0);
}

#[test]
fn an_ogg_ends_with_its_last_page() {
    let ogg = fixture("band.ogg");
    let plain = whole(ogg.clone(), 12.0);
    for behind in [id3v1(), vec![0; 70_000], noise(200_000)] {
        same("Ogg", [ogg.clone(), behind].concat(), &plain);
    }
}

/// A stereo tone of `seconds` in Vorbis.
fn vorbis(serial: u32, rate: u32, seconds: f32) -> Vec<u8> {
    use rusty_vorbis::{VorbisEncoder, VorbisEncoderConfig};
    let mut encoder = VorbisEncoder::new(VorbisEncoderConfig::default());
    let samples = (seconds * rate as f32) as usize;
    let tone = |i: usize| 0.25 * (i as f32 * 440.0 * std::f32::consts::TAU / rate as f32).sin();
    let samples: Vec<f32> = (0..samples).flat_map(|i| [tone(i); 2]).collect();
    encoder.push_pcm_f32(&samples, 2, rate).unwrap();
    encoder.finish();
    let mut packets = Vec::new();
    while let Ok(packet) = encoder.next_packet() {
        packets.push(packet);
    }
    let packets: Vec<_> = packets.into_iter().map(|packet| (packet.data, packet.pts)).collect();
    pages(serial, &packets)
}

#[test]
fn links_of_an_ogg_have_their_own_rates() {
    let links = [vorbis(1, 44_100, 3.0), vorbis(2, 22_050, 5.0), vorbis(3, 48_000, 2.0)];
    let parts: Vec<_> = links.iter().map(|link| decoded(link.clone()).unwrap()).collect();
    let decoded = decoded(links.concat()).unwrap();
    // The encoder omits a part of a block at each end.
    let seconds: f64 = parts.iter().map(|part| part.seconds).sum();
    assert!((9.5..10.5).contains(&seconds), "{seconds}");
    assert!((decoded.seconds - seconds).abs() < 1e-6, "{} s instead of {seconds}", decoded.seconds);
    assert!(!decoded.is_truncated);
    let samples: Vec<f32> = parts.into_iter().flat_map(|part| part.samples).collect();
    assert!(decoded.samples == samples);
}

#[test]
fn mpeg_audio_of_free_format_is_decoded() {
    // Silence: frames of 1000 bytes, and some of 1001, of layer 3 of MPEG 1 at 44.1 kHz.
    let frames: Vec<u8> = (0..200u8)
        .flat_map(|number| {
            let padding = u8::from(number % 3 == 1);
            let mut frame = vec![0; 1_000 + usize::from(padding)];
            frame[..4].copy_from_slice(&[0xFF, 0xFB, padding << 1, 0xC0]);
            frame
        })
        .collect();
    // The last frame's end is unknown.
    let seconds = 199.0 * 1152.0 / 44_100.0;
    whole(frames.clone(), seconds);
    whole([id3v2(5_000), frames, id3v1()].concat(), seconds);
}

/// Number of random files of each kind.
const FILES: u64 = 60;

/// Random data of the kinds that programs put around music, in any order; none of it is music.
fn surroundings(rng: &mut fastrand::Rng, kinds: &[fn(&mut fastrand::Rng) -> Vec<u8>]) -> Vec<u8> {
    (0..rng.usize(0..4)).flat_map(|_| kinds[rng.usize(..kinds.len())](rng)).collect()
}

/// Before the first frame, between two frames, and after the last one.
const BEFORE: [fn(&mut fastrand::Rng) -> Vec<u8>; 2] =
    [|rng| id3v2(rng.usize(..90_000)), |rng| vec![0; rng.usize(..90_000)]];
const BETWEEN: [fn(&mut fastrand::Rng) -> Vec<u8>; 3] =
    [|rng| id3v2(rng.usize(..90_000)), |rng| ape(rng.usize(..90_000), true), |_| id3v1()];
const BEHIND: [fn(&mut fastrand::Rng) -> Vec<u8>; 5] = [
    |_| id3v1(),
    |_| lyrics(),
    |rng| ape(rng.usize(..90_000), true),
    |rng| ape(rng.usize(..90_000), false),
    |rng| vec![0; rng.usize(..90_000)],
];

#[test]
fn an_mp3_is_the_same_whatever_tags_are_around_its_frames_and_between_them() {
    for file in ["band.mp3", "band_vbr.mp3"] {
        let (frames, first) = without_tag(file);
        let plain = whole(fixture(file), 12.0);
        for seed in 0..FILES {
            let rng = &mut fastrand::Rng::with_seed(seed);
            // Half of the time within the first frames, which are checked before the stream is accepted as music.
            let most = if rng.bool() { 4 } else { 400 };
            let place = rng.usize(..most);
            let middle = (0..place).fold(first, |at, _| at + frame_length(&frames[at..]));
            let between = surroundings(rng, &BETWEEN);
            let (before, behind) = (surroundings(rng, &BEFORE), surroundings(rng, &BEHIND));
            let mp3 = [&before, &frames[..middle], &between, &frames[middle..], &behind].map(Vec::from).concat();
            same(&format!("{file}, seed {seed}"), mp3, &plain);
        }
    }
}

#[test]
fn an_mp3_begins_with_its_first_frame_whatever_lies_behind_that() {
    let (frames, info) = without_tag("band.mp3");
    let frames = &frames[info..];
    let plain = whole(frames.to_vec(), 12.07);
    for place in 1..5 {
        let middle = (0..place).fold(0, |at, _| at + frame_length(&frames[at..]));
        for between in [id3v2(70_000), ape(200, true), id3v1(), lyrics()] {
            let mp3 = [&frames[..middle], &between, &frames[middle..]].concat();
            same(&format!("a tag behind {place} frames"), mp3, &plain);
        }
        // Zeros stand for missing data, even if only a little.
        for zeros in [1, 700, 5_000] {
            let decoded = decoded([&frames[..middle], &vec![0; zeros], &frames[middle..]].concat()).unwrap();
            assert!(decoded.samples == plain && !decoded.is_truncated, "{zeros} zeros behind {place} frames");
        }
        // A file of only a few frames.
        let few = decoded([&frames[..middle], &id3v1()].concat()).unwrap();
        assert_eq!(few.samples.len(), place * 1152, "{place} frames alone");
    }
}

#[test]
fn a_flac_is_the_same_whatever_is_around_its_blocks_and_frames() {
    let (info, frames) = flac();
    let plain = whole(fixture("band.flac"), 12.0);
    for seed in 0..FILES {
        let rng = &mut fastrand::Rng::with_seed(seed);
        let blocks: Vec<u8> =
            (0..rng.usize(..5)).flat_map(|_| block(rng.u8(1..7), &noise(rng.usize(..40_000)))).collect();
        let (before, behind) = (surroundings(rng, &BEFORE[..1]), surroundings(rng, &BEHIND));
        let last = block(0x81, &noise(rng.usize(..9_000)));
        let file = [&before[..], b"fLaC", &block(0, &info), &blocks, &last, &frames, &behind].concat();
        same(&format!("seed {seed}"), file, &plain);
    }
}

/// Writes packets as pages that end at random permitted places, mixed with pages of an unknown stream.
fn pages_by_chance(rng: &mut fastrand::Rng, packets: &[(Vec<u8>, i64)]) -> Vec<u8> {
    let (serial, other) = (rng.u32(..1_000), 1_000 + rng.u32(..1_000));
    let mut out = Vec::new();
    let (mut sequence, mut other_sequence) = (0, 0);
    let mut unknown = |rng: &mut fastrand::Rng, out: &mut Vec<u8>| {
        let flags = if other_sequence == 0 { OGG_START } else { 0 };
        out.extend(ogg_page(flags, 0, other, other_sequence, &[&noise(rng.usize(8..200))]));
        other_sequence += 1;
    };
    let is_alone = rng.bool();
    let (mut lengths, mut body, mut flags) = (Vec::new(), Vec::new(), OGG_START);
    let mut has_end = false;
    for (i, (packet, position)) in packets.iter().enumerate() {
        // A packet's last piece has less than 255 bytes, possibly none.
        let (whole, rest) = packet.as_chunks::<255>();
        let pieces: Vec<&[u8]> = whole.iter().map(<[u8; 255]>::as_slice).chain([rest]).collect();
        for (at, &piece) in pieces.iter().enumerate() {
            lengths.push(piece.len() as u8);
            body.extend_from_slice(piece);
            let is_end = at + 1 == pieces.len();
            has_end |= is_end;
            // The page's position is that of the last packet that ends in it.
            let may_end = if is_end { *position >= 0 } else { !has_end && rng.u8(..8) == 0 };
            if !may_end && lengths.len() < 255 {
                continue;
            }
            if is_end && i + 1 == packets.len() {
                flags |= OGG_END;
            }
            let mut page = [b"OggS\x00".as_slice(), &[flags]].concat();
            page.extend(if has_end { *position } else { -1 }.to_le_bytes());
            page.extend([serial, sequence, 0].iter().flat_map(|x| x.to_le_bytes()));
            page.push(lengths.len() as u8);
            page.append(&mut lengths);
            page.append(&mut body);
            seal(&mut page);
            out.extend(page);
            sequence += 1;
            // The next page continues this packet or begins a new one.
            flags = u8::from(!is_end);
            has_end = false;
            if !is_alone && (sequence == 1 || rng.u8(..4) == 0) {
                unknown(rng, &mut out);
            }
        }
    }
    out
}

#[test]
fn an_ogg_is_the_same_however_its_pages_are_cut_and_whatever_streams_are_beside_it() {
    for file in ["band.ogg", "band.opus"] {
        let bytes = fixture(file);
        let plain = whole(bytes.clone(), 12.0);
        let packets = packets(&bytes);
        for seed in 0..FILES / 3 {
            let rng = &mut fastrand::Rng::with_seed(seed);
            let ogg = pages_by_chance(rng, &packets);
            same(&format!("{file}, seed {seed}"), [ogg, surroundings(rng, &BEHIND[..1])].concat(), &plain);
        }
    }
}
