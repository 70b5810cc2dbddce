//! Whether the program was started for its page or for a terminal.

#[cfg_attr(windows, path = "start/windows.rs")]
mod double_click;

use std::io::{IsTerminal, stdin, stdout};

use crate::cli::Cli;

/// Whether to show the page: if it was asked for, or if there are no arguments except perhaps a join link, and no
/// terminal to ask on.
pub(crate) fn is_wanted(cli: &Cli) -> bool {
    let arguments = std::env::args_os().skip(1).count();
    let says_nothing = arguments == usize::from(cli.join.link.is_some()) && cli.join.url.is_none();
    let has_no_terminal = || !stdin().is_terminal() && !stdout().is_terminal();
    cli.join
        .page
        .unwrap_or_else(|| cli.command.is_none() && says_nothing && (has_no_terminal() || double_click::was_it()))
}

/// Starts the program again without the console that Windows opened for a double click. Returns whether it did: then
/// this process ends.
pub(crate) fn leaves_console(cli: &Cli) -> bool {
    cli.join.page.is_none() && double_click::was_it() && double_click::start_without_console()
}
