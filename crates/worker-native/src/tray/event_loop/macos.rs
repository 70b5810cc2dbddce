//! A program without a window is not shown in the Dock.

use winit::{
    event_loop::{EventLoop, EventLoopBuilder},
    platform::macos::{ActivationPolicy, EventLoopBuilderExtMacOS},
};

use super::Event;

pub(super) fn builder() -> EventLoopBuilder<Event> {
    let mut builder = EventLoop::with_user_event();
    builder.with_activation_policy(ActivationPolicy::Accessory);
    builder
}
