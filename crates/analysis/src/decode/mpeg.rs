//! MPEG audio packets to samples, without what the encoder put before and after the music.
//!
//! symphonia trims by what it takes for the track's length. Where two files were joined that is the first one's, and what
//! follows would be lost: FFmpeg drops the padding that the first one's header names and goes on, and so does this.

use symphonia::core::{
    audio::AudioSpec,
    codecs::audio::{AudioCodecParameters, AudioDecoder, AudioDecoderOptions},
    errors::Error as SymphoniaError,
    packet::Packet,
};

use super::codec::{decoder, interleaved};
use crate::AudioError;

/// A track of layer 1, 2 or 3.
pub(super) struct MpegTrack {
    parameters: AudioCodecParameters,
    decoder: Box<dyn AudioDecoder>,
    /// Samples a channel that the encoder added at the end, as far as they are still to come.
    padding: u64,
    /// What its packets are.
    spec: Option<AudioSpec>,
    /// What the packet before was, when it was something else.
    other: Option<AudioSpec>,
}

impl MpegTrack {
    pub(super) fn new(parameters: &AudioCodecParameters, padding: Option<u32>) -> Result<Self, AudioError> {
        Ok(Self {
            parameters: parameters.clone(),
            decoder: untrimmed(parameters)?,
            padding: padding.map_or(0, u64::from),
            spec: None,
            other: None,
        })
    }

    /// Replaces `out` by the packet's samples, interleaved.
    pub(super) fn decode(&mut self, packet: &Packet, out: &mut Vec<f32>) -> Result<AudioSpec, SymphoniaError> {
        let spec = match interleaved(&mut *self.decoder, packet, out) {
            Err(error) => self.changed(packet, out).ok_or(error)?,
            Ok(spec) => {
                self.other = None;
                spec
            }
        };
        self.trim(packet, spec.channels().count().max(1), out);
        self.spec = Some(spec.clone());
        Ok(spec)
    }

    /// A decoder keeps to the rate and the channels of its first packet. The second packet in a row that has others gets a
    /// new decoder; one alone is more likely damage that looks like a packet. What no decoder takes counts as neither.
    fn changed(&mut self, packet: &Packet, out: &mut Vec<f32>) -> Option<AudioSpec> {
        let mut decoder = untrimmed(&self.parameters).ok()?;
        let spec = interleaved(&mut *decoder, packet, out).ok().filter(|spec| self.spec.as_ref() != Some(spec));
        let before = std::mem::replace(&mut self.other, spec.clone());
        if spec.is_some() && before == spec {
            self.decoder = decoder;
            return spec;
        }
        None
    }

    /// Drops the encoder's delay, and its padding; not what merely lies past the length that the header gives.
    fn trim(&mut self, packet: &Packet, channels: usize, out: &mut Vec<f32>) {
        let samples = (out.len() / channels) as u64;
        let start = packet.trim_start.get().min(samples);
        let end = packet.trim_end.get().min(samples - start).min(self.padding);
        self.padding -= end;
        out.truncate((samples - end) as usize * channels);
        out.drain(..start as usize * channels);
    }
}

fn untrimmed(parameters: &AudioCodecParameters) -> Result<Box<dyn AudioDecoder>, AudioError> {
    decoder(parameters, AudioDecoderOptions::default().gapless(false))
}
