//! The coordinator as a program: an HTTP interface, WebSockets for workers, a database and the pages, built around the
//! rules in `chaarfm-coordinator`.
//!
//! It contains no rules about jobs and no analysis.

mod advertised_address;
mod api;
mod audit;
mod border;
mod doctor;
mod downloads;
mod error;
mod export;
mod healthcheck;
mod hub;
mod identity;
mod metrics;
mod models;
mod pages;
#[cfg(test)]
mod simulation;
mod spans;
mod verification;
mod wanted;
mod worker_socket;

use std::{fs::File, io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::bail;
use chaarfm_config::ConfigFile;
use chaarfm_scratch::Scratch;
use chaarfm_sources::Libraries;
use chaarfm_store::{OpenError, Store, StoreError, create_private};
use tokio::{net::TcpListener, task::JoinHandle};

pub use chaarfm_coordinator::{VerifyError, VerifyShare};
pub use chaarfm_sources::{LibraryError, LibraryLocation, LocationError, NamedLocation, StorageSettings};
pub use chaarfm_store::{Database, DatabaseError, RecordCounts, export_database, import_database};

use crate::{
    advertised_address::AdvertisedAddress,
    border::{Border, Encryption, Greeter, Guard, Hosts, Service, lead_to_tls},
    downloads::Downloads,
    hub::{Hub, system_time},
    identity::{Link, make_link},
    verification::Verifier,
};
pub use crate::{
    border::{Access, PublicUrl, PublicUrlError, Tls, TlsError},
    doctor::doctor,
    downloads::packaged_downloads,
    healthcheck::healthcheck,
    identity::{add_token, list_tokens, new_link, revoke_token},
};

/// Time limit for open requests (such as audio downloads of workers) and connections to end when the coordinator stops.
/// Workers' last messages are handled and their connections closed within it. Service managers usually kill the process
/// after 10 s.
const SHUTDOWN_LIMIT_SECONDS: u64 = 8;

/// Time limit for closing the database afterwards; it may be locked or unreachable.
const CLOSE_LIMIT_SECONDS: u64 = 1;
const _: () = assert!(worker_socket::PARTING_SECONDS + worker_socket::LINGER_SECONDS < SHUTDOWN_LIMIT_SECONDS);

/// Configuration of a coordinator.
#[derive(Debug, Clone)]
pub struct Config {
    /// Address to listen on; port 0 picks a free one.
    pub listen: SocketAddr,
    /// Location of the database; missing folders for a database file are created.
    pub database: Database,
    /// Libraries of audio files. An unusable one is offered as absent until it can be used.
    pub libraries: Vec<NamedLocation>,
    /// Access to the storage of libraries that are not folders.
    pub storage: StorageSettings,
    /// Folder with worker programs, offered on the join page.
    pub downloads: Option<PathBuf>,
    /// Settings file, to which libraries added at run time are written; none if the file does not name the libraries.
    pub settings: Option<ConfigFile>,
    /// Folder for the temporary copies that scans of buckets make; created when missing. It must not be used for anything
    /// else.
    pub temporary: PathBuf,
    /// Days after which an ended session and its jobs are deleted; 0 means never. If several coordinators share a database,
    /// the smallest value counts.
    pub job_retention_days: u32,
    /// Share of the workers' results that is recomputed.
    pub verify: VerifyShare,
    /// How clients reach the coordinator.
    pub access: Access,
}

/// Why a coordinator did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A library is unusable.
    #[error(transparent)]
    Library(#[from] LibraryError),
    /// The database is unusable.
    #[error(transparent)]
    Database(#[from] OpenError),
    /// The certificate is unusable.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Listening on the address failed.
    #[error("cannot listen on {address}: {reason}")]
    Listen {
        /// The address from the configuration.
        address: SocketAddr,
        /// Error of the operating system.
        reason: io::Error,
    },
}

/// A coordinator that is listening, and serves once it runs.
pub struct Server {
    hub: Arc<Hub>,
    downloads: Downloads,
    border: Border,
    listener: TcpListener,
    greeter: Option<Arc<Greeter>>,
    /// Link that lets the owner in; none if a browser is let in already.
    link: Option<Link>,
    job_retention_days: u32,
    /// Lock on a database that only one coordinator may use.
    _lock: Option<File>,
}

impl Server {
    /// Opens the database and the port.
    ///
    /// # Errors
    /// When a folder, the database or the address cannot be used; the error names it.
    pub async fn bind(config: &Config) -> Result<Self, StartError> {
        let scratch = Arc::new(scratch(config));
        let libraries = Libraries::open(&config.libraries, &config.storage, &scratch).await?;
        let (store, lock) = Store::open_alone(&config.database).await?;
        let link = match begin(&store).await {
            Ok(link) => link,
            Err(reason) => {
                store.close().await;
                return Err(OpenError::Database { database: config.database.clone(), reason }.into());
            }
        };
        let in_use = |reason| StartError::Listen { address: config.listen, reason };
        let listener = TcpListener::bind(config.listen).await.map_err(in_use)?;
        let public_urls = &config.access.public_urls;
        let mut advertised =
            AdvertisedAddress::of(&listener, public_urls.first().map(ToString::to_string)).map_err(in_use)?;
        let hosts = Hosts::new(&advertised, public_urls);
        let greeter =
            config.access.tls.as_ref().map(|tls| {
                Greeter::new(tls, advertised.hosts().into_iter().chain(hosts.public()).collect()).map(Arc::new)
            });
        let greeter = greeter.transpose()?;
        if let Some(greeter) = &greeter {
            // With a proxy in front, workers see the proxy's certificate.
            advertised = advertised.with_tls(greeter.pin().filter(|_| config.access.trusted_proxies.is_empty()));
        }
        let trusted_proxies = config.access.trusted_proxies.clone();
        let guard = Guard { guesses: Arc::default(), trusted_proxies };
        let border = Border { guard, hosts };
        let downloads = Downloads::of(config.downloads.clone());
        let hub = Hub::new(store, libraries, config.settings.clone(), advertised);
        let hub = Arc::new(hub.verifying(Verifier::new(config.verify)));
        let job_retention_days = config.job_retention_days;
        Ok(Self { hub, downloads, border, listener, greeter, link, job_retention_days, _lock: lock })
    }

    /// Address on which the coordinator listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.hub.advertised.address()
    }

    /// Address of the owner's page, for a browser on this machine. Until a browser has been let in, it is a link that lets
    /// in one browser, once.
    #[must_use]
    pub fn page(&self) -> String {
        self.page_at(&self.hub.advertised.origin_here())
    }

    /// The same for other machines; none if they cannot reach the coordinator, or this machine has no network.
    #[must_use]
    pub fn page_elsewhere(&self) -> Option<String> {
        self.hub.advertised.view().origin.map(|origin| self.page_at(&origin))
    }

    /// SHA-256 of the public key in the coordinator's self-signed certificate, in hexadecimal digits. Native workers
    /// receive it with their link or as `--pin`.
    #[must_use]
    pub fn pin(&self) -> Option<String> {
        self.hub.advertised.view().pin
    }

    /// Whether other machines reach the coordinator without TLS, as far as it can know: a proxy in front may provide TLS.
    #[must_use]
    pub fn is_readable_on_the_way(&self) -> bool {
        let is_reached_plainly = |origin: &String| origin.starts_with("http://");
        self.hub.advertised.view().origin.as_ref().is_some_and(is_reached_plainly)
    }

    /// Whether the page addresses are one-time links, which must stay secret.
    #[must_use]
    pub fn is_waiting_for_its_owner(&self) -> bool {
        self.link.is_some()
    }

    fn page_at(&self, origin: &str) -> String {
        self.link.as_ref().map_or_else(|| format!("{origin}/ingest"), |link| link.below(origin))
    }

    /// Serves until `shutdown` completes. Then no more jobs are handed out, results and files in transit are finished, and
    /// the workers are told to reconnect elsewhere, all within 9 seconds. They keep their leases and present them to the
    /// next process, or to another coordinator on the same database.
    ///
    /// # Errors
    /// When the database cannot be read at the start and the failure is permanent.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send + 'static) -> anyhow::Result<()> {
        self.hub.resume_scans_if_possible().await?;
        let hub = Arc::clone(&self.hub);
        self.hub.tasks.spawn(async move { hub.libraries.watch(&hub.shutdown).await });
        let loops = tokio::spawn(Arc::clone(&self.hub).run(self.job_retention_days));
        self.run_beside(loops, shutdown).await
    }

    /// Serves while the background loops run.
    async fn run_beside(
        self,
        mut loops: JoinHandle<()>,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> anyhow::Result<()> {
        let hub = self.hub;
        hub.watch_loops(&loops);
        let stopping = hub.shutdown.clone();
        let proxies = self.border.guard.trusted_proxies.clone();
        if let Some(greeter) = &self.greeter {
            hub.tasks.spawn(Arc::clone(greeter).keep_up(stopping.clone()));
        }
        let plain = lead_to_tls(self.border.hosts.clone());
        let tls = self.greeter.map(|greeter| Encryption { greeter, plain });
        let service = Service { router: api::router(Arc::clone(&hub), self.downloads, self.border), tls };
        let serve = tokio::spawn(border::serve(self.listener, service, proxies, stopping.clone()));
        // A process that serves pages but hands out no jobs is worse than one that its supervisor restarts.
        let failed = tokio::select! {
            () = shutdown => None,
            ended = &mut loops => Some(ended),
        };
        tracing::info!("stopping");
        stopping.cancel();
        hub.tasks.close();
        let limit = Duration::from_secs(SHUTDOWN_LIMIT_SECONDS);
        let has_failed = failed.is_some();
        let loops_end = async {
            if !has_failed {
                // The loops finish their current work.
                let _ = loops.await;
            }
        };
        let orderly = async { tokio::join!(hub.tasks.wait(), serve, loops_end) };
        if tokio::time::timeout(limit, orderly).await.is_err() {
            tracing::warn!("gave up on what was still open after {SHUTDOWN_LIMIT_SECONDS} s");
        }
        if tokio::time::timeout(Duration::from_secs(CLOSE_LIMIT_SECONDS), hub.store.close()).await.is_err() {
            tracing::warn!("the database was left without an answer after {CLOSE_LIMIT_SECONDS} s");
        }
        match failed {
            None => Ok(()),
            Some(Ok(())) => {
                bail!("what hands out jobs has ended by itself: start the coordinator anew, and report this")
            }
            Some(Err(panic)) => {
                bail!("what hands out jobs broke off ({panic}): start the coordinator anew, and report this")
            }
        }
    }
}

/// Starts work on the database, and creates the owner's link if no browser has been let in yet.
async fn begin(store: &Store) -> Result<Option<Link>, StoreError> {
    store.serve().await?;
    Ok(if store.has_browsers(system_time()).await? { None } else { Some(make_link(store).await?) })
}

/// Origins of a coordinator that listens on this address, starting with the one for browsers on its own machine.
#[must_use]
pub fn origins(listen: SocketAddr, access: &Access) -> Vec<String> {
    let mut advertised = AdvertisedAddress::new(listen, true, access.public_urls.first().map(ToString::to_string));
    if access.tls.is_some() {
        advertised = advertised.with_tls(None);
    }
    std::iter::once(advertised.origin_here()).chain(advertised.view().origin).collect()
}

/// Opens the folder for temporary files.
fn scratch(config: &Config) -> Scratch {
    let opened = create_private(&config.temporary).and_then(|()| Scratch::open(&config.temporary));
    opened.unwrap_or_else(|error| {
        let folder = config.temporary.display();
        tracing::warn!("temporary files go to the system's folder for them, as {folder} cannot be used: {error}");
        Scratch::default()
    })
}

#[cfg(test)]
mod tests {
    use std::{fs, future::pending, path::Path};

    use super::*;

    fn config(folder: &Path) -> Config {
        Config {
            listen: "127.0.0.1:0".parse().unwrap(),
            database: Database::Sqlite(folder.join("chaarfm.sqlite3")),
            libraries: Vec::new(),
            storage: StorageSettings::from_env(),
            downloads: None,
            settings: None,
            temporary: folder.join("tmp"),
            job_retention_days: 0,
            verify: VerifyShare::None,
            access: Access::default(),
        }
    }

    #[test]
    fn temporary_files_are_in_the_data_folder() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        let place = &config.temporary;
        let left = place.join("process-left");
        fs::create_dir_all(&left).unwrap();
        let made = scratch(&config);
        assert!(!left.exists(), "what an ended process has left is gone");
        let folders = place.read_dir().unwrap().filter(|entry| entry.as_ref().unwrap().path().is_dir()).count();
        assert_eq!(folders, 1, "its own");
        drop(made);
        fs::remove_dir_all(place).unwrap();
        fs::write(place, "no folder").unwrap();
        scratch(&config).file().expect("the system's folder is there");
    }

    #[tokio::test]
    async fn a_loop_that_breaks_off_ends_the_coordinator() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        let server = Server::bind(&config).await.unwrap();
        let loops = tokio::spawn(async { panic!("a fault in a loop") });
        let error = server.run_beside(loops, pending()).await.unwrap_err().to_string();
        assert!(error.contains("a fault in a loop"), "{error}");
    }
}
