//! The life of a worker, once for both kinds: connect, say hello, take jobs, fetch, analyse, report, back off.
//!
//! Sockets, HTTP, clocks and the analysis itself are behind the traits of [`platform`](Platform), which the native
//! executable and the browser worker implement. Not here: which worker gets which job; the coordinator decides that.
//!
//! From the outside in: [`run`] (`session_loop.rs`) maintains a connection (`link.rs`, with its `heartbeat.rs`) and the
//! jobs held (`jobs.rs`); `runner.rs` takes one job from its address to its outcome.

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
