//! The browser worker for the CPU: joins a session from inside a dedicated Web Worker, so that the page stays responsive.
//!
//! Leaves out the life of a worker, which is `chaarfm-worker`'s, and the analysis, which is `chaarfm-analysis`'s: here
//! are the browser's socket, downloads and clock, and the messages to and from the page (`chaarfm_worker::tab`).
//! `gpu.rs` is the same program with the GPU instead, which most tabs need not download.

#[cfg(not(target_family = "wasm"))]
mod elsewhere;
#[cfg(target_family = "wasm")]
mod tab;

#[cfg(not(target_family = "wasm"))]
use elsewhere::start;
#[cfg(target_family = "wasm")]
use tab::start;

fn main() {
    start();
}
