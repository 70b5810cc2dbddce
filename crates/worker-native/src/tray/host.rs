//! No icon: the program was built without it, or the system has no place for it.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::{command::Command, manners::Keeper};

/// Stands for an icon that does not exist.
pub(crate) struct Tray;

/// Runs a program.
pub(crate) fn beside<T: Send>(program: impl FnOnce(Tray) -> T + Send) -> T {
    program(Tray)
}

impl Tray {
    /// Shows nothing.
    pub(crate) async fn show(self, _keeper: &Arc<Keeper>, _commands: &mpsc::Sender<Command>) {}
}
