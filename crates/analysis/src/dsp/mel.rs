//! 16 kHz samples to log-mel frames, in the form that MusicNN was trained on.

use std::{f64::consts::PI, sync::Arc};

use realfft::{RealFftPlanner, RealToComplex, num_complex::Complex};

use super::{MEL_BANDS, SAMPLE_RATE};

/// Samples per frame.
const FRAME: usize = 512;

/// Samples between the starts of two frames.
const HOP: usize = 256;

/// Bins of a frame's spectrum.
const BINS: usize = FRAME / 2 + 1;

/// Streams samples into log-mel frames of [`MEL_BANDS`] numbers.
///
/// Frame i covers samples 256·i − 256 to 256·i + 256, so the first is centred on sample 0. Samples outside the track
/// count as zero. A track of n samples has ceil(n / 256) + 1 frames.
pub(crate) struct LogMel {
    fft: Arc<dyn RealToComplex<f32>>,
    window: [f32; FRAME],
    bands: Vec<Band>,
    /// Samples still needed; starts [`HOP`] before the track.
    pending: Vec<f32>,
    frame: Vec<f32>,
    spectrum: Vec<Complex<f32>>,
    scratch: Vec<Complex<f32>>,
}

/// A triangular band: its first bin and the weights from that bin on.
struct Band {
    first: usize,
    weights: Vec<f32>,
}

impl LogMel {
    pub(crate) fn new() -> Self {
        let fft = RealFftPlanner::new().plan_fft_forward(FRAME);
        Self {
            // Symmetric Hann window. The periodic one (512 instead of 511) would be off by 0.04.
            window: std::array::from_fn(|k| (0.5 - 0.5 * (2.0 * PI * k as f64 / (FRAME - 1) as f64).cos()) as f32),
            bands: mel_bands(),
            pending: vec![0.0; HOP],
            frame: fft.make_input_vec(),
            spectrum: fft.make_output_vec(),
            scratch: fft.make_scratch_vec(),
            fft,
        }
    }

    /// Appends the frames completed by `samples`, the track's next samples, to `out`, band by band.
    pub(crate) fn process(&mut self, samples: &[f32], out: &mut Vec<f32>) {
        self.pending.extend_from_slice(samples);
        let mut start = 0;
        while start + FRAME <= self.pending.len() {
            self.compute(start, out);
            start += HOP;
        }
        self.pending.drain(..start);
    }

    /// Appends the frames that reach into the zeros after the track.
    pub(crate) fn finish(&mut self, out: &mut Vec<f32>) {
        // The last frame is centred on the first multiple of the hop at or after the track's end.
        let to_last_centre = self.pending.len().next_multiple_of(HOP) - self.pending.len();
        self.process(&vec![0.0; to_last_centre + HOP], out);
    }

    fn compute(&mut self, start: usize, out: &mut Vec<f32>) {
        for ((frame, sample), weight) in self.frame.iter_mut().zip(&self.pending[start..]).zip(&self.window) {
            *frame = sample * weight;
        }
        self.fft
            .process_with_scratch(&mut self.frame, &mut self.spectrum, &mut self.scratch)
            .expect("the buffers were made by the same plan");
        out.extend(self.bands.iter().map(|band| {
            let bins = &self.spectrum[band.first..];
            let energy: f32 = band.weights.iter().zip(bins).map(|(weight, bin)| weight * bin.norm_sqr()).sum();
            (1.0 + 10_000.0 * energy).log10()
        }));
    }
}

/// 96 triangles on the Slaney mel scale from 0 to 8000 Hz, linear in Hz between neighbouring points, of unit area.
fn mel_bands() -> Vec<Band> {
    let to_hz = |mel: f64| {
        if mel < 15.0 { mel * 200.0 / 3.0 } else { 1000.0 * (6.4f64.ln() / 27.0 * (mel - 15.0)).exp() }
    };
    let top = 15.0 + 8f64.ln() / (6.4f64.ln() / 27.0);
    let points: Vec<f64> = (0..MEL_BANDS + 2).map(|i| to_hz(top * i as f64 / (MEL_BANDS + 1) as f64)).collect();
    points
        .windows(3)
        .map(|triangle| {
            let (lower, middle, upper) = (triangle[0], triangle[1], triangle[2]);
            let weight = |bin: usize| {
                let hz = bin as f64 * f64::from(SAMPLE_RATE) / FRAME as f64;
                let height = ((hz - lower) / (middle - lower)).min((upper - hz) / (upper - middle));
                (height.max(0.0) * 2.0 / (upper - lower)) as f32
            };
            let first = (0..BINS).find(|&bin| weight(bin) > 0.0).unwrap_or(0);
            Band { first, weights: (first..BINS).map(weight).take_while(|&weight| weight > 0.0).collect() }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn streamed(samples: &[f32], block: usize) -> Vec<f32> {
        let mut mel = LogMel::new();
        let mut out = Vec::new();
        for block in samples.chunks(block) {
            mel.process(block, &mut out);
        }
        mel.finish(&mut out);
        out
    }

    /// The definition: a plain discrete Fourier transform in f64 and the whole filter bank.
    fn slow_frame(samples: &[f32], index: usize) -> Vec<f64> {
        let at = |k: usize| -> f64 {
            let position = (index * HOP + k) as i64 - HOP as i64;
            let sample = usize::try_from(position).ok().and_then(|p| samples.get(p)).copied().unwrap_or(0.0);
            f64::from(sample) * (0.5 - 0.5 * (2.0 * PI * k as f64 / 511.0).cos())
        };
        let power: Vec<f64> = (0..BINS)
            .map(|bin| {
                let (mut re, mut im) = (0.0, 0.0);
                for k in 0..FRAME {
                    let angle = 2.0 * PI * ((bin * k) % FRAME) as f64 / FRAME as f64;
                    re += at(k) * angle.cos();
                    im -= at(k) * angle.sin();
                }
                re * re + im * im
            })
            .collect();
        mel_bands()
            .iter()
            .map(|band| {
                let energy: f64 =
                    band.weights.iter().enumerate().map(|(i, &w)| f64::from(w) * power[band.first + i]).sum();
                (1.0 + 10_000.0 * energy).log10()
            })
            .collect()
    }

    #[test]
    fn equals_the_definition_in_any_blocks() {
        let samples: Vec<f32> =
            (0..1400).map(|i| (i as f32 * 0.7).sin() * 0.3 + (i as f32 * 0.011).cos() * 0.2).collect();
        let frames = samples.len().div_ceil(HOP) + 1;
        let whole = streamed(&samples, samples.len());
        assert_eq!(whole.len(), frames * MEL_BANDS);
        assert_eq!(whole, streamed(&samples, 1));
        assert_eq!(whole, streamed(&samples, 300));
        for index in 0..frames {
            for (band, expected) in slow_frame(&samples, index).into_iter().enumerate() {
                let got = f64::from(whole[index * MEL_BANDS + band]);
                assert!((got - expected).abs() < 2e-5, "frame {index} band {band}: {got} instead of {expected}");
            }
        }
    }

    #[test]
    fn counts_frames_as_the_peer_does() {
        for samples in [0, 1, 255, 256, 257, 512, 47_360, 47_361] {
            let frames = streamed(&vec![0.0; samples], 1000).len() / MEL_BANDS;
            assert_eq!(frames, samples.div_ceil(HOP) + 1, "{samples} samples");
        }
    }

    #[test]
    fn bands_have_unit_area_where_bins_are_dense() {
        for band in mel_bands().iter().skip(60) {
            let area: f32 = band.weights.iter().sum::<f32>() * SAMPLE_RATE as f32 / FRAME as f32;
            assert!((area - 1.0).abs() < 0.03, "{area}");
        }
    }

    /// One frame of the fixture as the peer's `TensorflowInputMusiCNN` computes it.
    #[test]
    fn equals_the_peers_frame() {
        let fixtures = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures");
        let golden: serde_json::Value =
            serde_json::from_slice(&std::fs::read(fixtures.join("golden.json")).unwrap()).unwrap();
        let expected = golden["sweep_16k_mono.wav"]["log_mel_of_samples_16000_to_16512"].as_array().unwrap();
        let limits = crate::Limits { max_bytes: 1_000_000, max_seconds: 10 };
        let file = std::fs::File::open(fixtures.join("music/sweep_16k_mono.wav")).unwrap();
        let mut decoder = crate::decode::Decoder::open(Box::new(file), Some("wav"), &limits).unwrap();
        let mut samples = Vec::new();
        while decoder.next(&mut samples).unwrap() {}
        // The second frame of this excerpt covers exactly these samples.
        let frames = streamed(&samples[16_000..16_512], 512);
        assert_eq!(expected.len(), MEL_BANDS);
        for (got, expected) in frames[MEL_BANDS..].iter().zip(expected) {
            assert!((f64::from(*got) - expected.as_f64().unwrap()).abs() < 1e-4, "{got} instead of {expected}");
        }
    }
}
