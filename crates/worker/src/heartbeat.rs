//! When to send something, and when a silent peer is dead. Pure: `now` is an argument.

use std::time::Duration;

use chaarfm_protocol::limits::{PING_INTERVAL_SECONDS, PROGRESS_INTERVAL_SECONDS};

const PING_INTERVAL: Duration = Duration::from_secs(PING_INTERVAL_SECONDS);
const PROGRESS_INTERVAL: Duration = Duration::from_secs(PROGRESS_INTERVAL_SECONDS);

/// The heartbeat of one connection. All calls measure time from the same arbitrary moment.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    looked_at: Duration,
    silence: Duration,
    said_at: Duration,
    reported_at: Duration,
}

impl Heartbeat {
    /// A connection that has just opened.
    pub(crate) fn new(now: Duration) -> Self {
        Self { looked_at: now, silence: Duration::ZERO, said_at: now, reported_at: now }
    }

    /// The peer sent something.
    pub(crate) fn heard(&mut self) {
        self.silence = Duration::ZERO;
    }

    /// This end sent something.
    pub(crate) fn said(&mut self, now: Duration) {
        self.said_at = now;
    }

    /// This end reported the progress of its jobs.
    pub(crate) fn reported(&mut self, now: Duration) {
        self.reported_at = now;
    }

    /// How long the peer has been silent. Must be called at least every [`PING_INTERVAL_SECONDS`]: the time since the
    /// last call counts for no more than that, because a program that stood still (a long computation in a tab, a
    /// laptop that slept) could not hear the peer in that time.
    pub(crate) fn silence(&mut self, now: Duration) -> Duration {
        self.silence += now.saturating_sub(self.looked_at).min(PING_INTERVAL);
        self.looked_at = now;
        self.silence
    }

    /// Whether this end has been silent for so long that it must ping.
    pub(crate) fn ping_is_due(&self, now: Duration) -> bool {
        now.saturating_sub(self.said_at) >= PING_INTERVAL
    }

    /// Whether the progress of jobs must be reported again.
    pub(crate) fn report_is_due(&self, now: Duration) -> bool {
        now.saturating_sub(self.reported_at) >= PROGRESS_INTERVAL
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn pings_after_its_own_silence_only() {
        let mut heartbeat = Heartbeat::new(seconds(100));
        assert!(!heartbeat.ping_is_due(seconds(100 + PING_INTERVAL_SECONDS - 1)));
        assert!(heartbeat.ping_is_due(seconds(100 + PING_INTERVAL_SECONDS)));
        heartbeat.heard();
        assert!(heartbeat.ping_is_due(seconds(100 + PING_INTERVAL_SECONDS)));
        heartbeat.said(seconds(107));
        assert!(!heartbeat.ping_is_due(seconds(107 + PING_INTERVAL_SECONDS - 1)));
    }

    #[test]
    fn reports_on_its_own_schedule() {
        let mut heartbeat = Heartbeat::new(seconds(0));
        heartbeat.said(seconds(4));
        assert!(heartbeat.report_is_due(seconds(PROGRESS_INTERVAL_SECONDS)));
        heartbeat.reported(seconds(PROGRESS_INTERVAL_SECONDS));
        assert!(!heartbeat.report_is_due(seconds(PROGRESS_INTERVAL_SECONDS + 1)));
    }

    #[test]
    fn silence_adds_up_until_the_peer_is_heard() {
        let mut heartbeat = Heartbeat::new(seconds(0));
        for now in 1..=25 {
            assert_eq!(heartbeat.silence(seconds(now)), seconds(now));
        }
        heartbeat.heard();
        assert_eq!(heartbeat.silence(seconds(26)), seconds(1));
    }

    #[test]
    fn an_hour_asleep_is_not_the_peers_silence() {
        let mut heartbeat = Heartbeat::new(seconds(0));
        assert_eq!(heartbeat.silence(seconds(3600)), seconds(PING_INTERVAL_SECONDS));
    }
}
