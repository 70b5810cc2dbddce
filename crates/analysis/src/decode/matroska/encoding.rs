//! Undoes the encodings applied to a track's frames (RFC 9559, section 5.1.4.1.31).

use miniz_oxide::inflate::decompress_to_vec_zlib_with_limit;

use super::ebml;
use crate::AudioError;

/// Maximum number of encodings of a track. Writers use one.
const MAX_ENCODINGS: usize = 8;

/// One step.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// Compressed by zlib (RFC 1950).
    Zlib,
    /// A common prefix was removed from all frames.
    Stripped(Vec<u8>),
}

/// The steps that restore the decoder's input.
#[derive(Debug, Default)]
pub(super) struct Encodings {
    frames: Vec<Step>,
    private: Vec<Step>,
}

/// The bits of an encoding's scope.
const FRAMES: u64 = 1;
const PRIVATE: u64 = 2;

impl Encodings {
    /// Reads the element `ContentEncodings`.
    ///
    /// # Errors
    /// Names the encoding that cannot be undone.
    pub(super) fn read(body: &[u8]) -> Result<Self, AudioError> {
        let mut steps = Vec::new();
        for (_, encoding) in ebml::read(body).filter(|(id, _)| *id == 0x6240).take(MAX_ENCODINGS) {
            let (mut order, mut scope, mut step) = (0, FRAMES, Ok(Step::Zlib));
            for (id, body) in ebml::read(encoding) {
                match id {
                    0x5031 => order = ebml::unsigned(body),
                    0x5032 => scope = ebml::unsigned(body),
                    0x5033 if ebml::unsigned(body) == 1 => step = Err(AudioError::Protected("encrypted Matroska")),
                    0x5034 if step.is_ok() => step = compression(body),
                    _ => {}
                }
            }
            steps.push((order, scope, step?));
        }
        // The last encoding applied is undone first.
        steps.sort_by_key(|(order, ..)| std::cmp::Reverse(*order));
        let mut encodings = Self::default();
        for (_, scope, step) in steps {
            if scope & PRIVATE != 0 {
                encodings.private.push(match &step {
                    Step::Zlib => Step::Zlib,
                    Step::Stripped(bytes) => Step::Stripped(bytes.clone()),
                });
            }
            if scope & FRAMES != 0 {
                encodings.frames.push(step);
            }
        }
        Ok(encodings)
    }

    /// The original frame, at most `limit` bytes; none if it is damaged.
    pub(super) fn frame(&self, frame: Vec<u8>, limit: usize) -> Option<Vec<u8>> {
        undone(&self.frames, frame, limit)
    }

    /// The codec's own parameters in their original form.
    pub(super) fn private(&self, private: Vec<u8>, limit: usize) -> Option<Vec<u8>> {
        undone(&self.private, private, limit)
    }
}

fn undone(steps: &[Step], bytes: Vec<u8>, limit: usize) -> Option<Vec<u8>> {
    steps.iter().try_fold(bytes, |bytes, step| match step {
        Step::Zlib => decompress_to_vec_zlib_with_limit(&bytes, limit).ok(),
        Step::Stripped(start) => Some([&start[..], &bytes].concat()),
    })
}

fn compression(body: &[u8]) -> Result<Step, AudioError> {
    let (mut algorithm, mut settings) = (0, Vec::new());
    for (id, body) in ebml::read(body) {
        match id {
            0x4254 => algorithm = ebml::unsigned(body),
            0x4255 => settings = body.to_vec(),
            _ => {}
        }
    }
    match algorithm {
        0 => Ok(Step::Zlib),
        1 => Err(AudioError::UnsupportedFormat("Matroska compressed by bzlib".to_owned())),
        2 => Err(AudioError::UnsupportedFormat("Matroska compressed by LZO".to_owned())),
        3 => Ok(Step::Stripped(settings)),
        other => Err(AudioError::UnsupportedFormat(format!("Matroska compressed in the unknown way {other}"))),
    }
}
