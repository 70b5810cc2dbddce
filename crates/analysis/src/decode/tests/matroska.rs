//! Matroska files generated in memory from a PCM ramp.

use miniz_oxide::deflate::compress_to_vec_zlib;

use super::{cut, decoded, refused, whole};

/// An element with its ID as written in the specifications.
fn element(id: u32, body: &[u8]) -> Vec<u8> {
    sized(id, &(body.len() as u64 | 1 << 56).to_be_bytes(), body)
}

/// An element of unknown length.
fn endless(id: u32, body: &[u8]) -> Vec<u8> {
    sized(id, &[0xFF], body)
}

fn sized(id: u32, length: &[u8], body: &[u8]) -> Vec<u8> {
    let id = id.to_be_bytes();
    let skipped = id.iter().take_while(|&&byte| byte == 0).count();
    [&id[skipped..], length, body].concat()
}

fn number(id: u32, number: u64) -> Vec<u8> {
    element(id, &number.to_be_bytes())
}

const EBML: u32 = 0x1A45_DFA3;
const SEGMENT: u32 = 0x1853_8067;
const INFO: u32 = 0x1549_A966;
const TRACKS: u32 = 0x1654_AE6B;
const CLUSTER: u32 = 0x1F43_B675;

const RATE: f64 = 8000.0;

/// A track of 16-bit PCM in one channel, with additional elements in its entry.
fn track(index: u64, others: &[Vec<u8>]) -> Vec<u8> {
    coded(index, "A_PCM/INT/LIT", others)
}

fn coded(index: u64, codec: &str, others: &[Vec<u8>]) -> Vec<u8> {
    let sound = [element(0xB5, &RATE.to_be_bytes()), number(0x9F, 1), number(0x6264, 16)].concat();
    let parts = [number(0xD7, index), number(0x83, 2), element(0x86, codec.as_bytes()), element(0xE1, &sound)];
    element(0xAE, &[parts.concat(), others.concat()].concat())
}

/// An encoding of frames: its order, algorithm and settings.
fn encoded(order: u64, algorithm: u64, settings: &[u8]) -> Vec<u8> {
    let compression = element(0x5034, &[number(0x4254, algorithm), element(0x4255, settings)].concat());
    element(0x6240, &[number(0x5031, order), number(0x5032, 1), compression].concat())
}

fn encodings(encodings: &[Vec<u8>]) -> Vec<u8> {
    element(0x6D80, &encodings.concat())
}

fn head(tracks: &[Vec<u8>]) -> Vec<u8> {
    [element(EBML, &element(0x4282, b"matroska")), endless(SEGMENT, &[]), element(TRACKS, &tracks.concat())].concat()
}

/// Frames of 100 samples that never repeat.
fn frames() -> Vec<Vec<u8>> {
    (0..250).map(|frame| (0..100).flat_map(|i| (frame * 100 + i - 12_500i16).to_le_bytes()).collect()).collect()
}

fn simple(track: u8, frame: &[u8]) -> Vec<u8> {
    element(0xA3, &[&[0x80 | track, 0, 0, 0x80], frame].concat())
}

/// Blocks in clusters of ten.
fn clusters(blocks: &[Vec<u8>], wrap: fn(u32, &[u8]) -> Vec<u8>) -> Vec<u8> {
    blocks.chunks(10).flat_map(|blocks| wrap(CLUSTER, &[number(0xE7, 0), blocks.concat()].concat())).collect()
}

fn file(others: &[Vec<u8>], write: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let blocks: Vec<Vec<u8>> = frames().iter().map(|frame| write(frame)).collect();
    [head(&[track(1, others)]), clusters(&blocks, element)].concat()
}

fn expected() -> Vec<f32> {
    (-12_500..12_500i16).map(|sample| f32::from(sample) / 32_768.0).collect()
}

#[test]
fn the_same_frames_give_the_same_samples_however_they_are_written() {
    let plain = |frame: &[u8]| simple(1, frame);
    let blocks: Vec<Vec<u8>> = frames().iter().map(|frame| plain(frame)).collect();
    let laced = |flags: u8, lengths: &dyn Fn(&[Vec<u8>]) -> Vec<u8>| {
        let blocks: Vec<Vec<u8>> = frames()
            .chunks(5)
            .map(|frames| element(0xA3, &[&[0x81, 0, 0, flags, 4][..], &lengths(frames), &frames.concat()].concat()))
            .collect();
        [head(&[track(1, &[])]), clusters(&blocks, element)].concat()
    };
    let zlib = |frame: &[u8]| simple(1, &compress_to_vec_zlib(frame, 6));
    let long = [&[0; 65_000][..], b"junk"].concat();
    let files = [
        ("known lengths", file(&[], plain)),
        ("clusters of unknown length", [head(&[track(1, &[])]), clusters(&blocks, endless)].concat()),
        (
            "groups",
            file(&[], |frame| {
                let block = element(0xA1, &[&[0x81, 0, 0, 0], frame].concat());
                element(0xA0, &[block, number(0x9B, 12)].concat())
            }),
        ),
        ("a length of segment and duration", {
            let info = element(INFO, &element(0x4489, &3125f32.to_be_bytes()));
            let tracks = element(TRACKS, &track(1, &[]));
            let body = [info, tracks, clusters(&blocks, element)].concat();
            [element(EBML, &[]), element(SEGMENT, &body)].concat()
        }),
        ("tracks behind the clusters", {
            let body = [clusters(&blocks, element), element(TRACKS, &track(1, &[]))].concat();
            [element(EBML, &[]), element(SEGMENT, &body)].concat()
        }),
        ("Xiph's lacing", laced(2, &|frames| frames[1..].iter().map(|frame| frame.len() as u8).collect())),
        ("lacing of equal frames", laced(4, &|_| Vec::new())),
        ("EBML's lacing", laced(6, &|_| vec![0x40, 200, 0xBF, 0xBF, 0xBF])),
        ("zlib", file(&[encodings(&[encoded(0, 0, &[])])], zlib)),
        ("zlib that is not named", file(&[encodings(&[element(0x6240, &[])])], zlib)),
        ("stripped headers", {
            // The frames share no first byte that could be stripped, so the prefix is empty.
            let others = [encodings(&[encoded(0, 3, &[])])];
            file(&others, plain)
        }),
        ("stripped, then zlib", {
            let others = [encodings(&[encoded(1, 0, &[]), encoded(0, 3, &[])])];
            file(&others, zlib)
        }),
        ("other elements between", {
            let blocks: Vec<Vec<u8>> =
                blocks.iter().map(|block| [element(0xEC, &[7; 50]), block.clone()].concat()).collect();
            [head(&[track(1, &[])]), element(0x1254_C367, &[1; 3000]), clusters(&blocks, element)].concat()
        }),
        ("something else behind", [file(&[], plain), b"TAG".to_vec(), vec![0; 125]].concat()),
        ("noise between clusters", {
            let (first, second) = blocks.split_at(120);
            [head(&[track(1, &[])]), clusters(first, element), long, clusters(second, endless)].concat()
        }),
    ];
    for (what, file) in files {
        assert!(whole(file, 3.125) == expected(), "{what}");
    }
}

#[test]
fn bytes_that_all_frames_begin_with_are_put_back() {
    let others = [encodings(&[encoded(0, 3, &[7, 0])])];
    let file = file(&others, |frame| simple(1, &frame[2..]));
    let samples = whole(file, 3.125);
    let expected: Vec<f32> =
        expected().chunks(100).flat_map(|frame| [&[7.0 / 32_768.0], &frame[1..]].concat()).collect();
    assert!(samples == expected);
}

#[test]
fn the_default_track_is_played_and_then_the_first_that_can_be() {
    let not_default = || vec![number(0x88, 0)];
    let disabled = || vec![number(0xB9, 0)];
    let silence = |index: u8| simple(index, &[0; 200]);
    let blocks: Vec<Vec<u8>> =
        frames().iter().map(|frame| [silence(1), simple(2, frame), silence(3)].concat()).collect();
    for (what, tracks) in [
        ("a flag that says no", [track(1, &not_default()), track(2, &[]), track(3, &[])]),
        ("a flag that says yes", [track(1, &not_default()), track(2, &[number(0x88, 1)]), track(3, &not_default())]),
        ("disabled", [track(1, &disabled()), track(2, &[]), track(3, &[])]),
        ("no decoder", [coded(1, "A_AC3", &[]), track(2, &[]), track(3, &[])]),
    ] {
        let file = [head(&tracks), clusters(&blocks, element)].concat();
        assert!(whole(file, 3.125) == expected(), "{what}");
    }
}

#[test]
fn what_is_missing_is_noticed() {
    let whole = file(&[], |frame| simple(1, frame));
    cut(whole[..whole.len() / 2].to_vec(), 1.4..1.6);
    let info = element(INFO, &element(0x4489, &3125f32.to_be_bytes()));
    let blocks: Vec<Vec<u8>> = frames().iter().take(200).map(|frame| simple(1, frame)).collect();
    let tracks = element(TRACKS, &track(1, &[]));
    cut(
        [element(EBML, &[]), endless(SEGMENT, &[info, tracks, clusters(&blocks, endless)].concat())].concat(),
        2.4..2.6,
    );
    // Some frames cannot be decompressed.
    let others = [encodings(&[encoded(0, 0, &[])])];
    cut(
        file(&others, |frame| simple(1, &if frame[0] < 100 { vec![1; 50] } else { compress_to_vec_zlib(frame, 6) })),
        0.5..3.0,
    );
}

#[test]
fn clusters_that_are_missing_are_missed_where_the_headers_tell_of_them() {
    const SEEK_HEAD: u32 = 0x114D_9B74;
    const CUES: u32 = 0x1C53_BB6B;
    let blocks: Vec<Vec<u8>> = frames().iter().map(|frame| simple(1, frame)).collect();
    let (all, some) = (clusters(&blocks, element), clusters(&blocks[..200], element));
    let cues = element(CUES, &[0; 500]);
    // Two tracks, so that the declared length does not apply to the selected one.
    let tracks = element(TRACKS, &[track(1, &[]), track(2, &[])].concat());
    let seek_head = |cues: usize| {
        let seek = [element(0x53AB, &CUES.to_be_bytes()), number(0x53AC, cues as u64)].concat();
        element(SEEK_HEAD, &element(0x4DBB, &seek))
    };
    let listed = seek_head(seek_head(0).len() + tracks.len() + all.len());
    let file = |parts: &[&[u8]]| [element(EBML, &[]), element(SEGMENT, &parts.concat())].concat();
    let missing = all.len() - some.len() + cues.len();
    for parts in [[&listed[..], &tracks, &all, &cues], [&[], &tracks, &all, &cues]] {
        let file = file(&parts);
        assert!(whole(file.clone(), 3.125) == expected());
        cut(file[..file.len() - missing].to_vec(), 2.4..2.6);
    }
    let file = file(&[&listed, &tracks, &all, &cues]);
    // The missing part contains no music.
    for missing in [cues.len(), cues.len() / 2] {
        assert!(whole(file[..file.len() - missing].to_vec(), 3.125) == expected(), "{missing}");
    }
    // Opus has its own clock rate, but its length is as declared.
    let webm = super::fixture("band_opus.webm");
    let places: Vec<_> = webm.windows(4).enumerate().filter(|(_, id)| *id == b"\x1F\x43\xB6\x75").collect();
    let middle = places[places.len() / 2].0;
    assert!(decoded(webm[..middle].to_vec()).unwrap().is_truncated);
}

#[test]
fn discarded_samples_are_left_out() {
    let last = frames().len() - 1;
    let blocks: Vec<Vec<u8>> = frames()
        .iter()
        .enumerate()
        .map(|(index, frame)| {
            let nanoseconds: i64 = if index == 0 {
                -2_500_000
            } else if index == last {
                5_000_000
            } else {
                0
            };
            let block = element(0xA1, &[&[0x81, 0, 0, 0], &frame[..]].concat());
            element(0xA0, &[block, element(0x75A2, &nanoseconds.to_be_bytes())].concat())
        })
        .collect();
    let samples = whole([head(&[track(1, &[])]), clusters(&blocks, element)].concat(), 3.125);
    assert!(samples == expected()[20..25_000 - 40]);
}

#[test]
fn what_cannot_be_decoded_is_named() {
    let encrypted = element(0x6D80, &element(0x6240, &number(0x5033, 1)));
    for (track, words) in [
        (coded(1, "A_AC3", &[]), "AC-3 (Dolby Digital)"),
        (coded(1, "A_WAVPACK4", &[]), "WavPack"),
        (coded(1, "A_NEW", &[]), "A_NEW in Matroska"),
        (track(1, &[encodings(&[encoded(0, 2, &[])])]), "LZO"),
        (track(1, &[encrypted]), "protected"),
    ] {
        let error = refused([head(&[track]), clusters(&[simple(1, &[0; 200])], element)].concat());
        assert!(error.contains(words), "{words}: {error}");
    }
    assert!(decoded(head(&[])).is_err());
}
