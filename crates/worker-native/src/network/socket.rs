//! The WebSocket, based on tokio-tungstenite.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use chaarfm_protocol::{
    Pace,
    limits::{MAX_MESSAGE_BYTES, MAX_UNSENT_BYTES},
};
use chaarfm_worker::{Socket, SocketError};
use futures_util::{SinkExt, StreamExt};
use rustls::ClientConfig;
use tokio_tungstenite::{
    Connector, MaybeTlsStream, WebSocketStream, client_async_tls_with_config,
    tungstenite::{
        Error, Message,
        error::{CapacityError, ProtocolError},
        protocol::WebSocketConfig,
    },
};
use url::Url;

use super::{Stream, words::in_plain_words};

/// Size of the read and write buffers. Each message is passed to the system at once.
const BUFFER_BYTES: usize = 8 * 1024;

/// An open WebSocket.
pub(crate) struct NativeSocket {
    stream: WebSocketStream<MaybeTlsStream<Stream>>,
    opened: Instant,
    /// Counts all frames, including pings, which the library answers by itself.
    pace: Pace,
}

impl NativeSocket {
    /// Starts the protocol on an open connection to the address's host: TLS if the address requires it, then HTTP.
    pub(super) async fn open(url: &Url, stream: Stream, tls: &Arc<ClientConfig>) -> Result<Self, SocketError> {
        let limits = WebSocketConfig::default()
            .max_message_size(Some(MAX_MESSAGE_BYTES))
            .max_frame_size(Some(MAX_MESSAGE_BYTES))
            .read_buffer_size(BUFFER_BYTES)
            .write_buffer_size(BUFFER_BYTES)
            .max_write_buffer_size(MAX_UNSENT_BYTES);
        let tls = Connector::Rustls(Arc::clone(tls));
        match client_async_tls_with_config(url.as_str(), stream, Some(limits), Some(tls)).await {
            Ok((stream, _)) => Ok(Self { stream, opened: Instant::now(), pace: Pace::new(Duration::ZERO) }),
            Err(error) => Err(in_our_words(error)),
        }
    }
}

impl Socket for NativeSocket {
    async fn send(&mut self, text: String) -> Result<(), SocketError> {
        self.stream.send(Message::text(text)).await.map_err(in_our_words)
    }

    async fn receive(&mut self) -> Result<String, SocketError> {
        loop {
            let frame = self.stream.next().await;
            if !self.pace.allows(self.opened.elapsed()) {
                return Err(SocketError::TooMany);
            }
            match frame {
                Some(Ok(Message::Text(text))) => return Ok(text.as_str().to_owned()),
                Some(Ok(Message::Close(_))) | None => return Err(SocketError::Closed),
                // The library answers pings; the protocol has no binary messages.
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(in_our_words(error)),
            }
        }
    }

    async fn close(mut self) {
        if self.stream.close(None).await.is_ok() {
            // The closing handshake ends when the other end has sent its close frame.
            while matches!(self.stream.next().await, Some(Ok(message)) if !message.is_close()) {}
        }
    }
}

fn in_our_words(error: Error) -> SocketError {
    match error {
        Error::ConnectionClosed | Error::AlreadyClosed => SocketError::Closed,
        Error::Capacity(CapacityError::MessageTooLong { size, .. }) => SocketError::TooLong(size),
        Error::WriteBufferFull(_) => {
            SocketError::Failed(format!("the coordinator leaves {MAX_UNSENT_BYTES} bytes unread"))
        }
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
            SocketError::Failed("the connection broke".to_owned())
        }
        Error::Io(error) => SocketError::Failed(in_plain_words(&error)),
        Error::Tls(error) => SocketError::Failed(in_plain_words(&error)),
        Error::Http(response) => {
            SocketError::Failed(format!("no coordinator answers there: HTTP status {}", response.status()))
        }
        other => SocketError::Failed(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpStream};
    use tokio_tungstenite::accept_async;

    use super::*;
    use crate::network::Network;

    /// The two ends of a connection.
    async fn pair() -> (NativeSocket, WebSocketStream<TcpStream>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}/x", listener.local_addr().unwrap()).parse().unwrap();
        let network = Network::of_system(false).unwrap();
        let (ours, theirs) = tokio::join!(network.websocket(&url), async {
            accept_async(listener.accept().await.unwrap().0).await.unwrap()
        });
        (ours.unwrap(), theirs)
    }

    #[tokio::test]
    async fn carries_text_both_ways_and_closes() {
        let (mut ours, mut theirs) = pair().await;
        ours.send("hello".into()).await.unwrap();
        assert_eq!(theirs.next().await.unwrap().unwrap(), Message::text("hello"));
        theirs.send(Message::binary(vec![1])).await.unwrap();
        theirs.send(Message::text("welcome")).await.unwrap();
        assert_eq!(ours.receive().await.unwrap(), "welcome");
        tokio::join!(ours.close(), async {
            assert!(matches!(theirs.next().await, Some(Ok(Message::Close(_)))));
            assert!(theirs.next().await.is_none());
        });
    }

    #[tokio::test]
    async fn a_coordinator_that_floods_and_never_reads_is_left() {
        let ping = Message::Ping(vec![0; 125].into());
        for message in [ping, Message::binary(vec![0; 125]), Message::text("x")] {
            let (mut ours, mut theirs) = pair().await;
            let flood = async { while theirs.send(message.clone()).await.is_ok() {} };
            let heard = async {
                while !ours.receive().await?.is_empty() {}
                Ok(())
            };
            tokio::select! {
                heard = heard => assert_eq!(heard, Err(SocketError::TooMany), "{message:?}"),
                () = flood => panic!("the worker has left for another reason"),
            }
        }
    }

    #[tokio::test]
    async fn says_how_a_connection_ended() {
        let (mut ours, theirs) = pair().await;
        drop(theirs);
        assert!(matches!(ours.receive().await, Err(SocketError::Closed | SocketError::Failed(_))));

        let (mut ours, mut theirs) = pair().await;
        let long = "x".repeat(MAX_MESSAGE_BYTES + 1);
        let (heard, _) = tokio::join!(ours.receive(), theirs.send(Message::text(long)));
        assert_eq!(heard, Err(SocketError::TooLong(MAX_MESSAGE_BYTES + 1)));
    }

    #[tokio::test]
    async fn nobody_there_is_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}/x", listener.local_addr().unwrap()).parse().unwrap();
        drop(listener);
        let connected = Network::of_system(false).unwrap().websocket(&url).await;
        let Err(SocketError::Failed(reason)) = connected.map(|_| ()) else { panic!("nobody is there") };
        assert_eq!(reason, "nothing listens there: is it running, and are address and port right?");
    }
}
