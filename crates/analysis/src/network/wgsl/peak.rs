//! Peak arithmetic throughput of a GPU, for the benchmark: the network's speed is reported as a share of it.

use burn_wgpu::wgpu::{
    BindGroupDescriptor, BindGroupEntry, BufferDescriptor, BufferUsages, CommandEncoderDescriptor,
    ComputePassDescriptor, PollType,
};
use web_time::Instant;

use super::Gpu;

/// Workgroups per dispatch, of 64 threads each.
const GROUPS: u32 = 8192;

/// Multiply-adds per thread: rounds of four chains of four numbers, as in `peak.wgsl`.
const MULTIPLY_ADDS_A_THREAD: u64 = 1024 * 4 * 4;

/// Number of measurements; the fastest counts.
const TRIES: u32 = 8;

/// Multiply-adds per second.
///
/// # Errors
/// The device's own message when it fails.
pub(crate) fn multiply_adds_a_second(gpu: &Gpu) -> Result<f64, String> {
    let device = &gpu.device;
    let pipeline = gpu.pipeline(include_str!("peak.wgsl").to_owned());
    let usage = BufferUsages::STORAGE;
    let out = device.create_buffer(&BufferDescriptor { label: None, size: 64 * 16, usage, mapped_at_creation: false });
    let bindings = device.create_bind_group(&BindGroupDescriptor {
        label: None,
        layout: &pipeline.get_bind_group_layout(0),
        entries: &[BindGroupEntry { binding: 0, resource: out.as_entire_binding() }],
    });
    let mut fastest = f64::INFINITY;
    for _ in 0..TRIES {
        let mut commands = device.create_command_encoder(&CommandEncoderDescriptor::default());
        {
            let mut pass = commands.begin_compute_pass(&ComputePassDescriptor::default());
            pass.set_pipeline(&pipeline);
            pass.set_bind_group(0, &bindings, &[]);
            pass.dispatch_workgroups(GROUPS, 1, 1);
        }
        let start = Instant::now();
        gpu.queue.submit([commands.finish()]);
        device.poll(PollType::wait_indefinitely()).map_err(|error| gpu.failure(&error.to_string()))?;
        fastest = fastest.min(start.elapsed().as_secs_f64());
    }
    gpu.check()?;
    Ok((u64::from(GROUPS) * 64 * MULTIPLY_ADDS_A_THREAD) as f64 / fastest)
}
