//! AAC packets to samples.
//!
//! symphonia decodes AAC-LC in one or two channels, the most common kind. The rest of the family goes to `rusty_aac`:
//! more channels, HE-AAC, and the kinds for prediction and low delay.

use rusty_aac::{
    AacDecoder, Error as AacError,
    config::{self, StreamConfig},
    decode::layout::{OutputConfig, default_layout, pce_layout},
};
use symphonia::core::{
    audio::{AudioSpec, Channels, Position},
    codecs::audio::{AudioCodecParameters, AudioDecoder, AudioDecoderOptions},
    errors::{Error as SymphoniaError, decode_error, unsupported_error},
    packet::Packet,
};

use super::codec::{decoder, interleaved, unsupported};
use crate::AudioError;

/// Object types of AAC-LC and xHE-AAC (ISO/IEC 14496-3, table 1.17).
const LC: u8 = 2;
const USAC: u8 = 42;

/// Bits of WAV's channel mask that stand for a position; these are universal.
const NAMED_POSITIONS: u32 = 18;

/// A track of AAC.
pub(super) enum AacTrack {
    Plain(Box<dyn AudioDecoder>),
    Other { decoder: Box<AacDecoder>, positions: Option<Position> },
}

impl AacTrack {
    /// # Errors
    /// Names the kind of AAC that has no decoder here.
    pub(super) fn new(parameters: &AudioCodecParameters) -> Result<Self, AudioError> {
        match stream(parameters)? {
            Some(stream) if !is_plain(&stream) => {
                let positions = positions(&stream);
                Ok(Self::Other { decoder: Box::new(AacDecoder::with_stream_config(stream)), positions })
            }
            _ => Ok(Self::Plain(decoder(parameters, AudioDecoderOptions::default())?)),
        }
    }

    /// Replaces `out` with the packet's samples, interleaved.
    pub(super) fn decode(&mut self, packet: &Packet, out: &mut Vec<f32>) -> Result<AudioSpec, SymphoniaError> {
        match self {
            Self::Plain(decoder) => interleaved(&mut **decoder, packet, out),
            Self::Other { decoder, positions } => {
                let decoded = match decoder.decode(&packet.data, None) {
                    Ok(decoded) => decoded,
                    Err(AacError::Unsupported(_) | AacError::Unimplemented(_)) => {
                        return unsupported_error("of AAC, a kind without a decoder");
                    }
                    Err(_) => return decode_error("aac: invalid packet"),
                };
                *out = decoded.samples;
                let count = usize::from(decoded.channels);
                let positions = positions.filter(|positions| positions.iter().count() == count);
                let channels = positions.map_or(Channels::Discrete(decoded.channels), Channels::Positioned);
                Ok(AudioSpec::new(decoded.sample_rate, channels))
            }
        }
    }
}

/// The rate in Hz at which a track is decoded: the full band's rate if the upper half is coded as an extension.
pub(super) fn rate(parameters: &AudioCodecParameters) -> u32 {
    match stream(parameters) {
        Ok(Some(stream)) if stream.sbr && stream.ext_sample_rate > stream.sample_rate => 2 * stream.sample_rate,
        Ok(Some(stream)) => stream.sample_rate,
        _ => parameters.sample_rate.unwrap_or(0),
    }
}

/// An AudioSpecificConfig for an object type, for containers that have none (ISO/IEC 14496-3, table 1.15).
pub(super) fn config(object: u8, rate: u32, channels: u64) -> [u8; 2] {
    let channels = match channels {
        8 => 7,
        1..=6 => channels as u16,
        _ => 0,
    };
    let rate = u16::from(config::sf_index_for_any_rate(rate));
    (u16::from(object) << 11 | rate << 7 | channels << 3).to_be_bytes()
}

/// Parameters from a track's AudioSpecificConfig (ISO/IEC 14496-3, section 1.6.2.1), or from the container if there is
/// none, as in ADTS.
///
/// If the container's rate is twice that of the AudioSpecificConfig, it is the rate of HE-AAC's full band.
fn stream(parameters: &AudioCodecParameters) -> Result<Option<StreamConfig>, AudioError> {
    let rate = parameters.sample_rate.unwrap_or(0);
    let Some(config) = parameters.extra_data.as_deref() else {
        let channels = parameters.channels.as_ref().map_or(0, Channels::count);
        // Channel configuration 7 stands for eight channels.
        let configuration = match channels {
            8 => 7,
            0..=6 => channels as u8,
            _ => return Ok(None),
        };
        return Ok((rate > 0).then(|| StreamConfig::lc(LC, rate, configuration)));
    };
    let mut stream = match config::parse(config) {
        Ok(stream) => stream,
        Err(_) if object_type(config) == Some(USAC) => return Err(unsupported("xHE-AAC (USAC)")),
        Err(AacError::Unsupported(reason)) => return Err(unsupported(&format!("AAC ({reason})"))),
        Err(error) => return Err(AudioError::Damaged(format!("its AAC has no valid parameters: {error}"))),
    };
    if !stream.sbr && !stream.sbr_explicitly_absent && stream.sample_rate.checked_mul(2) == Some(rate) {
        stream.sbr = true;
        stream.ext_sample_rate = rate;
    }
    Ok(Some(stream))
}

/// The object type, which may be extended by an escape of six bits.
pub(super) fn object_type(config: &[u8]) -> Option<u8> {
    let (first, second) = (*config.first()?, *config.get(1)?);
    Some(match first >> 3 {
        31 => 32 + ((first & 7) << 3 | second >> 5),
        kind => kind,
    })
}

/// Whether symphonia decodes this kind of AAC.
fn is_plain(stream: &StreamConfig) -> bool {
    stream.object_type == LC && !stream.sbr && stream.frame_length == 1024 && matches!(stream.channel_config, 1 | 2)
}

/// The channels' positions in decoding order, which is the order of the bits in WAV's mask.
fn positions(stream: &StreamConfig) -> Option<Position> {
    let layout = match &stream.pce {
        Some(program) => pce_layout(program),
        None => default_layout(stream.channel_config, false)?,
    };
    let mask = OutputConfig::configure(layout, false).mask;
    (mask != 0 && mask < 1 << NAMED_POSITIONS).then(|| Position::from_bits(mask)).flatten()
}

#[cfg(test)]
mod tests {
    use symphonia::core::codecs::audio::well_known::CODEC_ID_AAC;

    use super::*;

    fn parameters(rate: u32, config: &[u8]) -> AudioCodecParameters {
        let mut parameters = AudioCodecParameters::new();
        parameters.for_codec(CODEC_ID_AAC).with_sample_rate(rate).with_extra_data(config.into());
        parameters
    }

    #[test]
    fn the_extension_counts_however_it_is_named() {
        // AAC-LC, 22 050 Hz, stereo.
        let plain = &[0x13, 0x90][..];
        for (what, container, config, decoded) in [
            ("AAC-LC", 22_050, plain, 22_050),
            ("HE-AAC that is named", 44_100, &[0x2B, 0x92, 0x08, 0x00], 44_100),
            ("HE-AAC that is named behind the parameters", 22_050, &[0x13, 0x90, 0x56, 0xE5, 0xA0], 44_100),
            ("HE-AAC that the container's rate shows", 44_100, plain, 44_100),
            ("the same words with a bit that says no", 44_100, &[0x13, 0x90, 0x56, 0xE5, 0x00], 22_050),
        ] {
            let parameters = parameters(container, config);
            assert_eq!(rate(&parameters), decoded, "{what}");
            let track = AacTrack::new(&parameters).unwrap();
            assert_eq!(matches!(track, AacTrack::Plain(_)), decoded == 22_050, "{what}");
        }
    }

    #[test]
    fn what_has_no_decoder_is_refused_by_name() {
        for (config, words) in [(&[0xF9, 0x48, 0x20, 0x00][..], "xHE-AAC (USAC)"), (&[0x12], "no valid parameters")] {
            let error = AacTrack::new(&parameters(44_100, config)).map(drop).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn channels_stand_where_their_configuration_says() {
        const L: Position = Position::FRONT_LEFT;
        const R: Position = Position::FRONT_RIGHT;
        const C: Position = Position::FRONT_CENTER;
        const BACK: Position = Position::REAR_LEFT.union(Position::REAR_RIGHT);
        for (configuration, expected) in [
            (3, L | R | C),
            (4, L | R | C | Position::REAR_CENTER),
            (5, L | R | C | BACK),
            (6, L | R | C | BACK | Position::LFE1),
            (7, L | R | C | BACK | Position::LFE1 | Position::SIDE_LEFT | Position::SIDE_RIGHT),
        ] {
            let positions = positions(&StreamConfig::lc(LC, 48_000, configuration));
            assert_eq!(positions, Some(expected), "{configuration}");
        }
    }
}
