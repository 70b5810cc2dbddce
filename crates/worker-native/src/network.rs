//! This program's connections to others: trusted certificates, proxies, and error messages in plain words.
//!
//! The socket and the downloads follow the same rules, since both have to reach the same coordinator.

mod distrust;
mod proxies;
mod socket;
mod sources;
mod tls;
mod words;

use std::{net::IpAddr, sync::Arc, time::Duration};

use chaarfm_worker::{Address, FetchError, SocketError};
use http::Uri;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::{
    client::{
        legacy::connect::{
            HttpConnector,
            proxy::{SocksV4, SocksV5, Tunnel},
        },
        proxy::matcher::Intercept,
    },
    rt::TokioIo,
};
use reqwest::{Client, ClientBuilder, redirect::Policy};
use rustls::{ClientConfig, ProtocolVersion, pki_types::ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tower_service::Service;
use url::Url;

use self::{sources::Sources, tls::Pinned};

pub(crate) use self::{
    proxies::{Proxies, misspelt_variables, name as proxy_name},
    socket::NativeSocket,
    tls::Roots,
    words::in_plain_words,
};

/// Wait before trying a host's next address in parallel (RFC 8305).
const NEXT_ADDRESS_AFTER: Duration = Duration::from_millis(300);

/// Maximum number of redirections per request.
const MAX_REDIRECTIONS: usize = 5;

/// A connection on which a protocol can start, directly to a host or through a proxy.
pub(crate) type Stream = Box<dyn ReadWrite>;

/// Both directions of a connection.
pub(crate) trait ReadWrite: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> ReadWrite for T {}

/// Everything needed to connect to others.
#[derive(Clone)]
pub(crate) struct Network {
    tls: Arc<ClientConfig>,
    roots: Roots,
    proxies: Arc<Proxies>,
    sources: Sources,
    /// For downloads without a proxy.
    straight: Client,
    /// For downloads through a proxy, and for addresses given by the owner of this machine.
    by_proxy: Client,
}

impl Network {
    /// Uses the current settings of the system and the environment. Downloads may come from the public internet and the
    /// coordinator's own host only, unless private sources are allowed.
    ///
    /// # Errors
    /// When the system's certificate verifier cannot be used.
    pub(crate) fn of_system(allows_private_sources: bool) -> anyhow::Result<Self> {
        Self::trusting(None, allows_private_sources)
    }

    /// The same for connecting to a coordinator, whose certificate may be pinned in its address.
    ///
    /// # Errors
    /// As [`of_system`](Self::of_system).
    pub(crate) fn to(coordinator: &Address, allows_private_sources: bool) -> anyhow::Result<Self> {
        Self::trusting(Pinned::of(coordinator), allows_private_sources)
    }

    fn trusting(pinned: Option<Pinned>, allows_private_sources: bool) -> anyhow::Result<Self> {
        let (tls, roots) = tls::config(pinned)?;
        Self::new(tls, roots, Proxies::of_system(), allows_private_sources)
    }

    fn new(tls: ClientConfig, roots: Roots, proxies: Proxies, allows_private_sources: bool) -> anyhow::Result<Self> {
        let (tls, proxies) = (Arc::new(tls), Arc::new(proxies));
        let sources = Sources::new(allows_private_sources);
        // Not redirected: an address is a secret and says whether there is TLS, and a redirection could lead elsewhere or
        // drop TLS.
        let straight = builder(&tls, Policy::none()).no_proxy().dns_resolver(sources.clone()).build()?;
        let by_proxy = builder(&tls, Policy::none()).proxy(proxies::for_downloads(&proxies)).build()?;
        Ok(Self { tls, roots, proxies, sources, straight, by_proxy })
    }

    /// A client that follows redirections: for requests that are no secret, and whose results are verified afterwards.
    ///
    /// # Errors
    /// Never with a TLS configuration that has been used before.
    pub(crate) fn http_following(&self) -> reqwest::Result<Client> {
        let proxy = proxies::for_downloads(&self.proxies);
        builder(&self.tls, Policy::limited(MAX_REDIRECTIONS)).proxy(proxy).build()
    }

    /// The client for addresses given by the owner of this machine. It does not follow redirections.
    pub(crate) fn http_of_owner(&self) -> &Client {
        &self.by_proxy
    }

    /// The client for an address given by a coordinator. It does not follow redirections.
    ///
    /// # Errors
    /// [`FetchError::NotAllowed`] for an address from which nothing may be fetched. Host names that need a look-up are
    /// checked later, by the client.
    pub(crate) async fn http(&self, url: &Url) -> Result<&Client, FetchError> {
        if self.proxies.for_url(url).is_some() {
            let is_allowed = self.sources.allows_by_proxy(url).await;
            return if is_allowed { Ok(&self.by_proxy) } else { Err(FetchError::NotAllowed) };
        }
        if self.sources.allows(url) { Ok(&self.straight) } else { Err(FetchError::NotAllowed) }
    }

    /// The root certificates in use.
    pub(crate) fn roots(&self) -> &Roots {
        &self.roots
    }

    /// The proxies in effect.
    pub(crate) fn proxies(&self) -> &Proxies {
        &self.proxies
    }

    /// Opens a WebSocket at a `ws` or `wss` address. The caller limits the wait.
    ///
    /// # Errors
    /// [`SocketError::Failed`] when the connection fails, or the peer is not a coordinator.
    pub(crate) async fn websocket(&self, url: &Url) -> Result<NativeSocket, SocketError> {
        let (stream, ip) = self.connect(url).await.map_err(|reason| {
            let by = self.proxies.for_url(url).map(|proxy| format!("through the proxy {}: ", proxy_name(&proxy)));
            SocketError::Failed(format!("{}{reason}", by.unwrap_or_default()))
        })?;
        let socket = NativeSocket::open(url, stream, &self.tls).await?;
        self.sources.connected(url, ip);
        Ok(socket)
    }

    /// Connects to an address's host and port, through the proxy if there is one; otherwise also returns the IP address of
    /// the host. The caller limits the wait.
    ///
    /// # Errors
    /// The reason in plain words.
    pub(crate) async fn connect(&self, url: &Url) -> Result<(Stream, Option<IpAddr>), String> {
        self.connect_by(url, self.proxies.for_url(url)).await.map_err(|error| in_plain_words(&*error))
    }

    /// Performs a TLS handshake with the host of an address. Returns the negotiated version. The caller limits the wait.
    ///
    /// # Errors
    /// The reason in plain words.
    pub(crate) async fn greet(&self, url: &Url, stream: Stream) -> Result<String, String> {
        let name = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let name = ServerName::try_from(name).map_err(|error| error.to_string())?;
        let connecting = TlsConnector::from(Arc::clone(&self.tls)).connect(name, stream);
        let stream = connecting.await.map_err(|error| in_plain_words(&error))?;
        let version = match stream.get_ref().1.protocol_version() {
            Some(ProtocolVersion::TLSv1_2) => "TLS 1.2",
            Some(ProtocolVersion::TLSv1_3) => "TLS 1.3",
            _ => "TLS",
        };
        Ok(version.to_owned())
    }

    async fn connect_by(
        &self,
        url: &Url,
        proxy: Option<Intercept>,
    ) -> Result<(Stream, Option<IpAddr>), Box<dyn std::error::Error + Send + Sync>> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        // Messages are small and wait for each other.
        tcp.set_nodelay(true);
        tcp.set_happy_eyeballs_timeout(Some(NEXT_ADDRESS_AFTER));
        let host = proxies::destination(url).ok_or("the address has no host")?;
        let Some(proxy) = proxy else {
            let stream = open(&mut tcp, host).await?.into_inner();
            let ip = stream.peer_addr()?.ip();
            return Ok((Box::new(stream), Some(ip)));
        };
        let address = proxy.uri().clone();
        match address.scheme_str() {
            Some("socks4" | "socks4a") => {
                let local = address.scheme_str() == Some("socks4");
                let mut socks = SocksV4::new(with_port(address, proxies::SOCKS_PORT)?, tcp).local_dns(local);
                Ok((Box::new(TokioIo::new(open(&mut socks, host).await?)), None))
            }
            Some("socks5" | "socks5h") => {
                let local = address.scheme_str() == Some("socks5");
                let mut socks = SocksV5::new(with_port(address, proxies::SOCKS_PORT)?, tcp).local_dns(local);
                if let Some((user, password)) = proxy.raw_auth() {
                    socks = socks.with_auth(user.to_owned(), password.to_owned());
                }
                Ok((Box::new(TokioIo::new(open(&mut socks, host).await?)), None))
            }
            _ => {
                let tls = HttpsConnectorBuilder::new().with_tls_config((*self.tls).clone());
                let to_proxy = tls.https_or_http().enable_http1().wrap_connector(tcp);
                let mut tunnel = Tunnel::new(address, to_proxy);
                if let Some(credentials) = proxy.basic_auth() {
                    tunnel = tunnel.with_auth(credentials.clone());
                }
                Ok((Box::new(TokioIo::new(open(&mut tunnel, host).await?)), None))
            }
        }
    }
}

/// Without time limits: callers limit the waits.
fn builder(tls: &Arc<ClientConfig>, redirections: Policy) -> ClientBuilder {
    Client::builder().tls_backend_preconfigured((**tls).clone()).redirect(redirections)
}

/// A proxy's address, with this port unless it has one.
fn with_port(address: Uri, port: u16) -> Result<Uri, http::Error> {
    let (Some(host), None) = (address.host(), address.port()) else { return Ok(address) };
    let scheme = address.scheme_str().unwrap_or("socks5");
    Uri::builder().scheme(scheme).authority(format!("{host}:{port}")).path_and_query("/").build()
}

/// Opens a connection with a connector.
async fn open<C>(connector: &mut C, to: Uri) -> Result<C::Response, Box<dyn std::error::Error + Send + Sync>>
where
    C: Service<Uri, Error: Into<Box<dyn std::error::Error + Send + Sync>>>,
{
    std::future::poll_fn(|context| connector.poll_ready(context)).await.map_err(Into::into)?;
    connector.call(to).await.map_err(Into::into)
}

#[cfg(test)]
pub(crate) mod tests;
