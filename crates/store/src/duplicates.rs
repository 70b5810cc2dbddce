//! Recognises two files as the same track to a listener, although their bytes differ.

use chaarfm_domain::Track;

/// Tracks of one artist and title are the same if their lengths, in seconds, differ by no more than this.
pub(crate) const MAX_LENGTH_DIFFERENCE: f64 = 2.0;

/// Longest key that is stored unhashed: PostgreSQL limits an index row to about 2700 bytes.
const MAX_KEY_BYTES: usize = 1024;

/// Separates artist and title; neither contains it, since it is a control character.
const SEPARATOR: char = '\u{1f}';

/// Placeholders that programs write for an unknown artist.
const NO_ARTISTS: [&str; 21] = [
    "artist",
    "artista desconocido",
    "artista desconhecido",
    "artista sconosciuto",
    "artiste inconnu",
    "n/a",
    "no artist",
    "none",
    "null",
    "onbekende artiest",
    "unbekannt",
    "unbekannter interpret",
    "unbekannter künstler",
    "undefined",
    "unknown",
    "unknown artist",
    "unknown performer",
    "va",
    "various",
    "various artists",
    "verschiedene interpreten",
];

/// Placeholders that programs write for an unknown title; a number may stand before or after them.
const NO_TITLES: [&str; 30] = [
    "audio",
    "audio track",
    "audiotrack",
    "aufnahme",
    "cd track",
    "disc track",
    "file",
    "n a",
    "new recording",
    "no title",
    "none",
    "null",
    "ohne titel",
    "pista",
    "piste",
    "recording",
    "sans titre",
    "song",
    "spur",
    "take",
    "titel",
    "title",
    "traccia",
    "track",
    "tune",
    "undefined",
    "unknown",
    "unknown title",
    "unknown track",
    "untitled",
];

/// Key of a track, the same for all files with its artist and title. It disregards case and differences in white space.
/// None if either text is missing or a placeholder, since whole discs are named "Track 1" to "Track 12" by "Unknown
/// Artist". Mistaking a real text for a placeholder costs an unnecessary analysis; the opposite mistake costs a vector.
pub(crate) fn track_key(track: &Track) -> Option<String> {
    let (artist, title) = (folded(track.artist.as_deref()?), folded(track.title.as_deref()?));
    if artist.is_empty() || title.is_empty() || is_no_artist(&artist) || is_no_title(&title) {
        return None;
    }
    let key = format!("{artist}{SEPARATOR}{title}");
    Some(if key.len() <= MAX_KEY_BYTES { key } else { blake3::hash(key.as_bytes()).to_hex().to_string() })
}

fn is_no_artist(folded: &str) -> bool {
    let bare = folded.trim_matches(|c: char| !c.is_alphanumeric());
    NO_ARTISTS.contains(&bare)
}

fn is_no_title(folded: &str) -> bool {
    let words: Vec<_> = folded.split(|c: char| !c.is_alphabetic()).filter(|word| !word.is_empty()).collect();
    words.is_empty() || NO_TITLES.contains(&words.join(" ").as_str())
}

/// Folds case through upper case, character by character, so that ß equals SS and a final sigma equals any other sigma.
fn folded(text: &str) -> String {
    let words: Vec<_> =
        text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()).collect();
    words.join(" ").chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(artist: &str, title: &str) -> Option<String> {
        track_key(&Track { artist: Some(artist.into()), title: Some(title.into()), ..Track::default() })
    }

    #[test]
    fn case_and_space_make_no_difference_and_all_else_does() {
        let plain = key("Die Ärzte", "Schrei nach Liebe");
        assert_eq!(plain.as_deref(), Some("die ärzte\u{1f}schrei nach liebe"));
        assert_eq!(key("  DIE \t ÄRZTE\n", "schrei\u{a0}nach  LIEBE "), plain);
        assert_eq!(key("STRASSE", "ΟΔΟΣ"), key("Straße", "οδος"));
        assert_ne!(key("Die Ärzte", "Schrei nach Liebe (live)"), plain);
        assert_ne!(key("a b", "c"), key("a", "b c"));
    }

    #[test]
    fn without_artist_and_title_there_is_no_key() {
        assert_eq!(track_key(&Track { title: Some("t".into()), ..Track::default() }), None);
        assert_eq!(track_key(&Track { artist: Some("a".into()), ..Track::default() }), None);
        assert_eq!(key(" ", "t"), None);
        assert_eq!(key("a", "\u{3000}"), None);
    }

    #[test]
    fn what_stands_for_an_unknown_artist_or_title_is_none() {
        for artist in
            ["Unknown Artist", "<unknown>", "[Various Artists]", "VA", "Unbekannter  Künstler", "unknown artist"]
        {
            assert_eq!(key(artist, "Westerland"), None, "{artist}");
        }
        for title in
            ["Track 1", "track01", "01 - Track", "Audio Track 12", "AudioTrack 07", "Untitled", "[untitled] (2)", "07"]
        {
            assert_eq!(key("Die Ärzte", title), None, "{title}");
        }
        for (artist, title) in
            [("!!!", "Must Be the Moon"), ("311", "Down"), ("The Unknown", "Track of My Tears"), ("X", "Song 2 Go")]
        {
            assert!(key(artist, title).is_some(), "{artist}: {title}");
        }
    }

    #[test]
    fn a_long_key_is_short_enough_for_an_index() {
        let long = "界".repeat(500);
        let longer = format!("{long}!");
        assert_eq!(key(&long, &long).unwrap().len(), 64);
        assert_ne!(key(&long, &long), key(&long, &longer));
    }
}
