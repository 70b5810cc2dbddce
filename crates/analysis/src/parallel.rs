//! All cores, if the program has threads.

#[cfg_attr(target_family = "wasm", path = "parallel/alone.rs")]
mod threads;

#[cfg(any(feature = "flex", feature = "ndarray"))]
pub(crate) use threads::count;
pub(crate) use threads::{join, map};
