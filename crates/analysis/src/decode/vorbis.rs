//! Decodes Vorbis packets from Ogg or Matroska to samples.

use rusty_vorbis::decode::Decoder;
use symphonia::core::{
    audio::{AudioSpec, Channels},
    codecs::audio::AudioCodecParameters,
    errors::{Error as SymphoniaError, decode_error},
    packet::Packet,
};

use super::layout;
use crate::{AudioError, dsp::Speaker};

/// Size of an identification header (Vorbis I, section 4.2.2).
pub(super) const IDENTIFICATION_BYTES: usize = 30;

/// An empty comment header (section 5.2.1), which the decoder requires.
const NO_COMMENT: &[u8] = b"\x03vorbis\0\0\0\0\0\0\0\0\x01";

/// A Vorbis track.
pub(super) struct VorbisTrack(Box<Decoder>);

impl VorbisTrack {
    /// Accepts the headers in symphonia's form, identification and setup, or in Matroska's: all three, preceded by their
    /// lengths.
    ///
    /// # Errors
    /// When a header is missing or damaged, or declares too many channels.
    pub(super) fn new(parameters: &AudioCodecParameters) -> Result<Self, AudioError> {
        let headers = parameters.extra_data.as_deref().unwrap_or_default();
        let (identification, setup) = laced(headers)
            .or_else(|| headers.split_at_checked(IDENTIFICATION_BYTES))
            .ok_or_else(|| AudioError::UnsupportedCodec("Vorbis without its headers".to_owned()))?;
        decoder(identification, setup).map(|decoder| Self(Box::new(decoder)))
    }

    /// Replaces `out` with the packet's samples, interleaved.
    ///
    /// # Errors
    /// When the packet cannot be decoded.
    pub(super) fn decode(&mut self, packet: &Packet, out: &mut Vec<f32>) -> Result<AudioSpec, SymphoniaError> {
        let Self(decoder) = self;
        let channels = decoder.channels();
        out.clear();
        if packet.data.is_empty() {
            return decode_error("vorbis: missing packet");
        }
        out.resize(decoder.max_frames_per_packet() * channels, 0.0);
        let samples = decoder.decode_interleaved(&packet.data, out);
        let Ok(samples) = samples else {
            out.clear();
            return decode_error("vorbis: damaged packet");
        };
        let of = |trim: u64| usize::try_from(trim).unwrap_or(usize::MAX).min(samples);
        let start = of(packet.trim_start.get());
        let end = (samples - of(packet.trim_end.get())).max(start);
        out.truncate(end * channels);
        out.drain(..start * channels);
        Ok(AudioSpec::new(decoder.sample_rate(), Channels::Discrete(channels as u16)))
    }

    /// Positions of the channels (section 4.3.9).
    pub(super) fn speakers(&self) -> Vec<Speaker> {
        layout::vorbis(self.0.channels())
    }
}

/// Creates a decoder for packets with these headers.
///
/// # Errors
/// As [`VorbisTrack::new`].
pub(super) fn decoder(identification: &[u8], setup: &[u8]) -> Result<Decoder, AudioError> {
    if let Some(&channels) = identification.get(11) {
        layout::check(&Channels::Discrete(u16::from(channels)))?;
    }
    Decoder::new(identification, NO_COMMENT, setup)
        .map_err(|error| AudioError::UnsupportedCodec(format!("Vorbis whose headers are damaged: {error}")))
}

/// The first and the last of three headers. Before them come their number minus one and the lengths of the first two,
/// each as a sum of bytes that ends with the first byte below 255 (Matroska codec specifications, A_VORBIS).
fn laced(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut rest = bytes.strip_prefix(&[2])?;
    let mut length = || {
        let mut length = 0;
        loop {
            let (&byte, after) = rest.split_first()?;
            rest = after;
            length += usize::from(byte);
            if byte < 255 {
                return Some(length);
            }
        }
    };
    let (first, second) = (length()?, length()?);
    let (identification, rest) = rest.split_at_checked(first)?;
    Some((identification, rest.get(second..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_found_behind_their_lengths() {
        let headers = [&[2, 30, 255, 1][..], &[7; 30], &[8; 256], &[9; 5]].concat();
        assert_eq!(laced(&headers), Some((&[7; 30][..], &[9; 5][..])));
        assert_eq!(laced(&headers[..200]), None);
        assert_eq!(laced(b"\x01vorbis"), None);
    }
}
