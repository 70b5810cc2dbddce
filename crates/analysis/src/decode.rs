//! Decodes the bytes of an audio file to mono samples at the file's own rate, which may change, packet by packet.
//!
//! The containers are parsed here, because real files deviate from the specifications: raw samples and similarly simple
//! formats in [`container`], MP4 and Matroska, and FLAC, Ogg, MPEG audio, ADTS and LATM frame by frame. symphonia decodes
//! most codecs. Opus goes to `opus-pure`, because symphonia has no decoder for it; Vorbis to `rusty_vorbis` and MPEG
//! audio layers I and II to `nanomp3`, which decode everything those formats allow and are faster; the kinds of AAC that
//! symphonia does not support to `rusty_aac`. Layer III is decoded in [`mpeg`], directly to mono. AAC keeps its priming
//! samples, as the peer does.
//! HE-AAC that is not named in a header is decoded without its extension: see [`aac`].
//!
//! Damaged files are decoded as far as possible. A file is called truncated if it is cut off, or if more than half a
//! second is missing anywhere.

mod aac;
mod adts;
mod aiff;
mod au;
mod bits;
mod caf;
mod chunks;
mod codec;
mod container;
mod core_audio;
mod dsd;
mod flac;
mod latm;
mod layout;
mod matroska;
mod monkeys;
mod mp4;
mod mpeg;
mod names;
mod ogg;
mod opus;
mod reader;
mod riff;
mod sound;
mod source;
mod spdif;
mod stream;
mod sync;
mod tags;
mod tta;
mod vorbis;
mod wavpack;
mod window;
mod xiph;

use std::io::{Error as IoError, ErrorKind};

use symphonia::core::{
    audio::Channels,
    codecs::CodecParameters,
    errors::Error as SymphoniaError,
    formats::{
        FormatReader, TrackType,
        well_known::{FORMAT_ID_AIFF, FORMAT_ID_CAF, FORMAT_ID_WAVE},
    },
    io::MediaSource,
    packet::Packet,
};

pub(crate) use self::names::refused_kinds;
use self::{codec::Codec, container::Opened, source::File, stream::Stream, sync::Search, window::Window};
use crate::{AudioError, Limits, dsp::Downmix, guard};

/// Accepted sample rates, in Hz.
const SAMPLE_RATES: std::ops::RangeInclusive<u32> = 2_000..=768_000;

/// A file is called truncated if it is this much shorter than declared, or if this much of it cannot be decoded.
const TRUNCATED_SECONDS: f64 = 0.5;

/// After this many consecutive packets and track starts without a sample, the rest of the file is given up. A full second
/// of the shortest packets has 400.
const MAX_BARREN_PACKETS: u32 = 10_000;

/// After this many changes of the sample rate, the rest of the file is given up: each change costs a filter. A recording
/// of a radio station has one per programme.
const MAX_RATE_CHANGES: u32 = 1_000;

/// Minimum number of bytes per second. A file that declares more seconds than this allows cannot contain them; speech in
/// Opus, at 6 kbit/s, has 750.
const MIN_BYTES_PER_SECOND: f64 = 500.0;

/// Assumed duration of an undecodable packet if its container declares none: the length of an Opus packet, because
/// containers without durations mostly hold Opus.
const PACKET_SECONDS: f64 = 0.02;

/// The largest sample accepted as sound; full scale is 1. 32-bit integers stored as unscaled floating-point numbers still
/// pass, and the mel of accepted samples is far from infinite.
const MAX_SAMPLE: f32 = 4_294_967_296.0;

/// Bytes at a file's start, after tags, that identify its kind.
const START_BYTES: usize = 64;

/// Maximum number of unrelated bytes before a container's marker.
const MAX_NOISE_BYTES: usize = 1 << 20;

/// One audio track being decoded.
pub(crate) struct Decoder {
    file: File,
    reader: Box<dyn FormatReader>,
    playing: Playing,
    /// Rate of the latest samples, in Hz.
    rate: Option<u32>,
    rate_changes: u32,
    /// The channels that `downmix` was made for.
    channels: Channels,
    downmix: Option<Downmix>,
    interleaved: Vec<f32>,
    peak: f32,
    /// Samples since the last rate change; the seconds before it.
    decoded: u64,
    seconds_before: f64,
    /// Where the container's track begins, in seconds.
    track_start: f64,
    max_seconds: u64,
    /// Whether the container ended early or continued as something else.
    cut: bool,
    /// Seconds of packets that could not be decoded.
    lost: f64,
    /// Consecutive packets and track starts without a sample.
    barren: u32,
    /// Why the latest such packet gave no sample.
    trouble: Option<String>,
}

/// A track of a container. It is the whole file, except in Ogg, where another track may follow.
struct Playing {
    id: u32,
    codec: Codec,
    /// Samples per channel that the container declares, if any.
    promised: Option<u64>,
    /// The rate in Hz that the container declares.
    rate: Option<u32>,
    /// Seconds per unit of its packets' durations.
    unit: f64,
}

impl Playing {
    fn of(reader: &dyn FormatReader) -> Result<Self, AudioError> {
        let track = reader.default_track(TrackType::Audio).ok_or(AudioError::NoAudio)?;
        let Some(CodecParameters::Audio(parameters)) = &track.codec_params else { return Err(AudioError::NoAudio) };
        let codec = Codec::new(parameters, track)?;
        let unit = track.time_base.map_or(0.0, |base| f64::from(base.numer.get()) / f64::from(base.denom.get()));
        Ok(Self { id: track.id, codec, promised: track.num_frames, rate: parameters.sample_rate, unit })
    }
}

impl Decoder {
    /// Opens a file. `extension` is only a hint for bytes that may be of two kinds.
    pub(crate) fn open(
        source: Box<dyn MediaSource>,
        extension: Option<&str>,
        limits: &Limits,
    ) -> Result<Self, AudioError> {
        match source.byte_len() {
            Some(bytes) if bytes > limits.max_bytes => {
                return Err(AudioError::TooLarge { bytes, limit: limits.max_bytes });
            }
            _ if !source.is_seekable() => {
                let error = IoError::new(ErrorKind::Unsupported, "it is a folder, a pipe or a device, not a file");
                return Err(AudioError::Read(error));
            }
            _ => {}
        }
        let file = File::new(source);
        guarded(|| {
            let (file, reader, cut) = match container::open(&file)? {
                Some(Opened::Reader(reader)) => (file, reader, false),
                Some(Opened::Inside(file, missing)) => {
                    let reader = read(&file, None)?;
                    (file, reader, missing > TRUNCATED_SECONDS)
                }
                None => {
                    let reader = read(&file, extension)?;
                    (file, reader, false)
                }
            };
            let playing = Playing::of(&*reader)?;
            let decoder = Self {
                file,
                reader,
                playing,
                rate: None,
                rate_changes: 0,
                channels: Channels::None,
                downmix: None,
                interleaved: Vec::new(),
                peak: 0.0,
                decoded: 0,
                seconds_before: 0.0,
                track_start: 0.0,
                max_seconds: limits.max_seconds,
                cut,
                lost: 0.0,
                barren: 0,
                trouble: None,
            };
            decoder.refuse_promised_length()?;
            Ok(decoder)
        })
    }

    /// Refuses a file that declares to be too long, rather than decode it up to the limit.
    fn refuse_promised_length(&self) -> Result<(), AudioError> {
        let (Some(samples), Some(rate)) = (self.playing.promised, self.playing.rate) else { return Ok(()) };
        // A program that writes to a pipe makes up the length. Even ADPCM, the most compact of these codecs, has at most
        // two samples per byte.
        let counts_bytes = matches!(self.reader.format_info().format, FORMAT_ID_WAVE | FORMAT_ID_AIFF | FORMAT_ID_CAF);
        if counts_bytes && self.file.length().is_none_or(|bytes| samples > 2 * bytes) {
            return Ok(());
        }
        let seconds = samples as f64 / f64::from(rate.max(1));
        let fits = self.file.length().is_none_or(|bytes| bytes as f64 > seconds * MIN_BYTES_PER_SECOND);
        if fits && seconds > self.max_seconds as f64 {
            return Err(AudioError::TooLong { seconds, limit: self.max_seconds });
        }
        Ok(())
    }

    /// Appends the next samples to `out`; false at the end. Undecodable data is skipped.
    pub(crate) fn next(&mut self, out: &mut Vec<f32>) -> Result<bool, AudioError> {
        let more = guarded(|| self.next_unguarded(out))?;
        let seconds = self.seconds();
        if seconds > self.max_seconds as f64 {
            return Err(AudioError::TooLong { seconds, limit: self.max_seconds });
        }
        Ok(more)
    }

    fn next_unguarded(&mut self, out: &mut Vec<f32>) -> Result<bool, AudioError> {
        match self.reader.next_packet() {
            Ok(Some(packet)) if packet.track_id != self.playing.id => Ok(true),
            Ok(Some(packet)) => {
                self.decode(&packet, out)?;
                self.go_on()
            }
            Ok(None) => self.end(),
            Err(error) => self.interrupted(&error),
        }
    }

    /// Handles a container that is cut off or continues as something else: the samples before that still count.
    fn interrupted(&mut self, error: &SymphoniaError) -> Result<bool, AudioError> {
        if let Some(failure) = self.file.failure() {
            return Err(AudioError::Read(failure));
        }
        if let SymphoniaError::ResetRequired = error {
            return self.next_track();
        }
        self.cut = true;
        self.trouble = Some(error.to_string());
        self.end()
    }

    /// Handles chained Ogg: tracks follow each other, each with its own headers.
    fn next_track(&mut self) -> Result<bool, AudioError> {
        self.cut |= self.missing_seconds() > TRUNCATED_SECONDS;
        let Ok(next) = Playing::of(&*self.reader) else {
            self.cut = true;
            return self.end();
        };
        self.playing = next;
        self.track_start = self.seconds();
        self.downmix = None;
        // There may be any number of tracks without a decodable packet.
        self.barren += 1;
        self.go_on()
    }

    /// Returns true, or ends the file after too many consecutive packets without a sample.
    fn go_on(&mut self) -> Result<bool, AudioError> {
        if self.barren < MAX_BARREN_PACKETS {
            return Ok(true);
        }
        self.cut = true;
        self.end()
    }

    /// Returns false for the end, or an error if reading failed or nothing could be decoded.
    fn end(&self) -> Result<bool, AudioError> {
        match (self.file.failure(), &self.trouble) {
            (Some(failure), _) => Err(AudioError::Read(failure)),
            (None, Some(trouble)) if self.rate.is_none() => Err(AudioError::Undecodable(trouble.clone())),
            (None, _) => Ok(false),
        }
    }

    fn decode(&mut self, packet: &Packet, out: &mut Vec<f32>) -> Result<(), AudioError> {
        self.barren += 1;
        let spec = match self.playing.codec.decode(packet, &mut self.interleaved) {
            Ok(spec) => spec,
            Err(SymphoniaError::Unsupported(reason)) if self.rate.is_none() => {
                return Err(AudioError::UnsupportedCodec(reason.to_owned()));
            }
            // One bad packet costs its samples, not the track.
            Err(error) => {
                let seconds = packet.dur.get() as f64 * self.playing.unit;
                self.lost += if seconds > 0.0 { seconds } else { PACKET_SECONDS };
                self.trouble = Some(error.to_string());
                return Ok(());
            }
        };
        let rate = spec.rate();
        if !SAMPLE_RATES.contains(&rate) {
            return Err(AudioError::SampleRate { rate, lowest: *SAMPLE_RATES.start(), highest: *SAMPLE_RATES.end() });
        }
        if self.downmix.is_none() || self.channels != *spec.channels() {
            let speakers = self.playing.codec.speakers(&spec)?;
            self.downmix = (!speakers.is_empty()).then(|| Downmix::new(&speakers));
            self.channels = spec.channels().clone();
        }
        let Some(downmix) = &self.downmix else {
            // The packet has no channels.
            self.cut = true;
            return Ok(());
        };
        let before = out.len();
        downmix.process(&self.interleaved, out);
        if out.len() > before {
            self.barren = 0;
            if self.rate != Some(rate) && !self.change_rate(rate) {
                out.truncate(before);
            }
        }
        let samples = &out[before..];
        let peak = peak(samples);
        if !is_sound(peak) {
            let at = samples.iter().position(|&sample| !is_sound(sample)).unwrap_or(0);
            let seconds = self.seconds() + at as f64 / f64::from(rate);
            return Err(AudioError::InvalidSample { seconds, value: samples[at], limit: MAX_SAMPLE });
        }
        self.peak = self.peak.max(peak);
        self.decoded += samples.len() as u64;
        Ok(())
    }

    /// The loudest sample so far.
    pub(crate) fn peak(&self) -> f32 {
        self.peak
    }

    /// Names of the container and the codec.
    pub(crate) fn kind(&self) -> (String, String) {
        let codec = match &self.reader.default_track(TrackType::Audio).and_then(|track| track.codec_params.as_ref()) {
            Some(CodecParameters::Audio(parameters)) => codec::name(parameters.codec),
            _ => "?",
        };
        (self.reader.format_info().long_name.to_owned(), codec.to_owned())
    }

    /// Starts a part with another rate; false after too many changes.
    fn change_rate(&mut self, rate: u32) -> bool {
        if self.rate_changes > MAX_RATE_CHANGES {
            self.barren = MAX_BARREN_PACKETS;
            return false;
        }
        self.rate_changes += 1;
        self.seconds_before = self.seconds();
        self.decoded = 0;
        self.rate = Some(rate);
        true
    }

    /// Rate of the latest samples in Hz; none before the first. It changes only between calls of [`Self::next`].
    pub(crate) fn rate(&self) -> Option<u32> {
        self.rate
    }

    /// Length of the audio decoded so far.
    pub(crate) fn seconds(&self) -> f64 {
        self.seconds_before + self.rate.map_or(0.0, |rate| self.decoded as f64 / f64::from(rate))
    }

    /// Share of the file's bytes read so far, 0 to 1.
    pub(crate) fn fraction(&self) -> f32 {
        self.file.fraction()
    }

    /// Whether the file is cut off or has gaps, as known at its end.
    pub(crate) fn is_truncated(&self) -> bool {
        self.cut || self.lost > TRUNCATED_SECONDS || self.missing_seconds() > TRUNCATED_SECONDS
    }

    /// Seconds that the container's track declared but did not contain.
    fn missing_seconds(&self) -> f64 {
        let rate = self.playing.rate.or(self.rate).unwrap_or(1).max(1);
        let promised = self.playing.promised.map_or(0.0, |samples| samples as f64 / f64::from(rate));
        promised - (self.seconds() - self.track_start)
    }
}

/// Largest absolute sample; NaN counts as larger than any number. Absolute values are ordered like their bits, so the
/// maximum is found without a branch.
fn peak(samples: &[f32]) -> f32 {
    f32::from_bits(samples.iter().fold(0, |peak, sample| peak.max(sample.abs().to_bits())))
}

/// Whether a sample is a number within the accepted range.
fn is_sound(sample: f32) -> bool {
    sample.abs() <= MAX_SAMPLE
}

/// Selects the reader for a file by its first bytes after tags, or else by its contents.
fn read(file: &File, extension: Option<&str>) -> Result<Box<dyn FormatReader>, AudioError> {
    let mut window = Window::new(file.view().map_err(AudioError::Read)?);
    while let Some(length) = tags::id3v2(window.ahead(tags::ID3V2_HEADER_BYTES).map_err(AudioError::Read)?) {
        window.skip(length).map_err(AudioError::Read)?;
    }
    let at = window.at();
    let start = window.ahead(START_BYTES).map_err(AudioError::Read)?;
    if start.starts_with(flac::MARKER) {
        return flac::open(window);
    }
    if start.starts_with(ogg::MARKER) {
        return ogg::open(window, file.length());
    }
    let whole = if mp4::is_mp4(start) {
        mp4::open(Stream::new(Box::new(file.view().map_err(AudioError::Read)?)), at)
    } else if matroska::is_matroska(start) {
        matroska::open(Stream::new(Box::new(file.part(at, None).view().map_err(AudioError::Read)?)))
    } else {
        return frames(file, extension);
    };
    whole.map_err(|error| file.failure().map_or(error, AudioError::Read))
}

/// Streams of consecutive frames, without a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Frames {
    Mpeg,
    Adts,
    Latm,
}

impl Frames {
    /// In search order.
    const ALL: [Self; 3] = [Self::Mpeg, Self::Adts, Self::Latm];

    /// The kind of frames expected for a file extension.
    fn by(extension: &str) -> Option<Self> {
        match extension.to_ascii_lowercase().as_str() {
            "aac" | "adts" => Some(Self::Adts),
            "latm" | "loas" => Some(Self::Latm),
            _ => None,
        }
    }

    fn open(self, file: &File, search: Search) -> Result<Option<Box<dyn FormatReader>>, AudioError> {
        let window = Window::new(file.view().map_err(AudioError::Read)?);
        match self {
            Self::Mpeg => mpeg::open(window, file.length(), search).map_err(AudioError::Read),
            Self::Adts => adts::open(window, file.length(), search).map_err(AudioError::Read),
            Self::Latm => latm::open(window, search),
        }
    }
}

/// The reader for a file of frames, or for a container with unrelated bytes before it.
fn frames(file: &File, extension: Option<&str>) -> Result<Box<dyn FormatReader>, AudioError> {
    for frames in Frames::ALL {
        if let Some(reader) = frames.open(file, Search::Start)? {
            return Ok(reader);
        }
    }
    let mut window = Window::new(file.view().map_err(AudioError::Read)?);
    let bytes = window.ahead(MAX_NOISE_BYTES).map_err(AudioError::Read)?;
    let marker = |marker: &[u8]| memchr::memmem::find(bytes, marker);
    let (flac, ogg) = (flac::STARTS.iter().filter_map(|start| marker(start)).min(), marker(ogg::MARKER));
    if let Some(at) = flac {
        window.go(at as u64).map_err(AudioError::Read)?;
        return flac::open(window);
    }
    if let Some(at) = ogg {
        window.go(at as u64).map_err(AudioError::Read)?;
        if let Ok(reader) = ogg::open(window, file.length()) {
            return Ok(reader);
        }
    }
    let likely = extension.and_then(Frames::by);
    let others = Frames::ALL.into_iter().filter(|frames| Some(*frames) != likely);
    for frames in likely.into_iter().chain(others) {
        if let Some(reader) = frames.open(file, Search::Everywhere)? {
            return Ok(reader);
        }
    }
    Err(AudioError::UnknownFormat(
        "it has the beginning of no container, and no frames of MPEG audio or AAC".to_owned(),
    ))
}

/// Runs code on untrusted bytes: if it panics, the file is to blame, and the process survives.
fn guarded<T>(run: impl FnOnce() -> Result<T, AudioError>) -> Result<T, AudioError> {
    guard::caught(run).unwrap_or_else(|message| Err(AudioError::Crashed(message)))
}

#[cfg(test)]
mod tests;
