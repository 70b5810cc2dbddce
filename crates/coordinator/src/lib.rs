//! Who gets which job, when a lease ends, what is retried, which answers count, who is set aside.
//!
//! Every decision is a function of its arguments, the time among them, so that all of it can be tested without waiting.
//! Leaves out sockets, storage and the clock: `chaarfm-store` loads a [`Job`], lets it decide, and stores it again.

mod answer;
mod conduct;
mod job;
mod patience;
mod progress;
mod roster;
mod session;
mod time;
mod verification;

pub use answer::{Asked, Said, Taken};
pub use conduct::{Conduct, Fault, SUSPICIOUS_FAILURES, Verdict};
pub use job::{
    Answer, Job, LAST_TRY, MAX_ATTEMPTS, MAX_LEASES, MAX_OPINIONS, NotLeasable, NotYourLease, RESUME_SECONDS,
    RETRY_WAIT_SECONDS, State,
};
pub use patience::Patience;
pub use progress::{Held, LEASE_SECONDS, Renewal};
pub use roster::{Roster, Worker, WorkerId};
pub use session::Flags;
pub use time::Timestamp;
pub use verification::{CheckRecord, VerifyError, VerifyShare};
