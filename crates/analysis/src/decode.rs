//! The bytes of an audio file to mono samples at the file's own rate, a packet at a time.
//!
//! symphonia reads the containers and most codecs; Opus packets, which it delivers but does not decode, go to
//! `opus-pure`. AAC keeps its priming samples, as the peer does.

mod opus;
mod source;

use std::{
    io::{Read, SeekFrom},
    panic::{AssertUnwindSafe, catch_unwind},
};

use symphonia::core::{
    audio::{Channels, Position},
    codecs::{
        CodecParameters,
        audio::{AudioCodecParameters, AudioDecoder, AudioDecoderOptions, well_known::CODEC_ID_OPUS},
    },
    errors::Error as SymphoniaError,
    formats::{FormatOptions, FormatReader, TrackType, probe::Hint},
    io::{MediaSource, MediaSourceStream},
    meta::MetadataOptions,
    packet::Packet,
};

use self::{opus::OpusTrack, source::Watched};
use crate::{
    AudioError, Limits,
    dsp::{Downmix, MAX_CHANNELS, Speaker, default_layout},
};

/// Sample rates that are taken, in Hz.
const SAMPLE_RATES: std::ops::RangeInclusive<u32> = 2_000..=768_000;

/// A file is called truncated when it is this much shorter than it says it is.
const TRUNCATED_SECONDS: f64 = 0.5;

/// Bytes looked at to tell a web page from audio.
const SNIFF_BYTES: usize = 512;

/// One audio track being decoded.
pub(crate) struct Decoder {
    reader: Box<dyn FormatReader>,
    position: source::Position,
    track: u32,
    codec: Codec,
    /// Samples a channel that the container promises, if it does.
    promised: Option<u64>,
    rate: Option<u32>,
    downmix: Option<Downmix>,
    interleaved: Vec<f32>,
    decoded: u64,
    max_seconds: u64,
    /// Why the end came early, if it did.
    cut: bool,
}

enum Codec {
    Symphonia(Box<dyn AudioDecoder>),
    Opus(OpusTrack),
}

impl Decoder {
    /// Opens a file. `extension` is a hint only: the bytes decide.
    pub(crate) fn open(
        mut source: Box<dyn MediaSource>,
        extension: Option<&str>,
        limits: &Limits,
    ) -> Result<Self, AudioError> {
        let length = source.byte_len();
        match length {
            Some(0) => return Err(AudioError::Empty),
            Some(bytes) if bytes > limits.max_bytes => {
                return Err(AudioError::TooLarge { bytes, limit: limits.max_bytes });
            }
            _ => refuse_web_page(source.as_mut())?,
        }
        let (source, position) = Watched::new(source);
        let mut hint = Hint::new();
        if let Some(extension) = extension {
            hint.with_extension(extension);
        }
        guarded(|| {
            let stream = MediaSourceStream::new(Box::new(source), Default::default());
            let reader = symphonia::default::get_probe()
                .probe(&hint, stream, FormatOptions::default(), MetadataOptions::default())
                .map_err(|error| AudioError::UnknownFormat(error.to_string()))?;
            Self::start(reader, position, limits.max_seconds)
        })
    }

    fn start(reader: Box<dyn FormatReader>, position: source::Position, max_seconds: u64) -> Result<Self, AudioError> {
        let track = reader.default_track(TrackType::Audio).ok_or(AudioError::NoAudio)?;
        let Some(CodecParameters::Audio(parameters)) = &track.codec_params else { return Err(AudioError::NoAudio) };
        let codec = if parameters.codec == CODEC_ID_OPUS {
            Codec::Opus(OpusTrack::new(parameters, track.time_base)?)
        } else {
            Codec::Symphonia(symphonia_decoder(parameters)?)
        };
        // Opus counts in its own rate whatever the container's clock; the others promise samples of theirs.
        let promised = match codec {
            Codec::Opus(_) => None,
            Codec::Symphonia(_) => track.num_frames,
        };
        Ok(Self {
            track: track.id,
            position,
            codec,
            promised,
            reader,
            rate: None,
            downmix: None,
            interleaved: Vec::new(),
            decoded: 0,
            max_seconds,
            cut: false,
        })
    }

    /// Appends the next samples to `out`; false at the end. What cannot be decoded is left out.
    pub(crate) fn next(&mut self, out: &mut Vec<f32>) -> Result<bool, AudioError> {
        let more = guarded(|| self.next_unguarded(out))?;
        if let Some(rate) = self.rate
            && self.decoded > self.max_seconds * u64::from(rate)
        {
            return Err(AudioError::TooLong { limit: self.max_seconds });
        }
        Ok(more)
    }

    fn next_unguarded(&mut self, out: &mut Vec<f32>) -> Result<bool, AudioError> {
        let packet = match self.reader.next_packet() {
            Ok(Some(packet)) => packet,
            Ok(None) => return Ok(false),
            Err(SymphoniaError::IoError(error)) if error.kind() != std::io::ErrorKind::UnexpectedEof => {
                return Err(AudioError::Read(error));
            }
            // The container breaks off or goes on as something else: what came before still counts.
            Err(_) => {
                self.cut = true;
                return Ok(false);
            }
        };
        if packet.track_id == self.track {
            self.decode(&packet, out)?;
        }
        Ok(true)
    }

    fn decode(&mut self, packet: &Packet, out: &mut Vec<f32>) -> Result<(), AudioError> {
        let (rate, speakers) = match &mut self.codec {
            Codec::Symphonia(decoder) => match decoder.decode(packet) {
                Ok(buffer) => {
                    let spec = buffer.spec();
                    let format = (spec.rate(), self.downmix.is_none().then(|| speakers(spec.channels())));
                    buffer.copy_to_vec_interleaved(&mut self.interleaved);
                    format
                }
                // One bad packet costs its samples, not the track.
                Err(SymphoniaError::DecodeError(_) | SymphoniaError::IoError(_)) => return Ok(()),
                Err(error) => return Err(AudioError::UnsupportedCodec(error.to_string())),
            },
            Codec::Opus(opus) => {
                opus.decode(packet, &mut self.interleaved);
                (opus::RATE, self.downmix.is_none().then(|| opus.speakers()))
            }
        };
        let rate = self.checked_rate(rate)?;
        if self.downmix.is_none() {
            let speakers = speakers.unwrap_or_default();
            if speakers.len() > MAX_CHANNELS {
                return Err(AudioError::TooManyChannels(speakers.len()));
            }
            self.downmix = (!speakers.is_empty()).then(|| Downmix::new(&speakers));
        }
        let (Some(rate), Some(downmix)) = (rate, &self.downmix) else {
            self.cut = true;
            return Ok(());
        };
        self.rate = Some(rate);
        self.decoded += (self.interleaved.len() / downmix.channels()) as u64;
        downmix.process(&self.interleaved, out);
        Ok(())
    }

    /// The track's rate; none for a packet that has another than the packets before.
    fn checked_rate(&self, rate: u32) -> Result<Option<u32>, AudioError> {
        if !SAMPLE_RATES.contains(&rate) {
            return Err(AudioError::SampleRate { rate, lowest: *SAMPLE_RATES.start(), highest: *SAMPLE_RATES.end() });
        }
        Ok(self.rate.is_none_or(|first| first == rate).then_some(rate))
    }

    /// The track's sample rate in Hz; none before the first samples.
    pub(crate) fn rate(&self) -> Option<u32> {
        self.rate
    }

    /// Length of what was decoded so far.
    pub(crate) fn seconds(&self) -> f64 {
        self.rate.map_or(0.0, |rate| self.decoded as f64 / f64::from(rate))
    }

    /// Share of the file's bytes that has been read, 0 to 1.
    pub(crate) fn fraction(&self) -> f32 {
        self.position.fraction()
    }

    /// Whether the file breaks off, as known at its end.
    pub(crate) fn is_truncated(&self) -> bool {
        let rate = self.rate.map_or(1.0, f64::from);
        let missing = self.promised.unwrap_or(0).saturating_sub(self.decoded) as f64 / rate;
        self.cut || missing > TRUNCATED_SECONDS
    }
}

fn symphonia_decoder(parameters: &AudioCodecParameters) -> Result<Box<dyn AudioDecoder>, AudioError> {
    symphonia::default::get_codecs()
        .make_audio_decoder(parameters, &AudioDecoderOptions::default())
        .map_err(|error| AudioError::UnsupportedCodec(error.to_string()))
}

/// Runs code that reads a stranger's bytes. A panic in it is the file's fault, not ours to die of; on WASM, where
/// nothing can be caught, it ends the instance instead.
fn guarded<T>(run: impl FnOnce() -> Result<T, AudioError>) -> Result<T, AudioError> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let message = panic
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "without a message".to_owned());
        Err(AudioError::Crashed(message))
    })
}

fn refuse_web_page(source: &mut dyn MediaSource) -> Result<(), AudioError> {
    let mut start = Vec::with_capacity(SNIFF_BYTES);
    source.take(SNIFF_BYTES as u64).read_to_end(&mut start).map_err(AudioError::Read)?;
    source.seek(SeekFrom::Start(0)).map_err(AudioError::Read)?;
    let text = String::from_utf8_lossy(&start).to_ascii_lowercase();
    let text = text.trim_start();
    if text.starts_with("<!doctype html") || text.starts_with("<html") { Err(AudioError::WebPage) } else { Ok(()) }
}

/// Where each channel of a decoded buffer stands.
fn speakers(channels: &Channels) -> Vec<Speaker> {
    match channels {
        Channels::Positioned(positions) if positions.bits().count_ones() > 2 => positions.iter().map(speaker).collect(),
        channels => default_layout(channels.count()),
    }
}

fn speaker(position: Position) -> Speaker {
    const CENTRES: Position = Position::FRONT_CENTER.union(Position::TOP_FRONT_CENTER);
    const LOW: Position = Position::LFE1.union(Position::LFE2);
    const LEFT: Position = Position::FRONT_LEFT.union(Position::FRONT_LEFT_CENTER).union(Position::FRONT_LEFT_WIDE);
    const RIGHT: Position = Position::FRONT_RIGHT.union(Position::FRONT_RIGHT_CENTER).union(Position::FRONT_RIGHT_WIDE);
    const SURROUND_LEFT: Position = Position::REAR_LEFT
        .union(Position::SIDE_LEFT)
        .union(Position::TOP_FRONT_LEFT)
        .union(Position::TOP_REAR_LEFT)
        .union(Position::TOP_SIDE_LEFT);
    const SURROUND_RIGHT: Position = Position::REAR_RIGHT
        .union(Position::SIDE_RIGHT)
        .union(Position::TOP_FRONT_RIGHT)
        .union(Position::TOP_REAR_RIGHT)
        .union(Position::TOP_SIDE_RIGHT);
    match position {
        p if LEFT.contains(p) => Speaker::Left,
        p if RIGHT.contains(p) => Speaker::Right,
        p if CENTRES.contains(p) => Speaker::Centre,
        p if LOW.contains(p) => Speaker::LowFrequency,
        p if SURROUND_LEFT.contains(p) => Speaker::SurroundLeft,
        p if SURROUND_RIGHT.contains(p) => Speaker::SurroundRight,
        _ => Speaker::SurroundCentre,
    }
}
