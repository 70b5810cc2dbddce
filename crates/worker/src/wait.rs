//! Waits: one with a limit, and the interval between two looks at what nobody announces.

use std::{pin::pin, time::Duration};

use futures_util::future::{Either, select};

use crate::Platform;

/// Interval at which the status is shown and the heartbeat and the platform's permission to begin are checked.
pub(crate) const TICK: Duration = Duration::from_millis(250);

/// The value of `future`, or none when it takes longer than `limit`.
pub(crate) async fn within<T>(platform: &impl Platform, limit: Duration, future: impl Future<Output = T>) -> Option<T> {
    match select(pin!(future), pin!(platform.sleep(limit))).await {
        Either::Left((value, _)) => Some(value),
        Either::Right(((), _)) => None,
    }
}
