//! A time limit for calls that may hang. A read from a hanging storage cannot be cancelled, so it runs on its own thread,
//! which is abandoned on timeout.

use std::{
    panic::{self, AssertUnwindSafe},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

/// Maximum number of abandoned threads at a time. While it is reached, nothing more is started.
const MAX_LEFT: usize = 8;

/// Why there is no result.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoAnswer {
    #[error("that took longer than {} s", .0.as_secs())]
    Late(Duration),
    #[error("{MAX_LEFT} others have not come back yet")]
    TooManyLeft,
    #[error("it broke off")]
    Broken,
}

/// Runs a function on another thread, and waits for its result up to `limit`. Blocks. `left` counts abandoned threads that
/// are still running.
pub(super) fn within<T: Send + 'static>(
    limit: Duration,
    left: &Arc<AtomicUsize>,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, NoAnswer> {
    if left.load(Ordering::SeqCst) >= MAX_LEFT {
        return Err(NoAnswer::TooManyLeft);
    }
    let (answer, answered) = mpsc::sync_channel(0);
    let count = Arc::clone(left);
    let begun = thread::Builder::new().name("tags".to_owned()).spawn(move || {
        let done = panic::catch_unwind(AssertUnwindSafe(work)).ok();
        // After the timeout nobody receives the result.
        if answer.send(done).is_err() {
            count.fetch_sub(1, Ordering::SeqCst);
        }
    });
    if begun.is_err() {
        return Err(NoAnswer::Broken);
    }
    match answered.recv_timeout(limit) {
        Ok(Some(value)) => Ok(value),
        Ok(None) | Err(RecvTimeoutError::Disconnected) => Err(NoAnswer::Broken),
        Err(RecvTimeoutError::Timeout) => {
            // Count before dropping the receiver, because the thread may then decrement the count.
            left.fetch_add(1, Ordering::SeqCst);
            drop(answered);
            Err(NoAnswer::Late(limit))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(1);
    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn what_does_not_come_back_is_left_to_itself_and_only_so_much_of_it() {
        let left = Arc::default();
        assert_eq!(within(LONG, &left, || 7), Ok(7));
        assert_eq!(within(LONG, &left, || -> u8 { panic!("a damaged file") }), Err(NoAnswer::Broken));
        let (hold, held) = mpsc::channel::<()>();
        let held = Arc::new(std::sync::Mutex::new(held));
        for number in 0..MAX_LEFT {
            let held = Arc::clone(&held);
            let stuck = move || {
                let _ = held.lock().unwrap().recv();
                assert!(number > 0, "one panics as well");
            };
            assert_eq!(within(SOON, &left, stuck), Err(NoAnswer::Late(SOON)));
        }
        assert_eq!(within(LONG, &left, || 7), Err(NoAnswer::TooManyLeft));
        drop(hold);
        while left.load(Ordering::SeqCst) > 0 {
            thread::yield_now();
        }
        assert_eq!(within(LONG, &left, || 7), Ok(7));
    }
}
