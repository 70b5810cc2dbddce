//! Tests with real TLS servers and real proxies, on local sockets.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use futures_util::{SinkExt, StreamExt};
use hyper_util::client::proxy::matcher::Matcher;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use rustls::{
    RootCertStore, ServerConfig,
    client::WebPkiServerVerifier,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer},
    server::ParsedCertificate,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::{accept_async, tungstenite::Message};

use super::*;
use chaarfm_protocol::KeyPin;
use chaarfm_worker::Socket;

/// A host name that only the test proxies can resolve.
const HOST: &str = "music.test";

/// A certificate authority that a test may trust.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn sign(&self, change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let mut params = CertificateParams::new(["localhost".to_owned(), HOST.to_owned()]).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Identity { certificate: certificate.der().clone(), key: PrivateKeyDer::try_from(key.serialize_der()).unwrap() }
    }

    /// A network that trusts only this authority.
    fn trusted(&self, matcher: Matcher) -> Network {
        self.trusted_and(None, matcher)
    }

    /// A network that trusts a pinned certificate as well.
    fn trusted_and(&self, pinned: Option<Pinned>, matcher: Matcher) -> Network {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        let provider = Arc::new(ring::default_provider());
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build().unwrap();
        Network::new(tls::trusting(verifier, pinned, provider).unwrap(), Roots::System, Proxies::new(matcher), true)
            .unwrap()
    }
}

struct Identity {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

fn self_signed(change: impl FnOnce(&mut CertificateParams)) -> Identity {
    let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    Identity { certificate: certificate.der().clone(), key: PrivateKeyDer::try_from(key.serialize_der()).unwrap() }
}

/// A TLS server that accepts WebSockets and echoes on them, and answers other requests with "hello".
async fn serve(identity: Identity) -> u16 {
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![identity.certificate], identity.key)
        .unwrap();
    let (acceptor, listener) = (TlsAcceptor::from(Arc::new(config)), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            tokio::spawn(async move {
                // The path at the start of a request shows its kind.
                let mut start = [0; 7];
                stream.read_exact(&mut start).await.unwrap();
                if &start == b"GET /ws" {
                    let mut stream = accept_async(Rewound { first: start.to_vec(), stream }).await.unwrap();
                    while let Some(Ok(Message::Text(text))) = stream.next().await {
                        stream.send(Message::Text(text)).await.unwrap();
                    }
                } else {
                    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").await.unwrap();
                }
            });
        }
    });
    port
}

/// A stream of which the first bytes have already been read.
struct Rewound<S> {
    first: Vec<u8>,
    stream: S,
}

impl<S: AsyncRead + Unpin> AsyncRead for Rewound<S> {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        if self.first.is_empty() {
            return std::pin::Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let length = self.first.len().min(buffer.remaining());
        buffer.put_slice(&self.first.drain(..length).collect::<Vec<_>>());
        std::task::Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Rewound<S> {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        std::pin::Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// A download.
async fn get(network: &Network, host_and_port: &str) -> reqwest::Result<reqwest::Response> {
    let url: Url = format!("https://{host_and_port}/x").parse().unwrap();
    network.http(&url).await.unwrap().get(url).send().await
}

/// The error for an address, which must be the same for a socket and a download.
async fn refusal(network: &Network, host_and_port: &str) -> String {
    let socket = network.websocket(&format!("wss://{host_and_port}/ws").parse().unwrap()).await;
    let Err(SocketError::Failed(reason)) = socket.map(drop) else { panic!("a socket is refused") };
    let download = get(network, host_and_port).await.unwrap_err();
    let plain =
        reason.split_once(": ").filter(|(by, _)| by.starts_with("through the proxy")).map_or(&*reason, |(_, r)| r);
    assert_eq!(plain, in_plain_words(&download));
    reason
}

async fn works(network: &Network, host_and_port: &str) {
    let mut socket = network.websocket(&format!("wss://{host_and_port}/ws").parse().unwrap()).await.unwrap();
    socket.send("here".into()).await.unwrap();
    assert_eq!(socket.receive().await.unwrap(), "here");
    let response = get(network, host_and_port).await.unwrap();
    assert_eq!(response.text().await.unwrap(), "hello");
}

fn without_proxy() -> Matcher {
    Matcher::builder().build()
}

#[tokio::test]
async fn a_trusted_server_is_talked_to() {
    let authority = Authority::new("Home");
    let port = serve(authority.sign(|_| {})).await;
    works(&authority.trusted(without_proxy()), &format!("localhost:{port}")).await;
}

#[tokio::test]
async fn says_in_plain_words_why_a_certificate_is_not_trusted() {
    let (home, stranger) = (Authority::new("Home"), Authority::new("Acme Web Filter\u{7}"));
    let network = home.trusted(without_proxy());
    let cases: [(Identity, &[&str]); 6] = [
        (
            home.sign(|params| params.not_after = date_time_ymd(2020, 2, 1)),
            &["was good until 2020-02-01, and this computer's clock says 20", "set it", "has to renew"],
        ),
        (
            home.sign(|params| params.not_before = date_time_ymd(2099, 2, 1)),
            &["is good from 2099-02-01 on, and this computer's clock says 20", "clock is probably wrong"],
        ),
        (self_signed(|_| {}), &["is signed by itself (self-signed)", "add it to the certificates"]),
        (
            self_signed(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)),
            &["is signed by itself (self-signed)"],
        ),
        (stranger.sign(|_| {}), &["comes from “Acme Web Filter”, whom", "proxy, firewall or virus scanner"]),
        (
            home.sign(|params| {
                params.subject_alt_names =
                    CertificateParams::new(["other.test".to_owned(), "10.0.0.1".to_owned()]).unwrap().subject_alt_names;
            }),
            &["is for other.test, 10.0.0.1: the address is wrong"],
        ),
    ];
    for (identity, says) in cases {
        let port = serve(identity).await;
        let reason = refusal(&network, &format!("localhost:{port}")).await;
        assert!(reason.starts_with("the certificate of localhost "), "{reason}");
        for says in says {
            assert!(reason.contains(says), "{reason} does not say {says}");
        }
    }
}

#[tokio::test]
async fn a_pinned_key_is_trusted_whatever_its_certificate_says_and_no_other_at_that_host() {
    let home = Authority::new("Home");
    let identity = self_signed(|params| {
        params.subject_alt_names.clear();
        params.not_after = date_time_ymd(2020, 2, 1);
    });
    let public_key = ParsedCertificate::try_from(&identity.certificate).unwrap().subject_public_key_info();
    let hash = ::ring::digest::digest(&::ring::digest::SHA256, &public_key);
    let pinned = Pinned { host: "localhost".into(), pin: KeyPin::from_hash(hash.as_ref().try_into().unwrap()) };
    let network = home.trusted_and(Some(pinned), without_proxy());
    works(&network, &format!("localhost:{}", serve(identity).await)).await;
    // One that the system trusts is not the coordinator's either.
    let other = serve(home.sign(|_| {})).await;
    let reason = refusal(&network, &format!("localhost:{other}")).await;
    assert!(reason.contains("has another key than the one that the link or --pin names"), "{reason}");
    // Other hosts are as trusted as ever.
    let stranger = serve(self_signed(|_| {})).await;
    assert!(refusal(&network, &format!("127.0.0.1:{stranger}")).await.contains("self-signed"));
}

#[tokio::test]
async fn the_system_does_not_trust_a_stranger() {
    let port = serve(Authority::new("Stranger").sign(|_| {})).await;
    let network = Network::of_system(true).unwrap();
    let reason = refusal(&network, &format!("localhost:{port}")).await;
    assert!(reason.contains("comes from “Stranger”, whom this system does not trust"), "{reason}");
}

#[tokio::test]
async fn what_speaks_no_tls_is_told_apart() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
            // Closing earlier would reset the connection before the answer is read.
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
    });
    let network = Network::of_system(true).unwrap();
    let reason = refusal(&network, &format!("localhost:{port}")).await;
    assert!(reason.contains("speaks no TLS") && reason.contains("http://"), "{reason}");
}

#[tokio::test]
async fn nobody_there_and_no_such_host_are_told_in_words() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let network = Authority::new("Home").trusted(without_proxy());
    assert!(refusal(&network, &format!("127.0.0.1:{port}")).await.starts_with("nothing listens there"));
    let unknown = refusal(&network, "no-such-host.invalid:443").await;
    assert!(unknown.starts_with("nobody knows a host of that name"), "{unknown}");
}

/// The requests that a proxy received, each with its credentials.
type Asked = Arc<Mutex<Vec<(String, Option<String>)>>>;

/// A proxy for hosts that only it can resolve, or one that answers every request with a status.
async fn proxy(hosts: HashMap<String, SocketAddr>, answer: &'static str) -> (SocketAddr, Asked) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, asked) = (listener.local_addr().unwrap(), Asked::default());
    let (hosts, heard) = (Arc::new(hosts), Arc::clone(&asked));
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (hosts, heard) = (Arc::clone(&hosts), Arc::clone(&heard));
            tokio::spawn(async move {
                let request = read_head(&mut stream).await;
                let mut lines = request.lines();
                let destination = lines.next().unwrap().split(' ').nth(1).unwrap().to_owned();
                let credentials = lines.find_map(|line| {
                    let (name, value) = line.split_once(": ")?;
                    name.eq_ignore_ascii_case("proxy-authorization").then(|| value.to_owned())
                });
                heard.lock().unwrap().push((destination.clone(), credentials));
                stream.write_all(format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\n\r\n").as_bytes()).await.unwrap();
                if answer.starts_with("200") {
                    let mut server = TcpStream::connect(hosts[&destination]).await.unwrap();
                    let _ = copy_bidirectional(&mut stream, &mut server).await;
                }
            });
        }
    });
    (address, asked)
}

async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

#[tokio::test]
async fn goes_through_a_proxy_with_its_credentials() {
    let authority = Authority::new("Home");
    let port = serve(authority.sign(|_| {})).await;
    let hosts = HashMap::from([(format!("{HOST}:443"), SocketAddr::from(([127, 0, 0, 1], port)))]);
    let (address, asked) = proxy(hosts, "200 Connection established").await;
    let network = authority.trusted(Matcher::builder().https(format!("http://me:p%40ss@{address}")).build());
    works(&network, HOST).await;
    // "me:p@ss" in Base64.
    let expected = (format!("{HOST}:443"), Some("Basic bWU6cEBzcw==".to_owned()));
    assert_eq!(*asked.lock().unwrap(), [expected.clone(), expected]);
}

#[tokio::test]
async fn names_a_proxy_that_is_in_the_way_without_its_credentials() {
    for (answer, says) in [
        ("407 Proxy Authentication Required", "the proxy wants a name and a password"),
        ("403 Forbidden", "the proxy does not let this program through"),
    ] {
        let (address, _) = proxy(HashMap::new(), answer).await;
        let network =
            Authority::new("Home").trusted(Matcher::builder().all(format!("http://me:secret@{address}")).build());
        let reason = refusal(&network, HOST).await;
        assert!(reason.starts_with(&format!("through the proxy http://{address}: {says}")), "{reason}");
    }
}

#[tokio::test]
async fn a_proxy_that_reads_along_is_told_by_the_name_of_its_authority() {
    let (home, filter) = (Authority::new("Home"), Authority::new("Acme Web Filter"));
    let port = serve(filter.sign(|_| {})).await;
    let hosts = HashMap::from([(format!("{HOST}:443"), SocketAddr::from(([127, 0, 0, 1], port)))]);
    let (address, _) = proxy(hosts, "200 OK").await;
    let reason = refusal(&home.trusted(Matcher::builder().all(format!("http://{address}")).build()), HOST).await;
    assert!(reason.contains("comes from “Acme Web Filter”"), "{reason}");
}

#[tokio::test]
async fn goes_through_a_socks_proxy_that_knows_the_host() {
    let authority = Authority::new("Home");
    let port = serve(authority.sign(|_| {})).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    // RFC 1928: no authentication, destination given by host name.
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut greeting = [0; 2];
                stream.read_exact(&mut greeting).await.unwrap();
                stream.read_exact(&mut vec![0; greeting[1].into()]).await.unwrap();
                stream.write_all(&[5, 0]).await.unwrap();
                let mut request = [0; 5];
                stream.read_exact(&mut request).await.unwrap();
                assert_eq!(request[..4], [5, 1, 0, 3]);
                let mut host = vec![0; request[4].into()];
                stream.read_exact(&mut host).await.unwrap();
                assert_eq!((host.as_slice(), stream.read_u16().await.unwrap()), (HOST.as_bytes(), 443));
                stream.write_all(&[5, 0, 0, 1, 127, 0, 0, 1, 0, 0]).await.unwrap();
                let mut server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                let _ = copy_bidirectional(&mut stream, &mut server).await;
            });
        }
    });
    works(&authority.trusted(Matcher::builder().all(format!("socks5h://{address}")).build()), HOST).await;
}
