//! The GPU, opened once a process.

use std::sync::Mutex;

use burn::tensor::{
    Device as BurnDevice,
    wgpu::wgpu::{Adapter, DeviceType, Features, Instance, InstanceDescriptor, PowerPreference, RequestAdapterOptions},
};

use super::{Backend, Device, DeviceInfo};
use crate::EngineError;

/// burn starts its wgpu runtime once; whoever asks again gets the same device.
static OPENED: Mutex<Option<Device>> = Mutex::new(None);

pub(super) async fn open() -> Result<Device, EngineError> {
    if let Some(device) = opened().clone() {
        return Ok(device);
    }
    let adapter = adapter().await?;
    // burn's runtime asks for this feature without looking, and panics where it is missing.
    if !adapter.features().contains(Features::TIMESTAMP_QUERY) {
        return Err(EngineError::NoGpu("the adapter lacks 'timestamp-query', which burn needs".to_owned()));
    }
    let info = adapter.get_info();
    let name = if info.name.is_empty() { info.backend.to_string() } else { info.name };
    let inner = BurnDevice::wgpu_options().init_async().await.map_err(|error| EngineError::NoGpu(error.to_string()))?;
    let is_software_gpu = info.device_type == DeviceType::Cpu || name.to_lowercase().contains("swiftshader");
    let device = Device { inner, info: DeviceInfo { backend: Backend::Wgpu, name, is_software_gpu } };
    Ok(opened().get_or_insert(device).clone())
}

fn opened() -> std::sync::MutexGuard<'static, Option<Device>> {
    OPENED.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The adapter that burn will choose: the most powerful one.
async fn adapter() -> Result<Adapter, EngineError> {
    let options = RequestAdapterOptions { power_preference: PowerPreference::HighPerformance, ..Default::default() };
    Instance::new(InstanceDescriptor::new_without_display_handle())
        .request_adapter(&options)
        .await
        .map_err(|error| EngineError::NoGpu(error.to_string()))
}
