//! Opus packets, from Ogg or WebM, to samples.

use opus_pure::{MAX_PACKET_SAMPLES, OpusMSDecoder};
use symphonia::core::{codecs::audio::AudioCodecParameters, packet::Packet, units::TimeBase};

use crate::{
    AudioError,
    dsp::{Speaker, default_layout},
};

/// Opus always decodes at 48 kHz.
pub(super) const RATE: u32 = 48_000;

/// An Opus track: a decoder and what of its output is not music.
pub(super) struct OpusTrack {
    decoder: OpusMSDecoder,
    channels: usize,
    family: u8,
    /// Samples a channel still to be dropped at the start.
    skip: usize,
    time_base: Option<TimeBase>,
    buffer: Vec<f32>,
}

impl OpusTrack {
    /// Reads the identification header (RFC 7845, section 5.1), which Ogg and WebM both carry.
    pub(super) fn new(parameters: &AudioCodecParameters, time_base: Option<TimeBase>) -> Result<Self, AudioError> {
        let header = parameters.extra_data.as_deref().unwrap_or_default();
        let (Some(b"OpusHead"), Some(&channels), Some(&[skip_low, skip_high]), Some(&family)) =
            (header.get(..8), header.get(9), header.get(10..12), header.get(18))
        else {
            return Err(AudioError::UnsupportedCodec("Opus without its identification header".to_owned()));
        };
        let channels = usize::from(channels);
        let decoder = OpusMSDecoder::new(RATE as i32, channels, family)
            .map_err(|error| AudioError::UnsupportedCodec(format!("Opus with {channels} channels: {error}")))?;
        Ok(Self {
            decoder,
            channels,
            family,
            skip: usize::from(u16::from_le_bytes([skip_low, skip_high])),
            time_base,
            buffer: vec![0.0; MAX_PACKET_SAMPLES * channels],
        })
    }

    /// Replaces `out` by the packet's samples, interleaved. A packet that cannot be decoded has none.
    pub(super) fn decode(&mut self, packet: &Packet, out: &mut Vec<f32>) {
        out.clear();
        let Ok(samples) = self.decoder.decode(&packet.data, MAX_PACKET_SAMPLES, &mut self.buffer) else { return };
        let end = samples.saturating_sub(self.padding(packet));
        let start = self.skip.min(end);
        self.skip -= self.skip.min(samples);
        out.extend_from_slice(&self.buffer[start * self.channels..end * self.channels]);
    }

    /// Samples a channel at the packet's end that only fill it up.
    fn padding(&self, packet: &Packet) -> usize {
        let seconds = self.time_base.map_or(0.0, |base| {
            packet.trim_end.get() as f64 * f64::from(base.numer.get()) / f64::from(base.denom.get())
        });
        (seconds * f64::from(RATE)).round() as usize
    }

    /// Where the channels stand: mapping family 1 has Vorbis's order (Vorbis I, section 4.3.9).
    pub(super) fn speakers(&self) -> Vec<Speaker> {
        use Speaker::{
            Centre as C, Left as L, LowFrequency as Lfe, Right as R, SurroundCentre as Sc, SurroundLeft as Sl,
            SurroundRight as Sr,
        };
        match (self.family, self.channels) {
            (1, 3) => vec![L, C, R],
            (1, 5) => vec![L, C, R, Sl, Sr],
            (1, 6) => vec![L, C, R, Sl, Sr, Lfe],
            (1, 7) => vec![L, C, R, Sl, Sr, Sc, Lfe],
            (1, 8) => vec![L, C, R, Sl, Sr, Sl, Sr, Lfe],
            (_, channels) => default_layout(channels),
        }
    }
}
