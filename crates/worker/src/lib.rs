//! The life of a worker, once for both kinds: connect, say hello, take jobs, fetch, analyse, report, back off.
//!
//! Sockets, HTTP, clocks and the analysis itself are behind the traits of [`platform`](Platform) that the native
//! executable and the browser worker implement. Leaves out who gets which job: that is the coordinator's.
//!
//! From the outside in: [`run`] (`life.rs`) keeps a connection (`link.rs`, with its `heartbeat.rs`) and the jobs it
//! holds (`jobs.rs`); `runner.rs` is the path of one job from its address to its outcome.

mod address;
mod backoff;
mod choice;
mod counters;
mod heartbeat;
mod jobs;
mod link;
mod platform;
#[cfg(feature = "report")]
pub mod report;
mod runner;
mod session_loop;
mod sources;
mod status;
pub mod tab;
mod text;
mod wait;

pub use address::{Address, AddressError};
pub use choice::Choice;
pub use platform::{Analysed, FetchError, Fetched, Platform, Received, Socket, SocketError, Source};
pub use session_loop::{Config, Event, Exit, run};
pub use sources::{is_public, may_be_public};
pub use status::{JobStatus, Phase, Status};
