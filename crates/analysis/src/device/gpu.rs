//! The GPU through wgpu: Vulkan, Metal, DX12, or a browser's WebGPU.

use burn_wgpu::wgpu::{
    Adapter, Backends, DeviceDescriptor, DeviceType, Instance, InstanceDescriptor, Limits, PowerPreference,
    RequestAdapterOptions,
};

use super::{Backend, Device, DeviceInfo};
use crate::{EngineError, network::Gpu};

/// Words in the names of adapters that are emulated by a CPU.
const SOFTWARE_NAMES: [&str; 2] = ["swiftshader", "llvmpipe"];

/// The GPU that [`open`] will use, as its driver describes it.
pub(super) async fn find() -> Result<DeviceInfo, EngineError> {
    Ok(info(&adapter().await?))
}

pub(super) async fn open() -> Result<Device, EngineError> {
    let adapter = adapter().await?;
    // Nearly every GPU supports these limits; the kernels need no more.
    let required_limits = Limits::downlevel_defaults();
    let (device, queue) = adapter
        .request_device(&DeviceDescriptor { required_limits, ..DeviceDescriptor::default() })
        .await
        .map_err(|error| EngineError::NoGpu(error.to_string()))?;
    let inner = burn::tensor::Device::flex();
    Ok(Device { inner, gpu: Some(Gpu::new(device, queue)), info: info(&adapter) })
}

/// The most powerful adapter. OpenGL is left out: its libraries print errors on machines without a desktop.
async fn adapter() -> Result<Adapter, EngineError> {
    let instance =
        InstanceDescriptor { backends: Backends::PRIMARY, ..InstanceDescriptor::new_without_display_handle() };
    let options = RequestAdapterOptions { power_preference: PowerPreference::HighPerformance, ..Default::default() };
    let adapter = Instance::new(instance).request_adapter(&options).await;
    adapter.map_err(|error| EngineError::NoGpu(error.to_string()))
}

fn info(adapter: &Adapter) -> DeviceInfo {
    let info = adapter.get_info();
    let name = if info.name.is_empty() { info.backend.to_string() } else { info.name };
    let driver = [info.backend.to_string(), info.driver, info.driver_info].join(" ").trim().to_owned();
    let words = name.to_lowercase();
    let is_software_gpu = info.device_type == DeviceType::Cpu || SOFTWARE_NAMES.iter().any(|word| words.contains(word));
    DeviceInfo { backend: Backend::Wgpu, name, driver, is_software_gpu }
}
