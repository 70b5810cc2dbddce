//! Removes from a bug report everything that identifies the machine's user or grants access.

use std::env;

use chaarfm_protocol::PairingCode;
use sysinfo::System;

/// Words with at least this many characters, both letters and digits, are treated as tokens.
const TOKEN_CHARS: usize = 24;

/// Shorter names would match parts of many ordinary words.
const MIN_NAME_CHARS: usize = 3;

/// The names of a machine and its user.
#[derive(Debug, Default)]
pub struct Secrets {
    /// Texts that are replaced anywhere, and their replacements.
    texts: Vec<(String, &'static str)>,
    /// Words that are replaced, and their replacements.
    words: Vec<(String, &'static str)>,
}

impl Secrets {
    /// The secrets of this machine.
    #[must_use]
    pub fn of_this_machine() -> Self {
        let home = directories::BaseDirs::new().map(|folders| folders.home_dir().to_string_lossy().into_owned());
        let users = ["USER", "LOGNAME", "USERNAME"].into_iter().filter_map(|name| env::var(name).ok());
        Self::new(home.as_deref(), users, System::host_name().as_deref())
    }

    fn new(home: Option<&str>, users: impl Iterator<Item = String>, host: Option<&str>) -> Self {
        let texts = home.filter(|home| home.len() > 1).map(|home| (home.to_owned(), "~")).into_iter().collect();
        let of_home = home.and_then(|home| home.rsplit(['/', '\\']).next()).map(str::to_owned);
        let users = users.chain(of_home).map(|user| (user, "<user>"));
        let host = host.map(|host| (host.to_owned(), "<machine>"));
        let words = users.chain(host).filter(|(name, _)| name.chars().count() >= MIN_NAME_CHARS).collect();
        Self { texts, words }
    }

    /// The text without pairing codes, tokens, passwords in URLs, and the names of user, machine and home folder.
    #[must_use]
    pub fn strip(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (secret, instead) in &self.texts {
            text = text.replace(secret, instead);
        }
        let mut stripped = String::with_capacity(text.len());
        for part in text.split_inclusive(char::is_whitespace) {
            self.strip_part(part, &mut stripped);
        }
        stripped
    }

    /// Strips a part that has no white space except at its end.
    fn strip_part(&self, part: &str, out: &mut String) {
        let mut rest = part;
        if let Some((scheme, after)) = part.split_once("://") {
            // Credentials end at the last @ before the path; the query after ? may be secret too.
            let authority = after.find(['/', '?', '#']).unwrap_or(after.len());
            if let Some(at) = after[..authority].rfind('@') {
                out.push_str(&format!("{scheme}://<credentials>"));
                rest = &after[at..];
            }
            if let Some(query) = rest.find('?') {
                let end = rest.trim_end().len();
                self.strip_words(&rest[..query], out);
                out.push_str("?<query>");
                out.push_str(&rest[end..]);
                return;
            }
        }
        self.strip_words(rest, out);
    }

    fn strip_words(&self, text: &str, out: &mut String) {
        let is_inside = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_');
        let mut rest = text;
        while !rest.is_empty() {
            let word = rest.find(|c| !is_inside(c)).unwrap_or(rest.len());
            out.push_str(&self.stripped_word(&rest[..word]));
            let between = rest[word..].find(is_inside).map_or(rest.len(), |start| word + start);
            out.push_str(&rest[word..between]);
            rest = &rest[between..];
        }
    }

    fn stripped_word(&self, word: &str) -> String {
        let is_token = word.len() >= TOKEN_CHARS
            && word.bytes().any(|byte| byte.is_ascii_digit())
            && word.bytes().any(|byte| byte.is_ascii_alphabetic());
        let known = self.words.iter().find(|(secret, _)| secret.eq_ignore_ascii_case(word));
        match known {
            Some((_, instead)) => (*instead).to_owned(),
            // Only codes in their usual form with dashes; a plain word of nine letters is not a code.
            None if word.contains('-') && word.parse::<PairingCode>().is_ok() => "<code>".to_owned(),
            None if is_token => "<token>".to_owned(),
            // The user's or machine's name may be part of the word.
            None => word.split_inclusive(['-', '_']).map(|part| self.stripped_part_of_word(part)).collect(),
        }
    }

    fn stripped_part_of_word(&self, part: &str) -> String {
        let bare = part.trim_end_matches(['-', '_']);
        let known = self.words.iter().find(|(secret, _)| secret.eq_ignore_ascii_case(bare));
        known.map_or_else(|| part.to_owned(), |(_, instead)| format!("{instead}{}", &part[bare.len()..]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_opens_doors_or_names_somebody_is_left() {
        let secrets = Secrets::new(Some("/home/anna"), ["anna".to_owned()].into_iter(), Some("annas-laptop"));
        for (text, stripped) in [
            ("/home/anna/.cache/chaarfm: 3 GiB free", "~/.cache/chaarfm: 3 GiB free"),
            ("http://h:8080/join/K7Q-M4X-WDP refused", "http://h:8080/join/<code> refused"),
            ("k7q-m4x-wdp, and more", "<code>, and more"),
            ("http://me:p@ss@proxy:3128/", "http://<credentials>@proxy:3128/"),
            ("https://h/api/audio/7?lease=abc&x=1 failed\n", "https://h/api/audio/7?<query> failed\n"),
            ("postgres://u:p@db/music?sslmode=off", "postgres://<credentials>@db/music?<query>"),
            ("token 0123456789abcdef0123456789abcdef!", "token <token>!"),
            ("ANNA on annas-laptop, by anna-admin", "<user> on <machine>, by <user>-admin"),
            ("Banana, annabelle and Vulkan 1.3.280", "Banana, annabelle and Vulkan 1.3.280"),
            ("NVIDIA-SMI driver 550.54.14", "NVIDIA-SMI driver 550.54.14"),
            ("", ""),
        ] {
            assert_eq!(secrets.strip(text), stripped);
        }
    }

    #[test]
    fn an_administrators_home_is_stripped_too_and_a_short_name_spoils_nothing() {
        let secrets = Secrets::new(Some(r"C:\Users\jo"), ["jo".to_owned()].into_iter(), None);
        assert_eq!(secrets.strip(r"C:\Users\jo\AppData is jo's"), r"~\AppData is jo's");
        assert_eq!(Secrets::new(Some("/"), std::iter::empty(), None).strip("/var/lib/x"), "/var/lib/x");
    }
}
