//! Streams that are read here and not by symphonia, dressed as its readers.

use symphonia::core::{
    errors::{Error as SymphoniaError, Result, SeekErrorKind},
    formats::{FormatInfo, FormatReader, MediaInfo, SeekMode, SeekTo, SeekedTo, Track},
    io::MediaSourceStream,
    meta::{Metadata, MetadataLog},
    packet::Packet,
    units::{Duration, Timestamp},
};

/// Packets of one audio track, as they lie in a file.
pub(super) trait PacketStream: Send + Sync {
    /// What is being read.
    fn track(&self) -> &Track;

    /// The next packet; none at the end. Where sound is missing, a packet without a byte says how much.
    ///
    /// # Errors
    /// When the file cannot be read; `ResetRequired` where another track begins.
    fn next_packet(&mut self) -> Result<Option<Packet>>;

    /// The file, for who takes the stream apart; nobody here does.
    fn into_source(self: Box<Self>) -> MediaSourceStream<'static>;
}

/// A stream as one of symphonia's readers.
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

/// A packet of a stream's only track. `duration` and what is to be dropped are in samples a channel.
pub(super) fn packet(data: &[u8], duration: u64, trim: (u64, u64)) -> Packet {
    let mut packet = Packet::new(0, Timestamp::ZERO, Duration::from(duration), data);
    (packet.trim_start, packet.trim_end) = (Duration::from(trim.0), Duration::from(trim.1));
    packet
}

/// A packet in the place of bytes that are no frames, for as many samples as the bytes so far had in the mean.
pub(super) fn hole_of(skipped: u64, samples: u64, bytes: u64) -> Packet {
    hole((u128::from(skipped) * u128::from(samples) / u128::from(bytes.max(1))) as u64)
}

/// A packet for samples that are missing.
pub(super) fn hole(samples: u64) -> Packet {
    packet(&[], samples, (0, 0))
}
