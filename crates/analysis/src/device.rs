//! What to compute on: the GPU through wgpu (Vulkan, Metal, DX12; WebGPU in a browser), or the CPU.

#[cfg(feature = "wgpu")]
mod gpu;

use std::{fmt, str::FromStr};

use crate::EngineError;
#[cfg(any(feature = "flex", feature = "ndarray"))]
use crate::parallel;

/// A way to compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Backend {
    /// The GPU.
    Wgpu,
    /// The CPU, by burn's ndarray backend.
    Ndarray,
    /// The CPU, by burn's flex backend: the faster one.
    Flex,
}

impl Backend {
    /// Every backend, built in or not.
    pub const ALL: [Self; 3] = [Self::Wgpu, Self::Ndarray, Self::Flex];

    /// Its name on command lines and in messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Wgpu => "wgpu",
            Self::Ndarray => "ndarray",
            Self::Flex => "flex",
        }
    }

    /// Patches computed at once: at first, and after that at most. A GPU needs many to be busy; a CPU is busy with few
    /// and reports progress more often.
    pub(crate) fn batches(self) -> (usize, usize) {
        match self {
            Self::Wgpu => (16, 16),
            Self::Ndarray | Self::Flex => (2, 8),
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Backend {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|backend| backend.name() == text)
            .ok_or_else(|| format!("'{text}' is no device; there are auto, wgpu, ndarray and flex"))
    }
}

/// What a device is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceInfo {
    /// The way it computes.
    pub backend: Backend,
    /// The adapter's name, or "CPU" and its threads.
    pub name: String,
    /// Name and version of a GPU's driver, as far as it tells.
    pub driver: String,
    /// Whether a "GPU" is a processor pretending to be one, which is slower than the CPU backends.
    pub is_software_gpu: bool,
}

impl fmt::Display for DeviceInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.backend, self.name)
    }
}

/// A device that has started.
#[derive(Debug, Clone)]
pub struct Device {
    /// What burn computes on: the CPU where the convolutions have kernels of their own.
    pub(crate) inner: burn::tensor::Device,
    #[cfg(feature = "wgpu")]
    pub(crate) gpu: Option<crate::network::Gpu>,
    /// What it is called.
    pub info: DeviceInfo,
}

impl Device {
    /// What the GPU is called, without starting it.
    ///
    /// # Errors
    /// When it was not built in, or there is none.
    pub async fn find_gpu() -> Result<DeviceInfo, EngineError> {
        #[cfg(feature = "wgpu")]
        return gpu::find().await;
        #[cfg(not(feature = "wgpu"))]
        return Err(EngineError::NotBuilt(Backend::Wgpu));
    }

    /// Starts a device.
    ///
    /// # Errors
    /// When it was not built in, or there is none.
    pub async fn open(backend: Backend) -> Result<Self, EngineError> {
        match backend {
            #[cfg(feature = "wgpu")]
            Backend::Wgpu => gpu::open().await,
            #[cfg(feature = "ndarray")]
            #[expect(deprecated, reason = "the design names it; flex is the default")]
            Backend::Ndarray => Ok(Self::cpu(backend, burn::tensor::Device::ndarray())),
            #[cfg(feature = "flex")]
            Backend::Flex => Ok(Self::cpu(backend, burn::tensor::Device::flex())),
            #[allow(unreachable_patterns, reason = "reachable when a device's feature is off")]
            other => Err(EngineError::NotBuilt(other)),
        }
    }

    #[cfg(any(feature = "ndarray", feature = "flex"))]
    fn cpu(backend: Backend, inner: burn::tensor::Device) -> Self {
        let name = match parallel::count() {
            1 => "CPU, 1 thread".to_owned(),
            threads => format!("CPU, {threads} threads"),
        };
        Self {
            inner,
            #[cfg(feature = "wgpu")]
            gpu: None,
            info: DeviceInfo { backend, name, driver: String::new(), is_software_gpu: false },
        }
    }
}
