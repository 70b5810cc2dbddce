//! What a person commands the desktop program to do.

use chaarfm_protocol::PairingCode;
use chaarfm_worker::Address;

/// A command from the page or the tray.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Command {
    /// Work for a session.
    Join(Address, PairingCode),
    /// Finish the track in analysis, then stop working.
    Finish,
    /// Hand back unfinished tracks, and stop working.
    Leave,
    /// Open the page.
    #[cfg_attr(not(feature = "desktop"), expect(dead_code, reason = "only the icon in the tray offers it"))]
    Open,
    /// Hand back unfinished tracks, and end the program.
    Quit,
}
