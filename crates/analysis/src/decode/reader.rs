//! Wraps streams that are parsed here as symphonia readers.

use symphonia::core::{
    errors::{Error as SymphoniaError, Result, SeekErrorKind},
    formats::{FormatInfo, FormatReader, MediaInfo, SeekMode, SeekTo, SeekedTo, Track},
    io::MediaSourceStream,
    meta::{Metadata, MetadataLog},
    packet::Packet,
    units::{Duration, Timestamp},
};

/// Packets of one audio track, as stored in a file.
pub(super) trait PacketStream: Send + Sync {
    /// The current track.
    fn track(&self) -> &Track;

    /// The next packet; none at the end. An empty packet stands for missing sound; its duration says how much.
    ///
    /// # Errors
    /// When the file cannot be read; `ResetRequired` when another track begins.
    fn next_packet(&mut self) -> Result<Option<Packet>>;

    /// Returns the file, as symphonia's interface requires; unused here.
    fn into_source(self: Box<Self>) -> MediaSourceStream<'static>;
}

/// A stream as a symphonia reader.
pub(super) struct StreamReader {
    stream: Box<dyn PacketStream>,
    info: FormatInfo,
    media: MediaInfo,
    metadata: MetadataLog,
}

impl StreamReader {
    pub(super) fn boxed(stream: Box<dyn PacketStream>, info: FormatInfo) -> Box<dyn FormatReader> {
        Box::new(Self { stream, info, media: MediaInfo::default(), metadata: MetadataLog::default() })
    }
}

impl FormatReader for StreamReader {
    fn format_info(&self) -> &FormatInfo {
        &self.info
    }

    fn media_info(&self) -> &MediaInfo {
        &self.media
    }

    fn metadata(&mut self) -> Metadata<'_> {
        self.metadata.metadata()
    }

    fn seek(&mut self, _: SeekMode, _: SeekTo) -> Result<SeekedTo> {
        Err(SymphoniaError::SeekError(SeekErrorKind::Unseekable))
    }

    fn tracks(&self) -> &[Track] {
        std::slice::from_ref(self.stream.track())
    }

    fn next_packet(&mut self) -> Result<Option<Packet>> {
        self.stream.next_packet()
    }

    fn into_inner<'s>(self: Box<Self>) -> MediaSourceStream<'s>
    where
        Self: 's,
    {
        self.stream.into_source()
    }
}

/// A packet of a stream's only track. `duration` and `trim` (start, end) are in samples per channel.
pub(super) fn packet(data: &[u8], duration: u64, trim: (u64, u64)) -> Packet {
    let mut packet = Packet::new(0, Timestamp::ZERO, Duration::from(duration), data);
    (packet.trim_start, packet.trim_end) = (Duration::from(trim.0), Duration::from(trim.1));
    packet
}

/// A packet that stands for `skipped` bytes without frames. Its length follows from the mean samples per byte so far.
pub(super) fn hole_of(skipped: u64, samples: u64, bytes: u64) -> Packet {
    hole((u128::from(skipped) * u128::from(samples) / u128::from(bytes.max(1))) as u64)
}

/// A packet that stands for missing samples.
pub(super) fn hole(samples: u64) -> Packet {
    packet(&[], samples, (0, 0))
}
