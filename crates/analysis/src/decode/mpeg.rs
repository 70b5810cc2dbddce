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

/// What a frame's header says, for other containers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame {
    pub(super) codec: AudioCodecId,
    pub(super) rate: u32,
    pub(super) bytes: u64,
    /// A channel.
    pub(super) samples: u64,
}

/// The header that the bytes begin with.
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
    /// What those have made of a frame.
    samples: Vec<f32>,
}

impl MpegTrack {
    pub(super) fn new() -> Self {
        let samples = vec![0.0; MAX_SAMPLES_PER_FRAME];
        Self { layer3: Box::new(Layer3::new()), lower_layers: Box::new(Decoder::new()), samples }
    }

    /// Replaces `out` by the samples of a packet, which is one frame, and more of free format, interleaved: of layer 3 the
    /// mean of the channels.
    ///
    /// # Errors
    /// When it is no frame, or a damaged one.
    pub(super) fn decode(&mut self, packet: &Packet, out: &mut Vec<f32>) -> Result<AudioSpec, SymphoniaError> {
        out.clear();
        let Some(header) = Header::parse(&packet.data) else { return decode_error("mpeg: no frame") };
        let Some(frame) = packet.data.get(..header.bytes) else { return decode_error("mpeg: incomplete frame") };
        let channels = if header.kind.layer == 3 {
            match self.layer3.decode(frame, out) {
                Ok(()) => {}
                // Where a stream was cut, its first frames refer to some that are not there. Players keep their time.
                Err(Fault::Reservoir) => out.resize(header.samples, 0.0),
                Err(Fault::Damaged) => return decode_error("mpeg: damaged frame"),
            }
            1
        } else {
            // The decoder searches what it is given for frames; so it is given one.
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
