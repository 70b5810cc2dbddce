//! Texts of others on their way to a terminal or a page.

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
