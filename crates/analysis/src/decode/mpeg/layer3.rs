//! Layer III (ISO/IEC 11172-3 and 13818-3), decoded to the mean of the channels. Everything after the spectral lines is
//! linear, so mixing the lines gives the same result with a single transform. If a frame is coded as mid and side with
//! the same windows for both, the mean is the mid channel, and the side channel is not even read.
//!
//! Each channel uses the windows of its own granules, in any order.

mod bands;
mod codes;
mod huffman;
mod scale;
mod side;
mod stereo;
mod transform;

use std::f32::consts::FRAC_1_SQRT_2;

use pulp::{Arch, Simd, WithSimd};

use self::{
    bands::Layout,
    scale::Factors,
    side::{Header, LINES, Side},
    transform::Transform,
};
use crate::decode::bits::Bits;

/// Bytes of earlier frames that a frame may refer to.
const RESERVOIR_BYTES: usize = 511;

/// Bytes of a frame's header, and of its checksum.
const HEADER_BYTES: usize = 4;
const CHECKSUM_BYTES: usize = 2;

/// Why a frame yields no samples.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It refers to missing frames, as the first frames of a cut stream do.
    Reservoir,
    Damaged,
}

/// A stream of frames.
pub(super) struct Layer3 {
    /// Version and rate of the latest frame.
    stream: Option<(bool, usize)>,
    /// Main data of previous frames, the latest [`RESERVOIR_BYTES`].
    data: Vec<u8>,
    transform: Transform,
    lines: [[f32; LINES]; 2],
}

impl Layer3 {
    pub(super) fn new() -> Self {
        Self { stream: None, data: Vec::new(), transform: Transform::new(), lines: [[0.0; LINES]; 2] }
    }

    /// Appends the mean of a frame's channels. The frame must be complete.
    ///
    /// # Errors
    /// See [`Fault`]; `out` is then unchanged.
    pub(super) fn decode(&mut self, frame: &[u8], out: &mut Vec<f32>) -> Result<(), Fault> {
        let (head, rest) = frame.split_first_chunk::<HEADER_BYTES>().ok_or(Fault::Damaged)?;
        let header = Header::of(*head);
        let stream = Some((header.is_full_rate, header.rate));
        if self.stream != stream {
            *self = Self { stream, ..Self::new() };
        }
        let checksum = if header.has_checksum { CHECKSUM_BYTES } else { 0 };
        let (side, data) =
            rest.get(checksum..).and_then(|rest| rest.split_at_checked(header.side_bytes())).ok_or(Fault::Damaged)?;
        let side = Side::parse(side, header);
        let before = self.data.len().saturating_sub(RESERVOIR_BYTES);
        self.data.drain(..before);
        let before = self.data.len();
        self.data.extend_from_slice(data);
        let side = side.ok_or(Fault::Damaged)?;
        let start = before.checked_sub(side.back).ok_or(Fault::Reservoir)?;
        let bits: usize = side.granules[..header.granules()].iter().flatten().map(|granule| granule.bits).sum();
        if bits > 8 * (self.data.len() - start) {
            return Err(Fault::Damaged);
        }
        let Self { data, transform, lines, .. } = self;
        Arch::new().dispatch(Frame { header, side, data: &data[start..], transform, lines, out });
        Ok(())
    }
}

/// A frame to be decoded, compiled for each SIMD instruction set.
struct Frame<'a> {
    header: Header,
    side: Side,
    data: &'a [u8],
    transform: &'a mut Transform,
    lines: &'a mut [[f32; LINES]; 2],
    out: &'a mut Vec<f32>,
}

impl WithSimd for Frame<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { header, side, data, transform, lines, out } = self;
        let rate = header.rate;
        let granules = &side.granules[..header.granules()];
        let is_alike = granules.iter().all(|[left, right]| left.blocks == right.blocks);
        let is_middle = header.is_mid_side && !header.is_intensity && is_alike;
        let mut bits = Bits::new(data);
        let mut factors = [Factors::default(); 2];
        for granule in granules {
            let mut counts = [0; 2];
            for channel in 0..header.channels {
                let coded = &granule[channel];
                let end = bits.at + coded.bits;
                if !(is_middle && channel == 1) {
                    let layout = Layout::of(rate, coded.blocks);
                    factors[channel].read(&mut bits, header, coded, channel == 1);
                    let gains = factors[channel].gains(coded, layout);
                    counts[channel] = huffman::read(&mut bits, end, coded, layout, &gains, &mut lines[channel]);
                }
                bits.at = end;
            }
            let [left, right] = &mut *lines;
            let [left_blocks, right_blocks] = [granule[0].blocks, granule[1].blocks];
            if header.channels == 1 {
                transform.granule(simd, rate, &[(&left[..counts[0]], left_blocks)], out);
                continue;
            }
            if is_middle {
                scale_by(FRAC_1_SQRT_2, &mut left[..counts[0]]);
                transform.granule(simd, rate, &[(&left[..counts[0]], left_blocks)], out);
                continue;
            }
            let count = counts[0].max(counts[1]);
            let layout = Layout::of(rate, right_blocks);
            stereo::separate(header, &granule[1], layout, &factors[1], left, right);
            if left_blocks == right_blocks {
                for (left, right) in left[..count].iter_mut().zip(&*right) {
                    *left = 0.5 * (*left + right);
                }
                transform.granule(simd, rate, &[(&left[..count], left_blocks)], out);
            } else {
                scale_by(0.5, &mut left[..count]);
                scale_by(0.5, &mut right[..count]);
                let channels = [(&left[..count], left_blocks), (&right[..count], right_blocks)];
                transform.granule(simd, rate, &channels, out);
            }
        }
    }
}

#[inline(always)]
fn scale_by(factor: f32, lines: &mut [f32]) {
    lines.iter_mut().for_each(|line| *line *= factor);
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use nanomp3_core::{Decoder, MAX_SAMPLES_PER_FRAME};

    use super::*;
    use crate::decode::{mpeg::header::Header as FrameStart, sync::FrameHeader};

    /// The frames of a fixture, without its tag.
    fn frames(file: &str) -> Vec<Vec<u8>> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/music").join(file);
        let bytes = fs::read(path).unwrap();
        let mut rest = &bytes[10 + bytes[6..10].iter().fold(0, |size, &byte| size << 7 | usize::from(byte))..];
        let mut frames = Vec::new();
        while let Some(header) = FrameStart::parse(rest) {
            let frame;
            (frame, rest) = rest.split_at(header.bytes);
            frames.push(frame.to_vec());
        }
        frames
    }

    #[test]
    fn music_is_the_mean_of_what_another_decoder_makes_of_it() {
        for file in ["band.mp3", "band_vbr.mp3"] {
            let (mut layer3, mut other) = (Layer3::new(), Decoder::new());
            let mut stereo = vec![0.0; MAX_SAMPLES_PER_FRAME];
            for (number, frame) in frames(file).iter().enumerate() {
                let mut mono = Vec::new();
                layer3.decode(frame, &mut mono).unwrap();
                assert!(other.decode(frame, &mut stereo).1.is_ok());
                let means = stereo.as_chunks::<2>().0.iter().map(|[left, right]| 0.5 * (left + right));
                assert_eq!(mono.len(), 1152);
                for (got, expected) in mono.iter().zip(means) {
                    assert!((got - expected).abs() < 2e-6, "{file}, frame {number}: {got}, not {expected}");
                }
            }
        }
    }

    #[test]
    fn frames_of_anything_have_a_frame_of_samples_or_none() {
        let mut random = fastrand::Rng::with_seed(3);
        let mut layer3 = Layer3::new();
        let (mut decoded, mut out) = (0, Vec::new());
        for _ in 0..20_000 {
            let mut frame: Vec<u8> = (0..random.usize(4..1_500)).map(|_| random.u8(..)).collect();
            // Versions 1, 2 and 2.5; layer 3; an existing rate.
            frame[0] = 0xFF;
            frame[1] = 0xE2 | [0, 2, 3][random.usize(..3)] << 3 | random.u8(..2);
            frame[2] = random.u8(..3) << 2;
            if random.bool() && frame.len() > 10 {
                // Typical values: data from earlier frames, and few pairs.
                frame[4..10].fill(0);
            }
            out.clear();
            if layer3.decode(&frame, &mut out).is_ok() {
                decoded += 1;
                assert_eq!(out.len(), if frame[1] & 8 != 0 { 1152 } else { 576 });
            } else {
                assert!(out.is_empty());
            }
        }
        assert!(decoded > 500, "{decoded} frames");
    }
}
