//! Ctrl-C and similar signals.

use std::process;

use tokio::sync::oneshot;

/// Exit code with which shells report a program ended by Ctrl-C.
const INTERRUPTED_EXIT_CODE: i32 = 130;

/// A future that resolves at the first Ctrl-C, termination or hang-up signal. The second one ends the process at once.
///
/// # Errors
/// When the system does not allow the handler to be installed.
pub(crate) fn first() -> Result<impl Future<Output = ()>, ctrlc::Error> {
    let (sender, receiver) = oneshot::channel();
    let mut sender = Some(sender);
    ctrlc::set_handler(move || match sender.take() {
        // A send without a receiver means that the program is about to end anyway.
        Some(sender) => drop(sender.send(())),
        None => process::exit(INTERRUPTED_EXIT_CODE),
    })?;
    // The handler, and the sender in it, live as long as the process.
    Ok(async { receiver.await.unwrap_or_default() })
}
