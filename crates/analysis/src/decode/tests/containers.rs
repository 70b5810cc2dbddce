//! Writes the same samples to every container, with the orders and sizes that programs use, and checks that decoding
//! returns them.

use fastrand::Rng;

use super::{cut, decoded, refused, wav, whole};
use crate::dsp::{Speaker, default_layout};

/// Number of files generated of each kind.
const FILES: u64 = 400;

/// Interleaved 16-bit samples and their format.
struct Music {
    channels: u16,
    rate: u32,
    samples: Vec<i16>,
}

impl Music {
    fn random(rng: &mut Rng) -> Self {
        let channels = rng.u16(1..=2);
        let rate = *rng.choice([8_000, 11_025, 22_050, 44_100, 48_000, 64_000].iter()).unwrap();
        let frames = rng.usize(600..6_000);
        let samples = (0..frames * usize::from(channels)).map(|_| rng.i16(..)).collect();
        Self { channels, rate, samples }
    }

    /// The expected output of the decoder.
    fn mono(&self) -> Vec<f32> {
        let frames = self.samples.chunks(self.channels.into());
        let mean = |frame: &[i16]| frame.iter().map(|&sample| f32::from(sample) / 32_768.0).sum::<f32>();
        frames.map(|frame| mean(frame) / f32::from(self.channels)).collect()
    }

    fn frames(&self) -> usize {
        self.samples.len() / usize::from(self.channels)
    }

    /// The samples as PCM in the given coding.
    fn coded(&self, coding: Coding, is_big_endian: bool) -> Vec<u8> {
        self.samples
            .iter()
            .flat_map(|&sample| {
                let float = f64::from(sample) / 32_768.0;
                let mut bytes = match coding {
                    Coding::Integer(2) => sample.to_le_bytes().to_vec(),
                    Coding::Integer(3) => (i32::from(sample) << 8).to_le_bytes()[..3].to_vec(),
                    Coding::Integer(_) => (i32::from(sample) << 16).to_le_bytes().to_vec(),
                    Coding::Float(4) => (float as f32).to_le_bytes().to_vec(),
                    Coding::Float(_) => float.to_le_bytes().to_vec(),
                };
                if is_big_endian {
                    bytes.reverse();
                }
                bytes
            })
            .collect()
    }
}

/// PCM with a number of bytes per sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coding {
    Integer(u16),
    Float(u16),
}
use Coding::{Float, Integer};

const CODINGS: [Coding; 5] = [Integer(2), Integer(3), Integer(4), Float(4), Float(8)];

impl Coding {
    fn bytes(self) -> u16 {
        match self {
            Integer(bytes) | Float(bytes) => bytes,
        }
    }
}

/// Generates files and decodes them; a failure names the seed that reproduces the file.
fn all_come_back(make: fn(&mut Rng, &Music) -> Vec<u8>) {
    for seed in 0..FILES {
        let mut rng = Rng::with_seed(seed);
        let music = Music::random(&mut rng);
        let file = make(&mut rng, &music);
        let decoded = decoded(file).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert!(!decoded.is_truncated, "seed {seed}: called truncated");
        assert!((decoded.seconds - music.frames() as f64 / f64::from(music.rate)).abs() < 1e-9, "seed {seed}");
        assert!(decoded.samples == music.mono(), "seed {seed}: other samples");
    }
}

fn noise(rng: &mut Rng, most: usize) -> Vec<u8> {
    let length = rng.usize(0..most);
    (0..length).map(|_| rng.u8(..)).collect()
}

/// An ID3v2 tag of zeros (ID3v2.4.0, section 3.1), in most cases none.
fn id3v2(rng: &mut Rng) -> Vec<u8> {
    if rng.u8(0..4) > 0 {
        return Vec::new();
    }
    let size = rng.u32(20..3_000);
    let size = [size >> 21, size >> 14 & 0x7F, size >> 7 & 0x7F, size & 0x7F].map(|x| x as u8);
    let length = size.iter().fold(0, |length, &x| length << 7 | usize::from(x));
    [b"ID3\x04\0\0".as_slice(), &size, &vec![0; length]].concat()
}

/// How to write chunks of the RIFF family.
#[derive(Clone, Copy)]
struct Writer {
    is_big_endian: bool,
    is_wave64: bool,
    /// Whether odd chunks get their padding byte.
    pads: bool,
}

impl Writer {
    fn number(self, number: u32) -> [u8; 4] {
        if self.is_big_endian { number.to_be_bytes() } else { number.to_le_bytes() }
    }

    fn half(self, number: u16) -> [u8; 2] {
        if self.is_big_endian { number.to_be_bytes() } else { number.to_le_bytes() }
    }

    fn chunk(self, name: &[u8; 4], length: Option<u32>, body: &[u8]) -> Vec<u8> {
        if self.is_wave64 {
            let length = length.map_or(body.len() as u64 + 24, u64::from);
            let guid = b"\xF3\xAC\xD3\x11\x8C\xD1\x00\xC0\x4F\x8E\xDB\x8A";
            let mut chunk = [name, &guid[..], &length.to_le_bytes(), body].concat();
            chunk.resize(chunk.len().next_multiple_of(8), 0);
            return chunk;
        }
        let length = length.unwrap_or(body.len() as u32);
        let mut chunk = [name, &self.number(length)[..], body].concat();
        if self.pads && !chunk.len().is_multiple_of(2) {
            chunk.push(0);
        }
        chunk
    }

    /// A few chunks unrelated to the sound, some with wrong inner lengths.
    fn others(self, rng: &mut Rng) -> Vec<u8> {
        let count = rng.usize(0..4);
        let mut all = Vec::new();
        for _ in 0..count {
            let name = *rng.choice([b"LIST", b"JUNK", b"bext", b"id3 ", b"PEAK", b"iXML", b"cue "].iter()).unwrap();
            let body = match rng.u8(0..3) {
                0 => vec![0; rng.usize(0..2_000)],
                // The text's length is odd, and no padding byte follows.
                1 => b"INFOINAM\x05\0\0\0song\0".to_vec(),
                _ => [b"INFO".to_vec(), noise(rng, 900)].concat(),
            };
            all.extend(self.chunk(name, None, &body));
        }
        all
    }
}

/// `WAVEFORMATEX` of a random length.
fn wave_format(rng: &mut Rng, writer: Writer, music: &Music, coding: Coding) -> Vec<u8> {
    let tag = if matches!(coding, Float(_)) { 3 } else { 1 };
    let is_extensible = rng.bool();
    let block = music.channels * coding.bytes();
    let mut format = Vec::new();
    format.extend(writer.half(if is_extensible { 0xFFFE } else { tag }));
    format.extend(writer.half(music.channels));
    format.extend(writer.number(music.rate));
    format.extend(writer.number(music.rate * u32::from(block)));
    format.extend(writer.half(block));
    format.extend(writer.half(coding.bytes() * 8));
    if is_extensible {
        format.extend(writer.half(22));
        format.extend(writer.half(*rng.choice([coding.bytes() * 8, 16].iter()).unwrap()));
        format.extend(writer.number(*rng.choice([0, 3, 4, 0x3F].iter()).unwrap()));
        format.extend(writer.half(tag));
        format.extend([0, 0, 0, 0, 0x10, 0, 0x80, 0, 0, 0xAA, 0, 0x38, 0x9B, 0x71]);
        format.extend(vec![0; 2 * rng.usize(0..3)]);
    } else {
        format.extend(vec![0; 2 * rng.usize(0..6)]);
    }
    format
}

fn wave(rng: &mut Rng, music: &Music) -> Vec<u8> {
    let kind = *rng.choice([b"RIFF", b"RIFF", b"RIFF", b"RIFX", b"RF64", b"BW64"].iter()).unwrap();
    let writer = Writer { is_big_endian: kind == b"RIFX", is_wave64: false, pads: rng.bool() };
    let coding = *rng.choice(CODINGS.iter()).unwrap();
    let sound = music.coded(coding, writer.is_big_endian);
    let format = wave_format(rng, writer, music, coding);
    let is_long = kind.ends_with(b"64");
    let is_unfinished = rng.bool();
    let length = match (is_unfinished, is_long) {
        (false, false) => sound.len() as u32,
        (_, true) => u32::MAX,
        (true, false) => {
            *rng.choice([0, u32::MAX, u32::MAX - 36, 0x7FFF_FFFF, 0x7FFF_F000, 0x8000_0000].iter()).unwrap()
        }
    };
    let mut body = b"WAVE".to_vec();
    if is_long {
        let said = if is_unfinished { 0 } else { sound.len() as u64 };
        let sizes = [0, said, music.frames() as u64].map(u64::to_le_bytes).concat();
        body.extend(writer.chunk(b"ds64", None, &[sizes, vec![0; 4]].concat()));
    }
    body.extend(writer.others(rng));
    body.extend(writer.chunk(b"fmt ", None, &format));
    body.extend(writer.others(rng));
    let data = writer.chunk(b"data", Some(length), &sound);
    if is_unfinished {
        body.extend(&data[..8 + sound.len()]);
    } else {
        body.extend(data);
        body.extend(writer.others(rng));
    }
    let riff = match rng.u8(0..4) {
        0 => 0,
        1 => 36,
        2 => body.len() as u32 - rng.u32(0..9),
        _ => u32::MAX,
    };
    [id3v2(rng), kind.to_vec(), writer.number(riff).to_vec(), body].concat()
}

fn wave64(rng: &mut Rng, music: &Music) -> Vec<u8> {
    let writer = Writer { is_big_endian: false, is_wave64: true, pads: true };
    let coding = *rng.choice(CODINGS.iter()).unwrap();
    let sound = music.coded(coding, false);
    let is_unfinished = rng.bool();
    let mut file = b"riff\x2E\x91\xCF\x11\xA5\xD6\x28\xDB\x04\xC1\0\0".to_vec();
    file.extend([0; 8]);
    file.extend(b"wave\xF3\xAC\xD3\x11\x8C\xD1\x00\xC0\x4F\x8E\xDB\x8A");
    file.extend(writer.others(rng));
    let format = wave_format(rng, writer, music, coding);
    file.extend(writer.chunk(b"fmt ", None, &format));
    file.extend(writer.others(rng));
    let data = writer.chunk(b"data", is_unfinished.then_some(24), &sound);
    if is_unfinished {
        file.extend(&data[..24 + sound.len()]);
    } else {
        file.extend(data);
        file.extend(writer.others(rng));
    }
    file
}

fn aiff(rng: &mut Rng, music: &Music) -> Vec<u8> {
    let writer = Writer { is_big_endian: true, is_wave64: false, pads: rng.bool() };
    let (coding, compression, is_big_endian) = *rng
        .choice(
            [
                (Integer(2), None, true),
                (Integer(3), None, true),
                (Integer(4), None, true),
                (Integer(2), Some(b"NONE"), true),
                (Integer(2), Some(b"twos"), true),
                (Integer(2), Some(b"sowt"), false),
                (Integer(3), Some(b"in24"), true),
                (Integer(3), Some(b"42ni"), false),
                (Integer(4), Some(b"in32"), true),
                (Integer(4), Some(b"23ni"), false),
                (Float(4), Some(b"fl32"), true),
                (Float(4), Some(b"FL32"), true),
                (Float(8), Some(b"fl64"), true),
            ]
            .iter(),
        )
        .unwrap();
    let sound = music.coded(coding, is_big_endian);
    let mut common = music.channels.to_be_bytes().to_vec();
    // Programs that do not seek back leave this number unchanged.
    common.extend((*rng.choice([0, music.frames() as u32, 1].iter()).unwrap()).to_be_bytes());
    common.extend((coding.bytes() * 8).to_be_bytes());
    let shift = music.rate.leading_zeros();
    common.extend((16_383 + 31 - shift as u16).to_be_bytes());
    common.extend((u64::from(music.rate) << (32 + shift)).to_be_bytes());
    if let Some(compression) = compression {
        common.extend(compression);
        common.extend([0, 0]);
    }
    let offset = rng.usize(0..20);
    let is_unfinished = rng.bool();
    let head = [(offset as u32).to_be_bytes(), [0; 4]].concat();
    let body = [head, vec![0xAA; offset], sound].concat();
    let length = is_unfinished.then(|| *rng.choice([0, 8 + offset as u32, u32::MAX, 0x7FFF_FFFF].iter()).unwrap());
    let common = writer.chunk(b"COMM", None, &common);
    let data = writer.chunk(b"SSND", length, &body);
    let form = if compression.is_some() { b"AIFC" } else { b"AIFF" };
    let mut all = form.to_vec();
    all.extend(writer.others(rng));
    if is_unfinished {
        all.extend(common);
        all.extend(writer.others(rng));
        all.extend(&data[..8 + body.len()]);
    } else {
        // The two chunks may come in any order.
        let (first, second) = if rng.bool() { (common, data) } else { (data, common) };
        all.extend(first);
        all.extend(writer.others(rng));
        all.extend(second);
        all.extend(writer.others(rng));
    }
    let size = if is_unfinished { 0 } else { all.len() as u32 };
    [id3v2(rng), b"FORM".to_vec(), size.to_be_bytes().to_vec(), all].concat()
}

fn au(rng: &mut Rng, music: &Music) -> Vec<u8> {
    let is_big_endian = rng.bool();
    let coding = *rng.choice(CODINGS.iter()).unwrap();
    let sound = music.coded(coding, is_big_endian);
    let encoding = match coding {
        Integer(bytes) => u32::from(bytes) + 1,
        Float(bytes) => u32::from(bytes) / 4 + 5,
    };
    let comment = rng.usize(0..200);
    let length = if rng.bool() { sound.len() as u32 } else { u32::MAX };
    let numbers = [24 + comment as u32, length, encoding, music.rate, u32::from(music.channels)];
    let numbers = numbers.map(|number| if is_big_endian { number.to_be_bytes() } else { number.to_le_bytes() });
    let magic = if is_big_endian { b".snd" } else { b"dns." };
    [magic.to_vec(), numbers.concat(), vec![b' '; comment], sound].concat()
}

fn caf(rng: &mut Rng, music: &Music) -> Vec<u8> {
    let is_big_endian = rng.bool();
    let coding = *rng.choice(CODINGS.iter()).unwrap();
    let sound = music.coded(coding, is_big_endian);
    let chunk = |name: &[u8; 4], length: i64, body: &[u8]| [&name[..], &length.to_be_bytes(), body].concat();
    let other = |rng: &mut Rng| {
        if rng.bool() {
            return Vec::new();
        }
        let body = noise(rng, 500);
        chunk(rng.choice([b"free", b"info", b"strg", b"uuid"].iter()).unwrap(), body.len() as i64, &body)
    };
    let flags = u32::from(matches!(coding, Float(_))) | if is_big_endian { 0 } else { 2 };
    let block = u32::from(coding.bytes() * music.channels);
    let numbers = [flags, block, 1, u32::from(music.channels), u32::from(coding.bytes() * 8)];
    let numbers: Vec<u8> = numbers.iter().flat_map(|number| number.to_be_bytes()).collect();
    let description = [&f64::from(music.rate).to_be_bytes()[..], b"lpcm", &numbers].concat();
    let is_unfinished = rng.bool();
    let data = [&[0, 0, 0, 0], &sound[..]].concat();
    let length = if is_unfinished { -1 } else { data.len() as i64 };
    let mut file = [&b"caff\0\x01\0\0"[..], &chunk(b"desc", 32, &description)].concat();
    file.extend(other(rng));
    file.extend(chunk(b"data", length, &data));
    if !is_unfinished {
        file.extend(other(rng));
    }
    file
}

/// FLAC of verbatim subframes (RFC 9639).
fn flac(rng: &mut Rng, music: &Music) -> Vec<u8> {
    let block = rng.usize(16..1_500);
    let mut info = [(block as u16).to_be_bytes(); 2].concat();
    info.extend([0; 6]);
    let packed = u64::from(music.rate) << 44 | u64::from(music.channels - 1) << 41 | 15 << 36 | music.frames() as u64;
    info.extend(packed.to_be_bytes());
    info.extend([0; 16]);
    let mut blocks = vec![(0u8, info)];
    for _ in 0..rng.usize(0..4) {
        let body = vec![0; rng.usize(4..600)];
        blocks.push((*rng.choice([1, 2].iter()).unwrap(), body));
    }
    let mut file = [id3v2(rng), b"fLaC".to_vec()].concat();
    let last = blocks.len() - 1;
    for (i, (kind, body)) in blocks.iter().enumerate() {
        file.push(kind | if i == last { 0x80 } else { 0 });
        file.extend(&(body.len() as u32).to_be_bytes()[1..]);
        file.extend(body);
    }
    let channels = usize::from(music.channels);
    for (number, samples) in music.samples.chunks(block * channels).enumerate() {
        // The block length follows the number, in 16 bits; the rate is that of the stream; 16 bits per sample.
        let mut frame = vec![0xFF, 0xF8, 0x70, ((channels as u8 - 1) << 4) | 0x08];
        let number = char::from_u32(number as u32).unwrap();
        frame.extend(number.encode_utf8(&mut [0; 4]).bytes());
        frame.extend((samples.len() as u16 / music.channels - 1).to_be_bytes());
        frame.push(crc(&frame, 0x07, 8) as u8);
        for channel in 0..channels {
            frame.push(0x02);
            frame.extend(samples.iter().skip(channel).step_by(channels).flat_map(|sample| sample.to_be_bytes()));
        }
        let check = crc(&frame, 0x8005, 16);
        frame.extend(check.to_be_bytes());
        file.extend(frame);
    }
    file
}

/// A cyclic redundancy check, the highest bit first, starting from 0.
fn crc(bytes: &[u8], polynomial: u16, bits: u32) -> u16 {
    let top = 1u16 << (bits - 1);
    bytes.iter().fold(0, |crc, &byte| {
        (0..8).fold(crc ^ u16::from(byte) << (bits - 8), |x, _| if x & top != 0 { x << 1 ^ polynomial } else { x << 1 })
    }) & (top | (top - 1))
}

/// An MP4 of plain samples (ISO/IEC 14496-12; the sample entries are QuickTime's).
fn mp4(rng: &mut Rng, music: &Music) -> Vec<u8> {
    fn boxed(name: &[u8; 4], body: &[u8]) -> Vec<u8> {
        [&(body.len() as u32 + 8).to_be_bytes()[..], name, body].concat()
    }
    fn numbers(numbers: &[u32]) -> Vec<u8> {
        numbers.iter().flat_map(|number| number.to_be_bytes()).collect()
    }
    let is_big_endian = rng.bool();
    let sound = music.coded(Integer(2), is_big_endian);
    let frames = music.frames() as u32;
    let block = u32::from(music.channels * 2);
    let mut entry = numbers(&[0, 1, 0, 0]);
    entry.extend([music.channels, 16, 0, 0].iter().flat_map(|number| number.to_be_bytes()));
    entry.extend((music.rate << 16).to_be_bytes());
    let entry = boxed(if is_big_endian { b"twos" } else { b"sowt" }, &entry);
    let chunk_frames = rng.u32(1..2_000);
    let (whole, rest) = (frames / chunk_frames, frames % chunk_frames);
    let chunks = whole + u32::from(rest > 0);
    let mut runs = Vec::new();
    if whole > 0 {
        runs.extend([1, chunk_frames, 1]);
    }
    if rest > 0 {
        runs.extend([whole + 1, rest, 1]);
    }
    let moov = |start: u32| {
        let offsets: Vec<u32> = (0..chunks).map(|i| start + i * chunk_frames * block).collect();
        let table = [
            boxed(b"stsd", &[numbers(&[0, 1]), entry.clone()].concat()),
            boxed(b"stts", &numbers(&[0, 1, frames, 1])),
            boxed(b"stsc", &[numbers(&[0, runs.len() as u32 / 3]), numbers(&runs)].concat()),
            boxed(b"stsz", &numbers(&[0, block, frames])),
            boxed(b"stco", &[numbers(&[0, chunks]), numbers(&offsets)].concat()),
        ];
        let reference = boxed(b"dref", &[numbers(&[0, 1]), boxed(b"url ", &numbers(&[1]))].concat());
        let media = [boxed(b"smhd", &numbers(&[0, 0])), boxed(b"dinf", &reference), boxed(b"stbl", &table.concat())];
        let handler = [&numbers(&[0, 0])[..], b"soun", &numbers(&[0, 0, 0])[..], &[0]].concat();
        let mdia = [
            boxed(b"mdhd", &numbers(&[0, 0, 0, music.rate, frames, 0x55C4_0000])),
            boxed(b"hdlr", &handler),
            boxed(b"minf", &media.concat()),
        ];
        let matrix = [0x1_0000, 0, 0, 0, 0x1_0000, 0, 0, 0, 0x4000_0000];
        let track_head = [numbers(&[7, 0, 0, 1, 0, frames, 0, 0, 0, 0x100_0000]), numbers(&matrix), numbers(&[0, 0])];
        let trak = [boxed(b"tkhd", &track_head.concat()), boxed(b"mdia", &mdia.concat())];
        let movie_head = [
            numbers(&[0, 0, 0, music.rate, frames, 0x1_0000, 0x100_0000, 0, 0]),
            numbers(&matrix),
            numbers(&[0; 6]),
            numbers(&[2]),
        ];
        boxed(b"moov", &[boxed(b"mvhd", &movie_head.concat()), boxed(b"trak", &trak.concat())].concat())
    };
    let free = |rng: &mut Rng| if rng.bool() { boxed(b"free", &noise(rng, 300)) } else { Vec::new() };
    let head = [boxed(b"ftyp", b"M4A \0\0\0\0M4A isom"), free(rng)].concat();
    let between = free(rng);
    let data = boxed(b"mdat", &sound);
    if rng.bool() {
        let start = (head.len() + between.len() + 8) as u32;
        [head, between, data, free(rng), moov(start)].concat()
    } else {
        let start = (head.len() + moov(0).len() + between.len() + 8) as u32;
        [head, moov(start), between, data, free(rng)].concat()
    }
}

/// A Matroska of plain samples (RFC 9559).
fn matroska(rng: &mut Rng, music: &Music) -> Vec<u8> {
    const UNKNOWN: [u8; 8] = [0x01, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF];
    fn element(id: &[u8], body: &[u8]) -> Vec<u8> {
        let mut size = (body.len() as u64).to_be_bytes();
        size[0] = 1;
        [id, &size, body].concat()
    }
    fn number(id: &[u8], number: u64) -> Vec<u8> {
        element(id, &number.to_be_bytes())
    }
    let coding = *rng.choice([Integer(2), Integer(3), Integer(4), Float(4)].iter()).unwrap();
    let is_big_endian = matches!(coding, Integer(_)) && rng.bool();
    let sound = music.coded(coding, is_big_endian);
    let codec: &[u8] = match (coding, is_big_endian) {
        (Float(_), _) => b"A_PCM/FLOAT/IEEE",
        (Integer(_), true) => b"A_PCM/INT/BIG",
        (Integer(_), false) => b"A_PCM/INT/LIT",
    };
    let void = |rng: &mut Rng| if rng.bool() { element(&[0xEC], &noise(rng, 200)) } else { Vec::new() };
    let head = [
        number(&[0x42, 0x86], 1),
        number(&[0x42, 0xF7], 1),
        number(&[0x42, 0xF2], 4),
        number(&[0x42, 0xF3], 8),
        element(&[0x42, 0x82], b"matroska"),
        number(&[0x42, 0x87], 4),
        number(&[0x42, 0x85], 2),
    ];
    let info = element(&[0x15, 0x49, 0xA9, 0x66], &number(&[0x2A, 0xD7, 0xB1], 1_000_000));
    let audio = [
        element(&[0xB5], &f64::from(music.rate).to_be_bytes()),
        number(&[0x9F], music.channels.into()),
        number(&[0x62, 0x64], u64::from(coding.bytes() * 8)),
    ];
    let entry = [
        number(&[0xD7], 1),
        number(&[0x73, 0xC5], 1),
        number(&[0x83], 2),
        element(&[0x86], codec),
        element(&[0xE1], &audio.concat()),
    ];
    let tracks = element(&[0x16, 0x54, 0xAE, 0x6B], &element(&[0xAE], &entry.concat()));
    let tags = if rng.bool() { element(&[0x12, 0x54, 0xC3, 0x67], &[]) } else { Vec::new() };
    let mut body = [void(rng), info, void(rng), tracks, tags.clone(), void(rng)].concat();
    let is_live = rng.bool();
    let block_bytes = rng.usize(1..1_000) * usize::from(coding.bytes() * music.channels);
    let per_cluster = rng.usize(1..6);
    let blocks: Vec<&[u8]> = sound.chunks(block_bytes).collect();
    for (i, blocks) in blocks.chunks(per_cluster).enumerate() {
        let mut cluster = number(&[0xE7], (i * per_cluster) as u64);
        for block in blocks {
            let simple = element(&[0xA3], &[&[0x81, 0, 0, 0x80][..], block].concat());
            if rng.bool() {
                cluster.extend(simple);
            } else {
                cluster.extend(element(&[0xA0], &element(&[0xA1], &[&[0x81, 0, 0, 0][..], block].concat())));
            }
        }
        if is_live {
            body.extend([&[0x1F, 0x43, 0xB6, 0x75][..], &UNKNOWN, &cluster].concat());
        } else {
            body.extend(element(&[0x1F, 0x43, 0xB6, 0x75], &cluster));
        }
    }
    let segment = if is_live {
        [&[0x18, 0x53, 0x80, 0x67][..], &UNKNOWN, &body].concat()
    } else {
        element(&[0x18, 0x53, 0x80, 0x67], &[body, tags].concat())
    };
    [element(&[0x1A, 0x45, 0xDF, 0xA3], &head.concat()), segment].concat()
}

#[test]
fn samples_come_back_from_every_wave() {
    all_come_back(wave);
}

#[test]
fn samples_come_back_from_every_wave64() {
    all_come_back(wave64);
}

#[test]
fn samples_come_back_from_every_aiff() {
    all_come_back(aiff);
}

#[test]
fn samples_come_back_from_every_au() {
    all_come_back(au);
}

#[test]
fn samples_come_back_from_every_caf() {
    all_come_back(caf);
}

#[test]
fn samples_come_back_from_every_flac() {
    all_come_back(flac);
}

#[test]
fn samples_come_back_from_every_mp4() {
    all_come_back(mp4);
}

#[test]
fn samples_come_back_from_every_matroska() {
    all_come_back(matroska);
}

/// A CAF with a channel layout and one pulse in each channel, one channel after the other.
fn caf_pulses(count: usize, layout: &[u8]) -> Vec<u8> {
    let chunk = |name: &[u8; 4], body: &[u8]| [&name[..], &(body.len() as i64).to_be_bytes(), body].concat();
    let pulses: Vec<u8> = (0..count * count)
        .flat_map(|i| if i / count == i % count { super::PULSE } else { 0.0 }.to_be_bytes())
        .collect();
    let numbers = [1, 4 * count as u32, 1, count as u32, 32].map(u32::to_be_bytes).concat();
    let description = [&16_000f64.to_be_bytes()[..], b"lpcm", &numbers].concat();
    let data = [&[0, 0, 0, 0], &pulses[..]].concat();
    [&b"caff\0\x01\0\0"[..], &chunk(b"desc", &description), &chunk(b"chan", layout), &chunk(b"data", &data)].concat()
}

#[test]
fn a_layout_of_core_audio_says_where_the_channels_stand() {
    use Speaker::{Centre as C, Left as L, LowFrequency as Lfe, Right as R, SurroundLeft as Sl, SurroundRight as Sr};
    let tagged = |tag: u32, bitmap: u32| [tag, bitmap, 0].map(u32::to_be_bytes).concat();
    let described = |labels: &[u32]| {
        let descriptions = labels.iter().flat_map(|label| [&label.to_be_bytes()[..], &[0; 16]].concat());
        [tagged(0, 0)[..8].to_vec(), (labels.len() as u32).to_be_bytes().to_vec(), descriptions.collect()].concat()
    };
    for (layout, speakers) in [
        (tagged(121 << 16 | 6, 0), vec![L, R, C, Lfe, Sl, Sr]),
        (tagged(124 << 16 | 6, 0), vec![C, L, R, Sl, Sr, Lfe]),
        (tagged(1 << 16, 0x107), vec![L, R, C, Speaker::SurroundCentre]),
        (described(&[3, 1, 2, 4]), vec![C, L, R, Lfe]),
        // A layout that does not fit or is unknown is ignored.
        (tagged(121 << 16 | 6, 0), default_layout(4)),
        (described(&[3, 1, 2, 999]), default_layout(4)),
    ] {
        assert_eq!(super::gains(caf_pulses(speakers.len(), &layout)), super::expected(&speakers));
    }
}

#[test]
fn what_a_header_promises_and_the_file_lacks_is_missed() {
    let wave = wav(1, None, &[0.1; 64_000]);
    cut(wave[..wave.len() / 2].to_vec(), 1.9..2.1);
    // A missing thousandth is not a loss.
    whole(wave[..wave.len() - 100].to_vec(), 4.0);
}

#[test]
fn an_empty_data_chunk_before_others_is_empty() {
    let plain = wav(1, None, &[0.1; 64_000]);
    let at = super::position(&plain, b"data");
    let wave = [&plain[..at], b"data\0\0\0\0LIST\x04\0\0\0INFO", &plain[at..]].concat();
    assert_eq!(whole(wave, 4.0), vec![0.1; 64_000]);
}

#[test]
fn sound_comes_before_its_format_or_never() {
    let plain = wav(1, None, &[0.1; 64_000]);
    let (format, data) = (super::position(&plain, b"fmt "), super::position(&plain, b"data"));
    let wave = [&plain[..format], &plain[data..], &plain[format..data]].concat();
    assert_eq!(whole(wave, 4.0), vec![0.1; 64_000]);
    let error = refused([&plain[..format], &plain[data..]].concat());
    assert_eq!(error, "the file is incomplete or damaged: WAV: it has no usable 'fmt ' chunk");
}

#[test]
fn a_list_that_is_longer_than_the_file_does_not_hide_the_sound() {
    let plain = wav(1, None, &[0.1; 64_000]);
    let wave = [&plain[..12], b"LIST\xFF\xFF\xFF\x0FINFOINAM\x04\0\0\0song", &plain[12..]].concat();
    assert_eq!(whole(wave, 4.0), vec![0.1; 64_000]);
}

#[test]
fn coded_sound_that_pretends_to_be_pcm_is_refused() {
    let mut wave = wav(2, None, &[0.0; 64_000]);
    // 16-bit integers.
    wave[20..22].copy_from_slice(&[1, 0]);
    wave[32..36].copy_from_slice(&[4, 0, 16, 0]);
    let data = super::position(&wave, b"data") + 8;
    for frame in 0..4 {
        wave[data + 2048 * frame..][..6].copy_from_slice(&[0xFE, 0x7F, 0x01, 0x80, 0x13, 0xFD]);
    }
    assert_eq!(refused(wave), "DTS is not supported; convert it to FLAC");
}

#[test]
fn lossless_files_give_the_samples_of_the_wav_that_they_were_made_from() {
    let samples = whole(super::fixture("band.wav"), 12.0);
    let files = ["band.tta", "band_24bit.tta", "band.wv", "band_float.wv"];
    for file in files {
        let decoded = decoded(super::fixture(&format!("../lossless/{file}"))).unwrap();
        assert!(!decoded.is_truncated, "{file}");
        assert_eq!(decoded.samples.len(), 44_100, "{file}");
        assert!(decoded.samples == samples[..44_100], "{file}");
    }
}

#[test]
fn lossless_files_that_are_cut_are_called_truncated() {
    let third = |file: &str| {
        let bytes = super::fixture(&format!("../lossless/{file}"));
        bytes[..bytes.len() / 3].to_vec()
    };
    cut(third("band.tta"), 0.0..0.45);
    // This is less than a block.
    assert!(refused(third("band.wv")).contains("WavPack"));
}
