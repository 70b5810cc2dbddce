//! Recomputes some patches of a track.

use crate::{AudioError, Engine, Limits, MediaSource, frames::Frames, guard};

/// Result of recomputing a few patches of a track.
#[derive(Debug, Clone, PartialEq)]
pub struct Recheck {
    /// Embeddings of the requested patches, in order; patches beyond the end of the track are left out.
    pub embeddings: Vec<Vec<f32>>,
    /// Patches in the track.
    pub patches: u32,
    /// Length of the decoded audio, in seconds.
    pub seconds: f64,
}

/// Decodes a file and computes only the requested patches. For a few patches this is a third of the work of a whole
/// analysis. `indices` count from 0 and ascend.
///
/// # Errors
/// When the file cannot be read or decoded, exceeds a limit, or the device fails or panics.
pub async fn recheck(
    engine: &Engine,
    audio: Box<dyn MediaSource>,
    extension: Option<&str>,
    limits: Limits,
    indices: &[u32],
) -> Result<Recheck, AudioError> {
    let rechecked = guard::caught_future(recheck_unguarded(engine, audio, extension, limits, indices)).await;
    rechecked.unwrap_or_else(|message| Err(AudioError::Device(format!("it crashed: {message}"))))
}

async fn recheck_unguarded(
    engine: &Engine,
    audio: Box<dyn MediaSource>,
    extension: Option<&str>,
    limits: Limits,
    indices: &[u32],
) -> Result<Recheck, AudioError> {
    let mut frames = Frames::open(audio, extension, limits)?;
    let mut wanted = indices.iter().peekable();
    let mut embeddings = Vec::with_capacity(indices.len());
    let mut patches = 0;
    loop {
        frames.fill(1)?;
        let log_mel = frames.take(1);
        if log_mel.is_empty() {
            break;
        }
        if wanted.next_if_eq(&&patches).is_some() {
            embeddings.extend(engine.patches(&log_mel).await?.into_iter().map(|output| output.embedding));
        }
        patches += 1;
    }
    Ok(Recheck { embeddings, patches, seconds: frames.decoder.seconds() })
}
