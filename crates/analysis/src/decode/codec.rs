//! Decodes packets of any supported codec to interleaved samples.

use symphonia::core::{
    audio::AudioSpec,
    codecs::{
        CodecParameters,
        audio::{
            AudioCodecId, AudioCodecParameters, AudioDecoder, AudioDecoderOptions,
            well_known::{
                CODEC_ID_AAC, CODEC_ID_ALAC, CODEC_ID_FLAC, CODEC_ID_MP1, CODEC_ID_MP2, CODEC_ID_MP3, CODEC_ID_OPUS,
                CODEC_ID_VORBIS,
            },
        },
    },
    errors::{Error as SymphoniaError, decode_error},
    formats::Track,
    packet::Packet,
};

use super::{aac::AacTrack, flac, layout, mpeg::MpegTrack, opus::OpusTrack, vorbis::VorbisTrack};
use crate::{AudioError, dsp::Speaker};

/// The decoder of a track.
pub(super) enum Codec {
    Symphonia(Box<dyn AudioDecoder>),
    Aac(AacTrack),
    Mpeg(MpegTrack),
    Opus(OpusTrack),
    Vorbis(VorbisTrack),
}

impl Codec {
    /// # Errors
    /// When the codec has no decoder here, or the track has too many channels.
    pub(super) fn new(parameters: &AudioCodecParameters, track: &Track) -> Result<Self, AudioError> {
        if let Some(channels) = &parameters.channels {
            layout::check(channels)?;
        }
        Ok(match parameters.codec {
            CODEC_ID_OPUS => Self::Opus(OpusTrack::new(parameters, track.time_base)?),
            CODEC_ID_MP1 | CODEC_ID_MP2 | CODEC_ID_MP3 => Self::Mpeg(MpegTrack::new()),
            CODEC_ID_FLAC => Self::Symphonia(decoder(&flac::mended(parameters), AudioDecoderOptions::default())?),
            CODEC_ID_VORBIS => Self::Vorbis(VorbisTrack::new(parameters)?),
            CODEC_ID_AAC => Self::Aac(AacTrack::new(parameters)?),
            _ => Self::Symphonia(decoder(parameters, AudioDecoderOptions::default())?),
        })
    }

    /// Replaces `out` with the packet's samples, interleaved.
    ///
    /// # Errors
    /// When the packet cannot be decoded; the next one may.
    pub(super) fn decode(&mut self, packet: &Packet, out: &mut Vec<f32>) -> Result<AudioSpec, SymphoniaError> {
        if packet.data.is_empty() {
            return decode_error("empty packet");
        }
        let spec = match self {
            Self::Symphonia(decoder) => interleaved(&mut **decoder, packet, out)?,
            Self::Aac(track) => track.decode(packet, out)?,
            Self::Mpeg(track) => track.decode(packet, out)?,
            Self::Opus(track) => return track.decode(packet, out),
            Self::Vorbis(track) => return track.decode(packet, out),
        };
        trim(packet, &spec, out);
        Ok(spec)
    }

    /// Positions of the channels of decoded samples.
    ///
    /// # Errors
    /// When they cannot be folded to mono.
    pub(super) fn speakers(&self, spec: &AudioSpec) -> Result<Vec<Speaker>, AudioError> {
        match self {
            Self::Opus(track) => Ok(track.speakers()),
            Self::Vorbis(track) => Ok(track.speakers()),
            Self::Symphonia(decoder) if decoder.codec_params().codec == CODEC_ID_ALAC => {
                let count = spec.channels().count();
                layout::alac(count).map_or_else(|| layout::speakers(spec.channels()), Ok)
            }
            Self::Symphonia(_) | Self::Aac(_) | Self::Mpeg(_) => layout::speakers(spec.channels()),
        }
    }
}

/// Cuts off the samples that the container marks as excess at the packet's ends.
fn trim(packet: &Packet, spec: &AudioSpec, out: &mut Vec<f32>) {
    let channels = spec.channels().count().max(1);
    let samples = (out.len() / channels) as u64;
    let start = packet.trim_start.get().min(samples);
    let end = packet.trim_end.get().min(samples - start);
    out.truncate((samples - end) as usize * channels);
    out.drain(..start as usize * channels);
}

/// Replaces `out` with a packet's samples, interleaved.
pub(super) fn interleaved(
    decoder: &mut dyn AudioDecoder,
    packet: &Packet,
    out: &mut Vec<f32>,
) -> Result<AudioSpec, SymphoniaError> {
    let buffer = decoder.decode(packet)?;
    buffer.copy_to_vec_interleaved(out);
    Ok(buffer.spec().clone())
}

/// Name of a codec.
pub(super) fn name(codec: AudioCodecId) -> &'static str {
    match codec {
        CODEC_ID_MP1 => "MPEG Layer I",
        CODEC_ID_MP2 => "MPEG Layer II",
        CODEC_ID_MP3 => "MPEG Layer III",
        CODEC_ID_OPUS => "Opus",
        CODEC_ID_VORBIS => "Vorbis",
        other => symphonia::default::get_codecs()
            .get_audio_decoder(other)
            .map_or("?", |decoder| decoder.codec.info.long_name),
    }
}

pub(super) fn decoder(
    parameters: &AudioCodecParameters,
    options: AudioDecoderOptions,
) -> Result<Box<dyn AudioDecoder>, AudioError> {
    symphonia::default::get_codecs()
        .make_audio_decoder(parameters, &options)
        .map_err(|error| AudioError::UnsupportedCodec(error.to_string()))
}

/// The error for a codec without a decoder, with its common name.
pub(super) fn unsupported(name: &str) -> AudioError {
    AudioError::UnsupportedFormat(name.to_owned())
}

/// The container's first audio track that can be decoded, with its associated data.
///
/// # Errors
/// The reason why the first track cannot be decoded, if none can.
pub(super) fn first_decodable<T>(
    tracks: impl Iterator<Item = Result<(Track, T), AudioError>>,
) -> Result<(Track, T), AudioError> {
    let mut refused = None;
    for track in tracks {
        let decodable = track.and_then(|(track, with)| match &track.codec_params {
            Some(CodecParameters::Audio(parameters)) => Codec::new(parameters, &track).map(|_| (track, with)),
            _ => Err(AudioError::NoAudio),
        });
        match decodable {
            Ok(track) => return Ok(track),
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    Err(refused.unwrap_or(AudioError::NoAudio))
}
