//! True Audio, version 1 ("TTA1 format description", tausoft.org): frames of about a second, each with its own adaptive
//! filters and Rice codes.

use symphonia::core::{audio::Channels, errors::Error as SymphoniaError};

use super::{
    chunks::Pages,
    container::Content,
    sound::{Packets, Sound, pcm},
};
use crate::{AudioError, dsp::MAX_CHANNELS};

/// Header size in bytes, including its checksum.
const HEADER_BYTES: u64 = 22;

/// Maximum number of frames: two days.
const MAX_FRAMES: u64 = 1 << 18;

/// Maximum frame size in bytes.
const MAX_FRAME_BYTES: u32 = 16 << 20;

/// Returns the content of a TTA, or none if the file is not one; it begins with `start`.
///
/// # Errors
/// When the file cannot be read, or has content that is not supported.
pub(super) fn open(pages: &Pages<'_>, start: &[u8]) -> Result<Option<Content>, AudioError> {
    if !start.starts_with(b"TTA1") {
        return Ok(None);
    }
    let u16_at = |at: usize| start.get(at..).and_then(|b| b.first_chunk()).map_or(0, |&b| u16::from_le_bytes(b));
    let u32_at = |at: usize| start.get(at..).and_then(|b| b.first_chunk()).map_or(0, |&b| u32::from_le_bytes(b));
    let (format, channels, bits, rate, samples) = (u16_at(4), u16_at(6), u16_at(8), u32_at(10), u32_at(14));
    let bytes = u32::from(bits.div_ceil(8));
    let Some(codec) = pcm(bytes, false, false).filter(|_| format == 1 && bytes < 4) else {
        let what =
            if format == 2 { "encrypted TTA".to_owned() } else { format!("TTA of format {format}, {bits} bits") };
        return Err(AudioError::UnsupportedFormat(what));
    };
    if channels == 0 || usize::from(channels) > MAX_CHANNELS {
        return Err(AudioError::TooManyChannels(channels.into()));
    }
    let frame = u64::from(rate) * 256 / 245;
    let frames = u64::from(samples).div_ceil(frame.max(1));
    if frames > MAX_FRAMES {
        return Err(AudioError::Damaged(format!("TTA: {frames} frames; the limit is {MAX_FRAMES}")));
    }
    let table = pages.read(HEADER_BYTES, frames as usize * 4)?;
    let sizes: Vec<u32> = table.as_chunks().0.iter().map(|&bytes| u32::from_le_bytes(bytes)).collect();
    let file = pages.file().clone();
    // A checksum follows the table.
    let mut at = HEADER_BYTES + frames * 4 + 4;
    let (mut sizes, mut left) = (sizes.into_iter(), u64::from(samples));
    let next = move || {
        let Some(size) = sizes.next().filter(|_| left > 0) else { return Ok(None) };
        if size > MAX_FRAME_BYTES {
            return Err(SymphoniaError::DecodeError("tta: a frame of more than 16 MiB"));
        }
        let data = Pages::of(&file).read(at, size as usize).map_err(|error| match error {
            AudioError::Read(error) => SymphoniaError::IoError(error),
            _ => SymphoniaError::DecodeError("tta: cannot be read"),
        })?;
        at += u64::from(size);
        let count = left.min(frame);
        left -= count;
        let samples = decode(&data, channels.into(), bytes, count as usize);
        if samples.is_empty() {
            return Err(SymphoniaError::DecodeError("tta: damaged frame"));
        }
        Ok(Some(samples.iter().flat_map(|sample| sample.to_le_bytes().into_iter().take(bytes as usize)).collect()))
    };
    let packets =
        Packets::Made { next: Box::new(next), bytes: bytes * u32::from(channels), samples: Some(samples.into()) };
    let channels = Channels::Discrete(channels);
    let sound = Sound { codec, rate, channels, packets, convert: None, extra: None, start: 0, bytes: None };
    Ok(Some(Content::Sound(sound)))
}

/// Decodes the interleaved samples of a frame, as far as its bits reach.
fn decode(data: &[u8], channels: usize, bytes: u32, count: usize) -> Vec<i32> {
    let mut bits = Bits { data, at: 0 };
    let mut coders: Vec<Channel> = (0..channels).map(|_| Channel::new(bytes)).collect();
    let mut out = Vec::with_capacity(count.min(data.len() * 8) * channels);
    let mut samples = vec![0i32; channels];
    for _ in 0..count {
        for (coder, sample) in coders.iter_mut().zip(&mut samples) {
            let Some(residue) = coder.rice.next(&mut bits) else { return out };
            *sample = coder.predict(residue);
        }
        // Each channel is stored as the difference from the next; half of the one before is subtracted from the last.
        if let [.., before, last] = &mut samples[..] {
            *last = last.wrapping_add(*before / 2);
            for channel in (0..channels - 1).rev() {
                samples[channel] = samples[channel + 1].wrapping_sub(samples[channel]);
            }
        }
        out.extend_from_slice(&samples);
    }
    out
}

/// Bits, lowest of each byte first.
struct Bits<'a> {
    data: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn next(&mut self) -> Option<u32> {
        let bit = u32::from(self.data.get(self.at / 8)? >> (self.at % 8) & 1);
        self.at += 1;
        Some(bit)
    }

    /// Counts the ones before the next zero.
    fn ones(&mut self) -> Option<u32> {
        let mut ones = 0;
        while self.next()? == 1 {
            ones += 1;
        }
        Some(ones)
    }

    fn number(&mut self, bits: u32) -> Option<u32> {
        (0..bits).try_fold(0, |number, bit| Some(number | self.next()? << bit))
    }
}

/// Rice codes of two kinds, for most numbers and for larger ones. Each has a parameter that adapts to the mean of the
/// numbers.
struct Rice {
    small: Mean,
    large: Mean,
}

struct Mean {
    bits: u32,
    /// Sixteen times the mean.
    sum: u32,
}

impl Mean {
    fn follow(&mut self, number: u32) {
        let level = |bits: u32| 1u32.checked_shl(bits + 4).unwrap_or(1 << 31);
        self.sum = self.sum.wrapping_add(number).wrapping_sub(self.sum >> 4);
        if self.bits > 0 && self.sum < level(self.bits) {
            self.bits -= 1;
        } else if self.bits < 27 && self.sum > level(self.bits + 1) {
            self.bits += 1;
        }
    }
}

impl Rice {
    fn next(&mut self, bits: &mut Bits<'_>) -> Option<i32> {
        let ones = bits.ones()?;
        let mean = if ones == 0 { &self.small } else { &self.large };
        let mut number = (ones.saturating_sub(1) << mean.bits).wrapping_add(bits.number(mean.bits)?);
        if ones > 0 {
            self.large.follow(number);
            number = number.wrapping_add(1 << self.small.bits);
        }
        self.small.follow(number);
        let half = (number >> 1).cast_signed();
        Some(if number & 1 == 1 { half + 1 } else { -half })
    }
}

/// A channel's predictor state.
struct Channel {
    rice: Rice,
    weights: [i32; 8],
    signs: [i32; 8],
    history: [i32; 8],
    error: i32,
    shift: u32,
    before: i32,
    /// The share of the previous sample in the prediction: 1 − 2⁻ᵏ.
    k: u32,
}

impl Channel {
    fn new(bytes: u32) -> Self {
        let mean = || Mean { bits: 10, sum: 1 << 14 };
        Self {
            rice: Rice { small: mean(), large: mean() },
            weights: [0; 8],
            signs: [0; 8],
            history: [0; 8],
            error: 0,
            shift: if bytes == 2 { 9 } else { 10 },
            before: 0,
            k: if bytes == 1 { 4 } else { 5 },
        }
    }

    fn predict(&mut self, residue: i32) -> i32 {
        let (weights, signs, history) = (&mut self.weights, &mut self.signs, &mut self.history);
        for (weight, sign) in weights.iter_mut().zip(&*signs) {
            *weight = weight.wrapping_add(self.error.signum().wrapping_mul(*sign));
        }
        let products = weights.iter().zip(&*history);
        let sum = products.fold(1i32 << (self.shift - 1), |sum, (w, x)| sum.wrapping_add(w.wrapping_mul(*x)));
        signs.copy_within(1..5, 0);
        signs[4] = history[4] >> 30 | 1;
        signs[5] = (history[5] >> 30 | 2) & !1;
        signs[6] = (history[6] >> 30 | 2) & !1;
        signs[7] = (history[7] >> 30 | 4) & !3;
        self.error = residue;
        let sample = residue.wrapping_add(sum >> self.shift);
        // First- to third-order differences of the filtered signal.
        let [.., fifth, sixth, seventh] = *history;
        history.copy_within(1..5, 0);
        history[4] = fifth.wrapping_neg();
        history[5] = sixth.wrapping_neg();
        history[6] = sample.wrapping_sub(seventh);
        history[7] = sample;
        history[5] = history[5].wrapping_add(history[6]);
        history[4] = history[4].wrapping_add(history[5]);
        let before = i64::from(self.before);
        self.before = sample.wrapping_add((((before << self.k) - before) >> self.k) as i32);
        self.before
    }
}
