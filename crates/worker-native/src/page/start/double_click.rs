//! For systems where a double-clicked program has neither a terminal nor a console.

pub(super) fn was_it() -> bool {
    false
}

pub(super) fn start_without_console() -> bool {
    false
}
