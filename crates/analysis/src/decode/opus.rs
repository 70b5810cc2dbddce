//! Decodes Opus packets from Ogg, WebM or MP4 to samples.

use opus_pure::{ChannelLayout, MAX_PACKET_SAMPLES, OpusMSDecoder, packet::samples_48k};
use symphonia::core::{
    audio::{AudioSpec, Channels},
    codecs::audio::AudioCodecParameters,
    errors::{Error as SymphoniaError, decode_error},
    packet::Packet,
    units::{Duration, TimeBase},
};

use super::layout;
use crate::{
    AudioError,
    dsp::{MAX_CHANNELS, Speaker, default_layout},
};

/// Opus always decodes at 48 kHz.
pub(super) const RATE: u32 = 48_000;

/// An Opus track: a decoder, and the parts of its output to drop.
pub(super) struct OpusTrack {
    decoder: OpusMSDecoder,
    channels: usize,
    family: u8,
    /// Samples per channel still to be dropped at the start.
    skip: usize,
    /// Factor applied to every sample.
    gain: f32,
    time_base: Option<TimeBase>,
    buffer: Vec<f32>,
}

impl OpusTrack {
    /// Reads the identification header (RFC 7845, section 5.1), which Ogg and WebM both carry. MP4's box `dOps` has the
    /// same fields (Encapsulation of Opus in ISO Base Media File Format, section 4.3.2), but big-endian and with version
    /// 0 instead of 1; symphonia puts the header's first eight bytes before them.
    pub(super) fn new(parameters: &AudioCodecParameters, time_base: Option<TimeBase>) -> Result<Self, AudioError> {
        let header = parameters.extra_data.as_deref().unwrap_or_default();
        let (Some(b"OpusHead"), Some(&[version, channels, skip_0, skip_1, _, _, _, _, gain_0, gain_1, family])) =
            (header.get(..8), header.get(8..19))
        else {
            return Err(AudioError::UnsupportedCodec("Opus without its identification header".to_owned()));
        };
        let number = if version == 0 { u16::from_be_bytes } else { u16::from_le_bytes };
        let (skip, gain) = (number([skip_0, skip_1]), number([gain_0, gain_1]).cast_signed());
        let channels = usize::from(channels);
        if channels > MAX_CHANNELS {
            return Err(AudioError::TooManyChannels(channels));
        }
        let decoder = OpusMSDecoder::new(RATE as i32, channels, family)
            .map_err(|error| AudioError::UnsupportedCodec(format!("Opus with {channels} channels: {error}")))?;
        refuse_other_layout(header, decoder.layout())?;
        Ok(Self {
            decoder,
            channels,
            family,
            skip: usize::from(skip),
            // Decibels in Q7.8, which every player must apply (RFC 7845, section 5.1, item 5).
            gain: 10f32.powf(f32::from(gain) / (20.0 * 256.0)),
            time_base,
            buffer: vec![0.0; MAX_PACKET_SAMPLES * channels],
        })
    }

    /// Replaces `out` with the packet's samples, interleaved.
    pub(super) fn decode(&mut self, packet: &Packet, out: &mut Vec<f32>) -> Result<AudioSpec, SymphoniaError> {
        out.clear();
        // opus-pure synthesises missing samples up to the buffer's size: a whole empty packet, or the last stream of a
        // packet that ends before it.
        let Ok(length) = samples_48k(&packet.data) else { return decode_error("opus: empty or invalid packet") };
        let samples = match self.decoder.decode(&packet.data, MAX_PACKET_SAMPLES, &mut self.buffer) {
            Ok(samples) if samples == length => samples,
            _ => return decode_error("opus: invalid packet"),
        };
        let end = samples.saturating_sub(self.samples(packet.trim_end));
        let start = self.skip.max(self.samples(packet.trim_start)).min(end);
        self.skip -= self.skip.min(samples);
        out.extend(self.buffer[start * self.channels..end * self.channels].iter().map(|sample| sample * self.gain));
        Ok(AudioSpec::new(RATE, Channels::Discrete(self.channels as u16)))
    }

    /// Converts the container's trim at an end of a packet to samples per channel.
    fn samples(&self, trim: Duration) -> usize {
        let seconds = self
            .time_base
            .map_or(0.0, |base| trim.get() as f64 * f64::from(base.numer.get()) / f64::from(base.denom.get()));
        (seconds * f64::from(RATE)).round() as usize
    }

    /// Positions of the channels: mapping family 1 uses Vorbis's order (RFC 7845, section 5.1.1.2).
    pub(super) fn speakers(&self) -> Vec<Speaker> {
        if self.family == 1 { layout::vorbis(self.channels) } else { default_layout(self.channels) }
    }
}

/// Refuses channels whose streams differ from the decoder's layout: opus-pure 0.2.2 has a fixed layout for each number of
/// channels. FFmpeg writes a different one for seven.
///
/// The file's layout follows the mapping family: the number of streams, the number of stereo streams, and for each
/// channel its index among the streams' channels (RFC 7845, section 5.1.1). Family 0 has only one layout, so the header
/// omits it. The box `dOps` has the same fields.
///
/// # Errors
/// Names both layouts, or says that the file's is cut off.
fn refuse_other_layout(header: &[u8], layout: &ChannelLayout) -> Result<(), AudioError> {
    if layout.mapping_family == 0 {
        return Ok(());
    }
    let channels = layout.nb_channels;
    let refused = |reason: &str| AudioError::UnsupportedCodec(format!("Opus with {channels} channels: {reason}"));
    let Some([streams, coupled, mapping @ ..]) = header.get(19..21 + channels) else {
        return Err(refused("the header ends before it says in which streams they are"));
    };
    let usual = (layout.nb_streams, layout.nb_coupled_streams, &layout.mapping[..]);
    if (usize::from(*streams), usize::from(*coupled), mapping) != usual {
        return Err(refused(&format!(
            "they are in {streams} streams, {coupled} of them stereo, in the order {mapping:?}; only {} streams, \
             {} of them stereo, in the order {:?} are supported",
            usual.0, usual.1, usual.2
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use symphonia::core::{codecs::audio::well_known::CODEC_ID_OPUS, units::Timestamp};

    use super::*;

    fn opened(header: &[u8]) -> Result<OpusTrack, AudioError> {
        let mut parameters = AudioCodecParameters::new();
        parameters.for_codec(CODEC_ID_OPUS).with_extra_data(header.into());
        OpusTrack::new(&parameters, None)
    }

    fn track(header: &[u8]) -> OpusTrack {
        opened(header).unwrap()
    }

    #[test]
    fn reads_the_header_of_ogg_and_that_of_mp4() {
        // Stereo, 312 samples of pre-skip, 48 kHz, +3 dB, mapping family 0.
        let ogg = track(b"OpusHead\x01\x02\x38\x01\x80\xbb\x00\x00\x00\x03\x00");
        let mp4 = track(b"OpusHead\x00\x02\x01\x38\x00\x00\xbb\x80\x03\x00\x00");
        for track in [ogg, mp4] {
            assert_eq!((track.channels, track.skip, track.family), (2, 312, 0));
            assert!((track.gain - 1.412_537_6).abs() < 1e-6, "{}", track.gain);
        }
    }

    #[test]
    fn channels_in_other_streams_than_the_decoder_takes_them_from_are_refused() {
        let seven = |layout: &[u8]| {
            let header = [b"OpusHead\x01\x07\x38\x01\x80\xbb\x00\x00\x00\x00\x01".as_slice(), layout].concat();
            opened(&header).map(drop).map_err(|error| error.to_string())
        };
        let usual = [4u8, 3, 0, 4, 1, 2, 3, 5, 6];
        assert_eq!(seven(&usual), Ok(()));
        for (what, layout, words) in [
            ("FFmpeg's", &[5u8, 2, 0, 4, 1, 2, 3, 5, 6][..], "in 5 streams, 2 of them stereo"),
            ("another order", &[4, 3, 0, 1, 4, 2, 3, 5, 6], "in the order [0, 1, 4, 2, 3, 5, 6]"),
            ("half of it", &usual[..5], "the header ends"),
            ("none", &usual[..0], "the header ends"),
        ] {
            let error = seven(layout).expect_err(what);
            assert!(error.contains("Opus with 7 channels") && error.contains(words), "{what}: {error}");
        }
    }

    #[test]
    fn nothing_is_made_up_for_what_is_missing() {
        let decodes = |header: &[u8], data: &[u8]| {
            let packet = Packet::new(0, Timestamp::ZERO, Duration::ZERO, data);
            track(header).decode(&packet, &mut Vec::new()).is_ok()
        };
        let stereo = b"OpusHead\x01\x02\x00\x00\x80\xbb\x00\x00\x00\x00\x00";
        // 20 ms of silence.
        assert!(decodes(stereo, b"\xfc\xff\xfe"));
        assert!(!decodes(stereo, b""));
        // Two streams: a pair and a single channel. All but the last contain their length (RFC 6716, appendix B).
        let three = b"OpusHead\x01\x03\x00\x00\x80\xbb\x00\x00\x00\x00\x01\x02\x01\x00\x02\x01";
        assert!(decodes(three, b"\xfc\x02\xff\xfe\xf8\xff\xfe"));
        assert!(!decodes(three, b"\xfc\x02\xff\xfe"));
        assert!(!decodes(three, b""));
    }
}
