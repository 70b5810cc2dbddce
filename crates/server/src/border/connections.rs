//! Connections: how many there may be, and how long they may be idle.
//!
//! Every connection takes a slot. When slots run short, the connection that has been idle longest is closed, so that a
//! client with a request always gets one. Only HTTP/1.1 is served: every proxy supports it, and the streams of HTTP/2,
//! which a peer can open and abandon, would need limits of their own.

use std::{
    collections::{BTreeMap, HashMap},
    convert::Infallible,
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{Router, body::Body, extract::Request, http::StatusCode};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use ipnet::IpNet;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    time::{Instant, Sleep, sleep, sleep_until, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

use super::{held::Held, tls::Greeter};

/// Maximum number of connections, including workers' sockets: ten thousand workers with a download each, and a reserve. The
/// limit is lower if the system grants fewer open files.
const MAX_CONNECTIONS: usize = 25_000;

/// Open files reserved for other uses than connections.
const RESERVED_OPEN_FILES: usize = 256;

/// Maximum number of idle connections. Ten thousand workers that reconnect after a restart are not idle: they send a
/// request at once.
pub(super) const MAX_WAITING: usize = 4096;

/// Maximum number of connections that are being closed to free their slots.
const MAX_LEAVING: usize = RESERVED_OPEN_FILES / 2;

/// Connections of one address: a household or a school behind one router. Loopback and trusted proxies are exempt.
const MAX_CONNECTIONS_PER_ADDRESS: usize = 1024;

/// Longest wait for a complete request head, and for the next request on a connection.
const HEAD_SECONDS: u64 = 30;

/// Buffer of one connection, in bytes, for each direction. A request head has to fit into it.
const BUFFER_BYTES: usize = 16 * 1024;

/// A connection ends if its peer reads nothing of an answer for this long. A worker pauses a download for the duration of a
/// lease at most.
const WRITE_STALL_SECONDS: u64 = chaarfm_protocol::limits::STALL_LIMIT_SECONDS;

/// Wait after the system failed to accept a connection.
const ACCEPT_PAUSE_MILLIS: u64 = 100;

/// Peer of a connection: the proxy, if there is one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer {
    pub(crate) address: IpAddr,
    /// Whether the connection from the peer is encrypted.
    pub(crate) has_tls: bool,
}

/// The routers that answer requests, and TLS if it is on.
#[derive(Clone)]
pub(crate) struct Service {
    pub(crate) router: Router,
    pub(crate) tls: Option<Encryption>,
}

/// TLS of a coordinator that provides it itself.
#[derive(Clone)]
pub(crate) struct Encryption {
    pub(crate) greeter: Arc<Greeter>,
    /// Answers requests that come without TLS.
    pub(crate) plain: Router,
}

/// Serves until `shutdown` is cancelled and all requests begun by then are answered.
pub(crate) async fn serve(listener: TcpListener, service: Service, proxies: Vec<IpNet>, shutdown: CancellationToken) {
    let places = Arc::new(Places::new(proxies, max_connections()));
    let tasks = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                // Messages are small and wait for each other; without this option they are only slower.
                let _ = stream.set_nodelay(true);
                if let Some(place) = places.take(peer) {
                    tasks.spawn(connection(stream, place, service.clone(), shutdown.clone()));
                }
            }
            // The peer has already disconnected.
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                tracing::error!("no connection can be accepted: {error}");
                places.state().drop_waiting();
                sleep(Duration::from_millis(ACCEPT_PAUSE_MILLIS)).await;
            }
        }
    }
    drop(listener);
    tasks.close();
    tasks.wait().await;
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionRefused | ConnectionAborted | ConnectionReset)
}

/// The maximum that the limit of open files allows.
fn max_connections() -> usize {
    let open_files = max_open_files();
    MAX_CONNECTIONS.min(open_files.saturating_sub(RESERVED_OPEN_FILES).max(open_files / 2))
}

#[cfg(unix)]
fn max_open_files() -> usize {
    let limit = rlimit::Resource::NOFILE.get_soft();
    limit.ok().and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX)
}

/// Connections do not count as open files there.
#[cfg(not(unix))]
fn max_open_files() -> usize {
    usize::MAX
}

/// Answers the requests of one connection, after a TLS handshake if TLS is on.
async fn connection(stream: TcpStream, place: Place, service: Service, shutdown: CancellationToken) {
    let place = Arc::new(place);
    let Some(Encryption { greeter, plain }) = service.tls else {
        let stream = Watched::new(stream, Arc::clone(&place));
        return http(stream, false, place, service.router, shutdown).await;
    };
    let greeting = async {
        let is_greeting = timeout(Duration::from_secs(HEAD_SECONDS), Greeter::is_greeting(&stream)).await??;
        let stream = Watched::new(stream, Arc::clone(&place));
        Ok::<_, io::Error>(if is_greeting { Ok(greeter.greet(stream).await?) } else { Err(stream) })
    };
    let greeted = tokio::select! {
        greeted = greeting => greeted,
        () = place.given_up.cancelled() => return,
        () = shutdown.cancelled() => return,
    };
    match greeted {
        Ok(Ok(stream)) => http(stream, true, place, service.router, shutdown).await,
        Ok(Err(stream)) => http(stream, false, place, plain, shutdown).await,
        Err(error) => tracing::debug!("a connection ended during its TLS handshake: {error}"),
    }
}

/// Answers the HTTP requests on a stream.
async fn http<S>(stream: S, has_tls: bool, place: Arc<Place>, router: Router, shutdown: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let service = service_fn({
        let place = Arc::clone(&place);
        move |request: Request<Incoming>| answer(router.clone(), Arc::clone(&place), has_tls, request)
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(HEAD_SECONDS)).max_buf_size(BUFFER_BYTES);
    let mut serving = std::pin::pin!(http.serve_connection(TokioIo::new(stream), service).with_upgrades());
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = place.given_up.cancelled() => return,
        () = shutdown.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!("a connection ended: {error}");
    }
}

async fn answer(
    router: Router,
    place: Arc<Place>,
    has_tls: bool,
    mut request: Request<Incoming>,
) -> Result<axum::response::Response, Infallible> {
    let busy = Busy::new(&place);
    request.extensions_mut().insert(Peer { address: place.address, has_tls });
    let response = router.oneshot(request.map(Body::new)).await?;
    // An upgraded connection carries no further requests; it stays busy until it ends.
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        busy.for_good();
        return Ok(response);
    }
    Ok(response.map(|body| Body::new(Held::new(body, busy))))
}

/// The slots of all connections.
struct Places {
    proxies: Vec<IpNet>,
    max: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    taken: usize,
    by_address: HashMap<IpAddr, usize>,
    /// The idle connections, starting with the one that has been idle longest.
    waiting: BTreeMap<u64, CancellationToken>,
    clock: u64,
}

impl Places {
    fn new(proxies: Vec<IpNet>, max: usize) -> Self {
        Self { proxies, max, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a slot for a connection from this address; none if all slots are busy with requests, or the address has too
    /// many connections.
    fn take(self: &Arc<Self>, peer: SocketAddr) -> Option<Place> {
        let address = peer.ip().to_canonical();
        let counted = self.counted_as(address);
        let given_up = CancellationToken::new();
        let mut state = self.state();
        let own = counted.and_then(|counted| state.by_address.get(&counted).copied()).unwrap_or_default();
        // A connection that is being closed keeps its slot for a moment.
        if own >= MAX_CONNECTIONS_PER_ADDRESS || state.taken >= self.max + MAX_LEAVING {
            return None;
        }
        let is_short = state.waiting.len() >= MAX_WAITING || state.taken >= self.max;
        if is_short && !state.drop_waiting() {
            return None;
        }
        state.taken += 1;
        if let Some(counted) = counted {
            *state.by_address.entry(counted).or_default() += 1;
        }
        let waits_as = state.wait(&given_up);
        drop(state);
        Some(Place { places: Arc::clone(self), address, counted, given_up, waits_as: Mutex::new(waits_as) })
    }

    /// The address or network to which a connection is counted: a provider's customer has a whole /64 (RFC 6177). None for
    /// addresses without a limit.
    fn counted_as(&self, address: IpAddr) -> Option<IpAddr> {
        if address.is_loopback() || self.proxies.iter().any(|proxies| proxies.contains(&address)) {
            return None;
        }
        Some(network_of(address))
    }
}

/// The address itself, or for IPv6 the network of one customer.
pub(crate) fn network_of(address: IpAddr) -> IpAddr {
    const HOST_BITS: u32 = 64;
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> HOST_BITS << HOST_BITS).into(),
    }
}

impl State {
    fn wait(&mut self, given_up: &CancellationToken) -> u64 {
        self.clock += 1;
        self.waiting.insert(self.clock, given_up.clone());
        self.clock
    }

    /// Closes the connection that has been idle longest. False if none is idle.
    fn drop_waiting(&mut self) -> bool {
        let longest = self.waiting.pop_first();
        longest.inspect(|(_, given_up)| given_up.cancel()).is_some()
    }
}

/// Slot of a connection, freed when dropped.
struct Place {
    places: Arc<Places>,
    address: IpAddr,
    counted: Option<IpAddr>,
    /// Cancelled when the slot is needed for another connection.
    given_up: CancellationToken,
    waits_as: Mutex<u64>,
}

impl Place {
    fn waits_as(&self) -> MutexGuard<'_, u64> {
        self.waits_as.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let waits_as = *self.waits_as();
        let mut state = self.places.state();
        state.taken -= 1;
        state.waiting.remove(&waits_as);
        if let Some(counted) = self.counted
            && let Some(count) = state.by_address.get_mut(&counted)
        {
            *count -= 1;
            if *count == 0 {
                state.by_address.remove(&counted);
            }
        }
    }
}

/// Marks a connection as busy until its answer is complete, so that it is not closed.
struct Busy(Option<Arc<Place>>);

impl Busy {
    fn new(place: &Arc<Place>) -> Self {
        let waits_as = *place.waits_as();
        place.places.state().waiting.remove(&waits_as);
        Self(Some(Arc::clone(place)))
    }

    /// Keeps the connection busy until it ends.
    fn for_good(mut self) {
        self.0 = None;
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        if let Some(place) = &self.0 {
            let waits_as = place.places.state().wait(&place.given_up);
            *place.waits_as() = waits_as;
        }
    }
}

/// A stream that ends if its peer reads nothing for [`WRITE_STALL_SECONDS`], and holds a slot while it exists.
struct Watched {
    stream: TcpStream,
    /// Deadline of the pending write.
    stalled: Option<Pin<Box<Sleep>>>,
    _place: Arc<Place>,
}

impl Watched {
    fn new(stream: TcpStream, place: Arc<Place>) -> Self {
        Self { stream, stalled: None, _place: place }
    }

    /// Applies the deadline to the result of a write.
    fn watch<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let limit = || Box::pin(sleep_until(Instant::now() + Duration::from_secs(WRITE_STALL_SECONDS)));
        ready!(self.stalled.get_or_insert_with(limit).as_mut().poll(context));
        let reason = format!("the peer has taken nothing for {WRITE_STALL_SECONDS} s");
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, reason)))
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watch(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, pieces);
        self.watch(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn peer(address: impl Into<IpAddr>) -> SocketAddr {
        (address.into(), 9).into()
    }

    fn places(max: usize) -> Arc<Places> {
        Arc::new(Places::new(vec!["10.0.0.0/8".parse().unwrap()], max))
    }

    #[test]
    fn an_address_has_its_share_but_for_this_machine_and_proxies() {
        let places = places(MAX_CONNECTIONS);
        let most = MAX_CONNECTIONS_PER_ADDRESS;
        let from = |address: &str, index: usize| {
            let address: IpAddr = address.parse().unwrap();
            // All hosts of an IPv6 network count as the same address.
            let address = match address {
                IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() + index as u128).into(),
                address => address,
            };
            places.take(peer(address))
        };
        for address in ["192.0.2.7", "2001:db8::"] {
            let held: Vec<_> = (0..most).map_while(|index| from(address, index)).collect();
            assert_eq!(held.len(), most, "{address}");
            assert!(from(address, most).is_none(), "{address}");
            drop(held);
            assert!(from(address, 0).is_some(), "{address}");
        }
        for address in ["127.0.0.1", "10.1.2.3", "::ffff:10.1.2.3"] {
            let held: Vec<_> =
                (0..=most).map_while(|_| places.take(peer(address.parse::<IpAddr>().unwrap()))).collect();
            assert_eq!(held.len(), most + 1, "{address}");
        }
        assert!(places.state().by_address.is_empty() && places.state().taken == 0 && places.state().waiting.is_empty());
    }

    #[test]
    fn who_waits_longest_gives_way_and_who_is_served_does_not() {
        let places = places(3);
        let take = |last: u8| places.take(peer(Ipv4Addr::new(192, 0, 2, last))).map(Arc::new);
        let [served, first, second] = [take(1), take(2), take(3)].map(Option::unwrap);
        let busy = Busy::new(&served);
        let third = take(4).expect("the first gives way");
        assert!(first.given_up.is_cancelled() && !served.given_up.is_cancelled() && !second.given_up.is_cancelled());
        drop(first);
        drop(busy);
        // The connection just served has been idle for the shortest time.
        drop(take(5).expect("the second gives way"));
        assert!(second.given_up.is_cancelled() && !third.given_up.is_cancelled());
        drop(second);
        Busy::new(&third).for_good();
        let _busy = Busy::new(&served);
        let fourth = take(6).unwrap();
        Busy::new(&fourth).for_good();
        assert!(take(7).is_none(), "nobody gives way");
    }
}
