//! Waits with a limit.

use std::{pin::pin, time::Duration};

use futures_util::future::{Either, select};

use crate::Platform;

/// The value of `future`, or none when it takes longer than `limit`.
pub(crate) async fn within<T>(platform: &impl Platform, limit: Duration, future: impl Future<Output = T>) -> Option<T> {
    match select(pin!(future), pin!(platform.sleep(limit))).await {
        Either::Left((value, _)) => Some(value),
        Either::Right(((), _)) => None,
    }
}
