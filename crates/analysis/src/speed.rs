//! How fast a device is, from a file's samples to a vector, as far as that does not depend on the file's format.

use std::io::Cursor;

use web_time::{Duration, Instant};

use crate::{AudioError, Engine, Limits, Step};

/// Length of the audio: 32 patches, two of a GPU's longest runs.
const SECONDS: u32 = 50;

const RATE: u32 = 44_100;

/// Bounds that the audio is far from.
const LIMITS: Limits = Limits { max_bytes: 1 << 30, max_seconds: 3600 };

impl Engine {
    /// Patches a second, over at least so long a time, after some that do not count: a device compiles and warms up with
    /// these. Takes as long as asked and two batches more.
    ///
    /// # Errors
    /// When the device fails.
    pub async fn speed(&self, at_least: Duration) -> Result<f64, AudioError> {
        let audio = noise();
        let (mut start, mut patches) = (None, 0u32);
        loop {
            let mut track = self.track(Box::new(Cursor::new(audio.clone())), Some("wav"), LIMITS)?;
            loop {
                let step = track.step_with(|_| patches += 1).await?;
                match start {
                    // The first batches are smaller than those that follow, or compile kernels.
                    None if patches >= 16 => (start, patches) = (Some(Instant::now()), 0),
                    Some(start) if Instant::now() - start >= at_least => {
                        return Ok(f64::from(patches) / start.elapsed().as_secs_f64());
                    }
                    None | Some(_) => {}
                }
                if step == Step::Finished {
                    break;
                }
            }
        }
    }
}

/// A WAV file of noise, in 16 bits and mono.
fn noise() -> Vec<u8> {
    let bytes = 2 * RATE * SECONDS;
    let mut wav = Vec::with_capacity(44 + bytes as usize);
    wav.extend_from_slice(b"RIFF");
    wav.extend((36 + bytes).to_le_bytes());
    wav.extend_from_slice(b"WAVEfmt ");
    wav.extend(16u32.to_le_bytes());
    // PCM, one channel; Hz, bytes a second; bytes and bits a sample.
    wav.extend([1u16, 1].map(u16::to_le_bytes).as_flattened());
    wav.extend([RATE, 2 * RATE].map(u32::to_le_bytes).as_flattened());
    wav.extend([2u16, 16].map(u16::to_le_bytes).as_flattened());
    wav.extend_from_slice(b"data");
    wav.extend(bytes.to_le_bytes());
    let sample = |i: u32| (i.wrapping_mul(2_654_435_761) >> 18) as i16 - (1 << 13);
    wav.extend((0..RATE * SECONDS).flat_map(|i| sample(i).to_le_bytes()));
    wav
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::Backend;

    #[test]
    fn a_device_is_timed_on_whole_batches() {
        let model = chaarfm_models::default();
        let engine = Engine::open(Backend::Flex, model, chaarfm_models::weights(model));
        let engine = pollster::block_on(engine).expect("the CPU computes");
        let mut track = engine.track(Box::new(Cursor::new(noise())), Some("wav"), LIMITS).expect("a sound file");
        while pollster::block_on(track.step()).expect("sound") != Step::Finished {}
        let analysis = track.finish().expect("a vector");
        assert_eq!((analysis.patches, analysis.is_silent, analysis.is_truncated), (32, false, false));
        let start = Instant::now();
        let speed = pollster::block_on(engine.speed(Duration::from_millis(100))).expect("the CPU computes");
        assert!(start.elapsed() >= Duration::from_millis(100) && speed > 1.0, "{speed} patches a second");
    }
}
