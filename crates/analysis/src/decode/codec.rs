//! Packets to interleaved samples, whatever they are coded in.

use symphonia::core::{
    audio::AudioSpec,
    codecs::audio::{
        AudioCodecParameters, AudioDecoder, AudioDecoderOptions,
        well_known::{
            CODEC_ID_AAC, CODEC_ID_FLAC, CODEC_ID_MP1, CODEC_ID_MP2, CODEC_ID_MP3, CODEC_ID_OPUS, CODEC_ID_VORBIS,
        },
    },
    errors::Error as SymphoniaError,
    formats::Track,
    packet::Packet,
};

use super::{flac, layout, mpeg::MpegTrack, opus::OpusTrack, vorbis::VorbisTrack};
use crate::{AudioError, dsp::Speaker};

/// The decoder of a track.
pub(super) enum Codec {
    Symphonia(Box<dyn AudioDecoder>),
    Mpeg(MpegTrack),
    Opus(OpusTrack),
    Vorbis(VorbisTrack),
}

impl Codec {
    /// # Errors
    /// When there is no decoder for it, or too many channels in it.
    pub(super) fn new(parameters: &AudioCodecParameters, track: &Track) -> Result<Self, AudioError> {
        if let Some(channels) = &parameters.channels {
            layout::check(channels)?;
        }
        Ok(match parameters.codec {
            CODEC_ID_OPUS => Self::Opus(OpusTrack::new(parameters, track.time_base)?),
            CODEC_ID_MP1 | CODEC_ID_MP2 | CODEC_ID_MP3 => Self::Mpeg(MpegTrack::new()),
            CODEC_ID_FLAC => Self::Symphonia(decoder(&flac::mended(parameters), AudioDecoderOptions::default())?),
            CODEC_ID_VORBIS => Self::Vorbis(VorbisTrack::new(parameters)?),
            CODEC_ID_AAC => Self::Symphonia(aac(parameters)?),
            _ => Self::Symphonia(decoder(parameters, AudioDecoderOptions::default())?),
        })
    }

    /// Replaces `out` by the packet's samples, interleaved.
    ///
    /// # Errors
    /// When the packet cannot be decoded; the next one may.
    pub(super) fn decode(&mut self, packet: &Packet, out: &mut Vec<f32>) -> Result<AudioSpec, SymphoniaError> {
        match self {
            Self::Symphonia(decoder) => interleaved(&mut **decoder, packet, out),
            Self::Mpeg(track) => track.decode(packet, out),
            Self::Opus(track) => track.decode(packet, out),
            Self::Vorbis(track) => track.decode(packet, out),
        }
    }

    /// Where the channels of decoded samples stand. `are_invented` says that the reader made their positions up.
    ///
    /// # Errors
    /// When they cannot be folded.
    pub(super) fn speakers(&self, spec: &AudioSpec, are_invented: bool) -> Result<Vec<Speaker>, AudioError> {
        match self {
            Self::Opus(track) => Ok(track.speakers()),
            Self::Vorbis(track) => Ok(track.speakers()),
            Self::Symphonia(_) | Self::Mpeg(_) => layout::speakers(spec.channels(), are_invented),
        }
    }
}

/// Replaces `out` by a packet's samples, interleaved.
pub(super) fn interleaved(
    decoder: &mut dyn AudioDecoder,
    packet: &Packet,
    out: &mut Vec<f32>,
) -> Result<AudioSpec, SymphoniaError> {
    let buffer = decoder.decode(packet)?;
    buffer.copy_to_vec_interleaved(out);
    Ok(buffer.spec().clone())
}

pub(super) fn decoder(
    parameters: &AudioCodecParameters,
    options: AudioDecoderOptions,
) -> Result<Box<dyn AudioDecoder>, AudioError> {
    symphonia::default::get_codecs()
        .make_audio_decoder(parameters, &options)
        .map_err(|error| AudioError::UnsupportedCodec(error.to_string()))
}

/// AAC in its plain form; the others are refused as far as they can be told.
///
/// HE-AAC codes the lower half of the band as AAC-LC at half the rate. Decoded without its extension that is dull, and a
/// vector of something else. It is named in the codec's own parameters, which symphonia sees to; or behind them (see
/// [`has_extension`]); or MP4 gives twice the rate of the parameters, which is that of the whole band. Where a file says
/// nothing at all, as ADTS has no room for it, only its packets tell: those are taken for AAC-LC here.
fn aac(parameters: &AudioCodecParameters) -> Result<Box<dyn AudioDecoder>, AudioError> {
    let refused = |reason: &str| {
        AudioError::UnsupportedCodec(format!("of AAC, only AAC-LC in one or two channels can be decoded ({reason})"))
    };
    let decoder = symphonia::default::get_codecs()
        .make_audio_decoder(parameters, &AudioDecoderOptions::default())
        .map_err(|error| refused(&error.to_string()))?;
    let core = decoder.codec_params().sample_rate.unwrap_or_default();
    let is_half = core > 0 && parameters.sample_rate == core.checked_mul(2);
    if is_half || parameters.extra_data.as_deref().is_some_and(has_extension) {
        return Err(refused("this is HE-AAC"));
    }
    Ok(decoder)
}

/// Whether an AudioSpecificConfig of AAC-LC names spectral band replication behind itself: sync word 0x2B7, object type 5,
/// and a set bit (ISO/IEC 14496-3, 1.6.2.1). symphonia 0.6.1 does not look there.
fn has_extension(config: &[u8]) -> bool {
    matches!(config, [_, _, 0x56, 0xE5, flag, ..] if flag & 0x80 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configured(rate: u32, config: &[u8]) -> Result<(), String> {
        let mut parameters = AudioCodecParameters::new();
        parameters.for_codec(CODEC_ID_AAC).with_sample_rate(rate).with_extra_data(config.into());
        aac(&parameters).map(drop).map_err(|error| error.to_string())
    }

    #[test]
    fn aac_that_is_not_plain_is_refused_in_words() {
        // AAC-LC, 22 050 Hz, stereo.
        let plain = [0x13, 0x90];
        assert_eq!(configured(22_050, &plain), Ok(()));
        for (what, rate, config) in [
            ("HE-AAC that is named", 44_100, &[0x2B, 0x92, 0x08, 0x00][..]),
            ("HE-AAC that is named behind the parameters", 22_050, &[0x13, 0x90, 0x56, 0xE5, 0xA0]),
            ("HE-AAC that the container's rate shows", 44_100, &plain),
            ("5.1", 44_100, &[0x12, 0x30]),
        ] {
            let error = configured(rate, config).expect_err(what);
            assert!(error.contains("only AAC-LC in one or two channels"), "{what}: {error}");
        }
        // The same words with a bit that says "no".
        assert_eq!(configured(22_050, &[0x13, 0x90, 0x56, 0xE5, 0x00]), Ok(()));
    }
}
