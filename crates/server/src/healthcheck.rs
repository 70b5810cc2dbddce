//! Checks whether a coordinator works, for containers whose image has no other HTTP client.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};

use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::ring::default_provider,
    pki_types::{CertificateDer, ServerName, UnixTime},
};

/// Time limit for each step of the check.
const LIMIT_SECONDS: u64 = 2;

/// First bytes of a healthy answer.
const HEALTHY: &[u8; 13] = b"HTTP/1.1 200 ";

/// First bytes of an unhealthy answer.
const UNHEALTHY: &[u8; 13] = b"HTTP/1.1 503 ";

/// Checks the coordinator that listens at the address, with TLS or without.
///
/// # Errors
/// When nobody answers, or the status is not 200; the error says which.
pub fn healthcheck(address: SocketAddr, has_tls: bool) -> io::Result<()> {
    let answer = ask(address, has_tls)
        .map_err(|error| io::Error::new(error.kind(), format!("{address} does not answer: {error}")))?;
    if answer != *HEALTHY {
        let answer = String::from_utf8_lossy(&answer);
        return Err(io::Error::other(format!("{address} answers {}", answer.trim())));
    }
    Ok(())
}

/// Whether a coordinator answers at the address, healthy or not.
pub(crate) fn is_coordinator(address: SocketAddr, has_tls: bool) -> bool {
    ask(address, has_tls).is_ok_and(|answer| answer == *HEALTHY || answer == *UNHEALTHY)
}

/// Requests `/healthz` and returns the beginning of the answer.
fn ask(address: SocketAddr, has_tls: bool) -> io::Result<[u8; HEALTHY.len()]> {
    let limit = Duration::from_secs(LIMIT_SECONDS);
    let connection = TcpStream::connect_timeout(&address, limit)?;
    connection.set_read_timeout(Some(limit))?;
    connection.set_write_timeout(Some(limit))?;
    if !has_tls {
        return exchange(connection, address);
    }
    let config =
        ClientConfig::builder_with_provider(Arc::new(default_provider())).with_safe_default_protocol_versions();
    let config = config.map_err(io::Error::other)?.dangerous().with_custom_certificate_verifier(Arc::new(Anybody));
    let name = ServerName::IpAddress(address.ip().into());
    let client = ClientConnection::new(Arc::new(config.with_no_client_auth()), name).map_err(io::Error::other)?;
    exchange(StreamOwned::new(client, connection), address)
}

fn exchange(mut connection: impl Read + Write, address: SocketAddr) -> io::Result<[u8; HEALTHY.len()]> {
    // In one piece: a server that answers after the first piece may have closed the connection before the next one.
    connection
        .write_all(format!("GET /healthz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut answer = [0; HEALTHY.len()];
    connection.read_exact(&mut answer)?;
    Ok(answer)
}

/// Accepts every certificate: the request goes to an IP address, which a certificate may not cover, and contains no secret.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        default_provider().signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, thread};

    use super::*;

    /// Result of a check against a listener that gives this answer.
    fn asked(answer: &'static [u8]) -> io::Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let other = thread::spawn(move || {
            let (mut connection, _) = listener.accept().unwrap();
            let _ = connection.read(&mut [0; 256]).unwrap();
            connection.write_all(answer).unwrap();
        });
        let asked = healthcheck(address, false);
        other.join().unwrap();
        asked
    }

    #[test]
    fn only_the_right_answer_is_healthy() {
        asked(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        assert!(asked(b"HTTP/1.1 503 Service Unavailable\r\n\r\n").unwrap_err().to_string().contains("503"));
        assert!(asked(b"").unwrap_err().to_string().contains("does not answer"));
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert!(healthcheck(free, false).is_err());
    }
}
