//! `chaarfm-worker doctor`: checks whether everything that a worker needs is there, and says what to do about what is
//! missing.

mod devices;
mod way;

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use chaarfm_doctor::{Check, QUICK, Report, blocking};
use chaarfm_worker::Address;

use crate::{
    cli::DoctorArgs,
    devices::Memory,
    network::{Network, Proxies, Roots, misspelt_variables, proxy_name},
    scratch,
};

/// The most files and connections that a worker has open at once.
const OPEN_FILES: u64 = 256;

/// Longest try of all devices: each step of a GPU times out after a minute.
const DEVICES_LIMIT: Duration = Duration::from_secs(240);

/// Runs all checks and prints each result as it comes. Exit code 1 if a check failed.
///
/// # Errors
/// When the output cannot be written.
pub(crate) fn run(args: DoctorArgs) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(examine(args.url.as_ref(), |lines| {
        if args.json { Ok(()) } else { writeln!(io::stdout(), "{lines}") }
    }));
    // Does not wait for threads that hang.
    runtime.shutdown_background();
    let report = report?;
    let end = if args.json { report.json().to_string() } else { report.end() };
    writeln!(io::stdout(), "{end}")?;
    Ok(report.exit_code())
}

/// Runs all checks; `tell` is given the lines of each.
async fn examine(address: Option<&Address>, mut tell: impl FnMut(&str) -> io::Result<()>) -> io::Result<Report> {
    let mut report = Report::new("chaarfm-worker", env!("CARGO_PKG_VERSION"));
    let mut add = |checks: Vec<Check>| checks.into_iter().try_for_each(|check| tell(&report.add(check)));
    add(vec![Check::ok("program", format!("chaarfm-worker {}, {}", env!("CARGO_PKG_VERSION"), parts()))])?;
    add(blocking(QUICK, "system", || vec![chaarfm_doctor::system(), chaarfm_doctor::memory()]).await)?;
    add(vec![chaarfm_doctor::open_files(OPEN_FILES)])?;
    for (name, path) in folders() {
        add(blocking(QUICK, name, move || vec![chaarfm_doctor::folder(name, &path)]).await)?;
    }
    add(blocking(DEVICES_LIMIT, "devices", || devices::checks(&Memory::of_user())).await)?;
    add(chaarfm_doctor::tools().await)?;
    match address.map_or_else(|| Network::of_system(false), |address| Network::to(address, false)) {
        Ok(network) => {
            add(vec![certificates(network.roots()), proxies(network.proxies())])?;
            match address {
                Some(address) => way::checks(&network, address, add).await?,
                None => add(vec![Check::ok("coordinator", "not looked for; --url says where it is")])?,
            }
        }
        Err(error) => add(vec![Check::failed("certificates", error.to_string(), "repair the system's certificates")])?,
    }
    Ok(report)
}

/// The optional features that are built in.
fn parts() -> &'static str {
    match (cfg!(feature = "gpu"), cfg!(feature = "ndarray")) {
        (true, true) => "for CPU and GPU",
        (true, false) => "for CPU and GPU, without ndarray",
        (false, true) => "for the CPU",
        (false, false) => "for the CPU, without ndarray",
    }
}

/// The folders that the worker writes to.
fn folders() -> Vec<(&'static str, PathBuf)> {
    let cache = directories::ProjectDirs::from("", "", "chaarfm-worker").map(|folders| folders.cache_dir().to_owned());
    let cache = cache.map(|cache| ("cache folder", cache));
    cache.into_iter().chain([("temporary files", scratch::folder().unwrap_or_else(std::env::temp_dir))]).collect()
}

fn certificates(roots: &Roots) -> Check {
    match roots {
        Roots::System => Check::ok("certificates", roots.to_string()),
        Roots::BuiltIn(_) => {
            let advice =
                "install them (Debian: ca-certificates) if the coordinator's comes from an authority of your own";
            Check::warning("certificates", roots.to_string(), advice)
        }
    }
}

fn proxies(proxies: &Proxies) -> Check {
    const NAME: &str = "proxies";
    let misspelt = misspelt_variables();
    if !misspelt.is_empty() {
        let found = format!("{} set, and no address of a proxy", misspelt.join(" and "));
        return Check::warning(NAME, found, "write it as http://host:port or socks5h://host:port, or unset it");
    }
    let somewhere = [("http", "http://music.example/"), ("https", "https://music.example/")];
    let ways = somewhere.map(|(scheme, url)| {
        let proxy = proxies.for_url(&url.parse().expect("a constant that is an address"));
        proxy.map(|proxy| format!("{scheme} by {}", proxy_name(&proxy)))
    });
    let ways: Vec<String> = ways.into_iter().flatten().collect();
    Check::ok(NAME, if ways.is_empty() { "none".to_owned() } else { ways.join(", ") })
}

#[cfg(test)]
mod tests {
    use chaarfm_doctor::State;

    use super::*;

    #[tokio::test]
    async fn looks_at_everything_and_tells_each_in_turn() {
        let mut told = Vec::new();
        let report = examine(None, |lines| {
            told.push(lines.to_owned());
            Ok(())
        });
        let report = report.await.unwrap();
        let names: Vec<&str> = report.checks().iter().map(|check| check.name.as_str()).collect();
        for name in ["program", "system", "memory", "open files", "cache folder", "temporary files", "CPU", "yt-dlp"] {
            assert!(names.contains(&name), "{names:?}");
        }
        assert_eq!(told.len(), names.len());
        let cpu = report.checks().iter().find(|check| check.name == "CPU").unwrap();
        assert_eq!(cpu.state, State::Ok);
        assert!(cpu.found.contains("known answer") && cpu.found.contains("patches a second"), "{cpu:?}");
    }
}
