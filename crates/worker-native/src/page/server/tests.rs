//! Tests the page with real requests.

use reqwest::{Client, Method, RequestBuilder, Response};

use super::*;
use crate::{json_file::JsonFile, page::coordinators::Coordinators};

/// A page's server, and the commands it receives.
struct Fixture {
    address: String,
    http: Client,
    keeper: Arc<Keeper>,
    board: Arc<Board>,
    wanted: mpsc::Receiver<Command>,
    folder: tempfile::TempDir,
}

impl Fixture {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let coordinators = Coordinators::at(JsonFile::at(Some(folder.path().join("coordinators.json"))));
        let (board, keeper) = (Arc::new(Board::new(coordinators)), Keeper::idle(Manners::default()));
        let file = ConfigFile::find("chaarfm-test", Some(folder.path().join("config.toml")));
        std::fs::write(file.path().unwrap(), "# mine\nthreads = 2\n").unwrap();
        let (commands, wanted) = mpsc::channel(2);
        let served = Served::new(Arc::clone(&board), Arc::clone(&keeper), file, commands).unwrap();
        let address = served.serve().await.unwrap();
        let network = crate::network::Network::of_system(false).unwrap();
        Self { address, http: network.http_of_owner().clone(), keeper, board, wanted, folder }
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.address))
    }

    async fn get(&self, path: &str) -> Response {
        self.request(Method::GET, path).send().await.unwrap()
    }

    /// Returns status and text of the answer.
    async fn post(&self, path: &str, body: &str) -> (u16, String) {
        let json = self.request(Method::POST, path).header("content-type", "application/json").body(body.to_owned());
        let answer = json.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }
}

#[tokio::test]
async fn only_who_knows_the_secret_and_comes_from_here_is_let_in() {
    let page = Fixture::new().await;
    let (origin, secret) = page.address.trim_end_matches('/').rsplit_once('/').unwrap();
    assert!(origin.starts_with("http://127.0.0.1:") && secret.len() == 32, "{}", page.address);
    for path in
        ["", "/", "/view", "/quit", "/0123456789abcdef0123456789abcdef/view", &format!("/{}/view", &secret[1..])]
    {
        for method in [Method::GET, Method::POST] {
            let answer = page.http.request(method, format!("{origin}{path}")).send().await.unwrap();
            assert_eq!(answer.status(), 403, "{path}");
        }
    }
    let port = origin.rsplit_once(':').unwrap().1;
    for (header, value, status) in [
        ("host", format!("127.0.0.1:{port}"), 200),
        ("host", format!("localhost:{port}"), 403),
        ("host", format!("evil.example:{port}"), 403),
        ("host", "127.0.0.1".to_owned(), 403),
        ("origin", origin.to_owned(), 200),
        ("origin", "http://evil.example".to_owned(), 403),
        ("origin", "null".to_owned(), 403),
        ("sec-fetch-site", "same-origin".to_owned(), 200),
        ("sec-fetch-site", "none".to_owned(), 200),
        ("sec-fetch-site", "cross-site".to_owned(), 403),
    ] {
        let answer = page.request(Method::GET, "view").header(header, &value).send().await.unwrap();
        assert_eq!(answer.status(), status, "{header}: {value}");
        assert!(!answer.headers().contains_key("access-control-allow-origin"));
    }
    assert!(page.wanted.is_empty());
}

#[tokio::test]
async fn the_page_is_whole_and_loads_nothing_from_elsewhere() {
    let page = Fixture::new().await;
    let html = page.get("").await;
    let policy = html.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    assert_eq!(html.headers()["referrer-policy"], "no-referrer");
    let html = html.text().await.unwrap();
    assert!(!html.contains("style=") && !html.contains("onclick") && !html.contains("<style"), "nothing inline");
    let script = page.get("page.js").await;
    assert_eq!(script.headers()["content-type"], "text/javascript; charset=utf-8");
    let script = script.text().await.unwrap();
    for file in ["page.css", "style.css", "icon.svg", "page.js"] {
        assert!(html.contains(file), "{file}");
        assert_eq!(page.get(file).await.status(), 200, "{file}");
    }
    for (id, _) in script.split("$(\"").skip(1).filter_map(|rest| rest.split_once('"')) {
        assert!(html.contains(&format!("id=\"{id}\"")), "the script looks for {id}");
    }
    for name in Manners::KEYS {
        assert!(html.contains(&format!("id=\"{name}\"")), "the page has no field for {name}");
    }
}

#[tokio::test]
async fn a_person_joins_by_link_by_code_and_by_both() {
    let mut page = Fixture::new().await;
    let joined = |address: &str| Command::Join(address.parse().unwrap(), "K7Q-M4X-WDP".parse().unwrap());
    let (status, problem) = page.post("join", r#"{"link": "K7Q-M4X-WDP"}"#).await;
    assert_eq!(status, 422);
    assert!(problem.contains("does not begin with http://"), "{problem}");
    for (body, command) in [
        (r#"{"link": " http://host/join/K7Q-M4X-WDP "}"#, joined("http://host/join/K7Q-M4X-WDP")),
        (r#"{"link": "http://host", "code": "k7q m4x wdp"}"#, joined("http://host")),
        (r#"{"link": "chaarfm://join?url=http://host&code=K7Q-M4X-WDP"}"#, joined("http://host/join/K7Q-M4X-WDP")),
    ] {
        assert_eq!(page.post("join", body).await.0, 204, "{body}");
        assert_eq!(page.wanted.recv().await, Some(command));
    }
    let address: Address = "http://last".parse().unwrap();
    page.board.began(&address, "AAA-AAA-AAA".parse().unwrap());
    assert_eq!(page.post("join", r#"{"link": "K7Q-M4X-WDP"}"#).await.0, 204);
    assert_eq!(page.wanted.recv().await, Some(joined("http://last")));
    for body in
        [r#"{"link": "http://host"}"#, r#"{"link": "http://host", "code": "K7Q"}"#, r#"{"link": "file:///etc"}"#]
    {
        let (status, problem) = page.post("join", body).await;
        assert_eq!(status, 422, "{body}: {problem}");
    }
    let long = format!(r#"{{"link": "{}"}}"#, "x".repeat(MAX_BODY_BYTES));
    assert_eq!(page.post("join", &long).await.0, 413);
    assert_eq!(page.post("forget", r#"{"address": "http://last"}"#).await.0, 204);
    assert_eq!(page.board.last_coordinator(), None);
}

#[tokio::test]
async fn manners_hold_at_once_and_are_kept_for_the_next_start() {
    let page = Fixture::new().await;
    let view = |page: &Fixture| {
        let answer = page.request(Method::GET, "view").send();
        async move { serde_json::from_slice::<serde_json::Value>(&answer.await.unwrap().bytes().await.unwrap()).unwrap() }
    };
    let mut manners = view(&page).await["keeper"]["manners"].clone();
    manners["max_cpu"] = 40.into();
    manners["schedule"] = serde_json::json!(["22:00-07:00"]);
    assert_eq!(page.post("manners", &manners.to_string()).await, (204, String::new()));
    assert_eq!(page.keeper.gate().permit().max_cpu.share(), 0.4);
    let kept = std::fs::read_to_string(page.folder.path().join("config.toml")).unwrap();
    assert!(kept.starts_with("# mine\nthreads = 2\n") && kept.contains("max_cpu = 40"), "{kept}");
    for (name, wrong) in [("max_cpu", 0.into()), ("schedule", serde_json::json!(["noon"])), ("power", 3.into())] {
        let mut manners = manners.clone();
        manners[name] = wrong;
        let (status, problem) = page.post("manners", &manners.to_string()).await;
        assert_eq!(status, 422, "{problem}");
    }
    assert_eq!(page.keeper.overview().manners.max_cpu.share(), 0.4);
}

#[tokio::test]
async fn what_is_wanted_is_done_and_shown_to_whoever_follows() {
    let mut page = Fixture::new().await;
    let mut views = page.get("views").await;
    let mut text = String::new();
    // The next event of the stream, as sent.
    let mut next = async |text: &mut String| {
        loop {
            if let Some((event, rest)) = text.split_once("\n\n") {
                let event: serde_json::Value = serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap();
                *text = rest.to_owned();
                return event;
            }
            text.push_str(std::str::from_utf8(&views.chunk().await.unwrap().unwrap()).unwrap());
        }
    };
    let first = next(&mut text).await;
    assert_eq!((&first["keeper"]["state"], &first["devices"]), (&"running".into(), &serde_json::Value::Null));
    assert_eq!(page.post("pause", "").await.0, 204);
    assert!(!page.keeper.gate().permit().state.may_compute());
    assert_eq!(next(&mut text).await["keeper"]["state"], "paused: you paused it");
    assert_eq!(page.post("resume", "").await.0, 204);
    assert_eq!(next(&mut text).await["keeper"]["is_paused"], false);
    for (path, command) in [("finish", Command::Finish), ("leave", Command::Leave), ("quit", Command::Quit)] {
        assert_eq!(page.get(path).await.status(), 405, "a link is no wish");
        assert_eq!(page.post(path, "").await.0, 204);
        assert_eq!(page.wanted.recv().await, Some(command));
    }
    for _ in 0..2 {
        page.post("finish", "").await;
    }
    assert_eq!(page.post("quit", "").await, (422, "the worker is busy ending".to_owned()));
}
