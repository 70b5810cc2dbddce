//! From where this worker fetches what a coordinator names.
//!
//! A name is looked up once, and only what is allowed of the answer is connected to: whatever its name server says the next
//! moment has no effect. No redirection is followed.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use chaarfm_worker::{FetchError, is_public, may_be_public};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::net::lookup_host;
use url::{Host, Url};

/// Looks names up for downloads, and leaves out what they may not lead to.
#[derive(Debug, Clone)]
pub(super) struct Sources(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    allows_private: bool,
    coordinator: Mutex<Option<Coordinator>>,
}

/// The one that the worker is connected to.
#[derive(Debug, Clone)]
struct Coordinator {
    host: String,
    /// Where that is; none when a proxy has found it.
    ip: Option<IpAddr>,
}

impl Sources {
    /// Of the public internet only, unless its owner allows all.
    pub(super) fn new(allows_private: bool) -> Self {
        Self(Arc::new(Inner { allows_private, coordinator: Mutex::default() }))
    }

    fn coordinator(&self) -> MutexGuard<'_, Option<Coordinator>> {
        self.0.coordinator.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The worker is connected to a coordinator at this address.
    pub(super) fn connected(&self, url: &Url, ip: Option<IpAddr>) {
        let host = url.host_str().unwrap_or_default().to_owned();
        *self.coordinator() = Some(Coordinator { host, ip: ip.map(|ip| ip.to_canonical()) });
    }

    /// Whether an address may be fetched from; of a name it is seen only when it is looked up.
    pub(super) fn allows(&self, url: &Url) -> bool {
        self.0.allows_private || self.is_own(url.host_str().unwrap_or_default()) || may_be_public(url)
    }

    /// The same, when a proxy is to look the name up: what this machine's own name server says of it is believed, and where
    /// it does not know the name, the proxy may.
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

    /// Whether that is the coordinator's own host. It has been connected to at the owner's wish.
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

    /// A name of this machine that its own name service knows, and that looks like any other.
    async fn look_up(sources: &Sources, name: &str) -> Result<Vec<IpAddr>, String> {
        let found = sources.look_up(name).await.map_err(|error| error.to_string())?;
        Ok(found.into_iter().map(|address| address.ip()).collect())
    }

    #[tokio::test]
    async fn a_name_that_leads_inside_leads_nowhere() {
        let refused = Err(FetchError::NotAllowed.to_string());
        // What a number is called that looks like no number is looked up as a name.
        assert_eq!(look_up(&Sources::new(false), "localhost").await, refused);
        assert_eq!(look_up(&Sources::new(false), "127.0.0.1").await, refused);
        assert!(look_up(&Sources::new(true), "localhost").await.unwrap().iter().all(IpAddr::is_loopback));
    }

    #[tokio::test]
    async fn the_coordinators_name_leads_where_the_socket_is_and_nowhere_else() {
        let sources = Sources::new(false);
        let ip: IpAddr = "192.168.1.20".parse().unwrap();
        // Its name server says something else now.
        sources.connected(&"ws://localhost:8080/x".parse().unwrap(), Some(ip));
        assert_eq!(look_up(&sources, "localhost").await, Ok(vec![ip]));
        assert!(sources.allows(&"http://localhost:9000/x".parse().unwrap()));
        assert!(!sources.allows(&"http://192.168.1.20:9000/x".parse().unwrap()));
    }
}
