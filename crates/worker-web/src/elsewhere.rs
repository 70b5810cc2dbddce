//! Stands in for the program on other targets, where the whole workspace is built at once.

/// Fails with a message saying where this program runs.
pub fn start() {
    panic!("this program runs in a browser's Web Worker; elsewhere there is chaarfm-worker");
}
