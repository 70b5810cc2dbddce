//! What can go wrong, said so that a caller knows what to do: give up on the track, or on the device.

use crate::dsp::MAX_CHANNELS;

/// Why a track has no vector. The message names no file: the caller knows which it was.
#[derive(Debug, thiserror::Error)]
pub enum AudioError {
    /// Not a byte of it.
    #[error("the file is empty")]
    Empty,
    /// Larger than [`crate::Limits::max_bytes`].
    #[error("the file has {bytes} bytes; the limit is {limit}")]
    TooLarge {
        /// Its size in bytes.
        bytes: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// Something else under an audio file's name, such as a web page that a failed download left.
    #[error("this is {0}, not audio")]
    NotAudio(&'static str),
    /// Audio of a container or a codec that is not decoded here, by its name.
    #[error("{0} is not supported; convert it to FLAC")]
    UnsupportedFormat(String),
    /// No known container or codec starts like this.
    #[error("not a known audio format: {0}")]
    UnknownFormat(String),
    /// A known container that cannot be opened, as one that is cut before it says what is in it.
    #[error("the file is incomplete or damaged: {0}")]
    Damaged(String),
    /// A known container and codec, but not one packet that can be decoded.
    #[error("nothing in the file can be decoded: {0}")]
    Undecodable(String),
    /// A known container without audio in it.
    #[error("the file holds no audio track")]
    NoAudio,
    /// A codec without a decoder here.
    #[error("no decoder for this codec: {0}")]
    UnsupportedCodec(String),
    /// Encrypted, so that only its seller's programs can play it.
    #[error("the file is protected (DRM: {0}); only a copy without protection can be analysed")]
    Protected(&'static str),
    /// More channels than loudspeakers are known for.
    #[error("{0} channels; at most {MAX_CHANNELS} are supported")]
    TooManyChannels(usize),
    /// Channels that are no loudspeakers.
    #[error("{0} cannot be folded to mono")]
    UnsupportedChannels(&'static str),
    /// A sample rate that no audio has.
    #[error("{rate} Hz; sample rates from {lowest} to {highest} Hz are supported")]
    SampleRate {
        /// The file's rate in Hz.
        rate: u32,
        /// The lowest supported rate in Hz.
        lowest: u32,
        /// The highest supported rate in Hz.
        highest: u32,
    },
    /// A number that is no sound, as broken programs write it into files of floating-point samples.
    #[error("the sample at {seconds:.3} s is {value:e}; at most {limit:e} is taken for sound")]
    InvalidSample {
        /// Where in the track.
        seconds: f64,
        /// The sample, downmixed; full scale is 1.
        value: f32,
        /// The limit.
        limit: f32,
    },
    /// Less than one patch.
    #[error("{}", too_short(*seconds, *minimum))]
    TooShort {
        /// Length of the decoded audio.
        seconds: f64,
        /// Length of one patch.
        minimum: f64,
    },
    /// Longer than [`crate::Limits::max_seconds`].
    #[error("at least {seconds:.0} s of audio; the limit is {limit} s")]
    TooLong {
        /// What the file says of its length, or else what was decoded when the limit was passed.
        seconds: f64,
        /// The limit in seconds.
        limit: u64,
    },
    /// Reading failed, the file did not.
    #[error("could not be read: {0}")]
    Read(#[source] std::io::Error),
    /// A decoder panicked.
    #[error("the decoder crashed on this file: {0}")]
    Crashed(String),
    /// The device gave no answer, or one that is not numbers.
    #[error("the device failed: {0}")]
    Device(String),
}

impl AudioError {
    /// Whether the track itself is at fault, so that no other attempt can help.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        !matches!(self, Self::Read(_) | Self::Device(_))
    }

    /// A short name of the kind of error, for programs.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::TooLarge { .. } => "too_large",
            Self::NotAudio(_) | Self::UnknownFormat(_) => "not_audio",
            Self::Damaged(_) | Self::Undecodable(_) => "damaged",
            Self::NoAudio => "no_audio",
            Self::UnsupportedFormat(_)
            | Self::UnsupportedCodec(_)
            | Self::Protected(_)
            | Self::TooManyChannels(_)
            | Self::UnsupportedChannels(_)
            | Self::SampleRate { .. } => "unsupported",
            Self::InvalidSample { .. } => "invalid_sample",
            Self::TooShort { .. } => "too_short",
            Self::TooLong { .. } => "too_long",
            Self::Read(_) => "unreadable",
            Self::Crashed(_) => "decoder_crashed",
            Self::Device(_) => "device",
        }
    }
}

/// Two decimals; where they would make the two lengths the same, three, the length rounded down and the minimum up.
fn too_short(seconds: f64, minimum: f64) -> String {
    if minimum - seconds > 0.01 {
        return format!("{seconds:.2} s of audio; at least {minimum:.2} s are needed");
    }
    let (seconds, minimum) = ((seconds * 1000.0).floor() / 1000.0, (minimum * 1000.0).ceil() / 1000.0);
    format!("{seconds:.3} s of audio; at least {minimum:.3} s are needed")
}

/// Why a model cannot be computed on a device.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The program was built without it.
    #[error("this program was built without the device '{0}'")]
    NotBuilt(crate::Backend),
    /// There is no such device, or it would not start.
    #[error("no usable GPU: {0}")]
    NoGpu(String),
    /// The weights do not fit the network.
    #[error("the weights of {model} do not fit: {reason}")]
    Weights {
        /// The model's name.
        model: String,
        /// What does not fit.
        reason: String,
    },
    /// The device computes something else.
    #[error(
        "{device} computes wrong numbers: the known answer is off by {difference:.2e}, at most {tolerance:.0e} is allowed"
    )]
    WrongAnswer {
        /// The device's name.
        device: String,
        /// Largest absolute difference from the known answer.
        difference: f32,
        /// The largest that is allowed.
        tolerance: f32,
    },
    /// The device gave no answer.
    #[error("the device failed: {0}")]
    Device(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_just_below_the_minimum_reads_as_less() {
        let minimum = 47_361.0 / 16_000.0;
        assert_eq!(too_short(2.0, minimum), "2.00 s of audio; at least 2.96 s are needed");
        assert_eq!(too_short(47_360.0 / 16_000.0, minimum), "2.960 s of audio; at least 2.961 s are needed");
    }
}
