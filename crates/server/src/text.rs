//! Texts that others wrote, made short enough to keep.

/// The text's first `max_chars` characters, without control characters, which have no business on a page or a terminal.
pub(crate) fn cut(text: &str, max_chars: usize) -> String {
    text.chars().filter(|c| !c.is_control()).take(max_chars).collect()
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
        assert_eq!(cut_bytes("äöü", 3), "ä");
        assert_eq!(cut_bytes("abc", 9), "abc");
    }
}
