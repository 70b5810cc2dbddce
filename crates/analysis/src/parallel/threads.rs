//! The threads of rayon's pool.

use rayon::prelude::*;

/// How many there are.
#[cfg(any(feature = "flex", feature = "ndarray"))]
pub(crate) fn count() -> usize {
    rayon::current_num_threads()
}

/// `work` for every number below `count`, in that order.
pub(crate) fn map<T: Send>(count: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    (0..count).into_par_iter().map(&work).collect()
}

/// Both at once; the future is waited for on a thread of the pool.
pub(crate) async fn join<A: Send, B: Send>(
    work: impl FnOnce() -> A + Send,
    future: impl Future<Output = B> + Send,
) -> (A, B) {
    rayon::join(work, || pollster::block_on(future))
}
