//! Bytes of an audio file to a MusicNN embedding: decode, downmix, resample to 16 kHz, log-mel, network, mean.
//!
//! Compiles natively and to `wasm32-unknown-unknown` from the same code. Everything streams: memory does not grow with
//! the length of a track. Nothing here opens files, sockets or threads; the caller passes bytes in, calls [`Track::step`]
//! and yields between steps as needed.

mod decode;
mod device;
mod dsp;
mod engine;
mod error;
mod frames;
mod fused;
mod guard;
mod network;
mod parallel;
mod recheck;
mod speed;
#[doc(hidden)]
pub mod stages;
mod track;
pub mod weights;

pub use device::{Backend, Device, DeviceInfo};
pub use dsp::{MEL_BANDS, SAMPLE_RATE};
pub use engine::{Engine, RemoteNetwork, check_patch, known_answer};
pub use error::{AudioError, EngineError};
pub use network::{PATCH_FRAMES, PatchOutput};
pub use recheck::{Recheck, recheck};
pub use symphonia::core::io::MediaSource;
pub use track::{Analysis, Elapsed, Limits, Step, Track};
