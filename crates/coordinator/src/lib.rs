//! Decides which worker gets which job, when leases end, what is retried, which answers count, who is set aside.
//!
//! Every decision is a pure function of its arguments, including the time, so that all of it can be tested without waiting.
//! Leaves out sockets, storage and the clock: `chaarfm-store` loads a [`Job`], calls its methods, and stores it again.

mod answer;
mod expiry_grace;
mod job;
mod progress;
mod registry;
mod reputation;
mod session;
mod time;
mod verification;

pub use answer::{Asked, Said, Taken};
pub use expiry_grace::ExpiryGrace;
pub use job::{
    Answer, Job, LAST_TRY, MAX_ATTEMPTS, MAX_LEASES, MAX_OPINIONS, NotLeasable, NotYourLease, RESUME_SECONDS,
    RETRY_WAIT_SECONDS, State,
};
pub use progress::{Held, LEASE_SECONDS, Renewal};
pub use registry::{Worker, WorkerId, WorkerRegistry};
pub use reputation::{Fault, Reputation, SUSPICIOUS_FAILURES, Verdict};
pub use session::Flags;
pub use time::Timestamp;
pub use verification::{CheckRecord, VerifyError, VerifyShare};
