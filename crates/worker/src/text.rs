//! Cleans texts that a peer or a file supplied.

use chaarfm_protocol::{limits::MAX_TEXT_CHARS, text::printable};

/// The text on one line, cut after [`MAX_TEXT_CHARS`], with control and direction-changing characters replaced.
pub(crate) fn clip(text: &str) -> String {
    match text.char_indices().nth(MAX_TEXT_CHARS) {
        Some((end, _)) => printable(&text[..end]),
        None => printable(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_between_characters() {
        assert_eq!(clip("café"), "café");
        assert_eq!(clip("a\u{202e}b\u{1b}[2J"), "a\u{fffd}b\u{fffd}[2J");
        assert_eq!(clip(&"é".repeat(MAX_TEXT_CHARS + 1)), "é".repeat(MAX_TEXT_CHARS));
    }
}
