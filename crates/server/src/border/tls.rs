//! TLS: the coordinator's certificate, and the handshake of a connection.
//!
//! The certificate comes from two files, which are reread while the coordinator runs, since authorities such as Let's
//! Encrypt renew it every few weeks. Alternatively the coordinator signs one itself: browsers warn about it once, and
//! workers recognise it by the pin in their link. Renewal keeps its key, and thus the pin.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, SystemTime},
};

use chaarfm_protocol::KeyPin;
use chaarfm_store::create_private;
use rcgen::{
    CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, PublicKeyData, SerialNumber,
};
use ring::digest;
use rustls::{
    ServerConfig,
    client::verify_server_name,
    crypto::ring::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    server::{ClientHello, ParsedCertificate, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;
use x509_cert::{Certificate, der::Decode};

/// Time limit for the handshake of a connection.
const HANDSHAKE_SECONDS: u64 = 10;

/// Interval between checks of the files.
const RELOAD_SECONDS: u64 = 60;

/// Largest file of certificates or of a key.
const MAX_PEM_BYTES: u64 = 1024 * 1024;

/// Validity of a self-signed certificate; Apple's systems refuse certificates valid for longer than 825 days.
const VALIDITY: Duration = Duration::from_secs(800 * DAY_SECONDS);

/// A self-signed certificate is renewed when its remaining validity is shorter than this, so that browsers do not see it
/// expire.
const RENEW_BEFORE: Duration = Duration::from_secs(30 * DAY_SECONDS);

/// Tolerated clock difference of other machines.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(DAY_SECONDS);

const DAY_SECONDS: u64 = 24 * 60 * 60;

/// First byte of a TLS connection: a handshake record (RFC 8446, section 5.1).
const HANDSHAKE_RECORD: u8 = 0x16;

/// Source of the certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tls {
    /// From files in PEM format.
    Files {
        /// The certificate, followed by the intermediate certificates.
        certificate: PathBuf,
        /// Its private key.
        key: PathBuf,
    },
    /// Self-signed by the coordinator, and kept in this folder.
    SelfSigned {
        /// Created when missing, readable by this user only.
        folder: PathBuf,
    },
}

/// Why TLS is unavailable.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file or the folder cannot be used.
    #[error("TLS: {path}: {reason}", path = path.display())]
    File {
        /// Its path.
        path: PathBuf,
        /// What is wrong with the file.
        reason: String,
    },
    /// Certificate and key are unusable.
    #[error("TLS: {0}")]
    Certificate(String),
}

fn of_file(path: &Path) -> impl Fn(&dyn std::fmt::Display) -> TlsError + '_ {
    |reason| TlsError::File { path: path.to_owned(), reason: reason.to_string() }
}

/// Performs the TLS handshake of new connections.
pub(crate) struct Greeter {
    acceptor: TlsAcceptor,
    shown: Arc<Shown>,
    source: Tls,
    /// Hosts for which a self-signed certificate is issued.
    hosts: Vec<String>,
}

impl Greeter {
    /// Reads the certificate, or makes one for these hosts (names and IP addresses).
    ///
    /// # Errors
    /// [`TlsError`] when the files cannot be read or do not match.
    pub(crate) fn new(source: &Tls, hosts: Vec<String>) -> Result<Self, TlsError> {
        let shown = Arc::new(Shown { pair: RwLock::new(source.pair(&hosts)?) });
        let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()));
        let builder = builder.with_safe_default_protocol_versions().map_err(unusable)?;
        let mut config = builder.with_no_client_auth().with_cert_resolver(Arc::clone(&shown) as _);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), shown, source: source.clone(), hosts })
    }

    /// Pin by which workers recognise the certificate; none for files, whose certificate an authority has signed.
    pub(crate) fn pin(&self) -> Option<KeyPin> {
        match self.source {
            Tls::Files { .. } => None,
            Tls::SelfSigned { .. } => pin(self.shown.pair().certified.end_entity_cert().ok()?).ok(),
        }
    }

    /// Whether the first byte of a connection is TLS. The caller limits the wait.
    pub(super) async fn is_greeting(stream: &TcpStream) -> io::Result<bool> {
        let mut first = [0];
        Ok(stream.peek(&mut first).await? == 1 && first[0] == HANDSHAKE_RECORD)
    }

    /// Performs the handshake with a client.
    ///
    /// # Errors
    /// When the peer disconnects, takes longer than [`HANDSHAKE_SECONDS`], or supports no common TLS version or cipher.
    pub(super) async fn greet<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S) -> io::Result<TlsStream<S>> {
        let greeting = timeout(Duration::from_secs(HANDSHAKE_SECONDS), self.acceptor.accept(stream)).await;
        greeting.unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "no TLS handshake in time")))
    }

    /// Keeps loading renewed certificates until shutdown.
    pub(crate) async fn keep_up(self: Arc<Self>, shutdown: CancellationToken) {
        let mut last_error = None;
        loop {
            tokio::select! {
                () = sleep(Duration::from_secs(RELOAD_SECONDS)) => {}
                () = shutdown.cancelled() => return,
            }
            let greeter = Arc::clone(&self);
            let Ok(looked) = tokio::task::spawn_blocking(move || greeter.look_again()).await else { continue };
            match looked {
                Ok(true) => tracing::info!("TLS: the certificate has changed, and new connections get the new one"),
                Ok(false) => {}
                // The same error is logged once, not every minute.
                Err(error) if last_error.as_ref() == Some(&error.to_string()) => continue,
                Err(ref error) => tracing::error!("{error}; the coordinator goes on with the certificate that it has"),
            }
            last_error = looked.err().map(|error| error.to_string());
        }
    }

    /// Loads the current certificate. Returns whether it has changed.
    ///
    /// # Errors
    /// [`TlsError`] when it is unusable; the previous one stays in use.
    pub(crate) fn look_again(&self) -> Result<bool, TlsError> {
        let pair = self.source.pair(&self.hosts)?;
        let is_new = pair.pem != self.shown.pair().pem;
        if is_new {
            *self.shown.pair.write().unwrap_or_else(PoisonError::into_inner) = pair;
        }
        Ok(is_new)
    }
}

/// The certificate in use.
#[derive(Debug)]
struct Shown {
    pair: RwLock<Pair>,
}

impl Shown {
    fn pair(&self) -> Pair {
        self.pair.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.pair().certified)
    }
}

/// A certificate and its key.
#[derive(Debug, Clone)]
struct Pair {
    certified: Arc<CertifiedKey>,
    /// Hash of both PEM files.
    pem: blake3::Hash,
}

impl Pair {
    fn read(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let (certificate_pem, key_pem) = (read(certificate)?, read(key)?);
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&certificate_pem).collect();
        let chain = chain.map_err(|error| of_file(certificate)(&error))?;
        if chain.is_empty() {
            return Err(of_file(certificate)(&"there is no certificate in PEM format in it"));
        }
        let private = PrivateKeyDer::from_pem_slice(&key_pem).map_err(|error| of_file(key)(&error))?;
        let certified = CertifiedKey::from_der(chain, private, &default_provider()).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                TlsError::Certificate(format!("{} is not the key of {}", key.display(), certificate.display()))
            }
            error => TlsError::Certificate(format!("{}: {error}", certificate.display())),
        })?;
        let mut hash = blake3::Hasher::new();
        hash.update(&certificate_pem).update(&key_pem);
        Ok(Self { certified: Arc::new(certified), pem: hash.finalize() })
    }
}

impl Tls {
    /// The current certificate and key. A self-signed certificate is made when it is missing, nearly expired or not for
    /// these hosts.
    fn pair(&self, hosts: &[String]) -> Result<Pair, TlsError> {
        match self {
            Self::Files { certificate, key } => Pair::read(certificate, key),
            Self::SelfSigned { folder } => {
                create_private(folder).map_err(|error| of_file(folder)(&error))?;
                let (certificate, key) = (folder.join("certificate.pem"), folder.join("key.pem"));
                let key_pair = own_key(&key)?;
                if !is_good(&certificate, &key_pair, hosts) {
                    let made = self_signed(&key_pair, hosts).map_err(unusable)?;
                    write(&certificate, &made)?;
                }
                Pair::read(&certificate, &key)
            }
        }
    }

    /// Expiry of the certificate in the files; none for a self-signed one, which is renewed automatically.
    ///
    /// # Errors
    /// [`TlsError`] when the files cannot be used.
    pub(crate) fn expires(&self) -> Result<Option<SystemTime>, TlsError> {
        let Self::Files { certificate, key } = self else { return Ok(None) };
        let pair = Pair::read(certificate, key)?;
        let parsed = pair.certified.end_entity_cert().ok().and_then(|der| Certificate::from_der(der).ok());
        Ok(parsed.map(|parsed| parsed.tbs_certificate().validity().not_after.to_system_time()))
    }
}

fn unusable(error: impl std::fmt::Display) -> TlsError {
    TlsError::Certificate(error.to_string())
}

/// Reads a whole file, unless it is too large for its purpose.
fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let mut content = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_PEM_BYTES + 1).read_to_end(&mut content));
    read.map_err(|error| of_file(path)(&error))?;
    if content.len() as u64 > MAX_PEM_BYTES {
        return Err(of_file(path)(&format!("it has more than {MAX_PEM_BYTES} bytes")));
    }
    Ok(content)
}

/// Writes a file atomically, into a private folder.
fn write(path: &Path, content: &str) -> Result<(), TlsError> {
    let part = path.with_added_extension("part");
    let written = File::create(&part).and_then(|mut file| {
        file.write_all(content.as_bytes())?;
        file.sync_all()
    });
    written.and_then(|()| fs::rename(&part, path)).map_err(|error| of_file(path)(&error))
}

/// The key of self-signed certificates, created once.
fn own_key(path: &Path) -> Result<KeyPair, TlsError> {
    if !path.exists() {
        write(path, &KeyPair::generate().map_err(unusable)?.serialize_pem())?;
    }
    let pem = String::from_utf8(read(path)?).map_err(|error| of_file(path)(&error))?;
    KeyPair::from_pem(&pem).map_err(|error| of_file(path)(&error))
}

/// Whether the certificate in the file has this key, covers all these hosts and is valid for long enough.
fn is_good(path: &Path, key: &KeyPair, hosts: &[String]) -> bool {
    let pem = read(path).ok();
    let Some(der) = pem.and_then(|pem| CertificateDer::from_pem_slice(&pem).ok()) else { return false };
    let Ok(parsed) = Certificate::from_der(&der) else { return false };
    let is_of_key = pin(&der).is_ok_and(|pin| pin == hashed(&key.subject_public_key_info()));
    let expires = parsed.tbs_certificate().validity().not_after.to_system_time();
    let is_lasting = expires.duration_since(SystemTime::now()).is_ok_and(|left| left > RENEW_BEFORE);
    let Ok(parsed) = ParsedCertificate::try_from(&der) else { return false };
    let is_for = |host: &String| {
        ServerName::try_from(host.as_str()).is_ok_and(|name| verify_server_name(&parsed, &name).is_ok())
    };
    is_of_key && is_lasting && hosts.iter().all(is_for)
}

/// Makes a certificate for these hosts in PEM format.
fn self_signed(key: &KeyPair, hosts: &[String]) -> Result<String, rcgen::Error> {
    let mut params = CertificateParams::new(hosts)?;
    params.distinguished_name.push(DnType::CommonName, "ChaarFM coordinator");
    let now = SystemTime::now();
    (params.not_before, params.not_after) = ((now - CLOCK_TOLERANCE).into(), (now + VALIDITY).into());
    // Browsers take two certificates with the same issuer and serial number for a forgery.
    params.serial_number = Some(SerialNumber::from_slice(&rand::random::<u64>().to_be_bytes()));
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    Ok(params.self_signed(key)?.pem())
}

fn pin(certificate: &CertificateDer<'_>) -> Result<KeyPin, rustls::Error> {
    Ok(hashed(&ParsedCertificate::try_from(certificate)?.subject_public_key_info()))
}

fn hashed(public_key: &[u8]) -> KeyPin {
    let hash = digest::digest(&digest::SHA256, public_key);
    KeyPin::from_hash(hash.as_ref().try_into().expect("SHA-256 has 32 bytes"))
}

#[cfg(test)]
mod tests {
    use rustls::{ClientConfig, RootCertStore};
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio_rustls::TlsConnector;

    use super::*;

    fn hosts(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    /// What a client receives that trusts this certificate only, or the error of its handshake.
    async fn greeted(greeter: &Greeter, host: &str, trusted: &CertificateDer<'static>) -> io::Result<String> {
        let mut roots = RootCertStore::empty();
        roots.add(trusted.clone()).unwrap();
        let config =
            ClientConfig::builder_with_provider(Arc::new(default_provider())).with_safe_default_protocol_versions();
        let config = config.unwrap().with_root_certificates(roots).with_no_client_auth();
        let name = ServerName::try_from(host.to_owned()).unwrap();
        let (ours, theirs) = duplex(64 * 1024);
        let serving = async {
            let mut stream = greeter.greet(theirs).await?;
            stream.write_all(b"hello").await?;
            stream.shutdown().await
        };
        let asking = async {
            let mut stream = TlsConnector::from(Arc::new(config)).connect(name, ours).await?;
            let mut heard = String::new();
            stream.read_to_string(&mut heard).await.map(|_| heard)
        };
        tokio::join!(serving, asking).1
    }

    fn shown(greeter: &Greeter) -> CertificateDer<'static> {
        greeter.shown.pair().certified.end_entity_cert().unwrap().clone().into_owned()
    }

    #[tokio::test]
    async fn signs_a_certificate_itself_and_keeps_it() {
        let folder = tempfile::tempdir().unwrap();
        let source = Tls::SelfSigned { folder: folder.path().join("tls") };
        let first = Greeter::new(&source, hosts(&["localhost", "127.0.0.1", "::1"])).unwrap();
        let certificate = shown(&first);
        for host in ["localhost", "127.0.0.1", "::1"] {
            assert_eq!(greeted(&first, host, &certificate).await.unwrap(), "hello", "{host}");
        }
        assert!(greeted(&first, "music.example", &certificate).await.is_err());
        let again = Greeter::new(&source, hosts(&["localhost"])).unwrap();
        assert_eq!(shown(&again), certificate, "a browser that has accepted it is not asked again");
        let moved = Greeter::new(&source, hosts(&["localhost", "192.168.1.20"])).unwrap();
        assert_ne!(shown(&moved), certificate);
        assert!(moved.pin().is_some() && moved.pin() == first.pin(), "workers recognise it by its key");
        #[cfg(unix)]
        {
            let mode = fs::metadata(folder.path().join("tls")).unwrap();
            assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode.permissions()) & 0o77, 0, "it holds a secret");
        }
    }

    #[tokio::test]
    async fn files_are_read_again_and_bad_ones_leave_what_was() {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = (folder.path().join("fullchain.pem"), folder.path().join("privkey.pem"));
        let renew = || {
            let pair = KeyPair::generate().unwrap();
            fs::write(&certificate, self_signed(&pair, &hosts(&["localhost"])).unwrap()).unwrap();
            fs::write(&key, pair.serialize_pem()).unwrap();
        };
        renew();
        let source = Tls::Files { certificate: certificate.clone(), key: key.clone() };
        let greeter = Greeter::new(&source, Vec::new()).unwrap();
        assert!(greeter.pin().is_none() && !greeter.look_again().unwrap());
        let first = shown(&greeter);
        renew();
        assert_eq!(greeted(&greeter, "localhost", &first).await.unwrap(), "hello");
        assert!(greeter.look_again().unwrap());
        assert!(greeted(&greeter, "localhost", &first).await.is_err());
        let second = shown(&greeter);
        // Between the two writes of a renewal, the files do not match.
        fs::write(&key, KeyPair::generate().unwrap().serialize_pem()).unwrap();
        let error = greeter.look_again().unwrap_err().to_string();
        assert!(error.contains("privkey.pem is not the key of "), "{error}");
        assert_eq!(greeted(&greeter, "localhost", &second).await.unwrap(), "hello");
        assert!(source.expires().is_err());
    }

    #[test]
    fn says_which_file_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = (folder.path().join("cert"), folder.path().join("key"));
        let source = Tls::Files { certificate: certificate.clone(), key: key.clone() };
        let error = || Greeter::new(&source, Vec::new()).err().unwrap().to_string();
        assert!(error().contains("cert: No such file"), "{}", error());
        let pair = KeyPair::generate().unwrap();
        fs::write(&key, pair.serialize_pem()).unwrap();
        fs::write(&certificate, "nothing").unwrap();
        assert!(error().contains("cert: there is no certificate in PEM format"), "{}", error());
        fs::write(&certificate, self_signed(&pair, &hosts(&["localhost"])).unwrap()).unwrap();
        fs::write(&key, "nothing").unwrap();
        assert!(error().contains("key: "), "{}", error());
        fs::write(&key, vec![b' '; MAX_PEM_BYTES as usize + 1]).unwrap();
        assert!(error().contains("more than 1048576 bytes"), "{}", error());
    }
}
