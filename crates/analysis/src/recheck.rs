//! Some patches of a track, computed once more.

use crate::{AudioError, Engine, Limits, MediaSource, frames::Frames, guard};

/// What a look at a few patches of a track shows.
#[derive(Debug, Clone, PartialEq)]
pub struct Recheck {
    /// Embeddings of the patches that were asked for, in their order; those that the track does not have are missing at the end.
    pub embeddings: Vec<Vec<f32>>,
    /// Patches in the track.
    pub patches: u32,
    /// Length of the decoded audio, in seconds.
    pub seconds: f64,
}

/// Decodes a file and computes only these patches of it, which for a few of them is a third of the work of a whole analysis.
/// `indices` count from 0 and ascend.
///
/// # Errors
/// When the file cannot be read or decoded, is over a limit, or the device fails, to which a panic counts.
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
