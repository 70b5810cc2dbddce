//! Monkey's Audio: `ape-decoder` decodes its frames one by one and verifies their checksums.

use std::io::{Read, Result as IoResult, Seek, SeekFrom};

use ape_decoder::{ApeDecoder, ApeError};
use symphonia::core::{
    audio::Channels,
    codecs::audio::well_known::{CODEC_ID_PCM_S8, CODEC_ID_PCM_U8},
    errors::Error as SymphoniaError,
};

use super::{
    chunks::Pages,
    container::Content,
    sound::{Packets, Sound, pcm},
    source::View,
};
use crate::AudioError;

/// Returns the content of a Monkey's Audio file, or none if the file is not one; it begins with `start`.
///
/// # Errors
/// When the file cannot be read, or has content that is not supported.
pub(super) fn open(pages: &Pages<'_>, start: &[u8]) -> Result<Option<Content>, AudioError> {
    if !start.starts_with(b"MAC ") {
        return Ok(None);
    }
    let view = pages.file().view().map_err(AudioError::Read)?;
    let mut decoder = ApeDecoder::new(Whole(view)).map_err(|error| match error {
        ApeError::UnsupportedVersion(version) => {
            AudioError::UnsupportedFormat(format!("Monkey's Audio of version {}", f64::from(version) / 1000.0))
        }
        error => AudioError::Damaged(format!("Monkey's Audio: {error}")),
    })?;
    let info = decoder.info().clone();
    let bytes = info.bits_per_sample.div_ceil(8);
    let codec = match (info.is_floating_point, bytes) {
        (true, _) => None,
        (false, 1) => Some(if info.is_signed_8bit { CODEC_ID_PCM_S8 } else { CODEC_ID_PCM_U8 }),
        (false, bytes) => pcm(bytes.into(), false, info.is_big_endian),
    };
    let Some(codec) = codec else {
        let kind = if info.is_floating_point { "floating-point numbers" } else { "integers" };
        return Err(AudioError::UnsupportedFormat(format!("Monkey's Audio of {} bits, {kind}", info.bits_per_sample)));
    };
    let mut frame = 0;
    let next = move || {
        if frame == info.total_frames {
            return Ok(None);
        }
        frame += 1;
        decoder
            .decode_frame(frame - 1)
            .map(Some)
            .map_err(|_| SymphoniaError::DecodeError("monkey's audio: damaged frame"))
    };
    let channels = info.channels;
    let packets = Packets::Made {
        next: Box::new(next),
        bytes: u32::from(bytes) * u32::from(channels),
        samples: Some(info.total_samples),
    };
    let (rate, channels) = (info.sample_rate, Channels::Discrete(channels));
    let sound = Sound { codec, rate, channels, packets, convert: None, extra: None, start: 0, bytes: None };
    Ok(Some(Content::Sound(sound)))
}

/// A view whose reads always fill the buffer, as the decoder expects.
struct Whole(View);

impl Read for Whole {
    fn read(&mut self, buffer: &mut [u8]) -> IoResult<usize> {
        let mut read = 0;
        while read < buffer.len() {
            match self.0.read(&mut buffer[read..])? {
                0 => break,
                bytes => read += bytes,
            }
        }
        Ok(read)
    }
}

impl Seek for Whole {
    fn seek(&mut self, to: SeekFrom) -> IoResult<u64> {
        self.0.seek(to)
    }
}
