//! Workers: what they are, and what they are doing.

use serde::{Deserialize, Serialize};

/// Which of the two kinds of worker.
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

/// What a worker computes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Device {
    /// Backend: `wgpu`, `ndarray` or `flex`.
    pub backend: String,
    /// The adapter's or processor's name, for people.
    pub name: String,
}

/// How a worker came to its device, for people.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct Trial {
    /// What the machine's devices have shown.
    pub speeds: Speeds,
    /// Why it is not the GPU, when that was free to be chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Patches a second that a machine's devices showed when they were tried; none where one was not.
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
    /// Both at once; in a tab, what is expected of them.
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

/// What a worker is doing with a job. Later stages are greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The audio is on its way.
    Fetching,
    /// The audio is there; another job is in analysis.
    Waiting,
    /// Decoding and computing.
    Analysing,
}

/// Whether a worker is given tracks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It is.
    #[default]
    Good,
    /// It has failed several tracks in a row and gets nothing until others have tried them.
    OnProbation,
    /// Others do what it fails: it gets nothing more in this session.
    SetAside,
}
