//! One track's analysis, in steps of one batch.

use web_time::{Duration, Instant};

use crate::{
    AudioError, Engine, MediaSource, PatchOutput, SAMPLE_RATE, frames::Frames, guard, network::PATCH_FRAMES, parallel,
};

/// Minimum number of samples at 16 kHz for one patch: frame 186 must exist, and the number of frames is ceil(n / 256) +
/// 1.
const MIN_SAMPLES: u64 = 256 * (PATCH_FRAMES as u64 - 2) + 1;

/// A track whose loudest sample is at most this is called silent: −80 dB of full scale.
const SILENCE_PEAK: f32 = 1e-4;

/// Limits for a track.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Size of the file, in bytes.
    pub max_bytes: u64,
    /// Length of the audio, in seconds.
    pub max_seconds: u64,
}

/// A track being analysed. Drop it to give up.
pub struct Track<'e> {
    engine: &'e Engine,
    frames: Frames,
    /// Patches in the next batch.
    batch: usize,
    embedding: Mean,
    tags: Mean,
    analysing: Duration,
}

/// Result of a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Step {
    /// More remains. Carries the share of the file read so far.
    More {
        /// 0 to 1.
        fraction: f32,
    },
    /// Every patch is computed; call [`Track::finish`].
    Finished,
}

/// Time spent in each part. The next batch is decoded during the analysis of the current one, so the sum can exceed the
/// elapsed time.
#[derive(Debug, Clone, Copy, Default)]
pub struct Elapsed {
    /// Decoding, resampling, log-mel.
    pub decode: Duration,
    /// The network.
    pub analyse: Duration,
}

/// A track's vector and its metadata.
#[derive(Debug, Clone)]
pub struct Analysis {
    /// Mean of the patches' embeddings.
    pub embedding: Vec<f32>,
    /// Mean of the patches' tag activations, in the model's tag order.
    pub tags: Vec<f32>,
    /// Number of patches averaged.
    pub patches: u32,
    /// Length of the decoded audio, in seconds.
    pub seconds: f64,
    /// No sample is louder than −80 dB of full scale; the vector says nothing about music.
    pub is_silent: bool,
    /// The file is cut off or has gaps; the vector covers only the part that could be decoded.
    pub is_truncated: bool,
    /// Time spent in each part.
    pub elapsed: Elapsed,
}

impl Analysis {
    /// Warnings for users of the vector: `silent`, `truncated`.
    #[must_use]
    pub fn flags(&self) -> Vec<String> {
        [(self.is_silent, "silent"), (self.is_truncated, "truncated")]
            .into_iter()
            .filter(|(is, _)| *is)
            .map(|(_, flag)| flag.to_owned())
            .collect()
    }
}

impl<'e> Track<'e> {
    pub(crate) fn open(
        engine: &'e Engine,
        audio: Box<dyn MediaSource>,
        extension: Option<&str>,
        limits: Limits,
    ) -> Result<Self, AudioError> {
        let frames = Frames::open(audio, extension, limits)?;
        let (batch, _) = engine.device().backend.batches();
        Ok(Self { engine, frames, batch, embedding: Mean::default(), tags: Mean::default(), analysing: Duration::ZERO })
    }

    /// Computes a batch of patches and decodes the next batch at the same time.
    ///
    /// # Errors
    /// When the file exceeds a limit or cannot be read, or the device fails or panics. Damage is no error: see
    /// [`Analysis::is_truncated`]. After an error the track is unusable.
    pub async fn step(&mut self) -> Result<Step, AudioError> {
        self.step_with(|_| ()).await
    }

    /// Like [`Track::step`], but passes each patch's own output to `look`.
    ///
    /// # Errors
    /// As [`Track::step`].
    pub async fn step_with(&mut self, look: impl FnMut(&PatchOutput)) -> Result<Step, AudioError> {
        let step = guard::caught_future(self.step_unguarded(look)).await;
        step.unwrap_or_else(|message| Err(AudioError::Device(format!("it crashed: {message}"))))
    }

    async fn step_unguarded(&mut self, look: impl FnMut(&PatchOutput)) -> Result<Step, AudioError> {
        // The first batch is small because it is decoded up front: the cores get work sooner.
        self.frames.fill(self.batch)?;
        let log_mel = self.frames.take(self.batch);
        let (_, most) = self.engine.device().backend.batches();
        self.batch = (2 * self.batch).min(most);
        let analysis = async {
            let start = Instant::now();
            (self.engine.patches(&log_mel).await, start.elapsed())
        };
        let (filled, (outputs, elapsed)) = parallel::join(|| self.frames.fill(self.batch), analysis).await;
        self.analysing += elapsed;
        let outputs = outputs?;
        filled?;
        outputs.iter().for_each(|output| {
            self.embedding.add(&output.embedding);
            self.tags.add(&output.tags);
        });
        outputs.iter().for_each(look);
        Ok(if self.frames.is_done() { Step::Finished } else { Step::More { fraction: self.frames.decoder.fraction() } })
    }

    /// The track's vector, once [`Step::Finished`].
    ///
    /// # Errors
    /// [`AudioError::TooShort`] when it had no patch.
    pub fn finish(self) -> Result<Analysis, AudioError> {
        let seconds = self.frames.decoder.seconds();
        if self.embedding.count == 0 {
            return Err(AudioError::TooShort { seconds, minimum: MIN_SAMPLES as f64 / f64::from(SAMPLE_RATE) });
        }
        Ok(Analysis {
            patches: self.embedding.count,
            embedding: self.embedding.value(),
            tags: self.tags.value(),
            seconds,
            is_silent: self.frames.decoder.peak() < SILENCE_PEAK,
            is_truncated: self.frames.decoder.is_truncated(),
            elapsed: Elapsed { decode: self.frames.elapsed, analyse: self.analysing },
        })
    }
}

/// A running mean, summed in f64 so that its precision does not depend on the number of patches.
#[derive(Default)]
struct Mean {
    sums: Vec<f64>,
    count: u32,
}

impl Mean {
    fn add(&mut self, numbers: &[f32]) {
        self.sums.resize(numbers.len(), 0.0);
        self.sums.iter_mut().zip(numbers).for_each(|(sum, &number)| *sum += f64::from(number));
        self.count += 1;
    }

    fn value(&self) -> Vec<f32> {
        self.sums.iter().map(|sum| (sum / f64::from(self.count.max(1))) as f32).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fewest_samples_of_a_patch_are_the_peers() {
        assert_eq!(MIN_SAMPLES, 47_361);
        let frames = |samples: u64| samples.div_ceil(256) + 1;
        assert_eq!(frames(MIN_SAMPLES), PATCH_FRAMES as u64);
        assert_eq!(frames(MIN_SAMPLES - 1), PATCH_FRAMES as u64 - 1);
    }
}
