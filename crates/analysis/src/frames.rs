//! A file as a stream of log-mel frames: decoded, downmixed, resampled and cut into runs of patches.

use web_time::{Duration, Instant};

use crate::{
    AudioError, Limits, MediaSource,
    decode::Decoder,
    dsp::{LogMel, MEL_BANDS, Resampler},
    network::{PATCH_FRAMES, PATCH_HOP, patches_in},
};

/// The frames of a file, starting at its next patch.
pub(crate) struct Frames {
    pub(crate) decoder: Decoder,
    /// The resampler and the rate in Hz it was made for.
    resampler: Option<(u32, Resampler)>,
    mel: LogMel,
    /// Log-mel frames, starting at the next patch.
    frames: Vec<f32>,
    is_at_end: bool,
    /// Time spent decoding.
    pub(crate) elapsed: Duration,
    /// Buffers of the decoding loop.
    decoded: Vec<f32>,
    resampled: Vec<f32>,
}

impl Frames {
    pub(crate) fn open(
        audio: Box<dyn MediaSource>,
        extension: Option<&str>,
        limits: Limits,
    ) -> Result<Self, AudioError> {
        let start = Instant::now();
        let decoder = Decoder::open(audio, extension, &limits)?;
        Ok(Self {
            decoder,
            resampler: None,
            mel: LogMel::new(),
            frames: Vec::new(),
            is_at_end: false,
            elapsed: start.elapsed(),
            decoded: Vec::new(),
            resampled: Vec::new(),
        })
    }

    /// Decodes until `patches` patches are available or the file ends.
    pub(crate) fn fill(&mut self, patches: usize) -> Result<(), AudioError> {
        let start = Instant::now();
        while !self.is_at_end && self.patches() < patches {
            self.decode()?;
        }
        self.elapsed += start.elapsed();
        Ok(())
    }

    /// Whether every patch has been taken.
    pub(crate) fn is_done(&self) -> bool {
        self.is_at_end && self.patches() == 0
    }

    /// The frames of the next patches, at most `patches` of them. Frames that a later patch shares are kept.
    pub(crate) fn take(&mut self, patches: usize) -> Vec<f32> {
        let count = self.patches().min(patches);
        if count == 0 {
            return Vec::new();
        }
        let taken = self.frames[..((count - 1) * PATCH_HOP + PATCH_FRAMES) * MEL_BANDS].to_vec();
        self.frames.drain(..count * PATCH_HOP * MEL_BANDS);
        taken
    }

    /// Whole patches in `frames`.
    fn patches(&self) -> usize {
        patches_in(self.frames.len() / MEL_BANDS).unwrap_or(0)
    }

    /// Decodes one packet; at the end of the file, also flushes the filters.
    fn decode(&mut self) -> Result<(), AudioError> {
        self.decoded.clear();
        self.resampled.clear();
        let more = self.decoder.next(&mut self.decoded)?;
        if let Some(rate) = self.decoder.rate() {
            // If the sample rate changes, each part is resampled as a signal of its own.
            if let Some((_, mut before)) = self.resampler.take_if(|(before, _)| *before != rate) {
                before.finish(&mut self.resampled);
            }
            let (_, resampler) = self.resampler.get_or_insert_with(|| (rate, Resampler::new(rate)));
            resampler.process(&self.decoded, &mut self.resampled);
            if !more {
                resampler.finish(&mut self.resampled);
            }
        }
        self.mel.process(&self.resampled, &mut self.frames);
        if !more {
            self.mel.finish(&mut self.frames);
            self.is_at_end = true;
        }
        Ok(())
    }
}
