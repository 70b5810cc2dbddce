//! Direct Stream Digital, from DSF (Sony, "DSF File Format Specification") and DSDIFF (Philips, "DSDIFF 1.5"): one bit
//! per sample at several megahertz, converted to ordinary samples at 353 or 384 kHz.

use std::f64::consts::PI;

use symphonia::core::{
    audio::{Channels, Position},
    codecs::audio::well_known::CODEC_ID_PCM_F32LE,
};

use super::{
    chunks::{Chunks, Pages, Style},
    container::Content,
    riff::bytes_of,
    sound::{Convert, Packets, Sound},
};
use crate::{AudioError, dsp::MAX_CHANNELS};

/// Accepted rates in Hz: DSD64 to DSD512 of both families.
const RATES: std::ops::RangeInclusive<u32> = 2_000_000..=25_000_000;

/// Maximum rate of the converted samples, in Hz.
const HIGHEST_RATE: u32 = 400_000;

/// Filter length in bytes when one sample per eight bits is kept.
const FILTER_BYTES: usize = 16;

/// Eight bits of silence.
const SILENCE: u8 = 0x69;

/// Bytes per channel converted at once if the file has no blocks.
const BLOCK_BYTES: u32 = 4096;

/// Maximum block size per channel, in bytes; all known files use 4096.
const MAX_BLOCK_BYTES: u32 = 1 << 20;

/// Returns the content of a DSF or DSDIFF, or none if the file is neither; it begins with `start`.
///
/// # Errors
/// When the file cannot be read, or its content is unknown or cannot be decoded.
pub(super) fn open(pages: &Pages<'_>, start: &[u8]) -> Result<Option<Content>, AudioError> {
    let stream = match (start.get(..4), start.get(12..16)) {
        (Some(b"DSD "), _) => dsf(start)?,
        (Some(b"FRM8"), Some(b"DSD ")) => dsdiff(pages)?,
        _ => return Ok(None),
    };
    let Stream { rate, channels, .. } = stream;
    if channels == 0 || channels as usize > MAX_CHANNELS {
        return Err(AudioError::TooManyChannels(channels as usize));
    }
    if !RATES.contains(&rate) {
        return Err(AudioError::SampleRate { rate, lowest: *RATES.start(), highest: *RATES.end() });
    }
    if stream.block == 0 || stream.block > MAX_BLOCK_BYTES || !stream.block.is_multiple_of(64) {
        return Err(AudioError::Damaged(format!("DSD: blocks of {} bytes", stream.block)));
    }
    // A power of two, so that a block is a whole number of output samples.
    let step = rate.div_ceil(8 * HIGHEST_RATE).next_power_of_two();
    let samples = stream.samples.map(|samples| samples / u64::from(8 * step));
    let convert = Decimator::new(&stream, step as usize, samples).into_convert();
    let bytes = bytes_of(stream.bytes, stream.start, pages.length());
    let channels = match stream.kind {
        // The only kind in DSF whose four channels are not the default layout.
        5 if channels == 4 => {
            Channels::Positioned(Position::FRONT_LEFT | Position::FRONT_RIGHT | Position::FRONT_CENTER | Position::LFE1)
        }
        _ => Channels::Discrete(channels as u16),
    };
    Ok(Some(Content::Sound(Sound {
        codec: CODEC_ID_PCM_F32LE,
        rate: rate / (8 * step),
        channels,
        packets: Packets::Blocks { bytes: stream.block * stream.channels, samples: stream.block / step },
        convert: Some(convert),
        extra: None,
        start: stream.start,
        bytes,
    })))
}

/// A stream of bits.
struct Stream {
    /// Bits per second and channel.
    rate: u32,
    channels: u32,
    /// DSF's number for the kind of channels.
    kind: u32,
    /// Consecutive bytes of one channel.
    block: u32,
    /// Whether the channels alternate byte by byte.
    is_interleaved: bool,
    is_lowest_bit_first: bool,
    /// Bits per channel, if declared.
    samples: Option<u64>,
    start: u64,
    bytes: u64,
}

/// Reads the header of a DSF, whose chunks have fixed places.
fn dsf(start: &[u8]) -> Result<Stream, AudioError> {
    let damaged = || AudioError::Damaged("DSF: its header is incomplete".to_owned());
    let u32_at = |at: usize| start.get(at..)?.first_chunk().map(|&bytes| u32::from_le_bytes(bytes));
    let u64_at = |at: usize| start.get(at..)?.first_chunk().map(|&bytes| u64::from_le_bytes(bytes));
    let read = || {
        let format = usize::try_from(u64_at(4)?).ok()?;
        let data = format.checked_add(usize::try_from(u64_at(format.checked_add(4)?)?).ok()?)?;
        let is_right = start.get(format..)?.starts_with(b"fmt ") && start.get(data..)?.starts_with(b"data");
        is_right.then_some(())?;
        Some(Stream {
            kind: u32_at(format + 20)?,
            channels: u32_at(format + 24)?,
            rate: u32_at(format + 28)?,
            is_lowest_bit_first: u32_at(format + 32)? == 1,
            samples: u64_at(format + 36).filter(|&samples| samples > 0),
            block: u32_at(format + 44)?,
            is_interleaved: false,
            start: data as u64 + 12,
            bytes: u64_at(data + 4)?.saturating_sub(12),
        })
    };
    read().ok_or_else(damaged)
}

/// Reads the chunks of a DSDIFF.
fn dsdiff(pages: &Pages<'_>) -> Result<Stream, AudioError> {
    let damaged = |what: &str| AudioError::Damaged(format!("DSDIFF: {what}"));
    let mut chunks = Chunks::new(pages, Style::Dsdiff, 16, &[b"PROP", b"FS  ", b"CHNL", b"CMPR", b"DSD ", b"DST "]);
    let (mut rate, mut channels) = (None, None);
    while let Some(chunk) = chunks.next()? {
        let bytes = pages.read(chunk.start, 4)?;
        match &chunk.name {
            // Its sub-chunks come after four letters.
            b"PROP" => chunks.go_on_at(chunk.start + 4),
            b"FS  " => rate = bytes.first_chunk().map(|&bytes| u32::from_be_bytes(bytes)),
            b"CHNL" => channels = bytes.first_chunk().map(|&bytes| u32::from(u16::from_be_bytes(bytes))),
            b"CMPR" if bytes != b"DSD " => return Err(AudioError::UnsupportedFormat("DST in DSDIFF".to_owned())),
            b"DSD " => {
                let (Some(rate), Some(channels)) = (rate, channels) else {
                    return Err(damaged("it does not say its rate and its channels"));
                };
                return Ok(Stream {
                    rate,
                    channels,
                    kind: 0,
                    block: BLOCK_BYTES,
                    is_interleaved: true,
                    is_lowest_bit_first: false,
                    samples: None,
                    start: chunk.start,
                    bytes: chunk.length,
                });
            }
            _ => {}
        }
    }
    Err(damaged("it has no 'DSD ' chunk"))
}

/// A low-pass filter that keeps one sample per `8 · step` bits.
struct Decimator {
    /// For each byte of the filter: the sum of its taps for every possible byte of input, where a bit counts as −1 or 1.
    table: Vec<[f32; 256]>,
    step: usize,
    channels: usize,
    is_interleaved: bool,
    is_lowest_bit_first: bool,
    /// Bytes of each channel that the filter still needs.
    history: Vec<Vec<u8>>,
    /// Remaining samples per channel; none if unknown.
    left: Option<u64>,
}

impl Decimator {
    fn new(stream: &Stream, step: usize, left: Option<u64>) -> Self {
        let taps = low_pass(FILTER_BYTES * step * 8, 0.5 / (8.0 * step as f64));
        let table = taps
            .chunks(8)
            .map(|taps| {
                std::array::from_fn(|byte| {
                    let sign = |bit: usize| if byte >> (7 - bit) & 1 == 1 { 1.0 } else { -1.0 };
                    taps.iter().enumerate().map(|(bit, tap)| tap * sign(bit)).sum::<f64>() as f32
                })
            })
            .collect();
        Self {
            table,
            step,
            channels: stream.channels as usize,
            is_interleaved: stream.is_interleaved,
            is_lowest_bit_first: stream.is_lowest_bit_first,
            history: vec![vec![SILENCE; FILTER_BYTES * step - step]; stream.channels as usize],
            left,
        }
    }

    fn into_convert(mut self) -> Convert {
        Box::new(move |bytes| self.convert(bytes))
    }

    /// Converts to interleaved samples of all channels, four bytes each, little-endian.
    fn convert(&mut self, bytes: &[u8]) -> Vec<u8> {
        let each = bytes.len() / self.channels;
        let samples =
            (each / self.step).min(self.left.map_or(usize::MAX, |left| usize::try_from(left).unwrap_or(usize::MAX)));
        self.left = self.left.map(|left| left - samples as u64);
        let mut out = vec![0; samples * self.channels * 4];
        for channel in 0..self.channels {
            let line = &mut self.history[channel];
            let kept = line.len();
            if self.is_interleaved {
                line.extend(bytes.iter().skip(channel).step_by(self.channels).take(each));
            } else {
                line.extend(&bytes[channel * each..][..each]);
            }
            if self.is_lowest_bit_first {
                line[kept..].iter_mut().for_each(|byte| *byte = byte.reverse_bits());
            }
            for i in 0..samples {
                let window = &line[i * self.step..][..self.table.len()];
                let sample: f32 = self.table.iter().zip(window).map(|(sums, &byte)| sums[usize::from(byte)]).sum();
                out[(i * self.channels + channel) * 4..][..4].copy_from_slice(&sample.to_le_bytes());
            }
            line.drain(..line.len() - kept);
        }
        out
    }
}

/// Taps of a low-pass filter with −6 dB at `cutoff` cycles per sample and a gain of 1 for constants.
fn low_pass(taps: usize, cutoff: f64) -> Vec<f64> {
    let middle = (taps as f64 - 1.0) / 2.0;
    let raw: Vec<f64> = (0..taps)
        .map(|tap| {
            let x = tap as f64 - middle;
            let sinc = if x == 0.0 { 2.0 * cutoff } else { (2.0 * PI * cutoff * x).sin() / (PI * x) };
            sinc * window(x / (middle + 0.5))
        })
        .collect();
    let sum: f64 = raw.iter().sum();
    raw.iter().map(|tap| tap / sum).collect()
}

/// The Blackman-Harris window, 92 dB, at `x` half widths from its centre (Harris, "On the use of windows for harmonic
/// analysis with the discrete Fourier transform", 1978).
fn window(x: f64) -> f64 {
    let cosine = |times: f64| (PI * times * x).cos();
    0.358_75 + 0.488_29 * cosine(1.0) + 0.141_28 * cosine(2.0) + 0.011_68 * cosine(3.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(channels: u32) -> Stream {
        Stream {
            rate: 2_822_400,
            channels,
            kind: channels,
            block: 64,
            is_interleaved: channels == 1,
            is_lowest_bit_first: false,
            samples: None,
            start: 0,
            bytes: 0,
        }
    }

    fn floats(bytes: &[u8]) -> Vec<f32> {
        bytes.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
    }

    /// Encodes a tone of `hertz` as bits with a second-order modulator.
    fn modulated(hertz: f64, bits: usize) -> Vec<u8> {
        let (mut first, mut second) = (0.0, 0.0);
        let bits: Vec<bool> = (0..bits)
            .map(|i| {
                let tone = 0.5 * (2.0 * PI * hertz * i as f64 / 2_822_400.0).sin();
                let bit = second >= 0.0;
                let out = if bit { 1.0 } else { -1.0 };
                first += tone - out;
                second += first - 2.0 * out;
                bit
            })
            .collect();
        bits.chunks(8).map(|byte| byte.iter().fold(0, |byte, &bit| byte << 1 | u8::from(bit))).collect()
    }

    #[test]
    fn a_tone_comes_back_as_loud_as_it_was() {
        let out = floats(&Decimator::new(&stream(1), 1, None).convert(&modulated(1_000.0, 8 * 64 * 500)));
        // The modulation noise lies far above the tone: it appears in the samples but does not correlate with the tone.
        let (mut product, mut power) = (0.0, 0.0);
        for (i, sample) in out.iter().enumerate().skip(100) {
            // The filter's centre lies half its length back.
            let at = (i as f64 * 8.0 + 7.0 - (8.0 * FILTER_BYTES as f64 - 1.0) / 2.0) / 2_822_400.0;
            let tone = 0.5 * (2.0 * PI * 1_000.0 * at).sin();
            assert!((f64::from(*sample) - tone).abs() < 0.1, "sample {i}: {sample} instead of {tone}");
            product += f64::from(*sample) * tone;
            power += tone * tone;
        }
        let gain = product / power;
        assert!((gain - 1.0).abs() < 0.005, "{gain}");
    }

    #[test]
    fn blocks_join_and_channels_are_apart() {
        let left = modulated(500.0, 8 * 64 * 8);
        let right = vec![SILENCE; left.len()];
        let once = floats(&Decimator::new(&stream(1), 1, None).convert(&left));
        let mut decimator = Decimator::new(&stream(2), 1, Some(500));
        let both: Vec<f32> = left
            .chunks(64)
            .zip(right.chunks(64))
            .flat_map(|(left, right)| floats(&decimator.convert(&[left, right].concat())))
            .collect();
        assert_eq!(both.len(), 2 * 500);
        let lefts: Vec<f32> = both.iter().step_by(2).copied().collect();
        assert_eq!(lefts, once[..500]);
        assert!(both.iter().skip(1).step_by(2).all(|sample| sample.abs() < 1e-3));
    }
}
