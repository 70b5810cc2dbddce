//! Whom to trust: the roots of the public web and those the system adds, such as a home network's own.

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore, crypto::ring};

/// The one TLS configuration, for the socket and for downloads.
///
/// # Errors
/// Never with the versions of TLS that the provider is built with.
pub(crate) fn config() -> Result<ClientConfig, rustls::Error> {
    let mut roots = RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    // A system without readable certificates is no hindrance: the built-in ones remain.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    Ok(ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth())
}
