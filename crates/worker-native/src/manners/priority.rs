//! Lets other programs go first.

use thread_priority::{ThreadPriority, ThreadPriorityValue, set_current_thread_priority};

/// On the library's scale: a nice value of 10 on Linux, `BELOW_NORMAL` on Windows.
const LOW: u8 = 25;

/// Permanently gives this thread, and on Linux the threads it starts, a low priority.
pub(crate) fn lower() {
    let low = ThreadPriorityValue::try_from(LOW).expect("it is within the library's scale");
    if let Err(error) = set_current_thread_priority(ThreadPriority::Crossplatform(low)) {
        tracing::debug!("a thread keeps its priority: {error}");
    }
}
