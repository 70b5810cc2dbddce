//! Recognises kinds of files that cannot be analysed by their first bytes, so that the message tells users what they have
//! and what to do.

use crate::AudioError;

/// Why a kind of file is refused.
#[derive(Debug, Clone, Copy)]
enum Kind {
    /// Audio without a decoder here.
    Audio,
    /// Not audio.
    Other,
}
use Kind::{Audio, Other};

/// Bytes at an offset.
type Mark = (usize, &'static [u8]);

/// Kinds of files by their common first bytes. The first match counts.
const KINDS: &[(&[Mark], Kind, &str)] = &[
    (&[(0, b"MP+")], Audio, "Musepack"),
    (&[(0, b"MPCK")], Audio, "Musepack"),
    (&[(0, b"TTA2")], Audio, "True Audio (TTA)"),
    (&[(0, b"OFR ")], Audio, "OptimFROG"),
    (&[(0, b"tBaK")], Audio, "TAK"),
    (&[(0, b"ajkg")], Audio, "Shorten"),
    (&[(0, b"LA0")], Audio, "Lossless Audio (LA)"),
    (&[(0, b"RKA")], Audio, "RK Audio"),
    (&[(0, b"\x30\x26\xB2\x75\x8E\x66\xCF\x11\xA6\xD9\x00\xAA\x00\x62\xCE\x6C")], Audio, "Windows Media Audio"),
    (&[(0, b"\x0B\x77")], Audio, "AC-3"),
    (&[(0, b"\x77\x0B")], Audio, "AC-3"),
    (&[(0, b"\x7F\xFE\x80\x01")], Audio, "DTS"),
    (&[(0, b"\xFE\x7F\x01\x80")], Audio, "DTS"),
    (&[(0, b"\x1F\xFF\xE8\x00")], Audio, "DTS"),
    (&[(0, b"\xFF\x1F\x00\xE8")], Audio, "DTS"),
    (&[(0, b"DTSHDHDR")], Audio, "DTS-HD"),
    (&[(4, b"\xF8\x72\x6F\xBA")], Audio, "Dolby TrueHD"),
    (&[(4, b"\xF8\x72\x6F\xBB")], Audio, "Meridian Lossless (MLP)"),
    (&[(0, b".RMF")], Audio, "RealAudio"),
    (&[(0, b".ra\xFD")], Audio, "RealAudio"),
    (&[(0, b"#!AMR")], Audio, "AMR"),
    (&[(0, b"#!EVC")], Audio, "EVRC"),
    (&[(0, b"#!SILK")], Audio, "SILK"),
    (&[(0, b"\x02#!SILK")], Audio, "SILK"),
    (&[(0, b"OggS"), (28, b"Speex   ")], Audio, "Speex"),
    (&[(0, b"OggS"), (28, b"CELT    ")], Audio, "CELT"),
    (&[(0, b"OggS"), (28, b"OggMIDI\0")], Audio, "MIDI"),
    (&[(0, b"Creative Voice File")], Audio, "Creative Voice (VOC)"),
    (&[(0, b"FORM"), (8, b"8SVX")], Audio, "8SVX"),
    (&[(0, b"FORM"), (8, b"16SV")], Audio, "16SV"),
    (&[(0, b"TWIN97012000")], Audio, "TwinVQ (VQF)"),
    (&[(0, b"TWIN00052000")], Audio, "TwinVQ (VQF)"),
    (&[(0, b"NIST_1A")], Audio, "NIST Sphere"),
    (&[(0, b"2BIT")], Audio, "AVR"),
    (&[(0, b"ADIF")], Audio, "AAC in ADIF"),
    (&[(0, b"EA3\x03")], Audio, "Sony OpenMG (ATRAC)"),
    (&[(0, b"ea3\x03")], Audio, "Sony OpenMG (ATRAC)"),
    (&[(0, b"EA3\x01")], Audio, "Sony OpenMG (ATRAC)"),
    (&[(4, b"\x57\x90\x75\x36")], Audio, "Audible (AA)"),
    (&[(4, b"ftypaax")], Audio, "Audible (AAX)"),
    (&[(0, b"FLV\x01")], Audio, "Flash video"),
    (&[(0, b"RIFF"), (8, b"AVI ")], Audio, "AVI"),
    (&[(0, b"RIFF"), (8, b"QLCM")], Audio, "QCELP"),
    (&[(0, b"\x00\x00\x01\xBA")], Audio, "MPEG program stream"),
    (&[(0, b"\x00\x00\x01\xB3")], Audio, "MPEG video"),
    (&[(0, b"\x47"), (188, b"\x47"), (376, b"\x47"), (564, b"\x47")], Audio, "MPEG transport stream"),
    (&[(0, b"MThd")], Audio, "MIDI"),
    (&[(0, b"RIFF"), (8, b"RMID")], Audio, "MIDI"),
    (&[(0, b"XMF_")], Audio, "XMF"),
    (&[(0, b"Extended Module: ")], Audio, "tracker music (XM)"),
    (&[(0, b"IMPM")], Audio, "tracker music (IT)"),
    (&[(44, b"SCRM")], Audio, "tracker music (S3M)"),
    (&[(1080, b"M.K.")], Audio, "tracker music (MOD)"),
    (&[(1080, b"M!K!")], Audio, "tracker music (MOD)"),
    (&[(1080, b"FLT4")], Audio, "tracker music (MOD)"),
    (&[(1080, b"FLT8")], Audio, "tracker music (MOD)"),
    (&[(1080, b"4CHN")], Audio, "tracker music (MOD)"),
    (&[(1080, b"6CHN")], Audio, "tracker music (MOD)"),
    (&[(1080, b"8CHN")], Audio, "tracker music (MOD)"),
    (&[(0, b"MTM\x10")], Audio, "tracker music (MTM)"),
    (&[(0, b"MO3")], Audio, "tracker music (MO3)"),
    (&[(0, b"OKTASONG")], Audio, "tracker music (OKT)"),
    (&[(0, b"MMD")], Audio, "tracker music (MED)"),
    (&[(0, b"NESM\x1A")], Audio, "NES music (NSF)"),
    (&[(0, b"SNES-SPC700 Sound File Data")], Audio, "SNES music (SPC)"),
    (&[(0, b"PSID")], Audio, "Commodore 64 music (SID)"),
    (&[(0, b"RSID")], Audio, "Commodore 64 music (SID)"),
    (&[(0, b"GBS\x01")], Audio, "Game Boy music (GBS)"),
    (&[(0, b"Vgm ")], Audio, "video game music (VGM)"),
    (&[(0, b"PSF")], Audio, "PlayStation music (PSF)"),
    (&[(0, b"\x00\x05\x16\x07")], Other, "the companion that macOS keeps for a file (AppleDouble)"),
    (&[(0, b"\x00\x05\x16\x00")], Other, "a file of macOS in one piece (AppleSingle)"),
    (&[(0, b"\xFF\xD8\xFF")], Other, "a picture (JPEG)"),
    (&[(0, b"\x89PNG\r\n\x1A\n")], Other, "a picture (PNG)"),
    (&[(0, b"GIF8")], Other, "a picture (GIF)"),
    (&[(0, b"RIFF"), (8, b"WEBP")], Other, "a picture (WebP)"),
    (&[(0, b"RIFF"), (8, b"sfbk")], Other, "a SoundFont"),
    (&[(0, b"PK\x03\x04")], Other, "a ZIP archive"),
    (&[(0, b"Rar!\x1A\x07")], Other, "a RAR archive"),
    (&[(0, b"7z\xBC\xAF\x27\x1C")], Other, "a 7-Zip archive"),
    (&[(0, b"\x1F\x8B\x08")], Other, "a gzip archive"),
    (&[(0, b"\xFD7zXZ\0")], Other, "an XZ archive"),
    (&[(0, b"%PDF-")], Other, "a PDF document"),
    (&[(0, b"SQLite format 3\0")], Other, "an SQLite database"),
    (&[(0, b"\x7FELF")], Other, "a program"),
    (&[(0, b"#EXTM3U")], Other, "a playlist"),
    (&[(0, b"\xEF\xBB\xBF#EXTM3U")], Other, "a playlist"),
    (&[(0, b"[playlist]")], Other, "a playlist"),
    (&[(0, b"bplist00")], Other, "a property list"),
    (&[(0, b"<?xml")], Other, "an XML document"),
];

/// Refuses a file of a kind that cannot be analysed. `start` holds its first bytes.
///
/// # Errors
/// Names the kind of file.
pub(super) fn refuse(start: &[u8]) -> Result<(), AudioError> {
    if is_web_page(start) {
        return Err(AudioError::NotAudio("a web page (HTML)"));
    }
    let fits =
        |marks: &[Mark]| marks.iter().all(|(at, mark)| start.get(*at..).is_some_and(|rest| rest.starts_with(mark)));
    match KINDS.iter().find(|(marks, ..)| fits(marks)) {
        Some((_, Audio, name)) => Err(AudioError::UnsupportedFormat((*name).to_owned())),
        Some((_, Other, name)) => Err(AudioError::NotAudio(name)),
        None => Ok(()),
    }
}

/// The refused kinds: whether each is audio, and its name.
pub(crate) fn refused_kinds() -> impl Iterator<Item = (bool, &'static str)> {
    KINDS.iter().map(|&(_, kind, name)| (matches!(kind, Audio), name))
}

/// Failed downloads leave web pages with the names of audio files.
fn is_web_page(start: &[u8]) -> bool {
    let text = String::from_utf8_lossy(start).to_ascii_lowercase();
    let text = text.trim_start();
    text.starts_with("<!doctype html") || text.starts_with("<html")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_refused_by_its_name() {
        for (marks, kind, name) in KINDS {
            let mut start = vec![0; 2048];
            for (at, mark) in *marks {
                start[*at..at + mark.len()].copy_from_slice(mark);
            }
            let error = refuse(&start).expect_err(name).to_string();
            let expected = match kind {
                Audio => format!("{name} is not supported; convert it to FLAC"),
                Other => format!("this is {name}, not audio"),
            };
            assert_eq!(error, expected);
            assert!(refuse(&start[..start.len().min(1)]).is_ok(), "{name}: one byte");
        }
    }

    #[test]
    fn music_is_none_of_them() {
        for start in
            [&b"ID3\x04"[..], b"\xFF\xFB\x90\x64", b"fLaC\0", b"OggS\0\x02", b"RIFF\0\0\0\0WAVE", b"FORM\0\0\0\0AIFF"]
        {
            assert!(refuse(start).is_ok());
        }
    }
}
