//! The device to compute on: the GPU through wgpu (Vulkan, Metal, DX12; WebGPU in a browser), or the CPU.

#[cfg(feature = "wgpu")]
mod gpu;

use std::{fmt, str::FromStr};

use crate::EngineError;
#[cfg(any(feature = "flex", feature = "ndarray"))]
use crate::parallel;

/// A compute backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Backend {
    /// The GPU.
    Wgpu,
    /// The CPU, through burn's ndarray backend.
    Ndarray,
    /// The CPU, through burn's flex backend, which is faster.
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

    /// Patches per batch: size of the first batch, and the maximum after that. A GPU needs large batches to be busy; a
    /// CPU is busy with small ones, which report progress more often.
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

/// Description of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Its backend.
    pub backend: Backend,
    /// The adapter's name, or "CPU" and the number of threads.
    pub name: String,
    /// Name and version of a GPU's driver, as far as it reports them.
    pub driver: String,
    /// Whether a "GPU" is emulated by the CPU, which is slower than the CPU backends.
    pub is_software_gpu: bool,
}

impl fmt::Display for DeviceInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.backend, self.name)
    }
}

/// An opened device.
#[derive(Debug, Clone)]
pub struct Device {
    /// The device that burn uses: the CPU if the convolutions have kernels of their own.
    pub(crate) inner: burn::tensor::Device,
    #[cfg(feature = "wgpu")]
    pub(crate) gpu: Option<crate::network::Gpu>,
    /// Its description.
    pub info: DeviceInfo,
}

impl Device {
    /// Describes the GPU without starting it.
    ///
    /// # Errors
    /// When the backend was not built in, or there is no GPU.
    pub async fn find_gpu() -> Result<DeviceInfo, EngineError> {
        #[cfg(feature = "wgpu")]
        return gpu::find().await;
        #[cfg(not(feature = "wgpu"))]
        return Err(EngineError::NotBuilt(Backend::Wgpu));
    }

    /// Opens a device.
    ///
    /// # Errors
    /// When the backend was not built in, or there is no such device.
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
