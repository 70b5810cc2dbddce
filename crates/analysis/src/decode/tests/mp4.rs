//! MP4 and QuickTime files generated in memory from a PCM ramp and from the fixtures' packets.

use super::{cut, decoded, fixture, position, refused, whole};

type Name = [u8; 4];

fn boxed(name: &Name, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    [&(body.len() as u32 + 8).to_be_bytes()[..], name, &body].concat()
}

fn numbers(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_be_bytes()).collect()
}

/// A sample entry of version 0, followed by boxes.
fn entry(name: &Name, channels: u16, bits: u16, rate: u32, boxes: &[u8]) -> Vec<u8> {
    versioned(name, 0, channels, bits, rate, &[], boxes)
}

/// A sample entry of any version, with the fields that the version adds.
fn versioned(name: &Name, version: u16, channels: u16, bits: u16, rate: u32, fields: &[u8], boxes: &[u8]) -> Vec<u8> {
    let numbers = [version, 0, 0, 0, channels, bits, 0, 0].map(u16::to_be_bytes).concat();
    boxed(name, &[&[0, 0, 0, 0, 0, 0, 0, 1], &numbers, &(rate << 16).to_be_bytes(), fields, boxes])
}

/// How the length of the box `mdat` is written.
#[derive(Clone, Copy, PartialEq)]
enum Length {
    Short,
    Long,
    ToTheEnd,
}

/// A track and the way it is written.
#[derive(Clone)]
struct Movie {
    entries: Vec<Vec<u8>>,
    packets: Vec<Vec<u8>>,
    /// Clock units per packet, and per second.
    duration: u32,
    scale: u32,
    /// Length in milliseconds, and start on the track's clock.
    edits: Vec<(u32, i32)>,
    /// Packets per chunk.
    per_chunk: usize,
    /// Index of the first packet that uses the second entry.
    second_entry_from: Option<usize>,
    is_quicktime: bool,
    has_type: bool,
    index_first: bool,
    chunks_reversed: bool,
    has_long_offsets: bool,
    has_compact_sizes: bool,
    length: Length,
}

impl Movie {
    fn new(entry: Vec<u8>, packets: Vec<Vec<u8>>, duration: u32, scale: u32) -> Self {
        Self {
            entries: vec![entry],
            packets,
            duration,
            scale,
            edits: Vec::new(),
            per_chunk: 7,
            second_entry_from: None,
            is_quicktime: false,
            has_type: true,
            index_first: false,
            chunks_reversed: false,
            has_long_offsets: false,
            has_compact_sizes: false,
            length: Length::Short,
        }
    }

    fn with(&self, change: impl FnOnce(&mut Self)) -> Self {
        let mut movie = self.clone();
        change(&mut movie);
        movie
    }

    fn file_type(&self) -> Vec<u8> {
        if self.has_type { boxed(b"ftyp", &[b"M4A \0\0\0\0isom"]) } else { boxed(b"wide", &[]) }
    }

    fn file(&self) -> Vec<u8> {
        let header = if self.length == Length::Long { 16 } else { 8 };
        let start = self.file_type();
        let before = start.len() + if self.index_first { self.index(0).len() } else { 0 } + header;
        let mut chunks: Vec<Vec<u8>> = self.packets.chunks(self.per_chunk).map(<[Vec<u8>]>::concat).collect();
        if self.chunks_reversed {
            chunks.reverse();
        }
        // Bytes that belong to no track lie between the chunks.
        let music = chunks.join(&b"not music"[..]);
        let all = (music.len() + header) as u32;
        let data = match self.length {
            Length::Short => boxed(b"mdat", &[&music]),
            Length::Long => [&numbers(&[1])[..], b"mdat", &numbers(&[0, all]), &music].concat(),
            Length::ToTheEnd => [&numbers(&[0])[..], b"mdat", &music].concat(),
        };
        let index = self.index(before);
        if self.index_first { [start, index, data].concat() } else { [start, data, index].concat() }
    }

    /// The box `moov` of a file whose music begins at `music`.
    fn index(&self, music: usize) -> Vec<u8> {
        let mut places = Vec::new();
        let mut place = music;
        let sizes: Vec<usize> = self.packets.chunks(self.per_chunk).map(|chunk| chunk.concat().len()).collect();
        let order: Vec<usize> =
            if self.chunks_reversed { (0..sizes.len()).rev().collect() } else { (0..sizes.len()).collect() };
        places.resize(sizes.len(), 0);
        for chunk in order {
            places[chunk] = place as u32;
            place += sizes[chunk] + b"not music".len();
        }
        let count = self.packets.len();
        let full = count / self.per_chunk;
        let mut runs = Vec::new();
        for chunk in 0..sizes.len() {
            let entry = if self.second_entry_from.is_some_and(|from| chunk * self.per_chunk >= from) { 2 } else { 1 };
            let samples = if chunk < full { self.per_chunk } else { count % self.per_chunk };
            runs.extend([chunk as u32 + 1, samples as u32, entry]);
        }
        let offsets = if self.has_long_offsets {
            let places: Vec<u32> = places.iter().flat_map(|&place| [0, place]).collect();
            boxed(b"co64", &[&numbers(&[0, sizes.len() as u32]), &numbers(&places)])
        } else {
            boxed(b"stco", &[&numbers(&[0, sizes.len() as u32]), &numbers(&places)])
        };
        let lengths: Vec<u32> = self.packets.iter().map(|packet| packet.len() as u32).collect();
        let lengths = if self.has_compact_sizes {
            let rows: Vec<u8> = lengths.iter().flat_map(|&length| (length as u16).to_be_bytes()).collect();
            boxed(b"stz2", &[&numbers(&[0, 16, count as u32]), &rows])
        } else if self.is_pcm() {
            boxed(b"stsz", &[&numbers(&[0, lengths[0], count as u32])])
        } else {
            boxed(b"stsz", &[&numbers(&[0, 0, count as u32]), &numbers(&lengths)])
        };
        let tables = [
            self.entries(),
            boxed(b"stts", &[&numbers(&[0, 1, count as u32, self.duration])]),
            boxed(b"stsc", &[&numbers(&[0, sizes.len() as u32]), &numbers(&runs)]),
            lengths,
            offsets,
        ];
        self.moov(&tables.concat(), &[])
    }

    fn is_pcm(&self) -> bool {
        self.duration == 1
    }

    fn entries(&self) -> Vec<u8> {
        boxed(b"stsd", &[&numbers(&[0, self.entries.len() as u32]), &self.entries.concat()])
    }

    fn moov(&self, tables: &[u8], behind: &[u8]) -> Vec<u8> {
        let kind: &Name = if self.is_quicktime { b"mhlr" } else { b"\0\0\0\0" };
        let handler = boxed(b"hdlr", &[&numbers(&[0]), kind, b"soun", &[0; 13]]);
        let media = boxed(
            b"mdia",
            &[
                &boxed(b"mdhd", &[&numbers(&[0, 0, 0, self.scale, 0, 0])]),
                &handler,
                &boxed(b"minf", &[&boxed(b"stbl", &[tables])]),
            ],
        );
        let edits: Vec<u32> =
            self.edits.iter().flat_map(|&(length, start)| [length, start.cast_unsigned(), 0x1_0000]).collect();
        let edits = boxed(b"edts", &[&boxed(b"elst", &[&numbers(&[0, self.edits.len() as u32]), &numbers(&edits)])]);
        let header = boxed(b"tkhd", &[&numbers(&[7, 0, 0, 1, 0, 0]), &[0; 60]]);
        let track = boxed(b"trak", &[&header, if self.edits.is_empty() { &[] } else { &edits }, &media]);
        boxed(b"moov", &[&boxed(b"mvhd", &[&numbers(&[0, 0, 0, 1000, 0]), &[0; 80]]), &track, behind])
    }

    /// The same in fragments of `per_fragment` packets. `is_plain` omits all optional fields.
    fn fragmented(&self, per_fragment: usize, is_plain: bool) -> Vec<u8> {
        let tables = [
            self.entries(),
            boxed(b"stts", &[&numbers(&[0, 0])]),
            boxed(b"stsc", &[&numbers(&[0, 0])]),
            boxed(b"stsz", &[&numbers(&[0, 0, 0])]),
            boxed(b"stco", &[&numbers(&[0, 0])]),
        ];
        let defaults = boxed(b"mvex", &[&boxed(b"trex", &[&numbers(&[0, 1, 1, self.duration, 0, 0])])]);
        let mut file = [self.file_type(), self.moov(&tables.concat(), &defaults)].concat();
        for (index, packets) in self.packets.chunks(per_fragment).enumerate() {
            let lengths: Vec<u32> = packets.iter().map(|packet| packet.len() as u32).collect();
            let count = packets.len() as u32;
            let fragment = |offset: u32| {
                let run = if is_plain {
                    boxed(b"trun", &[&numbers(&[0x201, count, offset]), &numbers(&lengths)])
                } else {
                    let rows: Vec<u32> = lengths.iter().flat_map(|&length| [self.duration, length, 0]).collect();
                    boxed(b"trun", &[&numbers(&[0x705, count, offset, 0]), &numbers(&rows)])
                };
                let time = numbers(&[0, (index * per_fragment) as u32 * self.duration]);
                let header = boxed(b"tfhd", &[&numbers(&[0x2_0000, 1])]);
                let time = if is_plain { Vec::new() } else { boxed(b"tfdt", &[&time]) };
                let track = boxed(b"traf", &[&header, &time, &run]);
                boxed(b"moof", &[&boxed(b"mfhd", &[&numbers(&[0, index as u32 + 1])]), &track])
            };
            let offset = fragment(0).len() as u32 + 8;
            file.extend(fragment(offset));
            file.extend(boxed(b"mdat", &[&packets.concat()]));
        }
        file
    }
}

/// The packets of a fixture, which has a single chunk.
fn packets(file: &str) -> Movie {
    let bytes = fixture(file);
    let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let table = |name: &Name| position(&bytes, name) + 4;
    let (entry, sizes, durations) = (table(b"stsd") + 8, table(b"stsz") + 8, table(b"stts") + 8);
    let entry = bytes[entry..entry + number(entry)].to_vec();
    let mut place = number(table(b"stco") + 8);
    let mut packets = Vec::new();
    for index in 0..number(sizes) {
        let length = number(sizes + 4 + 4 * index);
        packets.push(bytes[place..place + length].to_vec());
        place += length;
    }
    Movie::new(entry, packets, number(durations + 4) as u32, 44_100)
}

/// Two channels of 16-bit samples that never repeat.
fn ramp(is_big: bool) -> Movie {
    let packets = (0..24_000i16).map(|i| {
        let frame = [i, -i];
        if is_big { frame.map(i16::to_be_bytes).concat() } else { frame.map(i16::to_le_bytes).concat() }
    });
    let name = if is_big { b"twos" } else { b"sowt" };
    let movie = Movie::new(entry(name, 2, 16, 8000, &[]), packets.collect(), 1, 8000);
    movie.with(|movie| movie.per_chunk = 1000)
}

fn bits(samples: &[f32]) -> Vec<u32> {
    samples.iter().map(|sample| sample.to_bits()).collect()
}

#[test]
fn the_same_packets_give_the_same_samples_however_they_are_written() {
    for (what, movie, seconds) in
        [("AAC", packets("band.m4a"), 12.03), ("ALAC", packets("band_alac.m4a"), 12.0), ("PCM", mono(), 3.0)]
    {
        let expected = bits(&whole(movie.file(), seconds));
        assert!(expected.len() > 20_000, "{what}");
        for (how, other) in [
            ("index first", movie.with(|movie| movie.index_first = true)),
            ("one chunk", movie.with(|movie| movie.per_chunk = 100_000)),
            ("a packet a chunk", movie.with(|movie| movie.per_chunk = if movie.is_pcm() { 5 } else { 1 })),
            ("chunks from behind", movie.with(|movie| movie.chunks_reversed = true)),
            ("offsets of 64 bits", movie.with(|movie| movie.has_long_offsets = true)),
            ("sizes of 16 bits", movie.with(|movie| movie.has_compact_sizes = true)),
            ("a length of 64 bits", movie.with(|movie| movie.length = Length::Long)),
            ("music to the end", movie.with(|movie| (movie.index_first, movie.length) = (true, Length::ToTheEnd))),
            ("QuickTime without type", movie.with(|movie| (movie.is_quicktime, movie.has_type) = (true, false))),
            (
                "the entry twice",
                movie.with(|movie| {
                    movie.entries.push(movie.entries[0].clone());
                    movie.second_entry_from = Some(movie.packets.len() / 2);
                }),
            ),
        ] {
            assert!(bits(&whole(other.file(), seconds)) == expected, "{what}, {how}");
        }
        if !movie.is_pcm() {
            for is_plain in [false, true] {
                assert!(bits(&whole(movie.fragmented(10, is_plain), seconds)) == expected, "{what} in fragments");
            }
        }
    }
}

/// [`ramp`] in one channel.
fn mono() -> Movie {
    let movie = ramp(false);
    let packets = movie.packets.iter().map(|frame| frame[..2].to_vec()).collect();
    Movie { packets, entries: vec![entry(b"sowt", 1, 16, 8000, &[])], ..movie }
}

#[test]
fn an_edit_list_says_what_is_played() {
    for (movie, rate, packet) in [(packets("band_alac.m4a"), 44_100, 4096), (mono(), 8000, 4096)] {
        let all = decoded(movie.file()).unwrap().samples;
        let rate = rate as usize;
        for (what, edits, parts) in [
            ("from the middle on", vec![(2000, rate as i32)], vec![(rate, 2 * rate)]),
            ("odd places", vec![(500, 1234)], vec![(1234, rate / 2)]),
            ("two parts", vec![(500, 100), (1000, 2 * rate as i32)], vec![(100, rate / 2), (2 * rate, rate)]),
            ("backwards", vec![(500, rate as i32), (250, 0)], vec![(rate, rate / 2), (0, rate / 4)]),
            ("a delay", vec![(700, -1), (1000, 0)], vec![(0, rate)]),
            ("within a packet", vec![(10, packet + 5)], vec![(packet as usize + 5, rate / 100)]),
        ] {
            let expected: Vec<f32> =
                parts.iter().flat_map(|&(start, length)| all[start..start + length].to_vec()).collect();
            let decoded = decoded(movie.with(|movie| movie.edits = edits).file()).unwrap();
            assert!(!decoded.is_truncated, "{what}");
            assert_eq!(bits(&decoded.samples), bits(&expected), "{what}");
        }
    }
}

#[test]
fn what_an_encoder_of_aac_put_before_the_music_stays_and_what_an_editor_cut_goes() {
    let movie = packets("band.m4a");
    let all = whole(movie.file(), 12.03);
    for delay in [1024, 2112, 3072] {
        let file = movie.with(|movie| movie.edits = vec![(12_000, delay)]).file();
        assert!(bits(&whole(file, 12.03)) == bits(&all), "{delay}");
    }
    let cut = whole(movie.with(|movie| movie.edits = vec![(5000, 44_100)]).file(), 5.02);
    // The decoder fills some bands with noise, which differs each time.
    let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum::<f64>();
    let (whole, cut) = (&all[44_100..44_100 + cut.len()], &cut[..]);
    let correlation = product(whole, cut) / (product(whole, whole) * product(cut, cut)).sqrt();
    assert!(correlation > 0.98, "{correlation}");
}

#[test]
fn g711_and_adpcm_are_read_from_quicktime() {
    // The loudest values of A-law and µ-law.
    for (name, loud, expected) in [(b"alaw", 0x2A, -32_256.0), (b"ulaw", 0x00, -32_124.0)] {
        let movie = Movie::new(entry(name, 1, 16, 8000, &[]), vec![vec![loud]; 8000], 1, 8000);
        let decoded = decoded(movie.file()).unwrap();
        assert!(
            decoded.samples.iter().all(|sample| (sample * 32_768.0 - expected).abs() < 1.0),
            "{:?}",
            decoded.samples[0]
        );
        assert_eq!(decoded.samples.len(), 8000);
    }
    // Packets of 64 frames: QuickTime counts samples of one frame, FFmpeg of 64.
    let packet = [&[0x12, 0x34][..], &[0x71; 32]].concat();
    let movie = Movie::new(entry(b"ima4", 1, 16, 8000, &[]), vec![packet.clone(); 125], 64, 8000);
    let of_packets = decoded(movie.file()).unwrap().samples;
    assert_eq!(of_packets.len(), 8000);
    assert!(of_packets.iter().any(|&sample| sample != 0.0));
}

#[test]
fn channels_of_alac_stand_where_their_number_says() {
    use crate::dsp::Speaker::{Centre, Left, LowFrequency, Right, SurroundCentre, SurroundLeft, SurroundRight};
    // In coding order (Apple Lossless, "Channel Layouts"), one or two channels per element.
    let (sides, behind) = ([SurroundLeft, SurroundRight], [SurroundCentre]);
    for (speakers, elements) in [
        (vec![Centre, Left, Right, SurroundCentre], &[1, 2, 1][..]),
        ([&[Centre, Left, Right][..], &sides].concat(), &[1, 2, 2]),
        ([&[Centre, Left, Right][..], &sides, &[LowFrequency]].concat(), &[1, 2, 2, 1]),
        ([&[Centre, Left, Right][..], &sides, &behind, &[LowFrequency]].concat(), &[1, 2, 2, 1, 1]),
        ([&[Centre, Left, Right, Left, Right][..], &sides, &[LowFrequency]].concat(), &[1, 2, 2, 2, 1]),
    ] {
        let count = speakers.len();
        let mut bits = super::aac::BitWriter::default();
        let mut channel = 0;
        for &channels in elements {
            // The element's header: the number of samples follows, and they are uncompressed.
            bits.put(3, channels - 1);
            bits.put(4 + 12, 0);
            bits.put(4, 0b1001);
            bits.put(32, count as u32);
            for sample in 0..count as u32 {
                (channel..channel + channels)
                    .for_each(|channel| bits.put(16, if channel == sample { 1 << 14 } else { 0 }));
            }
            channel += channels;
        }
        bits.put(3, 7);
        let cookie = [&numbers(&[4096])[..], &[0, 16, 40, 10, 14, count as u8, 0, 255], &numbers(&[0, 0, 44_100])];
        let cookie = boxed(b"alac", &[&numbers(&[0]), &cookie.concat()]);
        let movie =
            Movie::new(entry(b"alac", count as u16, 16, 44_100, &cookie), vec![bits.bytes()], count as u32, 44_100);
        assert_eq!(super::gains(movie.file()), super::expected(&speakers), "{count} channels");
    }
}

/// A descriptor of an elementary stream or a part of one (ISO/IEC 14496-1, section 8.3.3).
fn descriptor(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let length = [length >> 21 | 0x80, length >> 14 | 0x80, length >> 7 | 0x80, length & 0x7F].map(|part| part as u8);
    [&[tag][..], &length, body].concat()
}

#[test]
fn the_packet_of_vorbis_that_only_prepares_the_next_may_be_cut_off() {
    let ogg = fixture("band.ogg");
    let mut packets: Vec<Vec<u8>> = super::streams::packets(&ogg).into_iter().map(|(packet, _)| packet).collect();
    let music = packets.split_off(3);
    // All but the last are shorter than 255 bytes.
    let lengths = [packets[0].len(), packets[1].len()].map(|length| u8::try_from(length).unwrap());
    let headers = [&[2][..], &lengths, &packets.concat()].concat();
    let decoder = [&[0xDD, 0x15][..], &[0; 11], &descriptor(5, &headers)].concat();
    let stream = descriptor(3, &[&[0, 1, 0][..], &descriptor(4, &decoder)].concat());
    let entry = entry(b"mp4a", 2, 16, 44_100, &boxed(b"esds", &[&numbers(&[0]), &stream]));
    let movie = Movie::new(entry, music, 512, 44_100);
    let all = decoded(movie.file()).unwrap().samples;
    assert!(all.len() > 11 * 44_100);
    for start in [0, 1, 511, 512] {
        let edited = decoded(movie.with(|movie| movie.edits = vec![(60_000, start)]).file()).unwrap().samples;
        // The packet that is cut off yields no samples.
        assert_eq!(bits(&edited), bits(&all), "{start}");
    }
}

#[test]
fn samples_of_another_entry_are_decoded_by_it() {
    let (little, big) = (mono(), ramp(true));
    let mut movie = little.clone();
    movie.entries.push(entry(b"twos", 1, 16, 8000, &[]));
    movie.second_entry_from = Some(12_000);
    for (packet, other) in movie.packets.iter_mut().zip(&big.packets).skip(12_000) {
        *packet = other[..2].to_vec();
    }
    assert_eq!(bits(&whole(movie.file(), 3.0)), bits(&whole(little.file(), 3.0)));
}

#[test]
fn pcm_of_every_kind_is_read() {
    let samples: Vec<i32> = (0..20_000).map(|i| (i * 211 % 65_536 - 32_768) << 16).collect();
    let stored = |bytes: fn(i32) -> Vec<u8>| samples.iter().map(|&sample| bytes(sample)).collect::<Vec<_>>();
    let little = boxed(b"wave", &[&boxed(b"frma", &[b"in24"]), &boxed(b"enda", &[&[0, 1]]), &numbers(&[8, 0])]);
    // Fields added by version 1: samples per packet, bytes per packet, per frame and per sample.
    let first = numbers(&[1, 3, 3, 2]);
    // Fields added by version 2: its own length, the rate, channels, bits, flags, bytes and frames per packet.
    let second = |bits: u32, flags: u32| {
        let rate = 8000f64.to_bits().to_be_bytes();
        [&numbers(&[72])[..], &rate, &numbers(&[1, 0x7F00_0000, bits, flags, bits / 8, 1])].concat()
    };
    let iso = boxed(b"pcmC", &[&[0, 0, 0, 0, 1, 24]]);
    let float = |sample: i32| (sample as f32 / 2f32.powi(31)).to_be_bytes().to_vec();
    for (what, entry, packets) in [
        ("twos", entry(b"twos", 1, 16, 8000, &[]), stored(|s| s.to_be_bytes()[..2].to_vec())),
        ("raw", entry(b"raw ", 1, 16, 8000, &[]), stored(|s| s.to_be_bytes()[..2].to_vec())),
        ("in24", entry(b"in24", 1, 24, 8000, &[]), stored(|s| s.to_be_bytes()[..3].to_vec())),
        (
            "in24, version 1, little-endian",
            versioned(b"in24", 1, 1, 16, 8000, &first, &little),
            stored(|s| s.to_le_bytes()[1..].to_vec()),
        ),
        ("in32", entry(b"in32", 1, 32, 8000, &[]), stored(|s| s.to_be_bytes().to_vec())),
        ("fl32", entry(b"fl32", 1, 32, 8000, &[]), samples.iter().map(|&s| float(s)).collect()),
        (
            "lpcm, signed",
            versioned(b"lpcm", 2, 3, 16, 1, &second(24, 4 | 8), &[]),
            stored(|s| s.to_le_bytes()[1..].to_vec()),
        ),
        (
            "lpcm, float",
            versioned(b"lpcm", 2, 3, 16, 1, &second(32, 1 | 2 | 8), &[]),
            samples.iter().map(|&s| float(s)).collect(),
        ),
        ("ipcm", entry(b"ipcm", 1, 24, 8000, &iso), stored(|s| s.to_le_bytes()[1..].to_vec())),
    ] {
        let movie = Movie::new(entry, packets, 1, 8000).with(|movie| movie.per_chunk = 900);
        let expected: Vec<f32> = samples.iter().map(|&sample| sample as f32 / 2f32.powi(31)).collect();
        assert_eq!(bits(&whole(movie.file(), 2.5)), bits(&expected), "{what}");
    }
}

#[test]
fn what_cannot_be_decoded_is_named() {
    let config = |config: &[u8]| {
        let info = [&[5, config.len() as u8][..], config].concat();
        let decoder = [&[4, 13 + info.len() as u8, 0x40, 0x15][..], &[0; 11], &info].concat();
        let stream = [&[3, 3 + decoder.len() as u8, 0, 1, 0][..], &decoder].concat();
        boxed(b"esds", &[&numbers(&[0]), &stream])
    };
    // Object type 42, with its escape, at 44.1 kHz, stereo.
    let xhe = config(&[0xF9, 0x48, 0x20, 0x00]);
    for (entry, words) in [
        (entry(b"drms", 2, 16, 44_100, &[]), "protected (DRM: FairPlay"),
        (entry(b"enca", 2, 16, 44_100, &[]), "protected (DRM: Common Encryption"),
        (entry(b"mp4a", 2, 16, 44_100, &xhe), "xHE-AAC"),
        (entry(b"ac-3", 2, 16, 44_100, &[]), "AC-3 (Dolby Digital)"),
        (entry(b"samr", 1, 16, 8000, &[]), "AMR"),
        (entry(b"what", 1, 16, 8000, &[]), "what in MP4"),
    ] {
        let error = refused(Movie::new(entry, vec![vec![0; 100]; 100], 1024, 44_100).file());
        assert!(error.contains(words), "{words}: {error}");
    }
    let compressed = boxed(b"moov", &[&boxed(b"cmov", &[&boxed(b"dcom", &[b"zlib"]), &boxed(b"cmvd", &[&[0; 50]])])]);
    let error = refused([boxed(b"mdat", &[&[0; 100]]), compressed].concat());
    assert!(error.contains("compressed index (cmov)"), "{error}");
    let movie = packets("band.m4a");
    let video = movie.with(|movie| movie.entries[0][4..8].copy_from_slice(b"avc1")).file();
    let mut video = video;
    let handler = position(&video, b"soun");
    video[handler..handler + 4].copy_from_slice(b"vide");
    assert_eq!(refused(video), "the file holds no audio track");
}

#[test]
fn a_cut_file_is_analysed_as_far_as_it_goes() {
    for movie in [packets("band.m4a"), packets("band_alac.m4a")] {
        let file = movie.with(|movie| movie.index_first = true).file();
        cut(file[..file.len() / 2].to_vec(), 4.0..8.0);
        let file = movie.fragmented(20, true);
        cut(file[..file.len() / 2].to_vec(), 4.0..8.0);
    }
}

#[test]
fn fragments_that_are_missing_are_missed_where_the_headers_tell_of_them() {
    let movie = packets("band.m4a");
    let file = movie.fragmented(20, true);
    let places: Vec<_> =
        file.windows(4).enumerate().filter(|(_, name)| *name == b"moof").map(|(at, _)| at - 4).collect();
    let (first, middle) = (places[0], places[places.len() / 2]);
    let moov = position(&file, b"moov") - 4;
    let mvex = position(&file, b"mvex") - 4;
    let seconds = 12;
    let file_end = file.len();
    // In milliseconds of the movie's clock; the rows of `sidx` use the track's clock.
    let mehd = boxed(b"mehd", &[&numbers(&[0, seconds * 1000])]);
    let sidx = {
        let rows: Vec<u32> = (0..seconds).flat_map(|_| [1000, 44_100, 0]).collect();
        boxed(b"sidx", &[&numbers(&[0, 1, 44_100, 0, 0, seconds]), &numbers(&rows)])
    };
    let with_mehd = |end: usize| {
        let mut file = [&file[..mvex + 8], &mehd, &file[mvex + 8..end]].concat();
        for place in [moov, mvex] {
            let length = u32::from_be_bytes(file[place..place + 4].try_into().unwrap()) + mehd.len() as u32;
            file[place..place + 4].copy_from_slice(&length.to_be_bytes());
        }
        file
    };
    let with_sidx = |end: usize| [&file[..first], &sidx, &file[first..end]].concat();
    let with_length = |end: usize| {
        let mut file = file[..end].to_vec();
        let length = position(&file, b"mvhd") + 20;
        file[length..length + 4].copy_from_slice(&(seconds * 1000).to_be_bytes());
        file
    };
    for (what, file) in
        [("mehd", &with_mehd as &dyn Fn(usize) -> Vec<u8>), ("sidx", &with_sidx), ("mvhd", &with_length)]
    {
        assert!(!decoded(file(file_end)).unwrap().is_truncated, "{what}");
        let cut = decoded(file(middle)).unwrap();
        assert!(cut.is_truncated && (5.0..7.0).contains(&cut.seconds), "{what}: {} s", cut.seconds);
    }
    // Without a declared length, the loss goes unnoticed.
    whole(file[..middle].to_vec(), decoded(file[..middle].to_vec()).unwrap().seconds);
}

#[test]
fn a_tag_may_stand_before_the_first_box() {
    let tag = [b"ID3\x04\0\0\0\0\x4E\x10".as_slice(), &[0; 10_000]].concat();
    for movie in [packets("band.m4a"), packets("band_alac.m4a")] {
        let expected = bits(&decoded(movie.file()).unwrap().samples);
        let put_before = [tag.clone(), movie.file()].concat();
        // A program that knew of the tag included it in the offsets.
        let mut counted = put_before.clone();
        let offsets = position(&counted, b"stco") + 8;
        let count = u32::from_be_bytes(counted[offsets..offsets + 4].try_into().unwrap()) as usize;
        for offset in counted[offsets + 4..][..4 * count].chunks_exact_mut(4) {
            let moved = u32::from_be_bytes(offset.try_into().unwrap()) + tag.len() as u32;
            offset.copy_from_slice(&moved.to_be_bytes());
        }
        let fragments = [tag.clone(), movie.fragmented(10, true)].concat();
        for (what, file) in [("before", put_before), ("counted", counted), ("fragments", fragments)] {
            let decoded = decoded(file).unwrap_or_else(|error| panic!("{what}: {error}"));
            assert!(bits(&decoded.samples) == expected && !decoded.is_truncated, "{what}");
        }
    }
}

#[test]
fn mpeg_audio_is_read_however_quicktime_counts_its_samples() {
    let (mp3, first) = super::without_tag("band.mp3");
    let mut frames = Vec::new();
    let mut at = first;
    while at < mp3.len() {
        let length = super::frame_length(&mp3[at..]);
        frames.push(mp3[at..at + length].to_vec());
        at += length;
    }
    let expected = decoded(mp3[first..].to_vec()).unwrap().samples;
    for name in [b".mp3", b"ms\0\x55"] {
        // Fields added by version 1: samples per packet, bytes per packet, per frame and per sample.
        let entry = versioned(name, 1, 2, 16, 44_100, &numbers(&[1152, 418, 418, 2]), &[]);
        let movie = Movie::new(entry, frames.clone(), 1152, 44_100).with(|movie| movie.is_quicktime = true);
        assert!(bits(&decoded(movie.file()).unwrap().samples) == bits(&expected), "a sample a packet");
        // Each sample is a frame of PCM and counts as one byte, regardless of the packets' sizes.
        let mut file = movie.file();
        let change =
            |file: &mut Vec<u8>, at: usize, number: u32| file[at..at + 4].copy_from_slice(&number.to_be_bytes());
        let count = frames.len() as u32 * 1152;
        let (durations, sizes, chunks) = (position(&file, b"stts"), position(&file, b"stsz"), position(&file, b"stsc"));
        change(&mut file, durations + 12, count);
        change(&mut file, durations + 16, 1);
        change(&mut file, sizes + 8, 1);
        change(&mut file, sizes + 12, count);
        let rows = u32::from_be_bytes(file[chunks + 8..chunks + 12].try_into().unwrap()) as usize;
        for row in 0..rows {
            let at = chunks + 12 + 12 * row + 4;
            let packets = u32::from_be_bytes(file[at..at + 4].try_into().unwrap());
            change(&mut file, at, packets * 1152);
        }
        assert!(bits(&whole(file.clone(), 12.05)) == bits(&expected), "a sample a frame of PCM");
    }
}

#[test]
fn tables_that_lie_are_bounded_by_what_there_is() {
    let movie = mono();
    let file = movie.file();
    for name in [b"stts", b"stsc", b"stsz", b"stco"] {
        let count = position(&file, name) + if name == b"stsz" { 12 } else { 8 };
        let mut lying = file.clone();
        lying[count..count + 4].fill(0x7F);
        // It only has to terminate.
        drop(decoded(lying));
        for at in (count - 8..count + 40).step_by(4) {
            let mut lying = file.clone();
            lying[at..at + 4].fill(0xFF);
            drop(decoded(lying));
        }
    }
}

#[test]
fn channels_stand_where_quicktime_says() {
    let frames: Vec<Vec<u8>> = (0..8000)
        .map(|i| (0..6).flat_map(|channel| if i % 6 == channel { 0x40_00u16 } else { 0 }.to_be_bytes()).collect())
        .collect();
    let gains = |tag: u32| {
        let layout = boxed(b"chan", &[&numbers(&[0, tag << 16 | 6, 0, 0])]);
        // Fields added by version 1.
        let entry = versioned(b"twos", 1, 6, 16, 8000, &numbers(&[1, 2, 12, 2]), &layout);
        let movie = Movie::new(entry, frames.clone(), 1, 8000).with(|movie| movie.per_chunk = 999);
        decoded(movie.file()).unwrap().samples[..6].iter().map(|sample| sample / 0.5).collect::<Vec<f32>>()
    };
    use crate::dsp::Speaker::{
        Centre as C, Left as L, LowFrequency as Lfe, Right as R, SurroundLeft as Ls, SurroundRight as Rs,
    };
    for (tag, speakers) in [(121, [L, R, C, Lfe, Ls, Rs]), (122, [L, R, Ls, Rs, C, Lfe]), (124, [C, L, R, Ls, Rs, Lfe])]
    {
        assert_eq!(gains(tag), super::expected(&speakers), "{tag}");
    }
}
