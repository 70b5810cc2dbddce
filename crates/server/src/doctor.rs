//! `chaarfm-server doctor`: checks everything a coordinator needs, and advises on problems. It changes nothing in the
//! database or in a library.

use std::{
    fs::{self, File},
    io::{self, ErrorKind, Read},
    net::SocketAddr,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use chaarfm_doctor::{Check, QUICK, Report, blocking, clock, folder, within};
use chaarfm_scratch::Scratch;
use chaarfm_sources::{Libraries, LibraryState};
use sqlx::{ConnectOptions, Connection, PgConnection, postgres::PgConnectOptions};
use tokio::net::TcpListener;

use crate::{
    Config, Database, NamedLocation, StorageSettings, Tls, downloads::Downloads, healthcheck::is_coordinator, pages,
};

/// Number of open files and connections of a coordinator with many workers.
const OPEN_FILES: u64 = 4096;

/// Time limit for checking a library; a bucket is queried twice.
const LIBRARY_LIMIT: Duration = Duration::from_secs(60);

/// Time limit for checking the downloads folder, whose files are read.
const DOWNLOADS_LIMIT: Duration = Duration::from_secs(60);

/// Limit for a warning; authorities renew certificates well before this.
const EXPIRES_SOON: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Tolerated clock difference between coordinators on one database.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(10);

/// First bytes of a database file (sqlite.org/fileformat.html, section 1.3).
const SQLITE_MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// Checks everything in the configuration; calls `tell` with the output of each check.
///
/// # Errors
/// When `tell` fails.
pub async fn doctor(config: &Config, mut tell: impl FnMut(&str) -> io::Result<()>) -> io::Result<Report> {
    let mut report = Report::new("chaarfm-server", env!("CARGO_PKG_VERSION"));
    let mut add = |checks: Vec<Check>| checks.into_iter().try_for_each(|check| tell(&report.add(check)));
    add(vec![program()])?;
    add(blocking(QUICK, "system", || vec![chaarfm_doctor::system(), chaarfm_doctor::memory()]).await)?;
    add(vec![chaarfm_doctor::open_files(OPEN_FILES)])?;
    for (name, path) in folders(config) {
        add(blocking(QUICK, name, move || vec![folder(name, &path)]).await)?;
    }
    match &config.database {
        Database::Sqlite(path) => {
            let path = path.clone();
            add(blocking(QUICK, "database", move || vec![sqlite(&path)]).await)?;
        }
        Database::Postgres(address) => add(postgres(&config.database, address).await)?,
    }
    if config.libraries.is_empty() {
        add(vec![Check::warning("libraries", "none", "give one with --library, or there is nothing to run through")])?;
    }
    for given in &config.libraries {
        add(vec![within(LIBRARY_LIMIT, "library", library(given, &config.storage)).await])?;
    }
    let tls = config.access.tls.clone();
    add(vec![within(QUICK, "address", address(config.listen, tls.is_some())).await])?;
    if let Some(tls) = tls {
        add(blocking(QUICK, "TLS", move || vec![certificate(&tls)]).await)?;
    }
    add(vec![within(DOWNLOADS_LIMIT, "downloads", downloads(config.downloads.clone())).await])?;
    add(chaarfm_doctor::tools().await)?;
    Ok(report)
}

fn program() -> Check {
    let version = format!("chaarfm-server {}", env!("CARGO_PKG_VERSION"));
    if pages::are_built() {
        Check::ok("program", version)
    } else {
        Check::warning("program", format!("{version}, without its pages"), "build it with cargo xtask build")
    }
}

/// The folders that the coordinator writes to.
fn folders(config: &Config) -> Vec<(&'static str, PathBuf)> {
    let data = match &config.database {
        Database::Sqlite(path) => Some(("data folder", path.parent().unwrap_or(Path::new(".")).to_owned())),
        Database::Postgres(_) => None,
    };
    data.into_iter().chain([("temporary files", config.temporary.clone())]).collect()
}

/// Checks a database file without opening it as a database: it may be in use.
fn sqlite(path: &Path) -> Check {
    const NAME: &str = "database";
    let found = |words: &str| format!("{}: {words}", path.display());
    let mut magic = [0; 16];
    let read = File::open(path).and_then(|mut file| {
        let bytes = file.metadata()?.len();
        if bytes > 0 { file.read_exact(&mut magic) } else { Ok(()) }.map(|()| bytes)
    });
    match read {
        Ok(0) => Check::ok(NAME, found("empty")),
        Ok(bytes) if magic == *SQLITE_MAGIC => {
            let lock = File::open(path.with_added_extension("lock"));
            let in_use = lock.is_ok_and(|lock| matches!(lock.try_lock(), Err(fs::TryLockError::WouldBlock)));
            let use_ = if in_use { ", in use by a coordinator" } else { "" };
            Check::ok(NAME, found(&format!("{} MiB{use_}", bytes.div_ceil(1 << 20))))
        }
        Ok(_) => Check::failed(NAME, found("no database of SQLite"), "name another file, or restore it from a backup"),
        Err(error) if error.kind() == ErrorKind::NotFound => Check::ok(NAME, found("made at the first start")),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
            Check::failed(NAME, found("no database of SQLite"), "name another file, or restore it from a backup")
        }
        Err(error) => Check::failed(NAME, found(&error.to_string()), "let this user read and write it"),
    }
}

async fn postgres(database: &Database, address: &str) -> Vec<Check> {
    const NAME: &str = "database";
    // The error for an invalid address would quote its options, which may include a password.
    let Ok(options) = PgConnectOptions::from_str(address) else {
        return vec![Check::failed(NAME, database.to_string(), "look at the address again")];
    };
    let asking = async {
        let mut connection = options.connect().await?;
        let told = ask(&mut connection).await;
        connection.close().await?;
        told
    };
    match tokio::time::timeout(QUICK, asking).await {
        Ok(Ok((version, has_vectors, now_ms))) => {
            let found = format!("{database}, PostgreSQL {version}");
            let server = if has_vectors {
                Check::ok(NAME, format!("{found} with pgvector"))
            } else {
                Check::failed(NAME, format!("{found} without pgvector"), "install the extension vector on its server")
            };
            let theirs = u64::try_from(now_ms).ok().map(|now| UNIX_EPOCH + Duration::from_millis(now));
            vec![server, clock("database server", theirs, SystemTime::now(), CLOCK_TOLERANCE)]
        }
        Ok(Err(error)) => {
            let advice = "see that its server runs, that it lets this machine in, and that name and password are right";
            vec![Check::failed(NAME, format!("{database}: {error}"), advice)]
        }
        Err(_) => {
            let found = format!("{database}: no answer for {} s", QUICK.as_secs());
            vec![Check::failed(NAME, found, "see that its server runs, and that firewalls on the way pass it")]
        }
    }
}

/// The server's version, whether it has pgvector, and its time in milliseconds.
async fn ask(connection: &mut PgConnection) -> sqlx::Result<(String, bool, i64)> {
    let question = "SELECT current_setting('server_version'), \
                    EXISTS (SELECT FROM pg_available_extensions WHERE name = 'vector'), \
                    (extract(epoch FROM clock_timestamp()) * 1000)::bigint";
    sqlx::query_as(question).fetch_one(connection).await
}

async fn library(given: &NamedLocation, storage: &StorageSettings) -> Check {
    const NAME: &str = "library";
    // Nothing is copied here, and other processes' temporary files are not removed.
    let scratch = Arc::new(Scratch::default());
    let advice = "see that it is there and that this user may read it";
    match Libraries::open(std::slice::from_ref(given), storage, &scratch).await {
        Ok(libraries) => match libraries.states().pop() {
            Some(LibraryState { problem: Some(problem), .. }) => Check::failed(NAME, problem, advice),
            state => Check::ok(NAME, format!("{} can be read", state.map(|state| state.name).unwrap_or_default())),
        },
        Err(error) => Check::failed(NAME, error.to_string(), advice),
    }
}

/// Whether the address is free, or in use by a coordinator.
async fn address(listen: SocketAddr, has_tls: bool) -> Check {
    const NAME: &str = "address";
    match TcpListener::bind(listen).await {
        Ok(_) => Check::ok(NAME, format!("{listen} is free")),
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            let asked = tokio::task::spawn_blocking(move || is_coordinator(listen, has_tls)).await;
            if asked.unwrap_or(false) {
                return Check::ok(NAME, format!("a coordinator answers at {listen}"));
            }
            let advice = "end the program that uses it, or choose another one with --listen";
            Check::failed(NAME, format!("{listen} is in use by another program"), advice)
        }
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            let advice = "choose a port above 1023 with --listen, and have a proxy lead there";
            Check::failed(NAME, format!("{listen} is not for this user"), advice)
        }
        Err(error) => {
            Check::failed(NAME, format!("{listen}: {error}"), "choose an address of this machine with --listen")
        }
    }
}

/// The certificate in the files, and how long it is valid.
fn certificate(tls: &Tls) -> Check {
    const NAME: &str = "TLS";
    let advice = "have the certificate renewed, and the files that --tls-cert and --tls-key name replaced";
    match tls.expires() {
        Ok(None) => Check::ok(NAME, "with a certificate that the coordinator signs and renews itself"),
        Ok(Some(end)) => match end.duration_since(SystemTime::now()) {
            Ok(left) if left > EXPIRES_SOON => {
                Check::ok(NAME, format!("the certificate is good for {} days", days(left)))
            }
            Ok(left) => Check::warning(NAME, format!("the certificate expires in {} days", days(left)), advice),
            Err(_) => Check::failed(NAME, "the certificate has expired", advice),
        },
        Err(error) => {
            Check::failed(NAME, error.to_string(), "see that the files are there and that this user may read them")
        }
    }
}

fn days(time: Duration) -> u64 {
    time.as_secs() / (24 * 60 * 60)
}

async fn downloads(folder: Option<PathBuf>) -> Check {
    const NAME: &str = "downloads";
    let Some(place) = folder else {
        return Check::ok(NAME, "no folder: the join page offers no programs, and tabs work all the same");
    };
    match Downloads::of(Some(place.clone())).list().await {
        Ok(list) if list.is_empty() => {
            let advice = "put programs there, with names such as chaarfm-worker-0.1.0-linux-x86_64.deb";
            Check::warning(NAME, format!("{}: none", place.display()), advice)
        }
        Ok(list) => Check::ok(NAME, format!("{}: {} files", place.display(), list.len())),
        Err(error) => Check::failed(NAME, format!("{}: {error}", place.display()), "let this user read the folder"),
    }
}

#[cfg(test)]
mod tests {
    use chaarfm_doctor::State;

    use super::*;
    use crate::{Access, VerifyShare};

    fn config(folder: &Path, listen: SocketAddr) -> Config {
        Config {
            listen,
            database: Database::Sqlite(folder.join("new/chaarfm.sqlite3")),
            libraries: vec![folder.to_owned().into()],
            storage: StorageSettings::default(),
            downloads: None,
            settings: None,
            temporary: folder.join("new/tmp"),
            job_retention_days: 0,
            verify: VerifyShare::default(),
            access: Access::default(),
        }
    }

    fn state(report: &Report, name: &str) -> State {
        report.checks().iter().find(|check| check.name == name).unwrap_or_else(|| panic!("no {name}: {report:?}")).state
    }

    async fn told(config: &Config) -> Report {
        doctor(config, |_| Ok(())).await.unwrap()
    }

    #[tokio::test]
    async fn what_a_coordinator_needs_is_there_or_named() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = config(folder.path(), ([127, 0, 0, 1], 0).into());
        let report = told(&config).await;
        for name in ["system", "data folder", "database", "library", "address", "downloads"] {
            assert!(state(&report, name) < State::Failed, "{name}: {report:?}");
        }
        assert!(fs::read_dir(folder.path()).unwrap().next().is_none(), "and nothing was made");

        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        config.listen = taken.local_addr().unwrap();
        tokio::spawn(async move {
            // A server that is not a coordinator hangs up.
            while taken.accept().await.is_ok() {}
        });
        let damaged = folder.path().join("damaged");
        fs::write(&damaged, "no database").unwrap();
        config.database = Database::Sqlite(damaged);
        config.libraries = vec![folder.path().join("nowhere").into()];
        config.downloads = Some(folder.path().join("nowhere"));
        let report = told(&config).await;
        for name in ["database", "library", "address", "downloads"] {
            assert_eq!(state(&report, name), State::Failed, "{name}: {report:?}");
        }
        assert!(report.checks().iter().all(|check| check.state == State::Ok || check.advice.is_some()), "{report:?}");
    }

    #[tokio::test]
    async fn a_database_server_that_is_not_there_is_a_failure_without_its_password() {
        let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("postgres://me:secret@{}/music", nobody.local_addr().unwrap());
        drop(nobody);
        let checks = postgres(&address.parse().unwrap(), &address).await;
        assert_eq!(checks[0].state, State::Failed);
        assert!(!format!("{checks:?}").contains("secret"), "{checks:?}");
    }
}
