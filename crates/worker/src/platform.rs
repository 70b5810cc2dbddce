//! What a worker needs from its machine: sockets, files over HTTP, the analysis, a clock, random numbers.

use std::time::Duration;

use chaarfm_protocol::{
    Failure, Halves, LeaseToken, ModelRef, Vector,
    limits::{MAX_MESSAGE_BYTES, MAX_MESSAGES_PER_SECOND},
};
use url::Url;

/// The machine that a worker runs on. The native executable, the browser worker and the tests each implement it.
///
/// Every future may be dropped before it is ready, which cancels its work.
#[expect(async_fn_in_trait, reason = "a worker lives on one thread, natively and in a tab: no future has to be Send")]
pub trait Platform {
    /// An open WebSocket.
    type Socket: Socket;

    /// A whole audio file, in memory or on disk.
    type Audio;

    /// Opens a WebSocket at a `ws` or `wss` address. The caller bounds the wait.
    ///
    /// # Errors
    /// [`SocketError::Failed`] when nothing answers, or the answer does not come from a coordinator.
    async fn connect(&self, url: &Url) -> Result<Self::Socket, SocketError>;

    /// Fetches an audio file of exactly `bytes` bytes from the coordinator or a storage. Calls `progress` after each
    /// piece with the share that has arrived, 0 to 1. The caller gives up when that stops growing.
    ///
    /// # Errors
    /// [`FetchError`] when the file does not arrive, or has another size.
    async fn fetch(
        &self,
        source: &Source,
        bytes: u64,
        progress: &dyn Fn(f32),
    ) -> Result<Fetched<Self::Audio>, FetchError>;

    /// Computes the vector of an audio file and its proof, and calls `progress` with the share that is done, 0 to 1.
    /// Other futures of its thread run meanwhile. `file` is the file's path within its library: a hint at the format.
    ///
    /// # Errors
    /// The failure to report: permanent when the track is at fault, passing when this worker is.
    async fn analyse(
        &self,
        model: &ModelRef,
        audio: Self::Audio,
        file: &str,
        progress: &dyn Fn(f32),
    ) -> Result<Analysed, Failure>;

    /// Time since an arbitrary fixed moment; never goes back.
    fn now(&self) -> Duration;

    /// Waits.
    async fn sleep(&self, wait: Duration);

    /// A number drawn evenly from `0..1`, good enough to spread waits.
    fn random(&self) -> f64;

    /// Whether the worker may begin another track. If not, the worker ends as soon as no track is in analysis and all
    /// answers have their receipts. Called several times a second.
    fn may_begin(&self) -> bool {
        true
    }
}

/// A track's vector and its proof.
#[derive(Debug, Clone, PartialEq)]
pub struct Analysed {
    /// The mean of the patches' embeddings, and its metadata.
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

    /// Waits for the next message. Dropping the future loses no message.
    ///
    /// # Errors
    /// [`SocketError`] when the connection is over, or a message is longer than [`MAX_MESSAGE_BYTES`].
    async fn receive(&mut self) -> Result<String, SocketError>;

    /// Waits until everything is sent, and closes. The caller bounds the wait.
    async fn close(self);
}

/// Why a connection cannot be opened or has ended.
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
    /// Messages came in faster than any honest coordinator sends them.
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
        /// The size that the job stated.
        announced: u64,
        /// Bytes received until then.
        received: u64,
    },
    /// The transfer ended too soon.
    #[error("only {received} of {announced} bytes of the file arrived")]
    TooShort {
        /// The size that the job stated.
        announced: u64,
        /// Bytes received.
        received: u64,
    },
    /// The transfer was so slow that it would hardly ever have ended.
    #[error("the file came at less than {0} bytes a second")]
    TooSlow(u64),
    /// The coordinator gave an address that this worker does not fetch from. The message gives no details, as they
    /// would reveal what exists in this machine's network.
    #[error("the address is none that this worker fetches from")]
    NotAllowed,
    /// The file cannot be stored on this machine.
    #[error("the file cannot be kept here: {0}")]
    Storage(String),
}

impl FetchError {
    /// Whether the same request may succeed soon.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Broken(_) | Self::Stalled(_) | Self::TooShort { .. } => true,
            // Request timeout, too early, too many requests.
            Self::Status(status) => *status >= 500 || matches!(status, 408 | 425 | 429),
            Self::TooLong { .. } | Self::TooSlow(_) | Self::NotAllowed | Self::Storage(_) => false,
        }
    }

    /// Whether the server is unreachable, or says that it cannot serve at the moment.
    pub(crate) fn is_away(&self) -> bool {
        matches!(self, Self::Broken(_) | Self::Status(502..=504))
    }
}

/// Where an audio file is. All fields are secrets and must not be passed on.
#[derive(Clone)]
pub struct Source {
    /// Its address.
    pub url: Url,
    /// The token to send in [`chaarfm_protocol::LEASE_HEADER`]; none if the address contains a signature.
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

/// Counts and hashes the bytes of an arriving file, so that both kinds of worker enforce the same limits.
#[derive(Debug)]
pub struct Received {
    announced: u64,
    received: u64,
    hasher: blake3::Hasher,
}

impl Received {
    /// The start of a file of `announced` bytes: nothing has arrived.
    #[must_use]
    pub fn nothing_of(announced: u64) -> Self {
        Self { announced, received: 0, hasher: blake3::Hasher::new() }
    }

    /// Adds a piece. Returns the share that has arrived, 0 to 1.
    ///
    /// # Errors
    /// [`FetchError::TooLong`] when more has arrived than was announced.
    pub fn piece(&mut self, piece: &[u8]) -> Result<f32, FetchError> {
        self.received = self.received.saturating_add(piece.len() as u64);
        if self.received > self.announced {
            return Err(FetchError::TooLong { announced: self.announced, received: self.received });
        }
        self.hasher.update(piece);
        Ok((self.received as f64 / self.announced.max(1) as f64) as f32)
    }

    /// Ends the transfer. Returns the hash: see [`Fetched::content_hash`].
    ///
    /// # Errors
    /// [`FetchError::TooShort`] when less arrived than was announced.
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
