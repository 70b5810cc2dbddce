//! Explains from a server's certificate why it is not trusted.

use std::{fmt, sync::Arc, time::Duration};

use chaarfm_protocol::KeyPin;
use ring::digest;
use rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};
use x509_cert::{
    Certificate,
    der::{DateTime, Decode},
    ext::pkix::{SubjectAltName, name::GeneralName},
    name::Name,
};

use super::tls::Pinned;

/// Longest name from an untrusted certificate that is quoted, in characters.
const MAX_NAME_CHARS: usize = 80;

/// Maximum number of names shown from a certificate.
const MAX_NAMES: usize = 3;

/// An untrusted server certificate.
#[derive(Debug, thiserror::Error)]
#[error("the certificate of {host} {reason}")]
pub(crate) struct Distrust {
    host: String,
    pub(crate) reason: Reason,
}

/// What is wrong with a certificate.
#[derive(Debug)]
pub(crate) enum Reason {
    Expired { until: Option<DateTime>, now: Option<DateTime> },
    NotYetValid { from: Option<DateTime>, now: Option<DateTime> },
    SelfSigned,
    UnknownIssuer { issuer: String },
    OtherName { names: Vec<String> },
    OtherKey,
    Revoked,
    Other(String),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let day = |time: &Option<DateTime>| time.map_or_else(|| "another day".to_owned(), day);
        match self {
            Self::Expired { until, now } => write!(
                f,
                "was good until {}, and this computer's clock says {}: if the clock is wrong, set it; otherwise whoever runs \
                 the server has to renew the certificate",
                day(until),
                day(now)
            ),
            Self::NotYetValid { from, now } => write!(
                f,
                "is good from {} on, and this computer's clock says {}: the clock is probably wrong; set it",
                day(from),
                day(now)
            ),
            Self::SelfSigned => f.write_str(
                "is signed by itself (self-signed), so that anybody could have made it: join by the whole link that the owner's page \
                 shows, or with --pin and what the coordinator says at its start; if you know that it is the right one, add it to the certificates that this system trusts; otherwise whoever runs the server can have one from a \
                 public authority, such as Let's Encrypt",
            ),
            Self::UnknownIssuer { issuer } => write!(
                f,
                "comes from {issuer}, whom this system does not trust: either a proxy, firewall or virus scanner on the way \
                 reads along and has put its own in its place, then add that one's root certificate to those that this \
                 system trusts, or use another network; or it is the server's own authority, or the server does not send \
                 the certificates in between"
            ),
            Self::OtherName { names } if names.is_empty() => {
                f.write_str("names no host: whoever runs the server has to have it made with the name in the address")
            }
            Self::OtherName { names } => write!(
                f,
                "is for {}: the address is wrong, or something on the way answers in the server's place, such as the login \
                 page of a public network",
                names.join(", ")
            ),
            Self::OtherKey => f.write_str(
                "has another key than the one that the link or --pin names: either something on the way answers in the server's \
                 place, or the coordinator has a new key; ask its owner for a new link",
            ),
            Self::Revoked => f.write_str("has been revoked by whoever issued it: do not connect, and tell who runs the server"),
            Self::Other(what) => write!(f, "cannot be trusted: {what}"),
        }
    }
}

fn day(time: DateTime) -> String {
    format!("{:04}-{:02}-{:02}", time.year(), time.month(), time.day())
}

/// Wraps another verifier, and explains why it rejects a certificate.
#[derive(Debug)]
pub(super) struct Explaining {
    verifier: Arc<dyn ServerCertVerifier>,
    pinned: Option<Pinned>,
}

impl Explaining {
    pub(super) fn new(verifier: Arc<dyn ServerCertVerifier>, pinned: Option<Pinned>) -> Self {
        Self { verifier, pinned }
    }
}

impl ServerCertVerifier for Explaining {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let host = host(server_name);
        if let Some(pinned) = self.pinned.as_ref().filter(|pinned| pinned.host.eq_ignore_ascii_case(&host)) {
            return match pin(end_entity)? == pinned.pin {
                // Names and dates add nothing to the key: the pin comes from the coordinator's owner.
                true => Ok(ServerCertVerified::assertion()),
                false => Err(distrust(Distrust { host, reason: Reason::OtherKey })),
            };
        }
        let verified = self.verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        verified.map_err(|error| match error {
            Error::InvalidCertificate(error) => distrust(Distrust { host, reason: reason(&error, end_entity, now) }),
            other => other,
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

fn distrust(distrust: Distrust) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(distrust))))
}

/// SHA-256 of the public key in a certificate.
fn pin(certificate: &CertificateDer<'_>) -> Result<KeyPin, Error> {
    let public_key = ParsedCertificate::try_from(certificate)?.subject_public_key_info();
    let hash = digest::digest(&digest::SHA256, &public_key);
    Ok(KeyPin::from_hash(hash.as_ref().try_into().expect("SHA-256 has 32 bytes")))
}

fn host(name: &ServerName<'_>) -> String {
    match name {
        ServerName::DnsName(name) => name.as_ref().to_owned(),
        ServerName::IpAddress(ip) => std::net::IpAddr::from(*ip).to_string(),
        other => format!("{other:?}"),
    }
}

fn reason(error: &CertificateError, end_entity: &CertificateDer<'_>, now: UnixTime) -> Reason {
    let certificate = Certificate::from_der(end_entity).ok();
    let certificate = certificate.as_ref().map(Certificate::tbs_certificate);
    let now = moment(now);
    let validity = certificate.map(|certificate| certificate.validity());
    match error {
        // These contain the dates of the certificate at fault, wherever it is in the chain. The systems' own verifiers
        // give no dates, and usually mean the server's certificate.
        CertificateError::ExpiredContext { not_after, .. } => Reason::Expired { until: moment(*not_after), now },
        CertificateError::NotValidYetContext { not_before, .. } => {
            Reason::NotYetValid { from: moment(*not_before), now }
        }
        // Windows and macOS use the same error for both.
        CertificateError::Expired | CertificateError::NotValidYet => match validity {
            Some(validity) if now.is_some_and(|now| now < validity.not_before.to_date_time()) => {
                Reason::NotYetValid { from: Some(validity.not_before.to_date_time()), now }
            }
            _ if *error == CertificateError::NotValidYet => Reason::NotYetValid { from: None, now },
            validity => Reason::Expired { until: validity.map(|validity| validity.not_after.to_date_time()), now },
        },
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            Reason::OtherName { names: certificate.map(names).unwrap_or_default() }
        }
        CertificateError::Revoked => Reason::Revoked,
        // A self-signed certificate may be rejected for other reasons first.
        other => match certificate {
            Some(certificate) if certificate.subject() == certificate.issuer() => Reason::SelfSigned,
            Some(certificate) if *other == CertificateError::UnknownIssuer => {
                Reason::UnknownIssuer { issuer: issuer(certificate.issuer()) }
            }
            _ => Reason::Other(printable(&other.to_string())),
        },
    }
}

fn moment(time: UnixTime) -> Option<DateTime> {
    DateTime::from_unix_duration(Duration::from_secs(time.as_secs())).ok()
}

/// An issuer's name as people know it: its common name or organisation.
fn issuer(name: &Name) -> String {
    let common = name.common_name().ok().flatten().map(|name| name.value().into_owned());
    let organisation = || name.organization().ok().flatten().map(|name| name.value().into_owned());
    let known = common.or_else(organisation).map(|name| printable(&name)).filter(|name| !name.is_empty());
    known.map_or_else(|| "somebody without a name".to_owned(), |name| format!("“{name}”"))
}

/// The host names that a certificate is valid for.
fn names(certificate: &x509_cert::TbsCertificate) -> Vec<String> {
    let Ok(Some((_, SubjectAltName(names)))) = certificate.get_extension::<SubjectAltName>() else { return Vec::new() };
    let hosts = names.iter().filter_map(|name| match name {
        GeneralName::DnsName(name) => Some(printable(name.as_str())),
        GeneralName::IpAddress(bytes) => match bytes.as_bytes() {
            bytes if bytes.len() == 4 => Some(<[u8; 4]>::try_from(bytes).ok().map(std::net::IpAddr::from)?.to_string()),
            bytes => Some(<[u8; 16]>::try_from(bytes).ok().map(std::net::IpAddr::from)?.to_string()),
        },
        _ => None,
    });
    hosts.take(MAX_NAMES).collect()
}

/// Makes a text from a certificate fit for one line.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_NAME_CHARS).collect()
}
