//! No icon: the program was built without, or the system has no place for one.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::{manners::Keeper, page::Command};

/// Where the icon would be.
pub(crate) struct Tray;

/// Runs a program, and an icon beside it.
pub(crate) fn beside<T: Send>(program: impl FnOnce(Tray) -> T + Send) -> T {
    program(Tray)
}

impl Tray {
    /// Shows the icon.
    pub(crate) async fn show(self, _keeper: &Arc<Keeper>, _commands: &mpsc::Sender<Command>) {}
}
