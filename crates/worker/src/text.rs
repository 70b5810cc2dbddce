//! Texts that a peer or a file supplied.

use chaarfm_protocol::limits::MAX_TEXT_CHARS;

/// The text, cut after [`MAX_TEXT_CHARS`].
pub(crate) fn clip(text: &str) -> String {
    match text.char_indices().nth(MAX_TEXT_CHARS) {
        Some((end, _)) => text[..end].to_owned(),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_between_characters() {
        assert_eq!(clip("café"), "café");
        assert_eq!(clip(&"é".repeat(MAX_TEXT_CHARS + 1)), "é".repeat(MAX_TEXT_CHARS));
    }
}
