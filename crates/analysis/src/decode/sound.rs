//! Sound that lies in a file as it is: what the containers made of chunks (RIFF, AIFF, CAF) and AU come down to, once their
//! headers are read.

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

/// Samples a channel that are read at once where every sample is a block of its own.
const SAMPLES_PER_PACKET: u32 = 4096;

/// The largest packet, in bytes: eight channels of the longest ALAC frame that `symphonia` takes fit many times.
const MAX_PACKET_BYTES: u64 = 16 << 20;

/// A stream of sound and where it lies.
pub(super) struct Sound {
    pub(super) codec: AudioCodecId,
    /// Samples a second of each channel.
    pub(super) rate: u32,
    pub(super) channels: Channels,
    pub(super) packets: Packets,
    /// What makes the codec's samples of each packet's bytes, where those are of another kind.
    pub(super) convert: Option<Convert>,
    /// What the codec needs to know besides.
    pub(super) extra: Option<Box<[u8]>>,
    /// The first byte.
    pub(super) start: u64,
    /// Bytes that the file says there are; none where it does not say.
    pub(super) bytes: Option<u64>,
}

/// Turns the bytes of a packet into others.
pub(super) type Convert = Box<dyn FnMut(&[u8]) -> Vec<u8> + Send + Sync>;

/// Gives the samples of the next frame; none at the end.
pub(super) type Maker = Box<dyn FnMut() -> Result<Option<Vec<u8>>> + Send + Sync>;

/// How sound is divided.
pub(super) enum Packets {
    /// Into blocks of so many bytes for so many samples a channel.
    Blocks { bytes: u32, samples: u32 },
    /// Into packets of so many bytes and samples a channel each; how many samples there are in all, unless only the packets
    /// themselves say so.
    Table(VecDeque<(u32, u32)>, Option<u64>),
    /// Into what a decoder here makes of the file: plain samples, so many bytes for one of all channels, and how many there
    /// are, where that is said.
    Made { next: Maker, bytes: u32, samples: Option<u64> },
}

/// The codec of signed integers or of floating-point numbers of so many bytes.
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

/// A rate as the headers have it, in Hz.
pub(super) fn rate(hertz: f64) -> u32 {
    // What is no rate becomes one that is refused by its value.
    hertz.round() as u32
}

impl Sound {
    /// A reader of it.
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
    /// Bytes of sound to come, at most.
    left: u64,
    /// Samples a channel that have been read.
    position: u64,
}

impl SoundReader {
    /// The next packet's bytes and samples a channel; none at the end of what there is.
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
            // The stream's own way of saying that there is nothing more.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {}
            Err(error) => return Err(error.into()),
        }
        if matches!(self.packets, Packets::Table(_, None)) && (data.len() as u64) < bytes {
            return Err(io::Error::from(ErrorKind::UnexpectedEof).into());
        }
        self.left -= (data.len() as u64).min(self.left);
        let samples = match self.packets {
            // Of blocks those count that are whole; decoders leave out the rest of the last one.
            Packets::Blocks { bytes, samples } => (data.len() as u64 / u64::from(bytes)) * u64::from(samples),
            _ => samples * u64::from(!data.is_empty()),
        };
        if let Some(convert) = &mut self.convert {
            data = convert(&data);
        }
        Ok((samples > 0).then_some((data, samples)))
    }

    /// The next packet's bytes and samples a channel, by what is said of them.
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
