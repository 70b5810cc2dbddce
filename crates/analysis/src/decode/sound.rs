//! Reads sound stored directly in a file. Containers made of chunks (RIFF, AIFF, CAF) and AU are reduced to this once
//! their headers are read.

use std::{
    collections::VecDeque,
    io::{self, ErrorKind, Read, Seek, SeekFrom},
};

use symphonia::core::{
    audio::Channels,
    codecs::{
        CodecParameters,
        audio::{
            AudioCodecId, AudioCodecParameters,
            well_known::{
                CODEC_ID_PCM_F32BE, CODEC_ID_PCM_F32LE, CODEC_ID_PCM_F64BE, CODEC_ID_PCM_F64LE, CODEC_ID_PCM_S8,
                CODEC_ID_PCM_S16BE, CODEC_ID_PCM_S16LE, CODEC_ID_PCM_S24BE, CODEC_ID_PCM_S24LE, CODEC_ID_PCM_S32BE,
                CODEC_ID_PCM_S32LE,
            },
        },
    },
    errors::{Error as SymphoniaError, Result},
    formats::{FormatInfo, FormatReader, Track},
    io::MediaSourceStream,
    packet::Packet,
    units::{Duration, TimeBase, Timestamp},
};

use super::{
    reader::{PacketStream, StreamReader},
    source::File,
};
use crate::AudioError;

/// Samples per channel read at once if every sample is a block.
const SAMPLES_PER_PACKET: u32 = 4096;

/// Maximum packet size in bytes. Eight channels of the longest ALAC frame that `symphonia` accepts fit many times.
const MAX_PACKET_BYTES: u64 = 16 << 20;

/// A stream of sound and its position in a file.
pub(super) struct Sound {
    pub(super) codec: AudioCodecId,
    /// Samples per second and channel.
    pub(super) rate: u32,
    pub(super) channels: Channels,
    pub(super) packets: Packets,
    /// Converts each packet's bytes to the codec's samples, if they are stored in another format.
    pub(super) convert: Option<Convert>,
    /// Additional parameters for the codec.
    pub(super) extra: Option<Box<[u8]>>,
    /// Position of the first byte.
    pub(super) start: u64,
    /// Number of bytes that the file declares; none if it declares none.
    pub(super) bytes: Option<u64>,
}

/// Converts the bytes of a packet.
pub(super) type Convert = Box<dyn FnMut(&[u8]) -> Vec<u8> + Send + Sync>;

/// Returns the samples of the next frame; none at the end.
pub(super) type Maker = Box<dyn FnMut() -> Result<Option<Vec<u8>>> + Send + Sync>;

/// How sound is divided into packets.
pub(super) enum Packets {
    /// Blocks of a fixed number of bytes and of samples per channel.
    Blocks { bytes: u32, samples: u32 },
    /// Packets, each with its own number of bytes and of samples per channel; then the total number of samples, or none
    /// if only the packets themselves tell.
    Table(VecDeque<(u32, u32)>, Option<u64>),
    /// Output of a decoder in this crate: plain samples. `bytes` is the size of one sample of all channels; `samples` is
    /// the total, if declared.
    Made { next: Maker, bytes: u32, samples: Option<u64> },
}

/// The codec for signed integers or floating-point numbers of a size in bytes.
pub(super) fn pcm(bytes: u32, is_float: bool, is_big_endian: bool) -> Option<AudioCodecId> {
    Some(match (bytes, is_float, is_big_endian) {
        (1, false, _) => CODEC_ID_PCM_S8,
        (2, false, false) => CODEC_ID_PCM_S16LE,
        (2, false, true) => CODEC_ID_PCM_S16BE,
        (3, false, false) => CODEC_ID_PCM_S24LE,
        (3, false, true) => CODEC_ID_PCM_S24BE,
        (4, false, false) => CODEC_ID_PCM_S32LE,
        (4, false, true) => CODEC_ID_PCM_S32BE,
        (4, true, false) => CODEC_ID_PCM_F32LE,
        (4, true, true) => CODEC_ID_PCM_F32BE,
        (8, true, false) => CODEC_ID_PCM_F64LE,
        (8, true, true) => CODEC_ID_PCM_F64BE,
        _ => return None,
    })
}

/// Converts a rate from a header, in Hz.
pub(super) fn rate(hertz: f64) -> u32 {
    // An invalid rate becomes a value that is refused later.
    hertz.round() as u32
}

impl Sound {
    /// Creates a reader for this sound.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(super) fn reader(
        self,
        file: &File,
        info: FormatInfo,
    ) -> std::result::Result<Box<dyn FormatReader>, AudioError> {
        let mut stream = MediaSourceStream::new(Box::new(file.view().map_err(AudioError::Read)?), Default::default());
        stream.seek(SeekFrom::Start(self.start)).map_err(AudioError::Read)?;
        let mut parameters = AudioCodecParameters::new();
        parameters.for_codec(self.codec).with_sample_rate(self.rate).with_channels(self.channels);
        if let Packets::Blocks { samples, .. } = self.packets {
            let most = samples.max(SAMPLES_PER_PACKET);
            parameters.with_max_frames_per_packet(most.into()).with_frames_per_block(samples.into());
        }
        if let Some(extra) = self.extra {
            parameters.with_extra_data(extra);
        }
        let mut track = Track::new(0);
        track.with_codec_params(CodecParameters::Audio(parameters));
        if let Some(base) = TimeBase::try_new(1, self.rate) {
            track.with_time_base(base);
        }
        let samples = match &self.packets {
            Packets::Blocks { bytes, samples } => {
                self.bytes.map(|all| (all / u64::from(*bytes).max(1)).saturating_mul((*samples).into()))
            }
            Packets::Table(_, samples) => *samples,
            Packets::Made { samples, .. } => *samples,
        };
        if let Some(samples) = samples {
            track.with_num_frames(samples);
        }
        let left = self.bytes.unwrap_or(u64::MAX);
        let (packets, convert) = (self.packets, self.convert);
        Ok(StreamReader::boxed(Box::new(SoundReader { stream, track, packets, convert, left, position: 0 }), info))
    }
}

struct SoundReader {
    stream: MediaSourceStream<'static>,
    track: Track,
    packets: Packets,
    convert: Option<Convert>,
    /// Maximum number of remaining bytes.
    left: u64,
    /// Samples per channel read so far.
    position: u64,
}

impl SoundReader {
    /// The next packet: its bytes, and its samples per channel; none at the end.
    fn read(&mut self) -> Result<Option<(Vec<u8>, u64)>> {
        if let Packets::Made { next, bytes, .. } = &mut self.packets {
            return Ok(next()?.map(|data| {
                let samples = data.len() as u64 / u64::from(*bytes).max(1);
                (data, samples)
            }));
        }
        let Some((bytes, samples)) = self.size() else { return Ok(None) };
        if bytes > MAX_PACKET_BYTES {
            return Err(SymphoniaError::DecodeError("a packet of more than 16 MiB"));
        }
        let mut data = Vec::with_capacity(bytes.min(self.left) as usize);
        let result = (&mut self.stream).take(bytes).read_to_end(&mut data);
        match result {
            Ok(_) => {}
            // The stream's way of reporting its end.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {}
            Err(error) => return Err(error.into()),
        }
        if matches!(self.packets, Packets::Table(_, None)) && (data.len() as u64) < bytes {
            return Err(io::Error::from(ErrorKind::UnexpectedEof).into());
        }
        self.left -= (data.len() as u64).min(self.left);
        let samples = match self.packets {
            // Only complete blocks count; decoders ignore an incomplete last one.
            Packets::Blocks { bytes, samples } => (data.len() as u64 / u64::from(bytes)) * u64::from(samples),
            _ => samples * u64::from(!data.is_empty()),
        };
        if let Some(convert) = &mut self.convert {
            data = convert(&data);
        }
        Ok((samples > 0).then_some((data, samples)))
    }

    /// The declared size of the next packet in bytes, and in samples per channel.
    fn size(&mut self) -> Option<(u64, u64)> {
        match &mut self.packets {
            Packets::Blocks { bytes, samples } => {
                let (bytes, samples) = (u64::from(*bytes), u64::from(*samples));
                let together = if samples == 1 { u64::from(SAMPLES_PER_PACKET) } else { 1 };
                let blocks = (self.left / bytes.max(1)).min(together);
                (blocks > 0 && bytes > 0).then_some((blocks * bytes, blocks * samples))
            }
            Packets::Table(table, _) => table.pop_front().map(|(bytes, samples)| (bytes.into(), samples.into())),
            Packets::Made { .. } => None,
        }
    }
}

impl PacketStream for SoundReader {
    fn track(&self) -> &Track {
        &self.track
    }

    fn next_packet(&mut self) -> Result<Option<Packet>> {
        let Some((data, samples)) = self.read()? else { return Ok(None) };
        let at = i64::try_from(self.position).unwrap_or(i64::MAX);
        self.position = self.position.saturating_add(samples);
        Ok(Some(Packet::new(0, Timestamp::new(at), Duration::new(samples), data)))
    }

    fn into_source(self: Box<Self>) -> MediaSourceStream<'static> {
        self.stream
    }
}
