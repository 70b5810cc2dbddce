//! How much of the machine the work takes while it may run.

use std::{num::NonZeroUsize, time::Duration};

use super::settings::Percent;

/// Longest rest after one piece of work, so that a job progresses well within the coordinator's limit even at a small
/// share.
const LONGEST_REST: Duration = Duration::from_secs(20);

/// A number of threads, and the share of the time in which they compute.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Duty {
    /// Number of threads to compute with.
    pub(crate) threads: NonZeroUsize,
    /// Above 0, up to 1.
    share: f64,
}

impl Duty {
    /// A percentage of the machine's `cores`: the number of threads rounded up, with rests that make up for the excess.
    pub(crate) fn of(percent: Percent, cores: NonZeroUsize) -> Self {
        let wanted = percent.share() * cores.get() as f64;
        // Without this correction, 29 % of 100 cores, which is 28.999…, would be rounded wrongly.
        let threads = NonZeroUsize::new((wanted - 1e-9).ceil() as usize).unwrap_or(NonZeroUsize::MIN);
        Self { threads, share: (wanted / threads.get() as f64).min(1.0) }
    }

    /// The same share of a device other than the CPU: only rests reduce its load.
    pub(crate) fn beside(percent: Percent, cores: NonZeroUsize) -> Self {
        Self { share: percent.share(), ..Self::of(percent, cores) }
    }

    /// How long to rest after this much work.
    pub(crate) fn rest_after(self, work: Duration) -> Duration {
        work.mul_f64(1.0 / self.share - 1.0).min(LONGEST_REST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_share_that_was_asked_for() {
        for (percent, cores, threads, rest_millis) in [
            (100, 8, 8, 0),
            (50, 8, 4, 0),
            (50, 1, 1, 100),
            (25, 2, 1, 100),
            (60, 2, 2, 67),
            (1, 1, 1, 9900),
            (1, 64, 1, 56),
            (29, 100, 29, 0),
        ] {
            let cores = NonZeroUsize::new(cores).unwrap();
            let percent = Percent::new(percent).unwrap();
            let duty = Duty::of(percent, cores);
            let rest = duty.rest_after(Duration::from_millis(100)).as_secs_f64() * 1000.0;
            assert_eq!((duty.threads.get(), rest.round()), (threads, f64::from(rest_millis)), "{percent} % of {cores}");
        }
        let gpu = Duty::beside(Percent::new(50).unwrap(), NonZeroUsize::new(8).unwrap());
        assert_eq!((gpu.threads.get(), gpu.rest_after(Duration::from_secs(1))), (4, Duration::from_secs(1)));
        assert_eq!(
            Duty::of(Percent::new(1).unwrap(), NonZeroUsize::MIN).rest_after(Duration::from_secs(9)),
            LONGEST_REST
        );
    }
}
