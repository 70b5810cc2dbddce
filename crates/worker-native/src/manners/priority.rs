//! Other programs come first.

use thread_priority::{ThreadPriority, ThreadPriorityValue, set_current_thread_priority};

/// A nice value of 10 on Linux, `BELOW_NORMAL` on Windows, by the scale of the library.
const LOW: u8 = 25;

/// Gives this thread, and what it starts on Linux, a low priority for good.
pub(crate) fn lower() {
    let low = ThreadPriorityValue::try_from(LOW).expect("it is within the library's scale");
    if let Err(error) = set_current_thread_priority(ThreadPriority::Crossplatform(low)) {
        tracing::debug!("a thread keeps its priority: {error}");
    }
}
