//! File names as text, whatever their bytes.
//!
//! A name need not be UTF-8, and may contain a line break. Its text is one line: each byte that is not valid UTF-8, or that
//! belongs to a character not allowed on a line, is written as `%` and two upper-case hexadecimal digits. A `%` that would
//! look like such an escape is escaped too. All other names are unchanged.

use std::{
    ffi::{OsStr, OsString},
    path::{Component, Path, PathBuf},
};

use chaarfm_domain::text::breaks_lines;

/// The path's text, with `/` between folders.
pub(super) fn to_text(path: &Path) -> String {
    let parts: Vec<_> = path.iter().map(|part| escaped(part.as_encoded_bytes())).collect();
    parts.join("/")
}

/// The path with this text. None when it leads out of its base folder.
pub(super) fn to_path(text: &str) -> Option<PathBuf> {
    let path = PathBuf::from(os_string(unescaped(text))?);
    path.components().all(|part| matches!(part, Component::Normal(_))).then_some(path)
}

fn escaped(name: &[u8]) -> String {
    let mut text = String::with_capacity(name.len());
    let mut place = 0;
    for chunk in name.utf8_chunks() {
        for character in chunk.valid().chars() {
            let end = place + character.len_utf8();
            if breaks_lines(character) || character == '%' && escape(&name[place..]).is_some() {
                name[place..end].iter().for_each(|byte| push_escape(&mut text, *byte));
            } else {
                text.push(character);
            }
            place = end;
        }
        chunk.invalid().iter().for_each(|byte| push_escape(&mut text, *byte));
        place += chunk.invalid().len();
    }
    text
}

fn unescaped(text: &str) -> Vec<u8> {
    let text = text.as_bytes();
    let mut name = Vec::with_capacity(text.len());
    let mut place = 0;
    while place < text.len() {
        let escape = escape(&text[place..]);
        name.push(escape.unwrap_or(text[place]));
        place += if escape.is_some() { 3 } else { 1 };
    }
    name
}

/// The byte escaped at the beginning of this text. Only bytes that need it are ever escaped.
fn escape(text: &[u8]) -> Option<u8> {
    let [b'%', high @ (b'0'..=b'9' | b'A'..=b'F'), low @ (b'0'..=b'9' | b'A'..=b'F'), ..] = *text else { return None };
    let digit = |digit: u8| if digit <= b'9' { digit - b'0' } else { digit - b'A' + 10 };
    let byte = digit(high) << 4 | digit(low);
    matches!(byte, 0..=0x1f | b'%' | 0x7f..=0xff).then_some(byte)
}

fn push_escape(text: &mut String, byte: u8) {
    const DIGITS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F'];
    text.extend(['%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 0xf)]]);
}

#[cfg(unix)]
#[expect(clippy::unnecessary_wraps, reason = "elsewhere not all bytes are names")]
fn os_string(name: Vec<u8>) -> Option<OsString> {
    Some(std::os::unix::ffi::OsStringExt::from_vec(name))
}

#[cfg(not(unix))]
fn os_string(name: Vec<u8>) -> Option<OsString> {
    String::from_utf8(name).ok().map(OsString::from)
}

/// A name's text, for people.
pub(super) fn shown(name: &OsStr) -> String {
    escaped(name.as_encoded_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_comes_back_from_its_text_which_is_one_line() {
        let plain: [&[u8]; 7] =
            [b"a.mp3", "Zoë 音.flac".as_bytes(), b"100 %.mp3", b"a%20b", b"%2F%41", b"50%ff", b"..."];
        for name in plain {
            assert_eq!(escaped(name).as_bytes(), name, "such names are their own texts");
        }
        let escapes: [(&[u8], &str); 8] = [
            (b"Zo\xeb.mp3", "Zo%EB.mp3"),
            (b"two\nlines\x1b[31m", "two%0Alines%1B[31m"),
            ("a\u{85}b\u{202e}c\u{2028}".as_bytes(), "a%C2%85b%E2%80%AEc%E2%80%A8"),
            (b"100%25", "100%2525"),
            (b"%E4%0A", "%25E4%250A"),
            (b"%\xff", "%%FF"),
            (b"%%25%2\xff", "%%2525%2%FF"),
            (b"\xed\xa0\x80", "%ED%A0%80"),
        ];
        for (name, text) in escapes {
            assert_eq!(escaped(name), text);
            assert_eq!(unescaped(text), name);
        }
        for name in plain {
            assert_eq!(unescaped(&escaped(name)), name);
        }
        for (a, b) in (0..=u16::MAX).map(|both| ((both >> 8) as u8, both as u8)) {
            let name = [b'%', a, b, b'5', b'%', b, a];
            assert_eq!(unescaped(&escaped(&name)), name);
        }
    }

    #[test]
    fn no_text_leads_out_of_its_folder() {
        for text in ["../x", "/etc/passwd", "a/../../x", ""] {
            assert_eq!(to_path(text).filter(|path| path.components().count() > 0), None, "{text}");
        }
        assert_eq!(to_path("a/b%0A.mp3"), Some(PathBuf::from("a/b\n.mp3")));
        assert_eq!(to_text(Path::new("a/b\n.mp3")), "a/b%0A.mp3");
    }
}
