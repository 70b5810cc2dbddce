//! Encapsulation of each codec in Ogg: identifies a track's packets.

use opus_pure::packet::samples_48k;
use rusty_vorbis::decode::Decoder as VorbisDecoder;
use symphonia::core::{
    codecs::{
        CodecParameters,
        audio::{
            AudioCodecParameters,
            well_known::{CODEC_ID_OPUS, CODEC_ID_VORBIS},
        },
    },
    formats::Track,
};

use super::super::{
    codec::unsupported,
    flac::{self, Format, StreamInfo},
    opus,
    vorbis::{self, IDENTIFICATION_BYTES},
};
use crate::AudioError;

/// Bytes before STREAMINFO in FLAC's first packet (RFC 9639, section 10.1).
const FLAC_STREAMINFO_AT: usize = 17;

/// A track's codec, and the headers read so far.
pub(super) enum Mapping {
    /// Vorbis I, section A.
    Vorbis { identification: Vec<u8>, started: Option<Vorbis> },
    /// RFC 7845.
    Opus { identification: Vec<u8> },
    /// RFC 9639, section 10.1.
    Flac(Format),
}

/// A Vorbis track whose headers are complete.
pub(super) struct Vorbis {
    setup: Vec<u8>,
    /// Only used to measure packets.
    decoder: Box<VorbisDecoder>,
    /// Size of the previous block in samples; none before the first.
    block: Option<u64>,
}

/// A packet of music, with its samples per channel.
pub(super) struct Measured {
    pub(super) data: Vec<u8>,
    /// As counted by the pages' positions.
    pub(super) counted: u64,
    /// As output by the decoder.
    pub(super) decoded: u64,
}

impl Mapping {
    /// Identifies the codec from a track's first packet.
    ///
    /// # Errors
    /// When the track is not audio, or names a codec that cannot be decoded.
    pub(super) fn of(packet: &[u8]) -> Result<Self, AudioError> {
        if packet.starts_with(b"\x01vorbis") && packet.len() >= IDENTIFICATION_BYTES {
            let identification = packet[..IDENTIFICATION_BYTES].to_vec();
            return Ok(Self::Vorbis { identification, started: None });
        }
        if packet.starts_with(b"OpusHead") {
            return Ok(Self::Opus { identification: packet.to_vec() });
        }
        if packet.starts_with(b"\x7fFLAC")
            && let Some(info) = packet.get(FLAC_STREAMINFO_AT..).and_then(StreamInfo::parse)
        {
            return Ok(Self::Flac(info.format));
        }
        let known = [(&b"Speex   "[..], "Speex"), (b"CELT    ", "CELT"), (b"PCM     ", "PCM in Ogg")];
        let name = known.iter().find(|(start, _)| packet.starts_with(start)).map(|(_, name)| *name);
        Err(name.map_or(AudioError::NoAudio, unsupported))
    }

    /// The track, once its headers are complete.
    pub(super) fn track(&self) -> Option<Track> {
        let mut parameters = AudioCodecParameters::new();
        match self {
            Self::Vorbis { identification, started } => {
                let [a, b, c, d] = *identification[12..].first_chunk()?;
                parameters.for_codec(CODEC_ID_VORBIS).with_sample_rate(u32::from_le_bytes([a, b, c, d]));
                parameters.with_extra_data([&identification[..], &started.as_ref()?.setup].concat().into());
            }
            Self::Opus { identification } => {
                parameters.for_codec(CODEC_ID_OPUS).with_sample_rate(opus::RATE);
                parameters.with_extra_data(identification.clone().into());
            }
            Self::Flac(format) => parameters = format.parameters(),
        }
        let mut track = Track::new(0);
        track.with_codec_params(CodecParameters::Audio(parameters));
        Some(track)
    }

    /// Whether a packet with this start is needed; comments and pictures are not.
    pub(super) fn uses(&self, start: &[u8]) -> bool {
        match self {
            Self::Vorbis { .. } => start.first() != Some(&3),
            Self::Opus { .. } => !start.starts_with(b"OpusTags"),
            Self::Flac(_) => start.first() == Some(&0xFF),
        }
    }

    /// Processes a packet; none if it is a header or empty.
    ///
    /// # Errors
    /// When a header is damaged.
    pub(super) fn packet(&mut self, data: Vec<u8>) -> Result<Option<Measured>, AudioError> {
        let Some(&first) = data.first() else { return Ok(None) };
        let (counted, decoded) = match self {
            Self::Vorbis { identification, started } => match started {
                None if first == 5 => {
                    let decoder = Box::new(vorbis::decoder(identification, &data)?);
                    *started = Some(Vorbis { setup: data, decoder, block: None });
                    return Ok(None);
                }
                Some(vorbis) if first & 1 == 0 => vorbis.samples(&data),
                _ => return Ok(None),
            },
            Self::Opus { .. } => {
                let samples = samples_48k(&data).map_or(0, |samples| samples as u64);
                (samples, samples)
            }
            Self::Flac(format) => {
                let samples = flac::header(&data, *format).map_or(0, |header| u64::from(header.block));
                (samples, samples)
            }
        };
        Ok(Some(Measured { data, counted, decoded }))
    }
}

impl Vorbis {
    /// Samples of a packet, first as counted by positions: from the middle of the previous block to the middle of this
    /// one (Vorbis I, section 4.3.8). Then as output by the decoder, which may already include some of the second half.
    fn samples(&mut self, packet: &[u8]) -> (u64, u64) {
        let (Ok(block), Ok(decoded)) = (self.decoder.packet_blocksize(packet), self.decoder.packet_frames(packet))
        else {
            return (0, 0);
        };
        let block = block as u64;
        match self.block.replace(block) {
            None => (0, 0),
            Some(before) => (before / 4 + block / 4, decoded as u64),
        }
    }
}
