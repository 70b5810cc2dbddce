//! Trusted certificates: those that the system trusts, including its owner's additions, such as a home network's own
//! authority; and a coordinator's self-signed certificate with the pinned key.

use std::{fmt, sync::Arc};

use chaarfm_protocol::KeyPin;
use chaarfm_worker::Address;
use rustls::{
    ClientConfig, RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier},
    crypto::ring,
};
use rustls_platform_verifier::Verifier;

use super::distrust::Explaining;

/// The root certificates in use.
#[derive(Debug, Clone)]
pub(crate) enum Roots {
    /// Those of the system.
    System,
    /// The public web's, built into this program, because the system has none; with the reason.
    BuiltIn(String),
}

impl fmt::Display for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System => f.write_str("those the system trusts"),
            Self::BuiltIn(reason) => {
                let known = webpki_roots::TLS_SERVER_ROOTS.len();
                write!(f, "{known} of the public web that are built in, because the system has none: {reason}")
            }
        }
    }
}

/// A host whose certificate is recognised by its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pinned {
    pub(super) host: String,
    pub(super) pin: KeyPin,
}

impl Pinned {
    /// The pin in the address of a coordinator, if any.
    pub(super) fn of(address: &Address) -> Option<Self> {
        Some(Self { host: address.host().to_owned(), pin: address.pin()? })
    }
}

/// The TLS configuration shared by the socket and the downloads.
///
/// # Errors
/// Never with the TLS versions that the provider supports.
pub(super) fn config(pinned: Option<Pinned>) -> Result<(ClientConfig, Roots), rustls::Error> {
    let provider = Arc::new(ring::default_provider());
    let (verifier, roots): (Arc<dyn ServerCertVerifier>, _) = match Verifier::new(Arc::clone(&provider)) {
        Ok(verifier) => (Arc::new(verifier), Roots::System),
        // A small container may have no certificates, which is fine.
        Err(error) => (built_in(&provider)?, Roots::BuiltIn(error.to_string())),
    };
    Ok((trusting(verifier, pinned, provider)?, roots))
}

fn built_in(provider: &Arc<rustls::crypto::CryptoProvider>) -> Result<Arc<WebPkiServerVerifier>, rustls::Error> {
    let roots = RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    builder.build().map_err(|error| rustls::Error::General(error.to_string()))
}

/// A configuration that trusts what the verifier trusts, and the pinned certificate; errors explain why a certificate is
/// not trusted.
pub(super) fn trusting(
    verifier: Arc<dyn ServerCertVerifier>,
    pinned: Option<Pinned>,
    provider: Arc<rustls::crypto::CryptoProvider>,
) -> Result<ClientConfig, rustls::Error> {
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let explaining = Arc::new(Explaining::new(verifier, pinned));
    Ok(builder.dangerous().with_custom_certificate_verifier(explaining).with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_without_certificates_leaves_those_of_the_public_web() {
        let provider = Arc::new(ring::default_provider());
        assert!(!built_in(&provider).unwrap().supported_verify_schemes().is_empty());
        let roots = Roots::BuiltIn("nothing there".into()).to_string();
        assert!(roots.contains("built in, because the system has none: nothing there"), "{roots}");
    }
}
