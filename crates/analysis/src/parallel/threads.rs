//! The threads of rayon's pool.

use rayon::prelude::*;

/// Number of threads.
#[cfg(any(feature = "flex", feature = "ndarray"))]
pub(crate) fn count() -> usize {
    rayon::current_num_threads()
}

/// Calls `work` with every number below `count`; the results are in that order.
pub(crate) fn map<T: Send>(count: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    (0..count).into_par_iter().map(&work).collect()
}

/// Runs both at once; a thread of the pool waits for the future.
pub(crate) async fn join<A: Send, B: Send>(
    work: impl FnOnce() -> A + Send,
    future: impl Future<Output = B> + Send,
) -> (A, B) {
    rayon::join(work, || pollster::block_on(future))
}
