//! Codecs of a Matroska track (Matroska's codec mappings, RFC 9559 section 5.1.4.1.21 and draft-ietf-cellar-codec).

use symphonia::core::{
    audio::Channels,
    codecs::audio::{AudioCodecId, AudioCodecParameters, well_known::*},
};

use super::super::{aac, codec::unsupported, mp4, stream::Fields, xiph};
use crate::AudioError;

/// Maximum number of frames in a block of PCM.
const MAX_PCM_FRAMES: u64 = 1 << 16;

/// Fields of a track that describe its sound.
#[derive(Debug, Default)]
pub(super) struct Sound {
    pub(super) codec: String,
    /// The codec's own parameters.
    pub(super) private: Vec<u8>,
    pub(super) rate: f64,
    /// The playback rate, if it differs: twice as high for HE-AAC.
    pub(super) output_rate: Option<f64>,
    pub(super) channels: u64,
    pub(super) bits: u64,
}

impl Sound {
    /// The parameters for the decoder.
    ///
    /// # Errors
    /// Names a codec without a decoder, or damaged parameters.
    pub(super) fn parameters(&self) -> Result<AudioCodecParameters, AudioError> {
        let damaged =
            || AudioError::Damaged(format!("the parameters of {} make no sense", self.codec.escape_default()));
        let codec = match self.codec.as_str() {
            "A_MPEG/L1" => CODEC_ID_MP1,
            "A_MPEG/L2" => CODEC_ID_MP2,
            "A_MPEG/L3" => CODEC_ID_MP3,
            "A_FLAC" => {
                // The blocks come after the stream's marker.
                let blocks = self.private.strip_prefix(b"fLaC").and_then(xiph::flac_stream_info);
                return self.with(CODEC_ID_FLAC, blocks.ok_or_else(damaged)?.0);
            }
            "A_VORBIS" => {
                let headers = xiph::vorbis_headers(&self.private).ok_or_else(damaged)?;
                return self.with(CODEC_ID_VORBIS, &headers);
            }
            "A_OPUS" => return self.with(CODEC_ID_OPUS, &self.private),
            "A_ALAC" => return self.with(CODEC_ID_ALAC, &self.private),
            "A_PCM/INT/LIT" => integer(self.bits, false).ok_or_else(|| self.unknown_bits())?,
            "A_PCM/INT/BIG" => integer(self.bits, true).ok_or_else(|| self.unknown_bits())?,
            "A_PCM/FLOAT/IEEE" => float(self.bits).ok_or_else(|| self.unknown_bits())?,
            "A_MS/ACM" => return self.windows(),
            "A_QUICKTIME" => return self.quicktime(),
            codec if codec.starts_with("A_AAC") => return self.aac(),
            codec => return Err(unsupported(&name(codec))),
        };
        Ok(self.plain(codec))
    }

    fn plain(&self, codec: AudioCodecId) -> AudioCodecParameters {
        let mut parameters = AudioCodecParameters::new();
        parameters.for_codec(codec).with_sample_rate(self.rate.round() as u32);
        if codec_is_pcm(codec) {
            parameters
                .with_channels(Channels::Discrete(u16::try_from(self.channels).unwrap_or(u16::MAX)))
                .with_max_frames_per_packet(MAX_PCM_FRAMES);
            // G.711 always decodes to 16 bits; the decoder does not want them declared.
            if !matches!(codec, CODEC_ID_PCM_ALAW | CODEC_ID_PCM_MULAW) {
                let bits = self.bits.max(8) as u32;
                parameters.with_bits_per_sample(bits).with_bits_per_coded_sample(bits);
            }
        }
        parameters
    }

    fn with(&self, codec: AudioCodecId, private: &[u8]) -> Result<AudioCodecParameters, AudioError> {
        let mut parameters = self.plain(codec);
        parameters.with_extra_data(private.into());
        Ok(parameters)
    }

    fn unknown_bits(&self) -> AudioError {
        unsupported(&format!("PCM of {} bits", self.bits))
    }

    /// Files from before 2005 name the kind of AAC instead of containing its parameters.
    fn aac(&self) -> Result<AudioCodecParameters, AudioError> {
        let rate = self.rate.round() as u32;
        let object = match self.codec.get("A_AAC/MPEG4/".len()..) {
            Some("MAIN") => 1,
            Some("SSR") => 3,
            Some("LTP") => 4,
            _ => 2,
        };
        let made_up = aac::config(object, rate, self.channels);
        let private = if self.private.len() < 2 { &made_up[..] } else { &self.private };
        let mut parameters = self.plain(CODEC_ID_AAC);
        parameters
            .with_sample_rate(self.output_rate.unwrap_or(self.rate).round() as u32)
            .with_extra_data(private.into());
        parameters.with_sample_rate(aac::rate(&parameters));
        Ok(parameters)
    }

    /// The private data is a `WAVEFORMATEX`.
    fn windows(&self) -> Result<AudioCodecParameters, AudioError> {
        let number = |at: usize| self.private.get(at..at + 2).map(|bytes| u16::from_le_bytes([bytes[0], bytes[1]]));
        let damaged = || AudioError::Damaged("the parameters of A_MS/ACM are cut".to_owned());
        let (Some(tag), Some(bits)) = (number(0), number(14)) else { return Err(damaged()) };
        // In the extensible form, the format tag is the first field of a GUID.
        let tag = if tag == 0xFFFE { number(24).ok_or_else(damaged)? } else { tag };
        let bits = u64::from(bits);
        let sound = |codec: &str, private: &[u8]| Self {
            codec: codec.to_owned(),
            private: private.to_vec(),
            bits,
            ..Self { codec: String::new(), private: Vec::new(), ..*self }
        };
        match tag {
            1 if bits == 8 => Ok(sound("", &[]).plain(CODEC_ID_PCM_U8)),
            1 => sound("A_PCM/INT/LIT", &[]).parameters(),
            3 => sound("A_PCM/FLOAT/IEEE", &[]).parameters(),
            6 => Ok(self.plain(CODEC_ID_PCM_ALAW)),
            7 => Ok(self.plain(CODEC_ID_PCM_MULAW)),
            0x50 => Ok(self.plain(CODEC_ID_MP2)),
            0x55 => Ok(self.plain(CODEC_ID_MP3)),
            0xFF => sound("A_AAC", self.private.get(18..).unwrap_or(&[])).parameters(),
            0x160..=0x163 => Err(unsupported("Windows Media Audio")),
            0x2000 => Err(unsupported("AC-3 (Dolby Digital)")),
            0x2001 => Err(unsupported("DTS")),
            other => Err(unsupported(&format!("the Windows codec {other:#06x}"))),
        }
    }

    /// The private data is QuickTime's sample description.
    fn quicktime(&self) -> Result<AudioCodecParameters, AudioError> {
        let mut fields = Fields(&self.private);
        fields.take(4);
        match fields.array() {
            Some(name) => mp4::quicktime_entry(name, fields.0),
            None => Err(unsupported("QuickTime's codec in Matroska")),
        }
    }
}

/// A codec's common name.
fn name(codec: &str) -> String {
    let known = [
        ("A_AC3", "AC-3 (Dolby Digital)"),
        ("A_EAC3", "E-AC-3 (Dolby Digital Plus)"),
        ("A_AC4", "AC-4 (Dolby)"),
        ("A_TRUEHD", "TrueHD (Dolby)"),
        ("A_MLP", "MLP (Meridian)"),
        ("A_DTS", "DTS"),
        ("A_TTA1", "True Audio (TTA)"),
        ("A_WAVPACK4", "WavPack"),
        ("A_MPC", "Musepack"),
        ("A_REAL/", "RealAudio"),
        ("A_ATRAC/", "ATRAC"),
        ("A_QUICKTIME/QDM", "QDesign Music"),
    ];
    let known = known.iter().find(|(start, _)| codec.starts_with(start)).map(|(_, name)| (*name).to_owned());
    known.unwrap_or_else(|| format!("{} in Matroska", codec.escape_default()))
}

fn codec_is_pcm(codec: AudioCodecId) -> bool {
    matches!(codec, CODEC_ID_PCM_ALAW | CODEC_ID_PCM_MULAW | CODEC_ID_PCM_F32LE | CODEC_ID_PCM_F64LE)
        || [8, 16, 24, 32].iter().any(|&bits| [false, true].iter().any(|&big| integer(bits, big) == Some(codec)))
}

fn integer(bits: u64, is_big: bool) -> Option<AudioCodecId> {
    Some(match (bits, is_big) {
        (8, _) => CODEC_ID_PCM_U8,
        (16, false) => CODEC_ID_PCM_S16LE,
        (16, true) => CODEC_ID_PCM_S16BE,
        (24, false) => CODEC_ID_PCM_S24LE,
        (24, true) => CODEC_ID_PCM_S24BE,
        (32, false) => CODEC_ID_PCM_S32LE,
        (32, true) => CODEC_ID_PCM_S32BE,
        _ => return None,
    })
}

fn float(bits: u64) -> Option<AudioCodecId> {
    match bits {
        32 => Some(CODEC_ID_PCM_F32LE),
        64 => Some(CODEC_ID_PCM_F64LE),
        _ => None,
    }
}
