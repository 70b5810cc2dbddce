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
    /// A web page under an audio file's name, as failed downloads leave it.
    #[error("this is a web page (HTML), not audio")]
    WebPage,
    /// No known container or codec starts like this.
    #[error("not a known audio format: {0}")]
    UnknownFormat(String),
    /// A known container without audio in it.
    #[error("the file holds no audio track")]
    NoAudio,
    /// A codec without a decoder here.
    #[error("no decoder for this codec: {0}")]
    UnsupportedCodec(String),
    /// More channels than loudspeakers are known for.
    #[error("{0} channels; at most {MAX_CHANNELS} are supported")]
    TooManyChannels(usize),
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
    /// Less than one patch.
    #[error("{seconds:.2} s of audio; at least {minimum:.2} s are needed")]
    TooShort {
        /// Length of the decoded audio.
        seconds: f64,
        /// Length of one patch.
        minimum: f64,
    },
    /// Longer than [`crate::Limits::max_seconds`].
    #[error("more than {limit} s of audio, which is the limit")]
    TooLong {
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
            Self::WebPage | Self::UnknownFormat(_) => "not_audio",
            Self::NoAudio => "no_audio",
            Self::UnsupportedCodec(_) | Self::TooManyChannels(_) | Self::SampleRate { .. } => "unsupported",
            Self::TooShort { .. } => "too_short",
            Self::TooLong { .. } => "too_long",
            Self::Read(_) => "unreadable",
            Self::Crashed(_) => "decoder_crashed",
            Self::Device(_) => "device",
        }
    }
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
