//! The life of a worker, once for both kinds: connect, say hello, take jobs, fetch, analyse, report, back off.
//!
//! Sockets, HTTP, clocks and the analysis itself are behind traits that the native executable and the browser worker
//! implement. Leaves out who gets which job: that is the coordinator's.

mod status;
pub mod tab;

pub use status::{JobStatus, Phase, Status};
