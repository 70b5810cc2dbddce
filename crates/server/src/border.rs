//! Where strangers meet the coordinator: TLS, how many may connect, under which names it answers, and what it tells browsers.
//! Everything here holds before a request is looked at.

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

/// What holds for every request.
#[derive(Debug, Clone)]
pub(crate) struct Border {
    pub(crate) guard: Guard,
    pub(crate) hosts: Hosts,
}

/// What is said about the way to the coordinator.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// Addresses under which it is reached besides its own, by way of a proxy or of a name; the first is shown to people.
    pub public_urls: Vec<PublicUrl>,
    /// Networks of the proxies in front of it, whose word for where a request came from is taken.
    pub trusted_proxies: Vec<IpNet>,
    /// How it speaks TLS itself; none for plain HTTP.
    pub tls: Option<Tls>,
}
