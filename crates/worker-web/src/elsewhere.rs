//! Every other place than a browser, where the whole workspace is built at once.

/// Says where this program belongs.
pub fn start() {
    panic!("this program runs in a browser's Web Worker; elsewhere there is chaarfm-worker");
}
