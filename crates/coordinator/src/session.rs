//! The state of a session.

use chaarfm_domain::{Counts, SessionState};

/// The owner's decisions about a session, and whether a scan is still running.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags {
    /// Nothing is handed out until the owner resumes.
    pub paused: bool,
    /// The code no longer admits anybody.
    pub ended: bool,
    /// A library scan is running, so that more jobs may come.
    pub scanning: bool,
}

impl Flags {
    /// The state of a session with these jobs.
    #[must_use]
    pub fn state(self, counts: &Counts) -> SessionState {
        if self.ended {
            SessionState::Ended
        } else if self.paused {
            SessionState::Paused
        } else if self.scanning || counts.open() > 0 {
            SessionState::Running
        } else if counts.total() + counts.skipped > 0 {
            SessionState::Complete
        } else {
            SessionState::Idle
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owners_word_comes_before_what_the_jobs_say() {
        let none = Counts::default();
        let open = Counts { leased: 1, done: 5, ..none };
        let over = Counts { done: 5, failed: 1, ..none };
        let known = Counts { skipped: 3, ..none };
        let flags = Flags::default();
        assert_eq!(flags.state(&none), SessionState::Idle);
        assert_eq!(flags.state(&open), SessionState::Running);
        assert_eq!(flags.state(&over), SessionState::Complete);
        assert_eq!(flags.state(&known), SessionState::Complete);
        assert_eq!(Flags { scanning: true, ..flags }.state(&none), SessionState::Running);
        assert_eq!(Flags { paused: true, ..flags }.state(&open), SessionState::Paused);
        assert_eq!(Flags { paused: true, ended: true, ..flags }.state(&open), SessionState::Ended);
    }
}
