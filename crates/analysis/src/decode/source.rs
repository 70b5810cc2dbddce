//! The file that all readers share: tracks the read position and read errors, and can be opened repeatedly.

use std::{
    io::{Error, ErrorKind, Read, Result, Seek, SeekFrom},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use symphonia::core::io::MediaSource;

/// A file or a part of one. All [`View`]s share the position, so only the latest one is usable.
#[derive(Clone)]
pub(super) struct File {
    shared: Arc<Shared>,
    /// Its byte range in the whole file; without an end, up to the end of the file.
    start: u64,
    end: Option<u64>,
}

struct Shared {
    source: Mutex<Box<dyn MediaSource>>,
    /// None if unknown: files generated on reading, as in `/proc`, report 0.
    length: Option<u64>,
    /// Position in the whole file.
    at: AtomicU64,
    /// The latest read error other than the end of the file.
    failure: Mutex<Option<(ErrorKind, String)>>,
}

/// A file opened at its start.
pub(super) struct View {
    file: File,
}

impl File {
    pub(super) fn new(source: Box<dyn MediaSource>) -> Self {
        let length = source.byte_len().filter(|&length| length > 0);
        let source = Mutex::new(source);
        let shared = Arc::new(Shared { source, length, at: AtomicU64::new(0), failure: Mutex::new(None) });
        Self { shared, start: 0, end: None }
    }

    /// A byte range as a file of its own; up to the end of the file if `end` is none.
    pub(super) fn part(&self, start: u64, end: Option<u64>) -> Self {
        let ends = [end.map(|end| self.start.saturating_add(end)), self.end, self.shared.length];
        let end = ends.into_iter().flatten().min();
        Self { shared: Arc::clone(&self.shared), start: self.start.saturating_add(start), end }
    }

    /// Opens the file at its start.
    ///
    /// # Errors
    /// When the file cannot be read again, such as a pipe.
    pub(super) fn view(&self) -> Result<View> {
        self.source().seek(SeekFrom::Start(self.start))?;
        self.shared.at.store(self.start, Ordering::Relaxed);
        Ok(View { file: self.clone() })
    }

    /// Size in bytes.
    pub(super) fn length(&self) -> Option<u64> {
        self.end.or(self.shared.length).map(|end| end.saturating_sub(self.start))
    }

    /// Share of the bytes read so far, 0 to 1; 0 if the length is unknown.
    pub(super) fn fraction(&self) -> f32 {
        let at = self.shared.at.load(Ordering::Relaxed) as f64;
        self.shared.length.map_or(0.0, |length| (at / length as f64).min(1.0) as f32)
    }

    /// The latest read error, if any. Container readers may pass such an error on, report it as the end of the file, or
    /// hide it.
    pub(super) fn failure(&self) -> Option<Error> {
        let failure = self.shared.failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        failure.map(|(kind, message)| Error::new(kind, message))
    }

    fn source(&self) -> MutexGuard<'_, Box<dyn MediaSource>> {
        self.shared.source.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn noted<T>(&self, result: Result<T>) -> Result<T> {
        result.inspect_err(|error| {
            if error.kind() != ErrorKind::Interrupted {
                let failure = (error.kind(), error.to_string());
                *self.shared.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure);
            }
        })
    }
}

impl Read for View {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let at = self.file.shared.at.load(Ordering::Relaxed);
        let left = self.file.end.map_or(u64::MAX, |end| end.saturating_sub(at));
        let wanted = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let read = self.file.source().read(&mut buffer[..wanted]);
        let read = self.file.noted(read)?;
        self.file.shared.at.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

impl Seek for View {
    fn seek(&mut self, to: SeekFrom) -> Result<u64> {
        // The position comes from the file's headers, so a failed seek is not recorded as a read error.
        let to = match to {
            SeekFrom::Start(at) => SeekFrom::Start(self.file.start.saturating_add(at)),
            SeekFrom::End(by) if self.file.end.is_some() => {
                let at = self.file.end.unwrap_or_default().checked_add_signed(by).filter(|&at| at >= self.file.start);
                SeekFrom::Start(at.ok_or(ErrorKind::InvalidInput)?)
            }
            to => to,
        };
        let at = self.file.source().seek(to)?;
        self.file.shared.at.store(at, Ordering::Relaxed);
        Ok(at.saturating_sub(self.file.start))
    }
}

impl MediaSource for View {
    fn is_seekable(&self) -> bool {
        self.file.source().is_seekable()
    }

    fn byte_len(&self) -> Option<u64> {
        self.file.length()
    }
}
