//! What a worker needs of the machine it runs on: sockets, files over HTTP, the analysis, a clock, chance.

use std::time::Duration;

use chaarfm_protocol::{
    Failure, Halves, LeaseToken, ModelRef, Vector,
    limits::{MAX_MESSAGE_BYTES, MAX_MESSAGES_PER_SECOND},
};
use url::Url;

/// The machine a worker runs on. The native executable, the browser worker and the tests each have one.
///
/// Every future may be dropped before it is ready, which ends what it did.
#[expect(async_fn_in_trait, reason = "a worker lives on one thread, natively and in a tab: no future has to be Send")]
pub trait Platform {
    /// An open WebSocket.
    type Socket: Socket;

    /// A whole audio file, in memory or on disk.
    type Audio;

    /// Opens a WebSocket at a `ws` or `wss` address. The caller bounds the wait.
    ///
    /// # Errors
    /// [`SocketError::Failed`] when nobody answers, or somebody else than a coordinator.
    async fn connect(&self, url: &Url) -> Result<Self::Socket, SocketError>;

    /// Fetches an audio file of exactly `bytes` bytes, from the coordinator or a storage, and calls `progress` with the share that has arrived, 0 to 1,
    /// after each piece. The caller gives up when that stands still.
    ///
    /// # Errors
    /// [`FetchError`] when it does not arrive, or not with that size.
    async fn fetch(
        &self,
        source: &Source,
        bytes: u64,
        progress: &dyn Fn(f32),
    ) -> Result<Fetched<Self::Audio>, FetchError>;

    /// Computes the vector of an audio file and what proves it, and calls `progress` with the share that is done, 0 to 1. Lets other futures
    /// of its thread run meanwhile. `file` is the file's path within its library: a hint at the format.
    ///
    /// # Errors
    /// The failure to report: permanent when it is the track's fault, passing when it is this worker's.
    async fn analyse(
        &self,
        model: &ModelRef,
        audio: Self::Audio,
        file: &str,
        progress: &dyn Fn(f32),
    ) -> Result<Analysed, Failure>;

    /// Time since any fixed moment; never goes back.
    fn now(&self) -> Duration;

    /// Waits.
    async fn sleep(&self, wait: Duration);

    /// A number drawn evenly from `0..1`, good enough to spread waits.
    fn random(&self) -> f64;

    /// Whether it may begin another track. When not, the worker ends as soon as the one in analysis, if there is one, is
    /// answered and has its receipt. Asked several times a second.
    fn may_begin(&self) -> bool {
        true
    }
}

/// A track's vector, and what proves that it is the track's.
#[derive(Debug, Clone, PartialEq)]
pub struct Analysed {
    /// The mean of the patches' embeddings, and what goes with it.
    pub vector: Vector,
    /// The patches' embeddings one after the other, rounded to half precision: 400 bytes a patch, 6 MB for the longest track.
    pub patches: Halves,
}

/// An open WebSocket that carries text.
#[expect(async_fn_in_trait, reason = "a worker lives on one thread, natively and in a tab: no future has to be Send")]
pub trait Socket {
    /// Sends one message. The caller bounds the wait.
    ///
    /// # Errors
    /// [`SocketError`] when the connection is over.
    async fn send(&mut self, text: String) -> Result<(), SocketError>;

    /// Waits for the next message. Dropping the future loses none.
    ///
    /// # Errors
    /// [`SocketError`] when the connection is over, or a message is longer than [`MAX_MESSAGE_BYTES`].
    async fn receive(&mut self) -> Result<String, SocketError>;

    /// Waits until everything is sent, and closes. The caller bounds the wait.
    async fn close(self);
}

/// Why a connection cannot be opened or is over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SocketError {
    /// The other end closed it.
    #[error("the coordinator closed the connection")]
    Closed,
    /// It broke.
    #[error("{0}")]
    Failed(String),
    /// A message of this many bytes came in.
    #[error("the coordinator sent a message of {0} bytes; the limit is {MAX_MESSAGE_BYTES}")]
    TooLong(usize),
    /// Messages came in faster than anybody means them.
    #[error("the coordinator sent more than {MAX_MESSAGES_PER_SECOND} messages a second")]
    TooMany,
}

/// Why a file did not arrive.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// The connection failed or broke.
    #[error("the file did not arrive: {0}")]
    Broken(String),
    /// No byte came for this long.
    #[error("the file stopped arriving for {} s", .0.as_secs())]
    Stalled(Duration),
    /// The answer was this HTTP status.
    #[error("the answer was HTTP status {0} instead of the file")]
    Status(u16),
    /// More bytes came than were announced; the transfer was cut.
    #[error("the file has {received} bytes or more, announced were {announced}")]
    TooLong {
        /// What the job said.
        announced: u64,
        /// What had arrived by then.
        received: u64,
    },
    /// The transfer ended too soon.
    #[error("only {received} of {announced} bytes of the file arrived")]
    TooShort {
        /// What the job said.
        announced: u64,
        /// What arrived.
        received: u64,
    },
    /// It came so slowly that it would have taken for ever.
    #[error("the file came at less than {0} bytes a second")]
    TooSlow(u64),
    /// The coordinator named an address that this worker does not fetch from. Not said more exactly, as that would tell what
    /// there is around this machine.
    #[error("the address is none that this worker fetches from")]
    NotAllowed,
    /// The file cannot be kept here.
    #[error("the file cannot be kept here: {0}")]
    Storage(String),
}

impl FetchError {
    /// Whether the same request may succeed soon.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Broken(_) | Self::Stalled(_) | Self::TooShort { .. } => true,
            // Timeout, too early, too many.
            Self::Status(status) => *status >= 500 || matches!(status, 408 | 425 | 429),
            Self::TooLong { .. } | Self::TooSlow(_) | Self::NotAllowed | Self::Storage(_) => false,
        }
    }

    /// Whether the server is unreachable, or says that it cannot serve at the moment.
    pub(crate) fn is_away(&self) -> bool {
        matches!(self, Self::Broken(_) | Self::Status(502..=504))
    }
}

/// Where an audio file is. All of it is a secret, to be told to nobody else.
#[derive(Clone)]
pub struct Source {
    /// Its address.
    pub url: Url,
    /// What is to be shown there in [`chaarfm_protocol::LEASE_HEADER`]; none where the address holds a signature.
    pub lease: Option<LeaseToken>,
}

/// A file that has arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched<A> {
    /// The file.
    pub audio: A,
    /// BLAKE3 of its bytes, in lower-case hexadecimal.
    pub content_hash: String,
}

/// Counts and hashes the bytes of a file that is on its way, so that both kinds of worker hold the same line.
#[derive(Debug)]
pub struct Received {
    announced: u64,
    received: u64,
    hasher: blake3::Hasher,
}

impl Received {
    /// Nothing has arrived of a file of `announced` bytes.
    #[must_use]
    pub fn nothing_of(announced: u64) -> Self {
        Self { announced, received: 0, hasher: blake3::Hasher::new() }
    }

    /// A piece arrived. Returns the share that has arrived, 0 to 1.
    ///
    /// # Errors
    /// [`FetchError::TooLong`] when that is more than was announced.
    pub fn piece(&mut self, piece: &[u8]) -> Result<f32, FetchError> {
        self.received = self.received.saturating_add(piece.len() as u64);
        if self.received > self.announced {
            return Err(FetchError::TooLong { announced: self.announced, received: self.received });
        }
        self.hasher.update(piece);
        Ok((self.received as f64 / self.announced.max(1) as f64) as f32)
    }

    /// The transfer ended. Returns the hash: see [`Fetched::content_hash`].
    ///
    /// # Errors
    /// [`FetchError::TooShort`] when less came than was announced.
    pub fn finish(self) -> Result<String, FetchError> {
        if self.received == self.announced {
            Ok(self.hasher.finalize().to_hex().to_string())
        } else {
            Err(FetchError::TooShort { announced: self.announced, received: self.received })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_the_announced_size_or_is_refused() {
        let mut file = Received::nothing_of(10);
        assert_eq!(file.piece(b"01234"), Ok(0.5));
        assert_eq!(file.piece(b"56789"), Ok(1.0));
        assert_eq!(file.finish(), Ok(blake3::hash(b"0123456789").to_hex().to_string()));

        let mut short = Received::nothing_of(10);
        assert_eq!(short.piece(&[0; 9]), Ok(0.9));
        assert_eq!(short.finish(), Err(FetchError::TooShort { announced: 10, received: 9 }));

        let mut long = Received::nothing_of(10);
        assert_eq!(long.piece(&[0; 11]), Err(FetchError::TooLong { announced: 10, received: 11 }));
        assert!(Received::nothing_of(0).finish().is_ok());
    }
}
