//! A system on which a program that was started by a double click has no terminal, and no console either.

pub(super) fn was_it() -> bool {
    false
}

pub(super) fn start_without_console() -> bool {
    false
}
