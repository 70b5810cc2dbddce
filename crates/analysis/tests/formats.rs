//! Generates `FORMATS.md` from the decoder's behaviour: which formats of the fixtures and headers it decodes, and which
//! it refuses by name.
#![expect(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    fmt::Write,
    fs,
    io::Cursor,
    path::{Path, PathBuf},
};

use chaarfm_analysis::{Limits, stages};

const LIMITS: Limits = Limits { max_bytes: 100_000_000, max_seconds: 3600 };

/// Environment variable that makes the test write the page instead of comparing it.
const WRITE: &str = "CHAARFM_WRITE_FORMATS";

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Decoded containers and codecs by the decoder's names, with the extensions of their fixtures or the headers that name
/// them.
fn decoded() -> BTreeMap<(String, String), BTreeSet<String>> {
    let mut kinds = BTreeMap::<_, BTreeSet<_>>::new();
    for folder in ["music", "lossless", "cases"] {
        for entry in fs::read_dir(repository().join("tests/fixtures").join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "json") {
                continue;
            }
            let extension = path.extension().unwrap().to_str().unwrap().to_owned();
            let Ok(kind) = stages::kind(Box::new(fs::File::open(&path).unwrap()), &LIMITS) else { continue };
            kinds.entry(kind).or_default().insert(format!("`.{extension}`"));
        }
    }
    for (container, codec, bytes) in headers() {
        if stages::decode(Box::new(Cursor::new(bytes.clone())), &LIMITS).is_ok() {
            let (_, name) = stages::kind(Box::new(Cursor::new(bytes)), &LIMITS).unwrap();
            kinds.entry((container.to_owned(), name)).or_default().insert(codec);
        }
    }
    kinds
}

/// Containers recognised by their headers, with every codec that users may have in them: the container, the codec its
/// header names, and a file with that header.
fn headers() -> Vec<(&'static str, String, Vec<u8>)> {
    let wave = |tag: u16, block: u16, bits: u16| {
        let numbers = [tag, 2].map(u16::to_le_bytes).concat();
        let format =
            [numbers, [44_100, 0].map(u32::to_le_bytes).concat(), [block, bits].map(u16::to_le_bytes).concat()];
        [b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0", &format.concat()[..], b"data\0\0\0\0", &[1; 4096]].concat()
    };
    let aiff = |compression: &[u8; 4], bits: u16| {
        let common =
            [b"\0\x02\0\0\0\0", &bits.to_be_bytes()[..], b"\x40\x0E\xAC\x44\0\0\0\0\0\0", compression, &[0, 0]]
                .concat();
        [b"FORM\0\0\0\0AIFCCOMM\0\0\0\x18", &common[..], b"SSND\0\0\0\0", &[0; 8], &[1; 4096]].concat()
    };
    let au = |encoding: u8| {
        [b".snd\0\0\0\x18\xFF\xFF\xFF\xFF\0\0\0", &[encoding][..], b"\0\0\xAC\x44\0\0\0\x02", &[1; 4096]].concat()
    };
    let caf = |format: &[u8; 4], flags: u32, bits: u32| {
        let numbers = [flags, bits / 4, u32::from(bits > 0), 2, bits].map(u32::to_be_bytes).concat();
        let description = [&44_100f64.to_be_bytes()[..], format, &numbers].concat();
        [b"caff\0\x01\0\0desc\0\0\0\0\0\0\0\x20", &description[..], b"data", &[0xFF; 8], &[1; 4096]].concat()
    };
    let mut all: Vec<(&str, String, Vec<u8>)> = Vec::new();
    for (tag, block, bits) in [
        (1u16, 2u16, 8u16),
        (1, 4, 16),
        (1, 6, 24),
        (1, 8, 32),
        (1, 16, 64),
        (2, 1024, 4),
        (3, 4, 16),
        (3, 8, 32),
        (3, 16, 64),
        (6, 2, 8),
        (7, 2, 8),
        (0x11, 1024, 4),
    ] {
        all.push(("WAVE", format!("{tag:#06x}, {bits} bits"), wave(tag, block, bits)));
    }
    for tag in [0x10u16, 0x22, 0x31, 0x40, 0x45, 0x65, 0xFF, 0x160, 0x161, 0x162, 0x270, 0x2000, 0x2001] {
        all.push(("WAVE", format!("{tag:#06x}"), wave(tag, 4, 0)));
    }
    for (compression, bits) in [
        (b"NONE", 8u16),
        (b"NONE", 16),
        (b"NONE", 24),
        (b"NONE", 32),
        (b"sowt", 16),
        (b"in24", 24),
        (b"42ni", 24),
        (b"in32", 32),
        (b"23ni", 32),
        (b"fl32", 32),
        (b"fl64", 64),
        (b"raw ", 8),
        (b"alaw", 16),
        (b"ulaw", 16),
        (b"ima4", 16),
        (b"MAC3", 16),
        (b"MAC6", 16),
        (b"QDM2", 16),
        (b"GSM ", 16),
        (b"G722", 16),
    ] {
        let name = String::from_utf8_lossy(compression);
        all.push(("AIFF", format!("{}, {bits} bits", name.trim()), aiff(compression, bits)));
    }
    for encoding in (1..=7).chain(23..=27) {
        all.push(("AU", format!("encoding {encoding}"), au(encoding)));
    }
    for (format, flags, bits) in [
        (b"lpcm", 0u32, 8u32),
        (b"lpcm", 0, 16),
        (b"lpcm", 2, 16),
        (b"lpcm", 0, 24),
        (b"lpcm", 2, 24),
        (b"lpcm", 0, 32),
        (b"lpcm", 2, 32),
        (b"lpcm", 1, 32),
        (b"lpcm", 3, 32),
        (b"lpcm", 1, 64),
        (b"lpcm", 3, 64),
        (b"alaw", 0, 8),
        (b"ulaw", 0, 8),
        (b"ima4", 0, 0),
        (b"MAC3", 0, 0),
        (b"MAC6", 0, 0),
        (b"ac-3", 0, 0),
        (b"ilbc", 0, 0),
    ] {
        all.push((
            "Core Audio Format",
            format!("{}, {flags}, {bits} bits", String::from_utf8_lossy(format)),
            caf(format, flags, bits),
        ));
    }
    for name in [
        b"ac-3",
        b"ec-3",
        b"ac-4",
        b"mlpa",
        b"dtsc",
        b"samr",
        b"sawb",
        b"sevc",
        b"sqcp",
        b"mha1",
        b"iamf",
        b"QDM2",
        b"MAC3",
        b"agsm",
        b"spex",
        b"owma",
        b"ms\0\x02",
        b"ms\0\x11",
        b"drms",
        b"enca",
        b"aavd",
    ] {
        all.push(("ISO Base Media File Format", name.escape_ascii().to_string(), mp4(&sample_entry(name, &[]))));
    }
    for (kind, config, what) in [
        (0x40u8, &[0xF9u8, 0x48, 0x20, 0x00][..], "mp4a, 0x40, object type 42"),
        (0xA5, &[], "mp4a, 0xa5"),
        (0xA6, &[], "mp4a, 0xa6"),
        (0xA9, &[], "mp4a, 0xa9"),
        (0xE1, &[], "mp4a, 0xe1"),
    ] {
        all.push((
            "ISO Base Media File Format",
            what.to_owned(),
            mp4(&sample_entry(b"mp4a", &descriptor(kind, config))),
        ));
    }
    all.push(("ISO Base Media File Format", "cmov".to_owned(), movie(&boxed(b"cmov", &[]))));
    for codec in [
        "A_AC3",
        "A_EAC3",
        "A_AC4",
        "A_TRUEHD",
        "A_MLP",
        "A_DTS",
        "A_TTA1",
        "A_WAVPACK4",
        "A_MPC",
        "A_REAL/COOK",
        "A_ATRAC/AT1",
        "A_QUICKTIME/QDM2",
    ] {
        all.push(("Matroska / WebM", codec.to_owned(), matroska(codec)));
    }
    all
}

fn boxed(name: &[u8; 4], body: &[u8]) -> Vec<u8> {
    [&(body.len() as u32 + 8).to_be_bytes(), &name[..], body].concat()
}

fn sample_entry(name: &[u8; 4], boxes: &[u8]) -> Vec<u8> {
    let fields = [0, 0, 0, 1, 0, 0, 0, 0, 2, 16, 0, 0, 44_100, 0].map(u16::to_be_bytes).concat();
    boxed(name, &[&fields, boxes].concat())
}

/// An `esds` box with an object type and the decoder's configuration.
fn descriptor(kind: u8, config: &[u8]) -> Vec<u8> {
    let config = [&[5, config.len() as u8], config].concat();
    let decoder = [&[4, config.len() as u8 + 13, kind, 0x15][..], &[0; 11], &config].concat();
    boxed(b"esds", &[&[0, 0, 0, 0, 3, decoder.len() as u8 + 3, 0, 1, 0], &decoder[..]].concat())
}

fn movie(index: &[u8]) -> Vec<u8> {
    [boxed(b"ftyp", b"isom\0\0\0\0"), boxed(b"moov", index)].concat()
}

fn mp4(entry: &[u8]) -> Vec<u8> {
    let entries = boxed(b"stsd", &[&[0, 0, 0, 0, 0, 0, 0, 1], entry].concat());
    let handler = boxed(b"hdlr", b"\0\0\0\0\0\0\0\0soun");
    let media = [handler, boxed(b"minf", &boxed(b"stbl", &entries))].concat();
    movie(&boxed(b"trak", &boxed(b"mdia", &media)))
}

fn matroska(codec: &str) -> Vec<u8> {
    let element = |id: &[u8], body: &[u8]| [id, &[0x40 | (body.len() >> 8) as u8, body.len() as u8], body].concat();
    let track = [element(b"\xD7", &[1]), element(b"\x83", &[2]), element(b"\x86", codec.as_bytes())].concat();
    let tracks = element(b"\x16\x54\xAE\x6B", &element(b"\xAE", &track));
    [element(b"\x1A\x45\xDF\xA3", &[]), element(b"\x18\x53\x80\x67", &tracks)].concat()
}

/// The messages for the codecs in [`headers`] that are not decoded.
fn refused() -> Vec<(&'static str, String, String)> {
    let refused = headers().into_iter().filter_map(|(container, codec, bytes)| {
        let error = stages::decode(Box::new(Cursor::new(bytes)), &LIMITS).err()?;
        assert_eq!(error.kind(), "unsupported", "{container}, {codec}: {error}");
        Some((container, codec, error.to_string()))
    });
    refused.collect()
}

fn page() -> String {
    let mut page = String::from(
        "# Formats\n\n\
         Written by `crates/analysis/tests/formats.rs` from what the decoder does; `CHAARFM_WRITE_FORMATS=1 cargo test -p \
         chaarfm-analysis --test formats` writes it anew.\n\n\
         ## Decoded\n\n\
         What the containers and codecs of the fixtures are, as their readers call them, and what headers say. `tests/cases.rs` \
         and `tests/golden.rs` compare the vectors, `src/decode/tests/containers.rs` the samples.\n\n\
         | container | codec | fixtures, or what the header says |\n|---|---|---|\n",
    );
    for ((container, codec), said) in decoded() {
        let said: Vec<_> = said.into_iter().collect();
        writeln!(page, "| {container} | {codec} | {} |", said.join("; ")).unwrap();
    }
    page.push_str(
        "\n## Refused\n\nCodecs that a container names and nothing here decodes.\n\n\
         | container | codec | what is said |\n|---|---|---|\n",
    );
    for (container, codec, error) in refused() {
        writeln!(page, "| {container} | {codec} | {error} |").unwrap();
    }
    page.push_str(
        "\nKinds of files that are told by their first bytes. What is said is \"… is not supported; convert it to FLAC\" or \"this is \
         …, not audio\".\n\n| audio | no audio |\n|---|---|\n",
    );
    let names = |is_audio: bool| {
        let names: BTreeSet<_> = stages::refused_kinds().filter(|kind| kind.0 == is_audio).map(|kind| kind.1).collect();
        names.into_iter().collect::<Vec<_>>().join(", ")
    };
    writeln!(page, "| {} | {} |", names(true), names(false)).unwrap();
    page
}

#[test]
fn the_page_of_formats_is_what_the_decoder_does() {
    let path = repository().join("FORMATS.md");
    let page = page();
    if env::var_os(WRITE).is_some() {
        fs::write(&path, &page).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(written == page, "{} is out of date: {WRITE}=1 writes it", path.display());
}
