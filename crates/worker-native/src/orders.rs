//! What the machine's owner orders the worker to do, and how the lanes learn of it.

use tokio::sync::watch;

/// An order; each is stricter than the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Order {
    /// Work.
    Work,
    /// Finish the track in analysis, and end.
    Finish,
    /// Hand back unfinished tracks, and end.
    Stop,
}

/// Receives the owner's orders; the sender lives as long as the lanes.
pub(crate) type Orders = watch::Receiver<Order>;

/// Resolves when this order or a stricter one is given.
pub(crate) async fn ordered(mut orders: Orders, order: Order) {
    drop(orders.wait_for(|heard| *heard >= order).await);
}
