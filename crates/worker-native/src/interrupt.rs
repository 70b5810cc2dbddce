//! Ctrl-C and its like.

use std::process;

use tokio::sync::oneshot;

/// What a shell reports of a program that Ctrl-C ended.
const INTERRUPTED_EXIT_CODE: i32 = 130;

/// A future that resolves at the first Ctrl-C, termination or hang-up. The second one ends the process at once.
///
/// # Errors
/// When the system lets us have no handler.
pub(crate) fn first() -> Result<impl Future<Output = ()>, ctrlc::Error> {
    let (sender, receiver) = oneshot::channel();
    let mut sender = Some(sender);
    ctrlc::set_handler(move || match sender.take() {
        // Nobody listens any more when the program is about to end anyway.
        Some(sender) => drop(sender.send(())),
        None => process::exit(INTERRUPTED_EXIT_CODE),
    })?;
    // The handler and with it the sender live as long as the process.
    Ok(async { receiver.await.unwrap_or_default() })
}
