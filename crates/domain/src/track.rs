//! Tracks, as their files describe them.

use serde::{Deserialize, Serialize};

/// Metadata known before a track is analysed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Track {
    /// Artist, as tagged.
    #[serde(default)]
    pub artist: Option<String>,
    /// Title, as tagged.
    #[serde(default)]
    pub title: Option<String>,
    /// Album, as tagged.
    #[serde(default)]
    pub album: Option<String>,
    /// Path within its library, with `/` between folders.
    pub file: String,
}

impl Track {
    /// A label for people: "Artist – Title", or the file's name without its folders.
    #[must_use]
    pub fn label(&self) -> String {
        match (&self.artist, &self.title) {
            (Some(artist), Some(title)) => format!("{artist} – {title}"),
            (None, Some(title)) => title.clone(),
            _ => self.file.rsplit('/').next().unwrap_or(&self.file).to_owned(),
        }
    }
}

/// An audio file that a scan has found.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Its metadata.
    pub track: Track,
    /// Its size.
    pub bytes: u64,
    /// Changes when the file is replaced, even by one of the same size; none when unknown.
    pub version: Option<String>,
    /// Length in seconds according to the file, which may be wrong.
    pub seconds: Option<f64>,
    /// The content's hash, or why the file cannot be a job.
    pub content: Result<String, String>,
}

impl Found {
    /// A file of which only the path is known.
    #[must_use]
    pub fn unread(file: String) -> Self {
        let track = Track { file, ..Track::default() };
        Self { track, bytes: 0, version: None, seconds: None, content: Err("has not been read".to_owned()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_track_without_tags_is_called_by_its_file() {
        let mut track = Track { file: "a/b.mp3".into(), ..Track::default() };
        assert_eq!(track.label(), "b.mp3");
        track.title = Some("T".into());
        assert_eq!(track.label(), "T");
        track.artist = Some("A".into());
        assert_eq!(track.label(), "A – T");
    }
}
