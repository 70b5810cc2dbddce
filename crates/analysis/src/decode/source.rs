//! A media source that tells how far it has been read.

use std::{
    io::{Read, Result, Seek, SeekFrom},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use symphonia::core::io::MediaSource;

/// Wraps a source; its [`Position`] moves along.
pub(super) struct Watched {
    source: Box<dyn MediaSource>,
    at: Arc<AtomicU64>,
}

/// How far a source has been read.
pub(super) struct Position {
    at: Arc<AtomicU64>,
    length: Option<u64>,
}

impl Watched {
    pub(super) fn new(source: Box<dyn MediaSource>) -> (Self, Position) {
        let at = Arc::new(AtomicU64::new(0));
        let position = Position { at: Arc::clone(&at), length: source.byte_len() };
        (Self { source, at }, position)
    }
}

impl Position {
    /// Share of the bytes, 0 to 1; 0 where the length is not known.
    pub(super) fn fraction(&self) -> f32 {
        let at = self.at.load(Ordering::Relaxed) as f64;
        self.length.map_or(0.0, |length| (at / length.max(1) as f64).min(1.0) as f32)
    }
}

impl Read for Watched {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let read = self.source.read(buffer)?;
        self.at.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

impl Seek for Watched {
    fn seek(&mut self, to: SeekFrom) -> Result<u64> {
        let at = self.source.seek(to)?;
        self.at.store(at, Ordering::Relaxed);
        Ok(at)
    }
}

impl MediaSource for Watched {
    fn is_seekable(&self) -> bool {
        self.source.is_seekable()
    }

    fn byte_len(&self) -> Option<u64> {
        self.source.byte_len()
    }
}
