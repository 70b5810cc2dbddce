//! Workers: what they are, and what they are doing.

use serde::{Deserialize, Serialize};

/// Kind of worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum WorkerKind {
    /// The native executable.
    Native,
    /// A browser tab.
    Browser,
}

impl WorkerKind {
    /// Its name, as on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Browser => "browser",
        }
    }
}

/// The device a worker computes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Device {
    /// Backend: `wgpu`, `ndarray` or `flex`.
    pub backend: String,
    /// The adapter's or processor's name, for people.
    pub name: String,
}

/// How a worker chose its device, for people.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct Trial {
    /// Measured speeds of the machine's devices.
    pub speeds: Speeds,
    /// Why it is not the GPU, when the choice was free.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Patches per second measured on each device of a machine; none for a device that was not tried.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct Speeds {
    /// The CPU alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<f32>,
    /// The GPU alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu: Option<f32>,
    /// Both at once; in a browser tab, an estimate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub both: Option<f32>,
}

impl Speeds {
    /// For people, such as `CPU 412, GPU 95, both 460 patches a second`; none when nothing was tried.
    #[must_use]
    pub fn in_words(&self) -> Option<String> {
        let named = [("CPU", self.cpu), ("GPU", self.gpu), ("both", self.both)];
        let known = named.into_iter().filter_map(|(name, speed)| {
            let speed = speed?;
            Some(if speed < 10.0 { format!("{name} {speed:.1}") } else { format!("{name} {speed:.0}") })
        });
        let known = known.collect::<Vec<_>>().join(", ");
        (!known.is_empty()).then(|| format!("{known} patches a second"))
    }
}

/// Stage of a worker's job. Later stages compare as greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Downloading the audio.
    Fetching,
    /// The audio is downloaded; another job is being analysed.
    Waiting,
    /// Decoding and computing.
    Analysing,
}

/// Whether a worker is given tracks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It is given tracks.
    #[default]
    Good,
    /// It has failed several tracks in a row and gets none until other workers have tried them.
    OnProbation,
    /// Other workers succeeded where it failed: it gets no more tracks in this session.
    SetAside,
}
