//! The one thread of a Web Worker.

/// How many threads there are.
#[cfg(any(feature = "flex", feature = "ndarray"))]
pub(crate) fn count() -> usize {
    1
}

/// `work` for every number below `count`, in that order.
pub(crate) fn map<T>(count: usize, work: impl Fn(usize) -> T) -> Vec<T> {
    (0..count).map(work).collect()
}

/// Both, one after the other.
pub(crate) async fn join<A, B>(work: impl FnOnce() -> A, future: impl Future<Output = B>) -> (A, B) {
    (work(), future.await)
}
