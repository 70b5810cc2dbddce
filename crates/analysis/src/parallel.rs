//! All cores, where a program has threads.

#[cfg_attr(target_family = "wasm", path = "parallel/alone.rs")]
mod threads;

pub(crate) use threads::{count, join, map};
