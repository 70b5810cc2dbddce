//! The worker as a desktop program: started for its page, which a user operates.
#![expect(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

use std::{fs, path::Path, process::Stdio, time::Instant};

use chaarfm_protocol::SessionState;
use chaarfm_tests::{Browser, PATIENCE, Server, command, fixtures, http, within, worker_executable};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

/// A worker with a page, in an otherwise empty home folder. Killed when dropped.
struct Desktop {
    page: String,
    child: Child,
    http: reqwest::Client,
}

impl Desktop {
    async fn start(home: &Path, arguments: &[&str]) -> Self {
        let mut command = worker(home);
        command.args(["--page", "--device", "flex", "--threads", "1"]).args(arguments);
        // A stand-in for the browser that opens nothing.
        command.env("BROWSER", "true").stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        // Wine may print lines of its own first.
        let page = loop {
            let line = within("the page's address", lines.next_line()).await.unwrap().expect("the worker has started");
            if let Some(page) = line.strip_prefix("open ") {
                break page.to_owned();
            }
        };
        // Keep reading: a full or closed pipe would stop the worker.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self { page, child, http: http() }
    }

    async fn tell(&self, wish: &str, body: &Value) {
        let answer = self.http.post(format!("{}{wish}", self.page)).json(body).send().await.unwrap();
        assert_eq!(answer.status(), 204, "{wish}");
    }

    /// The page's state, as soon as it satisfies `is_like`.
    async fn view(&self, what: &str, is_like: impl Fn(&Value) -> bool) -> Value {
        let start = Instant::now();
        loop {
            let view: Value = self.http.get(format!("{}view", self.page)).send().await.unwrap().json().await.unwrap();
            if is_like(&view) {
                return view;
            }
            assert!(start.elapsed() < PATIENCE, "{what}: {view:#}");
            tokio::task::yield_now().await;
        }
    }
}

/// A worker with this home folder.
fn worker(home: &Path) -> Command {
    let mut command = command(&worker_executable());
    for variable in ["HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"] {
        command.env(variable, home);
    }
    // For workers that run under Wine.
    command.env("WINEPREFIX", home.join("wine"));
    command
}

/// A range of hours that does not include the current time: `HH:MM-HH:MM`.
async fn other_hours() -> String {
    let output = Command::new("date").arg("+%H").output().await.unwrap();
    let now: u32 = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
    format!("{:02}:00-{:02}:00", (now + 2) % 24, (now + 3) % 24)
}

/// Creates a library with one track, long enough to be paused in the middle, and starts its coordinator.
async fn coordinator(data: &Path, library: &Path) -> Server {
    // Concatenated MP3 files form one track.
    let band = fs::read(fixtures().join("music/band.mp3")).unwrap();
    fs::write(library.join("long.mp3"), band.repeat(100)).unwrap();
    Server::start(data, library).await
}

#[tokio::test]
async fn is_told_whom_to_work_for_pauses_amid_a_track_and_finishes_it() {
    let [home, data, library] = [(); 3].map(|()| TempDir::new().unwrap());
    let server = coordinator(data.path(), library.path()).await;
    let session = server.session().await;
    server.ingest(&session).await;
    let mut desktop = Desktop::start(home.path(), &["--max-cpu", "5"]).await;
    let second = Desktop::start(home.path(), &[]).await;
    assert_eq!(second.page, desktop.page, "a second start finds the first");

    let link = format!("{}/join/{}", server.url, session.code);
    desktop.tell("join", &serde_json::json!({ "link": link })).await;
    let fraction = |view: &Value| {
        // There are no jobs before the device is open.
        let jobs = view["lanes"][0]["jobs"].as_array()?;
        jobs.iter().find(|job| job["stage"] == "analysing")?["fraction"].as_f64()
    };
    desktop.view("the track", |view| fraction(view).is_some_and(|fraction| fraction > 0.0)).await;
    let mut manners = desktop.view("its manners", |_| true).await["keeper"]["manners"].clone();
    manners["schedule"] = serde_json::json!([other_hours().await]);
    desktop.tell("manners", &manners).await;
    let waits = |view: &Value| view["keeper"]["state"] == "paused: it is outside the hours of the schedule";
    let waiting = desktop.view("the schedule's pause", waits).await;
    assert!(fraction(&waiting).is_some_and(|fraction| fraction < 1.0), "{waiting:#}");
    manners["schedule"] = serde_json::json!([]);
    desktop.tell("manners", &manners).await;
    desktop.view("the end of that pause", |view| !waits(view)).await;
    desktop.tell("pause", &Value::Null).await;
    let paused = desktop.view("the pause", |view| view["keeper"]["state"] == "paused: you paused it").await;
    assert!(fraction(&paused).is_some_and(|fraction| fraction < 1.0), "{paused:#}");
    desktop.tell("finish", &Value::Null).await;
    manners["max_cpu"] = 100.into();
    desktop.tell("manners", &manners).await;
    desktop.tell("resume", &Value::Null).await;
    let end = desktop.view("the end", |view| view["session"].is_null()).await;
    assert_eq!((&end["done"], &end["end"]), (&1.into(), &"Stopped. 1 done, 0 failed.".into()));
    assert_eq!(end["coordinators"][0]["address"], server.url.as_str());
    server.wait_for(&session, "the end", |view| view.state == SessionState::Complete).await;

    desktop.tell("quit", &Value::Null).await;
    assert!(within("its end", desktop.child.wait()).await.unwrap().success());
    let shown = worker(home.path()).args(["config", "show"]).output().await.unwrap().stdout;
    let settings = String::from_utf8(shown).unwrap();
    assert!(settings.contains("max_cpu = 100"), "{settings}");
    let again = Desktop::start(home.path(), &[]).await;
    assert_ne!(again.page, desktop.page);
    again.view("what it remembers", |view| view["coordinators"][0]["code"] == session.code.to_string()).await;
}

#[tokio::test]
async fn a_person_uses_the_page() {
    let [home, data, library] = [(); 3].map(|()| TempDir::new().unwrap());
    let server = coordinator(data.path(), library.path()).await;
    let session = server.session().await;
    server.ingest(&session).await;
    let mut desktop = Desktop::start(home.path(), &[]).await;
    let tab = Browser::open(&desktop.page).await;
    tab.press("Pause").await;
    tab.shows("#badge", "Paused").await;
    tab.write("#link", &format!("{}/join/{}", server.url, session.code)).await;
    tab.press("Join").await;
    tab.shows("#state", "you paused it").await;
    tab.press("Resume").await;
    server.wait_for(&session, "the end", |view| view.state == SessionState::Complete).await;
    tab.shows("#done", "1").await;
    tab.press("Stop").await;
    tab.shows("#end", "Stopped. 1 done, 0 failed.").await;
    tab.shows("#coordinators", &server.url).await;
    tab.press("Quit").await;
    assert!(within("its end", desktop.child.wait()).await.unwrap().success());
    tab.shows("#gone", "The worker has ended").await;
    tab.close().await;
}
