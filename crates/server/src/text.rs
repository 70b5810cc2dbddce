//! Texts that others wrote, made short enough to keep.

/// The text's first `max_chars` characters, without those that have no business on a page or a terminal.
pub(crate) fn cut(text: &str, max_chars: usize) -> String {
    text.chars().filter(|c| !breaks_lines(*c)).take(max_chars).collect()
}

/// The text on one line, with a mark where something does not belong there.
pub(crate) fn one_line(text: &str) -> String {
    text.chars().map(|c| if breaks_lines(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// Control characters, separators of lines and paragraphs, and what reverses the order of all that follows it.
pub(crate) fn breaks_lines(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// As much of the text as fits into `max_bytes` bytes.
pub(crate) fn cut_bytes(text: &str, max_bytes: usize) -> &str {
    let end = text.floor_char_boundary(max_bytes);
    &text[..end]
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
}
