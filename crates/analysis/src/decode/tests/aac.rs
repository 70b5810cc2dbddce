//! AAC in ADTS and LATM, with packets from an encoder.

use std::{fs, path::Path};

use rusty_aac::{AacEncoder, AacEncoderConfig};

use super::{cut, decoded, expected, position, whole};
use crate::dsp::Speaker::{Centre, Left, LowFrequency, Right, SurroundLeft, SurroundRight};

const RATE: u32 = 48_000;

/// Index of the rate in the standard's table.
const RATE_INDEX: u8 = 3;

/// The packets of two seconds with a tone in one channel.
fn packets(channels: u16, channel: usize) -> Vec<Vec<u8>> {
    let samples = (0..2 * RATE).flat_map(|i| {
        // Low enough for the low-frequency channel.
        let sample = 0.5 * (i as f32 * 60.0 * std::f32::consts::TAU / RATE as f32).sin();
        (0..usize::from(channels)).map(move |other| if other == channel { sample } else { 0.0 })
    });
    let mut encoder = AacEncoder::new(AacEncoderConfig { bitrate_bps: 256_000, ..AacEncoderConfig::default() });
    encoder.push_pcm(&samples.collect::<Vec<_>>(), channels, RATE).unwrap();
    encoder.finish();
    std::iter::from_fn(|| encoder.next_packet().ok()).map(|packet| packet.data.to_vec()).collect()
}

/// ADTS frames of `per_frame` packets each, with or without checksums (ISO/IEC 14496-3, 1.A.2.2).
fn adts(packets: &[Vec<u8>], channels: u16, per_frame: usize, has_crc: bool) -> Vec<u8> {
    const CRC: [u8; 2] = [0xC5, 0xC5];
    let channels = channels as u8;
    let mut file = Vec::new();
    for packets in packets.chunks(per_frame) {
        let mut body = Vec::new();
        let mut places: Vec<u8> = Vec::new();
        for (number, packet) in packets.iter().enumerate() {
            if number > 0 {
                places.extend((body.len() as u16).to_be_bytes());
            }
            body.extend(packet);
            if has_crc && packets.len() > 1 {
                body.extend(CRC);
            }
        }
        let protection = if has_crc { [places, CRC.to_vec()].concat() } else { Vec::new() };
        let length = 7 + protection.len() + body.len();
        file.extend([0xFF, 0xF0 | u8::from(!has_crc), 1 << 6 | RATE_INDEX << 2 | channels >> 2]);
        file.extend([channels << 6 | (length >> 11) as u8, (length >> 3) as u8, (length as u8) << 5 | 0x1F]);
        file.push(0xFC | (packets.len() - 1) as u8);
        file.extend([protection, body].concat());
    }
    file
}

/// Writes bits, highest first.
#[derive(Default)]
pub(super) struct BitWriter(Vec<bool>);

impl BitWriter {
    pub(super) fn put(&mut self, count: u32, value: u32) {
        self.0.extend((0..count).rev().map(|bit| value >> bit & 1 == 1));
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let byte = |bits: &[bool]| bits.iter().enumerate().fold(0, |byte, (at, &bit)| byte | u8::from(bit) << (7 - at));
        self.0.chunks(8).map(byte).collect()
    }
}

/// LATM in LOAS with `per_frame` packets per frame; every third frame describes the stream (ISO/IEC 14496-3, 1.7.3).
fn latm(packets: &[Vec<u8>], channels: u16, per_frame: usize, version: u32) -> Vec<u8> {
    let mut file = Vec::new();
    for (number, packets) in packets.chunks(per_frame).enumerate() {
        // The last frame has fewer packets.
        let is_described = number % 3 == 0 || packets.len() < per_frame;
        let mut bits = BitWriter::default();
        bits.put(1, u32::from(!is_described));
        if is_described {
            bits.put(1, version);
            if version == 1 {
                bits.put(1 + 2 + 8, 0xFF);
            }
            bits.put(1 + 6 + 4 + 3, ((1 << 6) | (packets.len() as u32 - 1)) << 7);
            if version == 1 {
                bits.put(2 + 8, 16 + 5);
            }
            bits.put(16, 2 << 11 | u32::from(RATE_INDEX) << 7 | u32::from(channels) << 3);
            if version == 1 {
                bits.put(5, 0);
            }
            bits.put(3 + 8, 0xFF);
            // Other data after the packets, and a checksum.
            bits.put(1, 1);
            bits.put(if version == 1 { 10 } else { 9 }, 16);
            bits.put(1 + 8, 0x1AA);
        }
        for packet in packets {
            (0..packet.len() / 255).for_each(|_| bits.put(8, 255));
            bits.put(8, packet.len() as u32 % 255);
            packet.iter().for_each(|&byte| bits.put(8, byte.into()));
        }
        bits.put(16, 0x5555);
        let body = bits.bytes();
        file.extend([0x56, 0xE0 | (body.len() >> 8) as u8, body.len() as u8]);
        file.extend(body);
    }
    file
}

#[test]
fn latm_holds_the_same_packets_as_adts() {
    for channels in [1, 2, 6] {
        let packets = packets(channels, 0);
        let plain = whole(adts(&packets, channels, 1, false), 2.05);
        let file = |per_frame, version| latm(&packets, channels, per_frame, version);
        for (what, file) in [
            ("one packet a frame", file(1, 0)),
            ("its parameters' length is said", file(1, 1)),
            ("four packets a frame", file(4, 0)),
            ("both", file(3, 1)),
            ("something else before", [vec![0x56; 100_000], file(1, 0)].concat()),
        ] {
            let decoded = decoded(file).unwrap_or_else(|error| panic!("{what}, {channels} channels: {error}"));
            assert!(decoded.samples == plain && !decoded.is_truncated, "{what}, {channels} channels");
        }
    }
}

#[test]
fn the_same_packets_give_the_same_samples_however_they_are_framed() {
    for channels in [1, 2, 6] {
        let packets = packets(channels, 0);
        let file = |per_frame, has_crc| adts(&packets, channels, per_frame, has_crc);
        let plain = file(1, false);
        let samples = whole(plain.clone(), 2.05);
        let id3v2 = |bytes: usize| {
            let size = [21, 14, 7, 0].map(|shift| (bytes >> shift) as u8 & 0x7F);
            [b"ID3\x04\0\0".as_slice(), &size, &vec![0xFF; bytes]].concat()
        };
        let id3v1 = [b"TAG".as_slice(), &[b'x'; 125]].concat();
        for (what, file) in [
            ("checksums", file(1, true)),
            ("two packets a frame", file(2, false)),
            ("four packets a frame", file(4, false)),
            ("four packets a frame, with checksums", file(4, true)),
            ("a small tag", [id3v2(100), plain.clone()].concat()),
            ("a huge tag", [id3v2(3_000_000), plain.clone()].concat()),
            ("several tags", [id3v2(100), id3v2(70_000), plain.clone()].concat()),
            ("zeros before", [vec![0; 1_200_000], plain.clone()].concat()),
            ("something else before", [vec![0x41; 300_000], plain.clone()].concat()),
            ("a tag behind", [plain.clone(), id3v1].concat()),
        ] {
            let decoded = decoded(file).unwrap_or_else(|error| panic!("{what}, {channels} channels: {error}"));
            assert!(decoded.samples == samples && !decoded.is_truncated, "{what}, {channels} channels");
        }
        cut(plain[..plain.len() / 2 + 1].to_vec(), 0.8..1.2);
    }
}

#[test]
fn what_is_missing_between_frames_is_missed_and_what_they_go_on_as_is_decoded() {
    let stereo = packets(2, 0);
    let half = |packets: &[Vec<u8>], channels| adts(packets, channels, 1, false);
    let middle = stereo.len() / 2;
    let hole = vec![0x55; 60_000];
    cut([half(&stereo[..middle], 2), hole, half(&stereo[middle..], 2)].concat(), 1.9..2.1);
    whole([half(&stereo, 2), half(&packets(1, 0), 1)].concat(), 4.1);
}

#[test]
fn latm_is_read_from_anywhere_in_a_stream() {
    let stereo = packets(2, 0);
    let file = latm(&stereo, 2, 1, 0);
    let length = |at: usize| 3 + (usize::from(file[at + 1] & 0x1F) << 8 | usize::from(file[at + 2]));
    // The fourth frame is the next one that describes the stream.
    for start in [5, length(0), length(0) + 1] {
        let decoded = decoded(file[start..].to_vec()).unwrap();
        assert!((decoded.seconds - (stereo.len() - 3) as f64 * 1024.0 / f64::from(RATE)).abs() < 1e-6);
        assert!(!decoded.is_truncated);
    }
    cut([&file[..file.len() / 2], &[0x55; 30_000], &file[file.len() / 2..]].concat(), 1.9..2.1);
    cut(file[..file.len() / 2 + 1].to_vec(), 0.8..1.2);
    whole([file, latm(&packets(1, 0), 1, 1, 0)].concat(), 4.1);
}

#[test]
fn every_channel_is_folded_by_where_it_stands() {
    for (channels, speakers) in [
        (3, vec![Left, Right, Centre]),
        (5, vec![Left, Right, Centre, SurroundLeft, SurroundRight]),
        (6, vec![Left, Right, Centre, LowFrequency, SurroundLeft, SurroundRight]),
    ] {
        let mut gains: Vec<f32> = (0..usize::from(channels))
            .map(|channel| {
                let file = adts(&packets(channels, channel), channels, 1, false);
                let samples = whole(file, 2.05);
                let middle = &samples[RATE as usize / 2..RATE as usize * 3 / 2];
                (middle.iter().map(|sample| sample * sample).sum::<f32>() / middle.len() as f32 * 2.0).sqrt() / 0.5
            })
            .collect();
        // The encoder uses its own channel order.
        let mut right: Vec<f32> = expected(&speakers).into_iter().collect();
        gains.sort_by(f32::total_cmp);
        right.sort_by(f32::total_cmp);
        for (gain, right) in gains.iter().zip(&right) {
            // The encoder is lossy; the gains of different positions differ by more than that.
            assert!((gain - right).abs() < 0.04, "{channels} channels: {gains:?} instead of {right}");
        }
    }
}

#[test]
fn frames_are_the_same_in_any_mixture_of_kinds_and_tags() {
    let packets = packets(2, 0);
    let samples = whole(adts(&packets, 2, 1, false), 2.05);
    for seed in 0..60 {
        let rng = &mut fastrand::Rng::with_seed(seed);
        let mut file = vec![0; rng.usize(..50_000)];
        let mut rest = &packets[..];
        while !rest.is_empty() {
            let some;
            (some, rest) = rest.split_at(rng.usize(1..=rest.len().min(20)));
            file.extend(adts(some, 2, rng.usize(1..=4), rng.bool()));
        }
        if rng.bool() {
            file.extend([b"TAG".as_slice(), &[b'x'; 125]].concat());
        }
        let decoded = decoded(file).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert!(decoded.samples == samples && !decoded.is_truncated, "seed {seed}");
    }
}

#[test]
fn he_aac_is_the_same_whether_its_extension_is_named_before_or_behind() {
    // AAC-LC at 22 050 or 24 000 Hz with the extension after its parameters; then the same as HE-AAC and HE-AAC v2, with
    // the extension's rate before them (ISO/IEC 14496-3, 1.6.6).
    const STEREO: ([u8; 5], [[u8; 5]; 2]) =
        ([0x13, 0x90, 0x56, 0xE5, 0xA0], [[0x2B, 0x92, 0x08, 0, 0], [0xEB, 0x92, 0x08, 0, 0]]);
    const MONO: ([u8; 5], [[u8; 5]; 2]) =
        ([0x13, 0x08, 0x56, 0xE5, 0x98], [[0x2B, 0x09, 0x88, 0, 0], [0xEB, 0x09, 0x88, 0, 0]]);
    for (file, (behind, before)) in
        [("aac_he_v1.m4a", STEREO), ("aac_he_more.mp4", STEREO), ("aac_he_more.mka", STEREO), ("aac_he_mono.m4a", MONO)]
    {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/cases").join(file);
        let original = fs::read(path).unwrap();
        let samples = whole(original.clone(), 12.07);
        let at = position(&original, &behind);
        for config in before {
            let mut named = original.clone();
            named[at..at + config.len()].copy_from_slice(&config);
            let decoded = decoded(named).unwrap_or_else(|error| panic!("{file}, {config:x?}: {error}"));
            assert_eq!((decoded.samples.len(), decoded.is_truncated), (samples.len(), false), "{file}, {config:x?}");
            assert!(decoded.samples == samples, "{file}, {config:x?}");
        }
    }
}
