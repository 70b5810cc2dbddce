//! Errors, grouped by the caller's reaction: give up on the track, or on the device.

use crate::dsp::MAX_CHANNELS;

/// Why a track has no vector. Messages do not name the file: the caller knows it.
#[derive(Debug, thiserror::Error)]
pub enum AudioError {
    /// The file is empty.
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
    /// Another kind of file with the name of an audio file, such as a web page left by a failed download.
    #[error("this is {0}, not audio")]
    NotAudio(&'static str),
    /// A known container or codec that is not supported here, by its name.
    #[error("{0} is not supported; convert it to FLAC")]
    UnsupportedFormat(String),
    /// The first bytes match no known container or codec.
    #[error("not a known audio format: {0}")]
    UnknownFormat(String),
    /// A known container that cannot be opened, for example because it ends before its headers do.
    #[error("the file is incomplete or damaged: {0}")]
    Damaged(String),
    /// A known container and codec, but no packet can be decoded.
    #[error("nothing in the file can be decoded: {0}")]
    Undecodable(String),
    /// A known container without an audio track.
    #[error("the file holds no audio track")]
    NoAudio,
    /// A codec without a decoder here.
    #[error("no decoder for this codec: {0}")]
    UnsupportedCodec(String),
    /// Encrypted; only the seller's programs can play it.
    #[error("the file is protected (DRM: {0}); only a copy without protection can be analysed")]
    Protected(&'static str),
    /// More channels than known speaker layouts have.
    #[error("{0} channels; at most {MAX_CHANNELS} are supported")]
    TooManyChannels(usize),
    /// Channels that do not stand for loudspeakers.
    #[error("{0} cannot be folded to mono")]
    UnsupportedChannels(&'static str),
    /// An implausible sample rate.
    #[error("{rate} Hz; sample rates from {lowest} to {highest} Hz are supported")]
    SampleRate {
        /// The file's rate in Hz.
        rate: u32,
        /// The lowest supported rate in Hz.
        lowest: u32,
        /// The highest supported rate in Hz.
        highest: u32,
    },
    /// A number that cannot be sound, as faulty programs write it into files of floating-point samples.
    #[error("the sample at {seconds:.3} s is {value:e}; at most {limit:e} is taken for sound")]
    InvalidSample {
        /// Position in the track, in seconds.
        seconds: f64,
        /// The sample, downmixed; full scale is 1.
        value: f32,
        /// The limit.
        limit: f32,
    },
    /// The audio is shorter than one patch.
    #[error("{}", too_short(*seconds, *minimum))]
    TooShort {
        /// Length of the decoded audio, in seconds.
        seconds: f64,
        /// Length of one patch, in seconds.
        minimum: f64,
    },
    /// Longer than [`crate::Limits::max_seconds`].
    #[error("at least {seconds:.0} s of audio; the limit is {limit} s")]
    TooLong {
        /// The length the file declares, or the length decoded when the limit was exceeded.
        seconds: f64,
        /// The limit in seconds.
        limit: u64,
    },
    /// Reading failed; the file itself may be intact.
    #[error("could not be read: {0}")]
    Read(#[source] std::io::Error),
    /// A decoder panicked.
    #[error("the decoder crashed on this file: {0}")]
    Crashed(String),
    /// The device gave no answer, or an answer with NaN or infinite numbers.
    #[error("the device failed: {0}")]
    Device(String),
}

impl AudioError {
    /// Whether the track itself is at fault, so that retrying cannot help.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        !matches!(self, Self::Read(_) | Self::Device(_))
    }

    /// A short, machine-readable name of the kind of error.
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

/// Two decimals. If the two lengths would then look the same, three decimals, the length rounded down and the minimum up.
fn too_short(seconds: f64, minimum: f64) -> String {
    if minimum - seconds > 0.01 {
        return format!("{seconds:.2} s of audio; at least {minimum:.2} s are needed");
    }
    let (seconds, minimum) = ((seconds * 1000.0).floor() / 1000.0, (minimum * 1000.0).ceil() / 1000.0);
    format!("{seconds:.3} s of audio; at least {minimum:.3} s are needed")
}

/// Why a model cannot run on a device.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The program was built without this backend.
    #[error("this program was built without the device '{0}'")]
    NotBuilt(crate::Backend),
    /// The device does not exist or does not start.
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
    /// The device computes wrong numbers.
    #[error(
        "{device} computes wrong numbers: the known answer is off by {difference:.2e}, at most {tolerance:.0e} is allowed"
    )]
    WrongAnswer {
        /// The device's name.
        device: String,
        /// Largest absolute difference from the known answer.
        difference: f32,
        /// The maximum allowed difference.
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
