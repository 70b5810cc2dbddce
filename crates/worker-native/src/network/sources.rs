//! Restricts the addresses from which this worker fetches files at a coordinator's request.
//!
//! A name is looked up once, and the connection goes only to allowed addresses of that answer, so a name server that
//! changes its answer afterwards has no effect. Redirects are not followed.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use chaarfm_worker::{FetchError, is_public, may_be_public};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::net::lookup_host;
use url::{Host, Url};

/// Resolves names for downloads, and drops forbidden addresses.
#[derive(Debug, Clone)]
pub(super) struct Sources(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    allows_private: bool,
    coordinator: Mutex<Option<Coordinator>>,
}

/// The coordinator that the worker is connected to.
#[derive(Debug, Clone)]
struct Coordinator {
    host: String,
    /// Its IP address; none if a proxy resolved the name.
    ip: Option<IpAddr>,
}

impl Sources {
    /// Allows public addresses only, unless the owner allows all.
    pub(super) fn new(allows_private: bool) -> Self {
        Self(Arc::new(Inner { allows_private, coordinator: Mutex::default() }))
    }

    fn coordinator(&self) -> MutexGuard<'_, Option<Coordinator>> {
        self.0.coordinator.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that the worker is connected to a coordinator at this address.
    pub(super) fn connected(&self, url: &Url, ip: Option<IpAddr>) {
        let host = url.host_str().unwrap_or_default().to_owned();
        *self.coordinator() = Some(Coordinator { host, ip: ip.map(|ip| ip.to_canonical()) });
    }

    /// Whether an address may be fetched from. A name's IP addresses are checked only when it is resolved.
    pub(super) fn allows(&self, url: &Url) -> bool {
        self.0.allows_private || self.is_own(url.host_str().unwrap_or_default()) || may_be_public(url)
    }

    /// The same when a proxy resolves the name: this machine's own name server is asked first and believed; a name that
    /// it does not know is left to the proxy.
    pub(super) async fn allows_by_proxy(&self, url: &Url) -> bool {
        if !self.allows(url) {
            return false;
        }
        let Some(Host::Domain(name)) = url.host() else { return true };
        if self.0.allows_private || self.is_own(name) {
            return true;
        }
        lookup_host((name, 0)).await.map_or(true, |mut found| found.all(|address| is_public(address.ip())))
    }

    /// Whether this is the coordinator's own host, which the owner chose to connect to.
    fn is_own(&self, host: &str) -> bool {
        self.coordinator().as_ref().is_some_and(|coordinator| coordinator.host == host)
    }

    async fn look_up(&self, name: &str) -> Result<Vec<SocketAddr>, Box<dyn std::error::Error + Send + Sync>> {
        let own = self.coordinator().clone().filter(|coordinator| coordinator.host == name);
        if let Some(ip) = own.and_then(|coordinator| coordinator.ip) {
            return Ok(vec![(ip, 0).into()]);
        }
        let found = lookup_host((name, 0)).await?;
        let allowed: Vec<_> = found.filter(|address| self.0.allows_private || is_public(address.ip())).collect();
        if allowed.is_empty() { Err(FetchError::NotAllowed.into()) } else { Ok(allowed) }
    }
}

impl Resolve for Sources {
    fn resolve(&self, name: Name) -> Resolving {
        let sources = self.clone();
        Box::pin(async move {
            let found = sources.look_up(name.as_str()).await?;
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Resolves a name as a download would.
    async fn look_up(sources: &Sources, name: &str) -> Result<Vec<IpAddr>, String> {
        let found = sources.look_up(name).await.map_err(|error| error.to_string())?;
        Ok(found.into_iter().map(|address| address.ip()).collect())
    }

    #[tokio::test]
    async fn a_name_that_leads_inside_leads_nowhere() {
        let refused = Err(FetchError::NotAllowed.to_string());
        // `localhost`, and a number passed as a name, are checked after resolution.
        assert_eq!(look_up(&Sources::new(false), "localhost").await, refused);
        assert_eq!(look_up(&Sources::new(false), "127.0.0.1").await, refused);
        assert!(look_up(&Sources::new(true), "localhost").await.unwrap().iter().all(IpAddr::is_loopback));
    }

    #[tokio::test]
    async fn the_coordinators_name_leads_where_the_socket_is_and_nowhere_else() {
        let sources = Sources::new(false);
        let ip: IpAddr = "192.168.1.20".parse().unwrap();
        // Its name server now gives another address.
        sources.connected(&"ws://localhost:8080/x".parse().unwrap(), Some(ip));
        assert_eq!(look_up(&sources, "localhost").await, Ok(vec![ip]));
        assert!(sources.allows(&"http://localhost:9000/x".parse().unwrap()));
        assert!(!sources.allows(&"http://192.168.1.20:9000/x".parse().unwrap()));
    }
}
