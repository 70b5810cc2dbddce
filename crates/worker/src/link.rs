//! One connection to a coordinator: messages instead of text, and the heartbeat.

use std::time::Duration;

use chaarfm_protocol::{
    Pace, ToServer, ToWorker,
    limits::{HANDSHAKE_TIMEOUT_SECONDS, PEER_TIMEOUT_SECONDS},
};
use url::Url;

use crate::{Platform, Socket, SocketError, heartbeat::Heartbeat, wait::within};

/// Longest wait for the connection itself: DNS, TCP, TLS and HTTP.
const CONNECT_TIMEOUT_SECONDS: u64 = 15;

/// A connection counts as good after this long, which equals the longest wait before a reconnection.
const PROOF_SECONDS: u64 = 60;

/// Longest wait for the network to accept a message.
const SEND_TIMEOUT_SECONDS: u64 = 10;

/// An open connection.
pub(crate) struct Link<'a, P: Platform> {
    platform: &'a P,
    socket: P::Socket,
    heartbeat: Heartbeat,
    pace: Pace,
    welcomed_at: Option<Duration>,
}

/// Why a connection failed or ended. The worker tries again later in every case.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    #[error("nobody answered for {CONNECT_TIMEOUT_SECONDS} s")]
    NoAnswer,
    #[error(transparent)]
    Socket(#[from] SocketError),
    #[error("the coordinator did not answer the greeting for {HANDSHAKE_TIMEOUT_SECONDS} s")]
    NoWelcome,
    #[error("the coordinator said nothing for {PEER_TIMEOUT_SECONDS} s")]
    Silent,
    #[error("the network took no message for {SEND_TIMEOUT_SECONDS} s")]
    Stuck,
    #[error("the coordinator sent what is no message: {0}")]
    Garbage(serde_json::Error),
    #[error("the coordinator restarts or shuts down")]
    Goodbye,
    #[error("the coordinator did not let this worker in: {0}")]
    NotNow(String),
}

impl<'a, P: Platform> Link<'a, P> {
    /// Opens the connection and sends the first message.
    pub(crate) async fn open(platform: &'a P, url: &Url, hello: &ToServer) -> Result<Self, LinkError> {
        let limit = Duration::from_secs(CONNECT_TIMEOUT_SECONDS);
        let socket = within(platform, limit, platform.connect(url)).await.ok_or(LinkError::NoAnswer)??;
        let now = platform.now();
        let mut link =
            Self { platform, socket, heartbeat: Heartbeat::new(now), pace: Pace::new(now), welcomed_at: None };
        link.send(hello).await?;
        Ok(link)
    }

    pub(crate) async fn send(&mut self, message: &ToServer) -> Result<(), LinkError> {
        let text = serde_json::to_string(message).expect("messages have string keys only and serialise to JSON");
        let limit = Duration::from_secs(SEND_TIMEOUT_SECONDS);
        within(self.platform, limit, self.socket.send(text)).await.ok_or(LinkError::Stuck)??;
        self.heartbeat.said(self.platform.now());
        Ok(())
    }

    /// Waits for the next message. Dropping the future loses no message.
    pub(crate) async fn receive(&mut self) -> Result<ToWorker, LinkError> {
        let text = self.socket.receive().await?;
        if !self.pace.allows(self.platform.now()) {
            return Err(SocketError::TooMany.into());
        }
        self.heartbeat.heard();
        serde_json::from_str(&text).map_err(LinkError::Garbage)
    }

    /// Notes that the coordinator accepted the worker.
    pub(crate) fn welcome(&mut self) {
        self.welcomed_at = Some(self.platform.now());
    }

    pub(crate) fn is_welcomed(&self) -> bool {
        self.welcomed_at.is_some()
    }

    /// Whether the connection has worked for a while since the welcome. The welcome alone proves nothing: a faulty
    /// coordinator can send it every time.
    pub(crate) fn has_proved_itself(&self) -> bool {
        let known_for = self.welcomed_at.map(|at| self.platform.now().saturating_sub(at));
        known_for.is_some_and(|known_for| known_for >= Duration::from_secs(PROOF_SECONDS))
    }

    /// Fails when the peer is dead, and pings when this end has been silent for long. Must be called every second or
    /// so.
    pub(crate) async fn beat(&mut self) -> Result<(), LinkError> {
        let now = self.platform.now();
        let (limit_seconds, error) = if self.is_welcomed() {
            (PEER_TIMEOUT_SECONDS, LinkError::Silent)
        } else {
            (HANDSHAKE_TIMEOUT_SECONDS, LinkError::NoWelcome)
        };
        if self.heartbeat.silence(now) >= Duration::from_secs(limit_seconds) {
            return Err(error);
        }
        if self.heartbeat.ping_is_due(now) { self.send(&ToServer::Ping).await } else { Ok(()) }
    }

    /// Sends the progress of the jobs when it is due.
    pub(crate) async fn report(&mut self, reports: impl FnOnce() -> Vec<ToServer>) -> Result<(), LinkError> {
        let now = self.platform.now();
        if self.heartbeat.report_is_due(now) {
            self.heartbeat.reported(now);
            for report in reports() {
                self.send(&report).await?;
            }
        }
        Ok(())
    }

    pub(crate) async fn close(self) {
        self.socket.close().await;
    }
}
