//! The browser's WebSocket, based on gloo-net.

use std::{cell::Cell, future::poll_fn};

use chaarfm_protocol::limits::MAX_MESSAGE_BYTES;
use chaarfm_worker::{Socket, SocketError};
use futures_util::{SinkExt, StreamExt};
use gloo_net::websocket::{Message, State, WebSocketError, futures::WebSocket};
use url::Url;

use super::in_browsers_words;

/// Code that closes the connection of a crashed worker; codes from 4000 on are for private use.
const BROKEN_DOWN: u16 = 4000;

thread_local! {
    /// The only WebSocket, so that it can be closed when its owner has crashed.
    static SOCKET: Cell<Option<web_sys::WebSocket>> = const { Cell::new(None) };
}

/// Closes the connection of a crashed worker. When the page terminates the Web Worker, browsers close its WebSocket as
/// for a tab that is closed. The coordinator would take that for a goodbye, count no attempt against the track that may
/// be at fault, and give the track to one worker after another forever.
pub(crate) fn hang_up() {
    if let Some(socket) = SOCKET.take() {
        // Cannot fail: the code is allowed, and there is no reason text that could be too long.
        socket.close_with_code(BROKEN_DOWN).unwrap_or_default();
    }
}

/// An open WebSocket.
pub(crate) struct TabSocket(WebSocket);

impl TabSocket {
    pub(crate) async fn connect(url: &Url) -> Result<Self, SocketError> {
        let socket = web_sys::WebSocket::new(url.as_str());
        let socket = socket.map_err(|error| SocketError::Failed(in_browsers_words(&error)))?;
        SOCKET.set(Some(socket.clone()));
        let socket = WebSocket::try_from(socket);
        let mut socket = socket.map_err(|error| SocketError::Failed(error.to_string()))?;
        poll_fn(|context| socket.poll_ready_unpin(context)).await.map_err(in_our_words)?;
        match socket.state() {
            State::Open => Ok(Self(socket)),
            // Browsers hide the reason from programs.
            _ => Err(SocketError::Failed("no coordinator answers there".to_owned())),
        }
    }
}

impl Socket for TabSocket {
    async fn send(&mut self, text: String) -> Result<(), SocketError> {
        if !matches!(self.0.state(), State::Open) {
            return Err(SocketError::Closed);
        }
        self.0.send(Message::Text(text)).await.map_err(in_our_words)
    }

    async fn receive(&mut self) -> Result<String, SocketError> {
        loop {
            match self.0.next().await {
                Some(Ok(Message::Text(text))) if text.len() > MAX_MESSAGE_BYTES => {
                    return Err(SocketError::TooLong(text.len()));
                }
                Some(Ok(Message::Text(text))) => return Ok(text),
                // The protocol has no binary messages.
                Some(Ok(Message::Bytes(_))) => {}
                Some(Err(error)) => return Err(in_our_words(error)),
                None => return Err(SocketError::Closed),
            }
        }
    }

    async fn close(mut self) {
        // Browsers do not report when everything is sent, but the coordinator closes after it has received the goodbye.
        while self.receive().await.is_ok() {}
    }
}

fn in_our_words(error: WebSocketError) -> SocketError {
    match error {
        WebSocketError::ConnectionClose(_) => SocketError::Closed,
        WebSocketError::ConnectionError => SocketError::Failed("the connection broke".to_owned()),
        other => SocketError::Failed(other.to_string()),
    }
}
