//! MPEG audio, layers 1 to 3 (ISO/IEC 11172-3, 13818-3, and the lower rates of "MPEG 2.5").

mod header;
mod info;
mod layer3;
mod stream;

use nanomp3_core::{Decoder, MAX_SAMPLES_PER_FRAME};
use symphonia::core::{
    audio::{AudioSpec, Channels, Position},
    codecs::audio::{
        AudioCodecId,
        well_known::{CODEC_ID_MP1, CODEC_ID_MP2, CODEC_ID_MP3},
    },
    errors::{Error as SymphoniaError, decode_error},
    packet::Packet,
};

pub(super) use self::stream::open;
use self::{
    header::Header,
    layer3::{Fault, Layer3},
};
use super::sync::FrameHeader;

/// Properties of a frame from its header, for other containers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame {
    pub(super) codec: AudioCodecId,
    pub(super) rate: u32,
    pub(super) bytes: u64,
    /// Samples per channel.
    pub(super) samples: u64,
}

/// Parses the header at the start of `bytes`.
pub(super) fn frame(bytes: &[u8]) -> Option<Frame> {
    let header = Header::parse(bytes).filter(|header| !header.is_free)?;
    let codec = codec(&header);
    Some(Frame { codec, rate: header.rate, bytes: header.bytes as u64, samples: header.samples as u64 })
}

fn codec(header: &Header) -> AudioCodecId {
    [CODEC_ID_MP1, CODEC_ID_MP2, CODEC_ID_MP3][usize::from(header.kind.layer) - 1]
}

/// A track of layer 1, 2 or 3.
pub(super) struct MpegTrack {
    layer3: Box<Layer3>,
    lower_layers: Box<Decoder>,
    /// Output buffer of `lower_layers`.
    samples: Vec<f32>,
}

impl MpegTrack {
    pub(super) fn new() -> Self {
        let samples = vec![0.0; MAX_SAMPLES_PER_FRAME];
        Self { layer3: Box::new(Layer3::new()), lower_layers: Box::new(Decoder::new()), samples }
    }

    /// Replaces `out` with the samples of a packet, interleaved; layer 3 yields the mean of the channels. A packet is one
    /// frame, in free format followed by the next ones.
    ///
    /// # Errors
    /// When the packet is not a frame, or a damaged one.
    pub(super) fn decode(&mut self, packet: &Packet, out: &mut Vec<f32>) -> Result<AudioSpec, SymphoniaError> {
        out.clear();
        let Some(header) = Header::parse(&packet.data) else { return decode_error("mpeg: no frame") };
        let Some(frame) = packet.data.get(..header.bytes) else { return decode_error("mpeg: incomplete frame") };
        let channels = if header.kind.layer == 3 {
            match self.layer3.decode(frame, out) {
                Ok(()) => {}
                // The first frames of a cut stream refer to missing earlier frames. They become silence, so that the time
                // stays right.
                Err(Fault::Reservoir) => out.resize(header.samples, 0.0),
                Err(Fault::Damaged) => return decode_error("mpeg: damaged frame"),
            }
            1
        } else {
            // The decoder searches its input for frames, so it gets only one.
            let frame = if header.is_free { &packet.data[..] } else { frame };
            let channels = if header.is_mono { 1 } else { 2 };
            match self.lower_layers.decode(frame, &mut self.samples).1 {
                Ok(info) if info.samples_produced == header.samples && usize::from(info.channels.num()) == channels => {
                    out.extend_from_slice(&self.samples[..channels * header.samples]);
                }
                _ => return decode_error("mpeg: damaged frame"),
            }
            channels
        };
        let positions = if channels == 1 { Position::FRONT_LEFT } else { Position::FRONT_LEFT | Position::FRONT_RIGHT };
        Ok(AudioSpec::new(header.rate, Channels::Positioned(positions)))
    }
}
