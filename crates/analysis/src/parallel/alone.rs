//! The single thread of a Web Worker.

use std::{future::poll_fn, pin::pin, task::Poll};

/// Number of threads.
#[cfg(any(feature = "flex", feature = "ndarray"))]
pub(crate) fn count() -> usize {
    1
}

/// Calls `work` with every number below `count`, in that order.
pub(crate) fn map<T>(count: usize, work: impl Fn(usize) -> T) -> Vec<T> {
    (0..count).map(work).collect()
}

/// Runs both: starts the future, which may progress on its own as a GPU does, then does the work, then awaits the future.
pub(crate) async fn join<A, B>(work: impl FnOnce() -> A, future: impl Future<Output = B>) -> (A, B) {
    let mut future = pin!(future);
    let begun = poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await;
    let done = work();
    match begun {
        Poll::Ready(value) => (done, value),
        Poll::Pending => (done, future.await),
    }
}
