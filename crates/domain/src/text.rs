//! Texts that others wrote: made short enough to keep, and on their way to a terminal or a page.

/// The text's first `max_chars` characters, without those that have no business on a page or a terminal.
#[must_use]
pub fn cut(text: &str, max_chars: usize) -> String {
    text.chars().filter(|c| !breaks_lines(*c)).take(max_chars).collect()
}

/// The text on one line, with a mark where something does not belong there.
#[must_use]
pub fn one_line(text: &str) -> String {
    text.chars().map(|c| if breaks_lines(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// Control characters, separators of lines and paragraphs, and what reverses the order of all that follows it.
#[must_use]
pub fn breaks_lines(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// As much of the text as fits into `max_bytes` bytes.
#[must_use]
pub fn cut_bytes(text: &str, max_bytes: usize) -> &str {
    let end = text.floor_char_boundary(max_bytes);
    &text[..end]
}

/// The text with a mark in place of every character that does more than show itself.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if is_printable(c) { c } else { char::REPLACEMENT_CHARACTER }).collect()
}

/// Whether a character shows itself and leaves all others alone. Those that do not: control characters, separators of lines and
/// paragraphs, what turns the text that follows around (Unicode Standard Annex #9, section 2), marks of byte order
/// and of annotations, and the invisible tags.
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
