//! Checks at the network border: TLS, connection limits, host names, guessed codes, and the browsers' security policy. They
//! apply before a request is handled.

mod connections;
mod guesses;
mod held;
mod hosts;
mod policy;
mod share;
mod tls;

use ipnet::IpNet;

pub use hosts::{PublicUrl, PublicUrlError};
pub use tls::{Tls, TlsError};

pub(crate) use connections::{Encryption, Peer, Service, network_of, serve};
pub(crate) use guesses::{Client, Guard, Guesses, note_client};
pub(crate) use hosts::{Hosts, asked_host, lead_to_tls, refuse_other_hosts};
pub(crate) use policy::{of_page, of_plain_page, of_programs};
pub(crate) use share::{Share, take_share, whole_body};
pub(crate) use tls::Greeter;

/// Checks that apply to every request.
#[derive(Debug, Clone)]
pub(crate) struct Border {
    pub(crate) guard: Guard,
    pub(crate) hosts: Hosts,
}

/// How clients reach the coordinator.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// Addresses by which it is reached besides its own, through a proxy or by name; the first is shown to people.
    pub public_urls: Vec<PublicUrl>,
    /// Networks of the proxies in front of it, whose forwarding headers are trusted.
    pub trusted_proxies: Vec<IpNet>,
    /// The coordinator's own TLS; none for plain HTTP.
    pub tls: Option<Tls>,
}
