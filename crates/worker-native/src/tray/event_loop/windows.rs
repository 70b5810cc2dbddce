//! Windows needs no special settings.

use winit::event_loop::{EventLoop, EventLoopBuilder};

use super::Event;

pub(super) fn builder() -> EventLoopBuilder<Event> {
    EventLoop::with_user_event()
}
