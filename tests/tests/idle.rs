//! A worker without work uses almost no processor time, both on a machine with a Vulkan library and in a browser.
#![expect(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

use std::{
    collections::BTreeMap,
    fs,
    time::{Duration, Instant},
};

use chaarfm_tests::{Browser, Server, executable, fixtures};
use tempfile::TempDir;
use tokio::process::Command;

/// Processor time is measured over this period.
const WATCHED: Duration = Duration::from_secs(8);

/// Maximum number of periods until a browser must have settled.
const MAX_WATCHES: usize = 6;

/// Maximum share of one core.
const LARGEST_SHARE: f64 = 0.005;

/// Twice the counter's unit of a hundredth of a second: the period may begin and end within a unit.
const ROUNDING: f64 = 0.02;

/// Parent and used processor time in seconds of each process, by process number.
fn processes() -> BTreeMap<u32, (u32, f64)> {
    let stat = |entry: fs::DirEntry| {
        let process: u32 = entry.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        // The name, in parentheses, may contain any characters.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks = |index: usize| fields.get(index)?.parse::<u64>().ok();
        Some((process, (u32::try_from(ticks(1)?).ok()?, (ticks(11)? + ticks(12)?) as f64 / 100.0)))
    };
    fs::read_dir("/proc").unwrap().filter_map(|entry| stat(entry.ok()?)).collect()
}

/// Processor time of a process and all its descendants, in seconds.
fn used(root: u32) -> f64 {
    let all = processes();
    let is_below = |mut process: u32| loop {
        match all.get(&process) {
            _ if process == root => return true,
            Some((parent, _)) => process = *parent,
            None => return false,
        }
    };
    all.iter().filter(|(process, _)| is_below(**process)).map(|(_, (_, seconds))| seconds).sum()
}

/// Share of a core that a process and its descendants use.
async fn share(root: u32) -> f64 {
    let (start, before) = (Instant::now(), used(root));
    tokio::time::sleep(WATCHED).await;
    (used(root) - before - ROUNDING) / start.elapsed().as_secs_f64()
}

#[tokio::test]
async fn a_native_worker_without_work() {
    let (data, home) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let server = Server::start(data.path(), &fixtures().join("music")).await;
    let session = server.session().await;
    let worker = Command::new(executable("chaarfm-worker"))
        .args(["--url", &server.url, "--code", &session.code.to_string()])
        .env("XDG_CACHE_HOME", home.path())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    server.wait_for(&session, "the worker's arrival", |view| view.workers.len() == 1).await;
    let share = share(worker.id().unwrap()).await;
    assert!(share <= LARGEST_SHARE, "an idle worker takes {:.2} % of a core", 100.0 * share);
}

#[tokio::test]
async fn a_tab_without_work() {
    let data = TempDir::new().unwrap();
    let server = Server::start(data.path(), &fixtures().join("music")).await;
    let session = server.session().await;
    let empty = Browser::open("about:blank").await;
    let tab = Browser::open(&format!("{}/join/{}?device=flex&workers=1", server.url, session.code)).await;
    tab.press("Join").await;
    server.wait_for(&session, "the tab's arrival", |view| view.workers.len() == 1).await;
    // A browser has work of its own: at first it optimises the program it has just loaded.
    let mut least = (f64::INFINITY, 0.0);
    for _ in 0..MAX_WATCHES {
        let now = tokio::join!(share(tab.process()), share(empty.process()));
        least = if now.0 - now.1 < least.0 - least.1 { now } else { least };
        if least.0 - least.1.max(0.0) <= LARGEST_SHARE {
            break;
        }
    }
    let (tab, empty) = least;
    assert!(
        tab - empty.max(0.0) <= LARGEST_SHARE,
        "{:.2} % of a core, an empty tab {:.2} %",
        100.0 * tab,
        100.0 * empty
    );
}
