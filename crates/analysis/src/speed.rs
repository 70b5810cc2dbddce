//! Speed of a device from a file's samples to a vector, as far as it does not depend on the file's format.

use std::io::{self, Read, Seek, SeekFrom};

use symphonia::core::io::MediaSource;
use web_time::{Duration, Instant};

use crate::{AudioError, Engine, Limits, Step};

/// Length of the audio, in seconds: long enough that the first batch, during which nothing is decoded, does not matter.
const SECONDS: u32 = 3000;

const RATE: u32 = 44_100;

/// Length of a WAV file's header, in bytes.
const HEADER: usize = 44;

/// Limits that the audio stays well below.
const LIMITS: Limits = Limits { max_bytes: 1 << 30, max_seconds: 3600 };

impl Engine {
    /// Measures patches per second over at least the given time. The first patches do not count, because the device
    /// compiles and warms up with them. Takes two batches longer than the given time.
    ///
    /// # Errors
    /// When the device fails.
    pub async fn speed(&self, at_least: Duration) -> Result<f64, AudioError> {
        let (mut start, mut patches) = (None, 0u32);
        loop {
            let mut track = self.track(Box::new(Noise::new()), Some("wav"), LIMITS)?;
            loop {
                let step = track.step_with(|_| patches += 1).await?;
                match start {
                    // The first batches are smaller than later ones, or compile kernels.
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

/// A WAV file of noise, 16 bits and mono, generated as it is read.
struct Noise {
    header: [u8; HEADER],
    position: u64,
}

impl Noise {
    const BYTES: u32 = 2 * RATE * SECONDS;

    fn new() -> Self {
        let mut header = Vec::with_capacity(HEADER);
        header.extend_from_slice(b"RIFF");
        header.extend((36 + Self::BYTES).to_le_bytes());
        header.extend_from_slice(b"WAVEfmt ");
        header.extend(16u32.to_le_bytes());
        // PCM, one channel; Hz, bytes per second; bytes and bits per sample.
        header.extend([1u16, 1].map(u16::to_le_bytes).as_flattened());
        header.extend([RATE, 2 * RATE].map(u32::to_le_bytes).as_flattened());
        header.extend([2u16, 16].map(u16::to_le_bytes).as_flattened());
        header.extend_from_slice(b"data");
        header.extend(Self::BYTES.to_le_bytes());
        Self { header: header.try_into().expect("a header has its length"), position: 0 }
    }

    fn length() -> u64 {
        HEADER as u64 + u64::from(Self::BYTES)
    }

    fn byte(&self, position: u64) -> u8 {
        let Some(behind) = position.checked_sub(HEADER as u64) else { return self.header[position as usize] };
        // From −8192 to 8191.
        let sample = (((behind / 2) as u32).wrapping_mul(2_654_435_761) >> 18) as i16 - (1 << 13);
        sample.to_le_bytes()[(behind % 2) as usize]
    }
}

impl Read for Noise {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = buffer.len().min((Self::length() - self.position) as usize);
        for (place, position) in buffer[..count].iter_mut().zip(self.position..) {
            *place = self.byte(position);
        }
        self.position += count as u64;
        Ok(count)
    }
}

impl Seek for Noise {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let to = match to {
            SeekFrom::Start(to) => Some(to),
            SeekFrom::End(by) => Self::length().checked_add_signed(by),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
        };
        self.position = to.filter(|to| *to <= Self::length()).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

impl MediaSource for Noise {
    fn is_seekable(&self) -> bool {
        true
    }

    fn byte_len(&self) -> Option<u64> {
        Some(Self::length())
    }
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
        let mut track = engine.track(Box::new(Noise::new()), Some("wav"), LIMITS).expect("a sound file");
        pollster::block_on(track.step()).expect("sound");
        let analysis = track.finish().expect("a vector");
        assert!(analysis.patches > 0 && !analysis.is_silent, "{analysis:?}");
        let start = Instant::now();
        let speed = pollster::block_on(engine.speed(Duration::from_millis(100))).expect("the CPU computes");
        assert!(start.elapsed() >= Duration::from_millis(100) && speed > 1.0, "{speed} patches a second");
    }
}
