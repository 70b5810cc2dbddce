//! Yields to the event loop.

use futures_channel::oneshot;
use wasm_bindgen::{JsCast, JsValue, prelude::Closure};
use web_sys::{MessageChannel, MessagePort};

/// Lets the browser deliver pending events: messages from sockets and the page, timers.
///
/// Uses a message to itself instead of `setTimeout(0)`, which browsers delay by 4 ms when it is repeated.
pub(crate) async fn turn() {
    let (sender, receiver) = oneshot::channel();
    let Ok(channel) = MessageChannel::new() else { return };
    let listener = Closure::once(move |_: JsValue| sender.send(()).unwrap_or_default());
    channel.port1().set_onmessage(Some(listener.as_ref().unchecked_ref()));
    let _listening = Listening { port: channel.port1(), _listener: listener };
    if channel.port2().post_message(&JsValue::NULL).is_ok() {
        // Cannot fail: the sender lives in the listener, which lives until the message has arrived.
        receiver.await.unwrap_or_default();
    }
}

/// A port with its listener. If the analysis is dropped while a message is on its way, the browser must not call a
/// listener that no longer exists.
struct Listening {
    port: MessagePort,
    _listener: Closure<dyn FnMut(JsValue)>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.port.set_onmessage(None);
        self.port.close();
    }
}
