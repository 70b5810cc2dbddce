//! Makes untrusted text short enough to store, and safe for a terminal or a page.

/// The text's first `max_chars` characters, without those that do not belong on a page or a terminal.
#[must_use]
pub fn cut(text: &str, max_chars: usize) -> String {
    text.chars().filter(|c| !breaks_lines(*c)).take(max_chars).collect()
}

/// The text on one line, with a replacement mark for every character that could break the line.
#[must_use]
pub fn one_line(text: &str) -> String {
    text.chars().map(|c| if breaks_lines(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// Control characters, line and paragraph separators, and characters that reverse the order of the text after them.
#[must_use]
pub fn breaks_lines(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The longest prefix that fits into `max_bytes` bytes.
#[must_use]
pub fn cut_bytes(text: &str, max_bytes: usize) -> &str {
    let end = text.floor_char_boundary(max_bytes);
    &text[..end]
}

/// The text with a replacement mark for every character that is not printable.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if is_printable(c) { c } else { char::REPLACEMENT_CHARACTER }).collect()
}

/// Whether a character only displays itself and does not affect others. Not printable: control characters, line and
/// paragraph separators, characters that change the direction of text (Unicode Standard Annex #9, section 2), byte order
/// and annotation marks, and the invisible tags.
#[must_use]
pub fn is_printable(c: char) -> bool {
    let acts = matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let is_invisible = matches!(c, '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}');
    !c.is_control() && !acts && !is_invisible
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_cuts_a_character_in_two() {
        assert_eq!(cut("äöü\u{1b}[31m", 4), "äöü[");
        assert_eq!(one_line("a\nb\u{202e}\u{1b}[31m"), "a\u{fffd}b\u{fffd}\u{fffd}[31m");
        assert_eq!(cut_bytes("äöü", 3), "ä");
        assert_eq!(cut_bytes("abc", 9), "abc");
    }

    #[test]
    fn only_what_shows_itself_is_shown() {
        let text = "Zoë \u{5d0}\u{628} 音楽 🎵\u{fe0f} a\u{301}\u{200d}";
        assert_eq!(printable(text), text);
        for c in
            "\0\t\n\r\u{1b}\u{7f}\u{85}\u{9b}\u{2028}\u{2029}\u{202a}\u{202e}\u{2066}\u{2069}\u{feff}\u{e0041}".chars()
        {
            assert_eq!(printable(&format!("a{c}b")), "a\u{fffd}b", "{c:?}");
        }
    }
}
