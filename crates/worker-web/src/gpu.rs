//! The browser worker for the GPU: see `main.rs`.
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
