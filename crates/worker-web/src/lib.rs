//! The browser worker: joins a session from inside a dedicated Web Worker, so that the page stays responsive.
//!
//! Not here: the life of a worker (`chaarfm-worker`) and the analysis (`chaarfm-analysis`). Here are the browser's
//! socket, downloads and clock, and the messages to and from the page (`chaarfm_worker::tab`). The two programs, for
//! the CPU and for the GPU, are built with the pages: see `web/src/bin`.

#[cfg(not(target_family = "wasm"))]
mod elsewhere;
#[cfg(target_family = "wasm")]
mod tab;

#[cfg(not(target_family = "wasm"))]
pub use elsewhere::start;
#[cfg(target_family = "wasm")]
pub use tab::start;
