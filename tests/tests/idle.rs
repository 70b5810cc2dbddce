//! A worker that has nothing to do costs next to nothing, on a machine with a Vulkan library and in a browser.
#![expect(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

use std::{
    collections::BTreeMap,
    fs,
    time::{Duration, Instant},
};

use chaarfm_tests::{Browser, Server, executable, fixtures};
use tempfile::TempDir;
use tokio::process::Command;

/// Processor time is counted over this long.
const WATCHED: Duration = Duration::from_secs(8);

/// A browser that has settled has done so after so many of these times.
const MAX_WATCHES: usize = 6;

/// Of one core.
const LARGEST_SHARE: f64 = 0.005;

/// The counter's unit, a hundredth of a second, twice: the time may begin and end within one.
const ROUNDING: f64 = 0.02;

/// What each process has used, in seconds, with its parent, by its number.
fn processes() -> BTreeMap<u32, (u32, f64)> {
    let stat = |entry: fs::DirEntry| {
        let process: u32 = entry.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        // The name, in parentheses, may hold anything.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks = |index: usize| fields.get(index)?.parse::<u64>().ok();
        Some((process, (u32::try_from(ticks(1)?).ok()?, (ticks(11)? + ticks(12)?) as f64 / 100.0)))
    };
    fs::read_dir("/proc").unwrap().filter_map(|entry| stat(entry.ok()?)).collect()
}

/// What a process and all that come from it have used, in seconds.
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

/// The share of a core that a process and those below it take.
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
    // A browser has work of its own. At first it is busy with making the program that it has just loaded faster.
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
