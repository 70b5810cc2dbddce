//! Turns of the event loop.

use futures_channel::oneshot;
use wasm_bindgen::{JsCast, JsValue, prelude::Closure};
use web_sys::{MessageChannel, MessagePort};

/// Lets the browser deliver what has come in meanwhile: messages of sockets and of the page, timers.
///
/// A message to oneself rather than `setTimeout(0)`, which browsers stretch to 4 ms when it is repeated.
pub(crate) async fn turn() {
    let (sender, receiver) = oneshot::channel();
    let Ok(channel) = MessageChannel::new() else { return };
    let listener = Closure::once(move |_: JsValue| sender.send(()).unwrap_or_default());
    channel.port1().set_onmessage(Some(listener.as_ref().unchecked_ref()));
    let _listening = Listening { port: channel.port1(), _listener: listener };
    if channel.port2().post_message(&JsValue::NULL).is_ok() {
        // The sender lives in the listener, and that until the message has come.
        receiver.await.unwrap_or_default();
    }
}

/// A port with its listener. When the analysis is given up in the middle of a turn, the message is still on its way: the
/// browser must not call a listener that is gone.
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
