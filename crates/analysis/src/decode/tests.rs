//! Tests for wrong, incomplete or missing information in files. Correct decoding in general is tested by the vectors in
//! `tests/golden.rs`.

mod aac;
mod matroska;
mod mp4;
mod streams;

use std::{
    fs,
    io::{Cursor, Read, Seek, SeekFrom},
};

use super::*;
use crate::dsp::{MAX_CHANNELS, Speaker, default_layout};

mod containers;

const LIMITS: Limits = Limits { max_bytes: 100_000_000, max_seconds: 3600 };

/// The non-silent sample in a channel of a test signal.
const PULSE: f32 = 0.5;

#[derive(Debug)]
struct Decoded {
    samples: Vec<f32>,
    seconds: f64,
    is_truncated: bool,
}

fn decoded(bytes: Vec<u8>) -> Result<Decoded, AudioError> {
    decoded_from(Box::new(Cursor::new(bytes)))
}

fn decoded_from(source: Box<dyn MediaSource>) -> Result<Decoded, AudioError> {
    let mut decoder = Decoder::open(source, None, &LIMITS)?;
    let mut samples = Vec::new();
    while decoder.next(&mut samples)? {}
    Ok(Decoded { samples, seconds: decoder.seconds(), is_truncated: decoder.is_truncated() })
}

/// Decodes a file that must be complete and last `seconds`.
fn whole(bytes: Vec<u8>, seconds: f64) -> Vec<f32> {
    let decoded = decoded(bytes).unwrap();
    assert!((decoded.seconds - seconds).abs() < 0.06, "{} s instead of {seconds}", decoded.seconds);
    assert!(!decoded.is_truncated);
    decoded.samples
}

/// Decodes a file that must be reported as truncated and last `seconds`.
fn cut(bytes: Vec<u8>, seconds: std::ops::Range<f64>) {
    let decoded = decoded(bytes).unwrap();
    assert!(decoded.is_truncated);
    assert!(seconds.contains(&decoded.seconds), "{} s instead of {seconds:?}", decoded.seconds);
}

fn refused(bytes: Vec<u8>) -> String {
    let error = decoded(bytes).unwrap_err();
    assert!(error.is_permanent(), "{error}");
    error.to_string()
}

fn fixture(file: &str) -> Vec<u8> {
    fs::read(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/music").join(file)).unwrap()
}

/// A WAV of 32-bit floating-point samples at 16 kHz; `mask` names its speakers.
fn wav(channels: u16, mask: Option<u32>, interleaved: &[f32]) -> Vec<u8> {
    // KSDATAFORMAT_SUBTYPE_IEEE_FLOAT
    const FLOAT: [u8; 16] = [3, 0, 0, 0, 0, 0, 16, 0, 128, 0, 0, 170, 0, 56, 155, 113];
    let tag = if mask.is_some() { 0xFFFEu16 } else { 3 };
    let mut format: Vec<u8> = [tag, channels].iter().flat_map(|x| x.to_le_bytes()).collect();
    let frame = 4 * channels;
    format.extend([16_000, 16_000 * u32::from(frame)].iter().flat_map(|x| x.to_le_bytes()));
    format.extend([frame, 32].iter().flat_map(|x| x.to_le_bytes()));
    if let Some(mask) = mask {
        format.extend([22u16, 32].iter().flat_map(|x| x.to_le_bytes()));
        format.extend(mask.to_le_bytes());
        format.extend(FLOAT);
    }
    let data: Vec<u8> = interleaved.iter().flat_map(|x| x.to_le_bytes()).collect();
    let chunk = |name: &[u8; 4], body: &[u8]| [name, &(body.len() as u32).to_le_bytes()[..], body].concat();
    let body = [b"WAVE".to_vec(), chunk(b"fmt ", &format), chunk(b"data", &data)].concat();
    chunk(b"RIFF", &body)
}

/// A WAV with one pulse in each channel, one channel after the other.
fn pulses(channels: u16, mask: Option<u32>) -> Vec<u8> {
    let count = usize::from(channels);
    let pulses: Vec<f32> = (0..count * count).map(|i| if i / count == i % count { PULSE } else { 0.0 }).collect();
    wav(channels, mask, &pulses)
}

/// The gain of each channel in [`pulses`].
fn gains(pulses: Vec<u8>) -> Vec<f32> {
    decoded(pulses).unwrap().samples.into_iter().map(|sample| sample / PULSE).collect()
}

/// The gains that [`Downmix`] applies to speakers, one after the other.
fn expected(speakers: &[Speaker]) -> Vec<f32> {
    let mut out = Vec::new();
    for i in 0..speakers.len() {
        let frame: Vec<f32> = (0..speakers.len()).map(|j| f32::from(u8::from(i == j))).collect();
        Downmix::new(speakers).process(&frame, &mut out);
    }
    out
}

#[test]
fn channels_without_names_are_those_of_the_usual_layout() {
    for channels in 1..=MAX_CHANNELS {
        let usual = expected(&default_layout(channels));
        assert_eq!(gains(pulses(channels as u16, None)), usual, "{channels} channels, no names at all");
        assert_eq!(gains(pulses(channels as u16, Some(0))), usual, "{channels} channels, an empty mask");
    }
}

#[test]
fn named_channels_are_taken_at_their_word() {
    use Speaker::{
        Centre as C, Left as L, LowFrequency as Lfe, Right as R, SurroundCentre as Sc, SurroundLeft as Sl,
        SurroundRight as Sr,
    };
    for (mask, speakers) in [
        (0x7, vec![L, R, C]),
        (0xF, vec![L, R, C, Lfe]),
        (0x33, vec![L, R, Sl, Sr]),
        (0x37, vec![L, R, C, Sl, Sr]),
        (0x3F, vec![L, R, C, Lfe, Sl, Sr]),
        (0x60F, vec![L, R, C, Lfe, Sl, Sr]),
        (0x13F, vec![L, R, C, Lfe, Sl, Sr, Sc]),
        (0x63F, vec![L, R, C, Lfe, Sl, Sr, Sl, Sr]),
        (0xFF, vec![L, R, C, Lfe, Sl, Sr, L, R]),
    ] {
        assert_eq!(gains(pulses(speakers.len() as u16, Some(mask))), expected(&speakers), "{mask:#x}");
    }
}

#[test]
fn the_channels_names_are_found_behind_what_a_broadcaster_writes() {
    use Speaker::{Centre as C, Left as L, Right as R, SurroundCentre as Sc};
    for length in [700, 701] {
        let plain = pulses(4, Some(0x107));
        // Text that repeats the name of the chunk to be found, plus a padding byte if its length is odd.
        let mut text = b"fmt ".repeat(176);
        text.truncate(length + length % 2);
        let mut wav =
            [&plain[..12], &b"bext"[..], &(length as u32).to_le_bytes()[..], &text[..], &plain[12..]].concat();
        let riff = wav.len() as u32 - 8;
        wav[4..8].copy_from_slice(&riff.to_le_bytes());
        assert_eq!(gains(wav), expected(&[L, R, C, Sc]), "{length} bytes");
    }
}

#[test]
fn more_channels_than_loudspeakers_are_known_for_are_refused() {
    for channels in [9, 16, 26] {
        let error = refused(wav(channels, None, &vec![0.0; 26 * 100]));
        assert_eq!(error, format!("{channels} channels; at most 8 are supported"));
    }
    // AIFF stores the number in 16 bits, and symphonia trusts it.
    let mut aiff = fixture("band.aiff");
    let common = position(&aiff, b"COMM") + 8;
    aiff[common..common + 2].copy_from_slice(&300u16.to_be_bytes());
    assert_eq!(refused(aiff), "300 channels; at most 8 are supported");
    let mut ambisonics = wav(4, Some(0xF), &[0.0; 400]);
    let kind = position(&ambisonics, &[3, 0, 0, 0, 0, 0, 16, 0]);
    // KSDATAFORMAT_SUBTYPE_AMBISONIC_B_FORMAT_IEEE_FLOAT
    ambisonics[kind..kind + 16].copy_from_slice(&[3, 0, 0, 0, 33, 7, 211, 17, 134, 68, 200, 193, 202, 0, 0, 0]);
    let error = refused(ambisonics);
    assert!(error.contains("cannot be folded"), "{error}");
}

#[test]
fn what_is_no_sound_is_refused_by_name() {
    for (value, words) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf"), (-1e30, "-1e30")] {
        let mut samples = vec![0.25; 16_000];
        samples[4_000] = value;
        let error = refused(wav(1, None, &samples));
        assert_eq!(error, format!("the sample at 0.250 s is {words}; at most 4.2949673e9 is taken for sound"));
    }
    // Unscaled integers are loud, but valid sound.
    whole(wav(1, None, &[32_767.0; 32_000]), 2.0);
}

/// Length in bytes of a layer 3 frame of MPEG 1 at 44.1 kHz (ISO/IEC 11172-3, 2.4.3.1).
fn frame_length(frame: &[u8]) -> usize {
    const KILOBITS: [usize; 15] = [0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320];
    144_000 * KILOBITS[usize::from(frame[2] >> 4)] / 44_100 + usize::from(frame[2] >> 1 & 1)
}

/// The MP3 from its first frame on, and the length of that frame, which is the info frame without music.
fn without_tag(file: &str) -> (Vec<u8>, usize) {
    let bytes = fixture(file);
    let start = 10 + bytes[6..10].iter().fold(0, |size, &byte| size << 7 | usize::from(byte));
    let frames = bytes[start..].to_vec();
    let length = frame_length(&frames);
    (frames, length)
}

#[test]
fn an_mp3_that_does_not_count_its_frames_is_read_to_its_end() {
    for file in ["band.mp3", "band_vbr.mp3"] {
        let (frames, first) = without_tag(file);
        // Without an info frame the padding is unknown and stays: up to three frames.
        let samples = whole(frames[first..].to_vec(), 12.05);
        assert!((529_200..=529_200 + 3 * 1152).contains(&samples.len()), "{file}: {} samples", samples.len());
    }
}

#[test]
fn an_mp3_after_another_in_one_file_is_read_as_well() {
    let bytes = fixture("band.mp3");
    let once = whole(bytes.clone(), 12.0);
    assert_eq!(once.len(), 529_200);
    let twice = whole([bytes.clone(), bytes].concat(), 24.02);
    assert_eq!(twice[..once.len()], once);
}

#[test]
fn an_mp3_that_goes_on_as_mono_goes_on() {
    let (stereo, first) = without_tag("band.mp3");
    // 2 s of silence at 32 kbit/s, mono: empty frames of 104 bytes.
    let mut silent = [0u8; 104];
    silent[..4].copy_from_slice(&[0xFF, 0xFB, 0x10, 0xC0]);
    let samples = whole([stereo[first..].to_vec(), silent.repeat(76)].concat(), 14.02);
    assert!(samples[samples.len() - 44_100..].iter().all(|&sample| sample.abs() < 1e-3));
}

#[test]
fn damage_in_an_mp3_that_looks_like_another_format_is_left_out() {
    let (frames, first) = without_tag("band.mp3");
    let middle = (0..100).fold(first, |at, _| at + frame_length(&frames[at..]));
    // 48 kHz, mono, at 32 kbit/s: 96 bytes each. The first one's side information is impossible; the second is silence.
    let (mut broken, mut silent) = ([0xFFu8; 96], [0u8; 96]);
    for frame in [&mut broken, &mut silent] {
        frame[..4].copy_from_slice(&[0xFF, 0xFB, 0x14, 0xC0]);
    }
    let damaged = [&frames[first..middle], &broken[..], &silent[..], &frames[middle..]].concat();
    assert_eq!(whole(damaged, 12.05), whole(frames[first..].to_vec(), 12.05));
}

#[test]
fn every_file_that_is_cut_is_analysed_as_far_as_it_goes_or_called_incomplete() {
    for file in
        fs::read_dir(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/music")).unwrap()
    {
        let file = file.unwrap().file_name().into_string().unwrap();
        let bytes = fixture(&file);
        let seconds = decoded(bytes.clone()).unwrap().seconds;
        match decoded(bytes[..bytes.len() * 2 / 3].to_vec()) {
            Ok(decoded) => {
                assert!(decoded.is_truncated, "{file}");
                assert!((0.5..0.8).contains(&(decoded.seconds / seconds)), "{file}: {} s", decoded.seconds);
            }
            Err(error) => {
                assert!(file.ends_with(".m4a"), "{file}: {error}");
                assert!(error.to_string().contains("incomplete"), "{file}: {error}");
            }
        }
    }
}

#[test]
fn an_m4a_that_says_first_what_is_in_it_is_analysed_as_far_as_it_goes() {
    for file in ["band.m4a", "band_alac.m4a"] {
        let bytes = moov_first(&fixture(file));
        let plain = decoded(fixture(file)).unwrap();
        assert_eq!(whole(bytes.clone(), plain.seconds), plain.samples, "{file}");
        cut(bytes[..bytes.len() * 2 / 3].to_vec(), 6.0..9.0);
    }
}

#[test]
fn what_cannot_be_decoded_is_missed() {
    let m4a = fixture("band.m4a");
    let music = position(&m4a, b"mdat") + 4..position(&m4a, b"moov") - 4;
    let broken = |share: std::ops::Range<usize>| {
        let mut m4a = m4a.clone();
        m4a[music.start + share.start * music.len() / 100..][..share.len() * music.len() / 100].fill(0);
        m4a
    };
    whole(broken(50..51), 11.9);
    cut(broken(50..70), 9.0..10.5);
    let error = refused(broken(0..100));
    assert!(error.starts_with("nothing in the file can be decoded: "), "{error}");
}

#[test]
fn opus_is_as_loud_as_its_header_says() {
    let plain = fixture("band_opus.webm");
    let mut quieter = plain.clone();
    let gain = position(&plain, b"OpusHead") + 16;
    // −6 dB in Q7.8.
    quieter[gain..gain + 2].copy_from_slice(&(-6i16 * 256).to_le_bytes());
    let (plain, quieter) = (whole(plain, 12.0), whole(quieter, 12.0));
    for (plain, quieter) in plain.iter().zip(quieter) {
        assert!((plain * 0.501_187_2 - quieter).abs() < 1e-6);
    }
}

#[test]
fn ogg_goes_on_with_the_next_track() {
    let (vorbis, opus) = (fixture("band.ogg"), fixture("band.opus"));
    let once = whole(vorbis.clone(), 12.0);
    let twice = whole([vorbis.clone(), vorbis.clone()].concat(), 24.0);
    assert_eq!(twice, [once.clone(), once].concat());
    // The other track has another rate.
    whole([vorbis, opus.clone()].concat(), 24.0);
    whole([opus.clone(), opus].concat(), 24.0);
}

#[test]
fn an_ogg_that_begins_in_the_middle_is_whole() {
    let mut ogg = fixture("band.ogg");
    for page in ogg_pages(&ogg) {
        let page = &mut ogg[page];
        let granule = u64::from_le_bytes(page[6..14].try_into().unwrap());
        if granule > 0 {
            page[6..14].copy_from_slice(&(granule + 44_100 * 60).to_le_bytes());
        }
        seal(page);
    }
    whole(ogg, 12.0);
}

#[test]
fn an_ogg_that_ends_with_a_page_without_a_position_promises_nothing() {
    let mut ogg = fixture("band.ogg");
    let last = ogg_pages(&ogg).pop().unwrap();
    let page = &mut ogg[last];
    page[5] &= !OGG_END;
    seal(page);
    let [serial, sequence] = [14usize, 18].map(|at| u32::from_le_bytes(page[at..at + 4].try_into().unwrap()));
    ogg.extend(ogg_page(OGG_END, -1, serial, sequence + 1, &[]));
    whole(ogg, 12.0);
}

/// Chained Ogg in which each link's first track has no packet, and its second track has one.
fn empty_links(links: u32) -> Vec<u8> {
    let head: &[u8] = b"OpusHead\x01\x01\x00\x00\x80\xbb\x00\x00\x00\x00\x00";
    let tags: &[u8] = b"OpusTags\x00\x00\x00\x00\x00\x00\x00\x00";
    // 20 ms of silence.
    let packet: &[u8] = b"\xf8\xff\xfe";
    let link = |first, second| {
        [
            ogg_page(OGG_START, 0, first, 0, &[head]),
            ogg_page(OGG_START, 0, second, 0, &[head]),
            ogg_page(0, 0, second, 1, &[tags]),
            ogg_page(OGG_END, 960, second, 2, &[packet]),
        ]
        .concat()
    };
    (0..links).flat_map(|i| link(2 * i, 2 * i + 1)).collect()
}

#[test]
fn an_ogg_of_tracks_without_a_sample_is_given_up() {
    whole([empty_links(10), fixture("band.opus")].concat(), 12.0);
    // The first link does not count as a change of tracks.
    cut(empty_links(MAX_BARREN_PACKETS + 1), 0.0..0.1);
}

#[test]
fn a_wav_that_was_written_to_a_pipe_is_whole() {
    let mut wav = fixture("band.wav");
    let data = position(&wav, b"data") + 4;
    for at in [4, data] {
        wav[at..at + 4].fill(0xFF);
    }
    whole(wav, 12.0);
}

#[test]
fn a_file_that_says_that_it_is_too_long_is_not_decoded_up_to_the_limit() {
    let limits = Limits { max_seconds: 5, ..LIMITS };
    let open = |bytes: Vec<u8>| Decoder::open(Box::new(Cursor::new(bytes)), None, &limits).map(drop);
    for file in ["band.flac", "band.mp3", "band.m4a", "band.ogg", "band.wav", "band.aiff"] {
        let error = open(fixture(file)).expect_err(file).to_string();
        assert!(error.starts_with("at least 12 s of audio; the limit is 5 s"), "{file}: {error}");
    }
    // A made-up length does not lead to refusal.
    let mut wav = wav(1, None, &[0.1; 16_000]);
    let data = position(&wav, b"data") + 4;
    for at in [4, data] {
        wav[at..at + 4].copy_from_slice(&0x7FFF_FFFFu32.to_le_bytes());
    }
    let riff = 0x7FFF_FFFFu32 + 36;
    wav[4..8].copy_from_slice(&riff.to_le_bytes());
    assert!(open(wav).is_ok());
}

/// A source that fails.
struct Faulty {
    bytes: Cursor<Vec<u8>>,
    fails_at: u64,
    is_seekable: bool,
    length: Option<u64>,
}

impl Read for Faulty {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.bytes.position() >= self.fails_at {
            return Err(IoError::other("the cable is out"));
        }
        self.bytes.read(buffer)
    }
}

impl Seek for Faulty {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        self.bytes.seek(to)
    }
}

impl MediaSource for Faulty {
    fn is_seekable(&self) -> bool {
        self.is_seekable
    }

    fn byte_len(&self) -> Option<u64> {
        self.length
    }
}

#[test]
fn a_file_that_cannot_be_read_is_not_at_fault() {
    for file in ["band.mp3", "band.flac", "band.ogg", "band.m4a", "band.wav", "band_opus.webm", "band.aiff"] {
        let bytes = fixture(file);
        for fails_at in [0, 600, bytes.len() as u64 / 2] {
            let (length, bytes) = (Some(bytes.len() as u64), Cursor::new(bytes.clone()));
            let error = decoded_from(Box::new(Faulty { bytes, fails_at, is_seekable: true, length })).expect_err(file);
            assert_eq!(error.to_string(), "could not be read: the cable is out", "{file} from {fails_at} on");
            assert!(!error.is_permanent());
        }
    }
}

#[test]
fn a_length_of_nothing_is_not_believed() {
    let faulty = |is_seekable| {
        let bytes = Cursor::new(fixture("band.mp3"));
        decoded_from(Box::new(Faulty { bytes, fails_at: u64::MAX, is_seekable, length: Some(0) }))
    };
    assert!((faulty(true).unwrap().seconds - 12.0).abs() < 0.1);
    let error = faulty(false).unwrap_err().to_string();
    assert_eq!(error, "could not be read: it is a folder, a pipe or a device, not a file");
    assert_eq!(refused(Vec::new()), "the file is empty");
}

fn position(bytes: &[u8], what: &[u8]) -> usize {
    bytes.windows(what.len()).position(|window| window == what).unwrap()
}

/// An MP4 with its box `moov` before the music, as for progressive playback.
fn moov_first(bytes: &[u8]) -> Vec<u8> {
    let (data, moov) = (position(bytes, b"mdat") - 4, position(bytes, b"moov") - 4);
    let mut header = bytes[moov..].to_vec();
    // Chunk offsets are counted from the start of the file (ISO/IEC 14496-12, 8.7.5).
    let offsets = position(&header, b"stco") + 8;
    let count = u32::from_be_bytes(header[offsets..offsets + 4].try_into().unwrap()) as usize;
    let by = header.len() as u32;
    for offset in header[offsets + 4..][..4 * count].chunks_exact_mut(4) {
        let moved = u32::from_be_bytes(offset.try_into().unwrap()) + by;
        offset.copy_from_slice(&moved.to_be_bytes());
    }
    [&bytes[..data], &header, &bytes[data..moov]].concat()
}

/// Flags of a track's first and last page (RFC 3533, section 6).
const OGG_START: u8 = 2;
const OGG_END: u8 = 4;

/// Position of each page in an Ogg.
fn ogg_pages(ogg: &[u8]) -> Vec<std::ops::Range<usize>> {
    let mut pages = Vec::new();
    let mut page = 0;
    while page < ogg.len() {
        let segments = usize::from(ogg[page + 26]);
        let end = page + 27 + segments + ogg[page + 27..][..segments].iter().map(|&x| usize::from(x)).sum::<usize>();
        pages.push(page..end);
        page = end;
    }
    pages
}

/// A page of packets shorter than 255 bytes.
fn ogg_page(flags: u8, granule: i64, serial: u32, sequence: u32, packets: &[&[u8]]) -> Vec<u8> {
    let mut page = [b"OggS\x00".as_slice(), &[flags]].concat();
    page.extend(granule.to_le_bytes());
    page.extend([serial, sequence, 0].iter().flat_map(|x| x.to_le_bytes()));
    page.push(packets.len() as u8);
    page.extend(packets.iter().map(|packet| packet.len() as u8));
    page.extend(packets.concat());
    seal(&mut page);
    page
}

/// Corrects a page's checksum.
fn seal(page: &mut [u8]) {
    page[22..26].fill(0);
    let checksum = ogg_checksum(page);
    page[22..26].copy_from_slice(&checksum.to_le_bytes());
}

/// CRC-32 with the polynomial 0x04C11DB7, neither reflected nor inverted (RFC 3533, section 6).
fn ogg_checksum(page: &[u8]) -> u32 {
    page.iter().fold(0, |checksum, &byte| {
        (0..8).fold(checksum ^ u32::from(byte) << 24, |x, _| if x >> 31 == 1 { x << 1 ^ 0x04C1_1DB7 } else { x << 1 })
    })
}
