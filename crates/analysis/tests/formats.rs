//! `FORMATS.md` is written by this test from what the decoder does: what is in the fixtures and is decoded, and what is
//! refused by its name.
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

/// Environment variable that has the page written rather than compared.
const WRITE: &str = "CHAARFM_WRITE_FORMATS";

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Files of each container and codec, by what the decoder calls them.
fn decoded() -> BTreeMap<(String, String), BTreeSet<String>> {
    let mut kinds = BTreeMap::<_, BTreeSet<_>>::new();
    for folder in ["music", "cases"] {
        for entry in fs::read_dir(repository().join("tests/fixtures").join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "json") {
                continue;
            }
            let extension = path.extension().unwrap().to_str().unwrap().to_owned();
            let Ok(kind) = stages::kind(Box::new(fs::File::open(&path).unwrap()), &LIMITS) else { continue };
            kinds.entry(kind).or_default().insert(extension);
        }
    }
    kinds
}

/// A container that is given by its first bytes, and what it holds.
fn refused() -> Vec<(&'static str, String, String)> {
    let wave = |tag: u16, bits: u16| {
        let format =
            [&tag.to_le_bytes()[..], &[2, 0, 0x44, 0xAC, 0, 0, 0, 0, 0, 0, 4, 0], &bits.to_le_bytes()].concat();
        [b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0", &format[..], b"data\0\0\0\0", &[1; 4096]].concat()
    };
    let aiff = |compression: &[u8; 4]| {
        let common = [b"\0\x02\0\0\0\0\0\x10\x40\x0E\xAC\x44\0\0\0\0\0\0", &compression[..], &[0, 0]].concat();
        [b"FORM\0\0\0\0AIFCCOMM\0\0\0\x18", &common[..], b"SSND\0\0\0\0", &[1; 4096]].concat()
    };
    let au = |encoding: u8| {
        [b".snd\0\0\0\x18\xFF\xFF\xFF\xFF\0\0\0", &[encoding][..], b"\0\0\xAC\x44\0\0\0\x02", &[1; 4096]].concat()
    };
    let caf = |format: &[u8; 4]| {
        let description =
            [&44_100f64.to_be_bytes()[..], format, &[0; 4], &[0, 0, 0, 0], &[0; 4], &[0, 0, 0, 2], &[0; 4]].concat();
        [b"caff\0\x01\0\0desc\0\0\0\0\0\0\0\x20", &description[..], b"data", &[0xFF; 8], &[1; 4096]].concat()
    };
    let mut cases: Vec<(&str, String, Vec<u8>)> = Vec::new();
    for tag in
        [0x0010u16, 0x0022, 0x0031, 0x0040, 0x0045, 0x0065, 0x00FF, 0x0160, 0x0161, 0x0162, 0x0270, 0x2000, 0x2001]
    {
        cases.push(("WAVE", format!("{tag:#06x}"), wave(tag, 0)));
    }
    cases.push(("WAVE", "64-bit integers".to_owned(), wave(1, 64)));
    cases.push(("WAVE", "16-bit floating point".to_owned(), wave(3, 16)));
    for compression in [b"MAC3", b"MAC6", b"QDM2", b"GSM ", b"G722"] {
        cases.push(("AIFF-C", String::from_utf8_lossy(compression).trim().to_owned(), aiff(compression)));
    }
    for encoding in 23..=26 {
        cases.push(("AU", encoding.to_string(), au(encoding)));
    }
    for format in [b"MAC3", b"MAC6", b"ac-3", b"ilbc"] {
        cases.push(("CAF", String::from_utf8_lossy(format).into_owned(), caf(format)));
    }
    cases
        .into_iter()
        .map(|(container, codec, bytes)| {
            let error = stages::decode(Box::new(Cursor::new(bytes)), &LIMITS).expect_err(&codec);
            assert_eq!(error.kind(), "unsupported", "{container}, {codec}: {error}");
            (container, codec, error.to_string())
        })
        .collect()
}

fn page() -> String {
    let mut page = String::from(
        "# Formats\n\n\
         Written by `crates/analysis/tests/formats.rs` from what the decoder does; `CHAARFM_WRITE_FORMATS=1 cargo test -p \
         chaarfm-analysis --test formats` writes it anew.\n\n\
         ## Decoded\n\n\
         What the containers and codecs of the fixtures are, as their readers call them. `tests/cases.rs` and `tests/golden.rs` \
         compare the vectors, `src/decode/tests/containers.rs` the samples.\n\n\
         | container | codec | in files named |\n|---|---|---|\n",
    );
    for ((container, codec), extensions) in decoded() {
        let extensions: Vec<_> = extensions.iter().map(|extension| format!("`.{extension}`")).collect();
        writeln!(page, "| {container} | {codec} | {} |", extensions.join(" ")).unwrap();
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
