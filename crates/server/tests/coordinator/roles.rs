//! Which credentials give access to which routes.

use std::{fs, process::Command};

use chaarfm_api::{AddedTokenView, TokenView};
use chaarfm_domain::Role;
use chaarfm_protocol::{SessionState, ToWorker, worker_socket_path};
use chaarfm_server::{Access, Config, new_link};
use reqwest::{Method, Response, header::HeaderMap};
use serde_json::{Value, json};

use crate::{
    harness::{Coordinator, Folders, client, hello, token, within},
    postgres::Cluster,
    several::on_postgres,
};

/// The only open routes: health checks, and what somebody needs to run a worker.
const OPEN: [&str; 8] = [
    "/api/downloads",
    "/api/keepalive",
    "/downloads/SHA256SUMS",
    "/downloads/{name}",
    "/enter",
    "/healthz",
    "/models/{sha256}/{file}",
    "/readyz",
];

/// The credential in a request.
#[derive(Debug, Clone)]
enum Shows {
    Nothing,
    Token(String),
    Cookie(String),
}

async fn ask(coordinator: &Coordinator, method: &Method, path: &str, shows: &Shows) -> Response {
    let request = coordinator.client.request(method.clone(), format!("{}{path}", coordinator.address));
    let request = match shows {
        Shows::Nothing => request,
        Shows::Token(token) => request.bearer_auth(token),
        Shows::Cookie(cookie) => request.header("cookie", cookie),
    };
    request.send().await.unwrap()
}

async fn get(coordinator: &Coordinator, path: &str, shows: &Shows) -> Response {
    ask(coordinator, &Method::GET, path, shows).await
}

/// The cookie set by a response, in the form in which it is sent back.
fn cookie(headers: &HeaderMap) -> String {
    let set = headers["set-cookie"].to_str().unwrap();
    set.split(';').next().unwrap().to_owned()
}

/// Opens the link that the coordinator printed.
async fn enter(coordinator: &Coordinator) -> Shows {
    let answer = client().get(&coordinator.page).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), &answer.headers()["location"]), (303, &"/ingest".parse().unwrap()));
    Shows::Cookie(cookie(answer.headers()))
}

#[tokio::test]
async fn every_route_lets_in_its_roles_and_nobody_else() {
    let folders = Folders::with(&["1.wav"]);
    let config = folders.config();
    let coordinator = Coordinator::start_with(&config).await;
    let code = coordinator.scanned().await;
    let mut worker = coordinator.join(code).await;
    let job = worker.job().await;
    let owner = enter(&coordinator).await;
    let reader = token(&config.database, Role::Reader).await;
    let Shows::Cookie(owners) = &owner else { unreachable!() };
    let (name, secret) = owners.split_once('=').unwrap();
    let nobody = [
        Shows::Nothing,
        // A worker's secrets prove only that it is a worker.
        Shows::Token(code.to_string()),
        Shows::Cookie(format!("{name}={code}")),
        Shows::Token(job.job.lease.clone()),
        Shows::Cookie(format!("{name}={}", job.job.lease)),
        Shows::Token("chaarfm_1_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".into()),
        // A browser's secret is valid only in its cookie, and a program's only in its header.
        Shows::Token(secret.to_owned()),
        Shows::Cookie(format!("{name}={}", coordinator.token)),
        Shows::Cookie(format!("other-{name}={secret}")),
    ];

    let document: Value = coordinator.get("/api/openapi.json").await.json().await.unwrap();
    let mut open = Vec::new();
    let mut tried = 0;
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let method: Method = method.to_uppercase().parse().unwrap();
            // The owner's commands address a session that does not exist.
            let filled = path.replace("{code}", "K7Q-M4X-WDP").replace("{job}", "1").replace("{id}", "1");
            let filled = filled.replace("{name}", "nothing").replace("{sha256}", "0").replace("{file}", "x");
            let (strangers, readers) = match operation["x-role"].as_str().unwrap() {
                "open" => {
                    open.push(path.as_str());
                    (true, true)
                }
                "worker" => (true, true),
                "reader" => (false, true),
                "owner" => (false, false),
                other => panic!("{path}: {other}"),
            };
            let status = async |shows: &Shows| ask(&coordinator, &method, &filled, shows).await.status().as_u16();
            for shows in &nobody {
                assert_eq!(status(shows).await != 401, strangers, "{method} {path}: {shows:?}");
            }
            let to_reader = status(&Shows::Token(reader.clone())).await;
            assert_eq!(![401, 403].contains(&to_reader) || strangers, readers, "{method} {path}: {to_reader}");
            for shows in [&owner, &Shows::Token(coordinator.token.clone())] {
                let to_owner = status(shows).await;
                assert!(![401, 403].contains(&to_owner) || strangers, "{method} {path}: {to_owner}");
            }
            tried += 1;
        }
    }
    open.sort_unstable();
    assert_eq!(open, OPEN);
    assert!(tried > 30, "{tried}");
    coordinator.stop().await;
}

#[tokio::test]
async fn workers_join_with_a_code_and_without_an_owner() {
    let folders = Folders::with(&["1.wav"]);
    let config = folders.config();
    let coordinator = Coordinator::start_with(&config).await;
    let code = coordinator.scanned().await;
    let mut worker = coordinator.join(code).await;
    let job = worker.job().await;
    assert_eq!(coordinator.audio(&job).await.status(), 200, "a lease is enough");
    assert_eq!(coordinator.audio_by(&job, "forged").await.status(), 403);
    for shows in [Shows::Nothing, Shows::Token(coordinator.token.clone())] {
        assert_eq!(get(&coordinator, &job.audio.url, &shows).await.status(), 403, "and nothing else is");
    }
    // No role gives access to the socket, only a code does.
    for wrong in ["K7Q-M4X-WDP", "current", coordinator.token.as_str()] {
        let mut stranger = coordinator.connect(&format!("/api/sessions/{wrong}/worker")).await;
        stranger.say(&hello(1)).await;
        assert!(matches!(stranger.hear().await, ToWorker::Refused { .. }), "{wrong}");
    }
    assert!(worker_socket_path(&code).contains(&code.to_string()));
    for path in ["/join", &format!("/join/{code}"), "/"] {
        let page = get(&coordinator, path, &Shows::Nothing).await;
        // Tests may run before the pages are built.
        assert!([200, 503].contains(&page.status().as_u16()), "{path}");
    }
    coordinator.stop().await;
}

#[tokio::test]
async fn the_printed_link_lets_one_browser_in_once() {
    let folders = Folders::with(&[]);
    let config = folders.config();
    let coordinator = Coordinator::start_with(&config).await;
    let browser = client();
    let shut =
        browser.get(format!("{}/ingest", coordinator.address)).header("accept", "text/html,*/*").send().await.unwrap();
    assert_eq!(shut.status(), 401);
    assert!(shut.headers()["content-type"].to_str().unwrap().starts_with("text/html"));
    let words = shut.text().await.unwrap();
    assert!(words.contains("chaarfm-server token") && words.contains("/join"), "{words}");

    assert!(coordinator.page.starts_with(&format!("{}/enter?token=chaarfm_", coordinator.address)));
    assert_eq!(browser.head(&coordinator.page).send().await.unwrap().status(), 204, "a look does not use it up");
    let entered = browser.get(&coordinator.page).send().await.unwrap();
    assert_eq!((entered.status().as_u16(), &entered.headers()["location"]), (303, &"/ingest".parse().unwrap()));
    let set = entered.headers()["set-cookie"].to_str().unwrap();
    for attribute in ["; HttpOnly", "; SameSite=Strict", "; Path=/"] {
        assert!(set.contains(attribute), "{set}");
    }
    assert!(!set.contains("Secure") && !set.contains("Domain"), "{set}");
    let cookie = cookie(entered.headers());
    let owner = Shows::Cookie(format!("other=1; {cookie}"));
    assert_ne!(get(&coordinator, "/ingest", &owner).await.status(), 401);
    let current = ask(&coordinator, &Method::POST, "/api/sessions/current", &owner).await;
    assert_eq!(current.status(), 200);
    let secret = cookie.split_once('=').unwrap().1;
    assert!(!current.text().await.unwrap().contains(secret));

    let again = browser.get(&coordinator.page).header("accept", "text/html").send().await.unwrap();
    assert_eq!((again.status().as_u16(), again.headers().contains_key("set-cookie")), (410, false));
    let reload = browser.get(&coordinator.page).header("cookie", &cookie).send().await.unwrap();
    assert_eq!((reload.status().as_u16(), reload.headers().contains_key("set-cookie")), (303, false));

    // No secret that was handed out is in the database.
    let link = coordinator.page.split_once('=').unwrap().1;
    let database = folders.database();
    let files = [database.clone(), database.with_file_name("chaarfm.sqlite3-wal")];
    let written: Vec<u8> = files.iter().flat_map(|file| fs::read(file).unwrap_or_default()).collect();
    for handed_over in [link, secret, coordinator.token.as_str()] {
        // The part after the credential's number.
        let secret = handed_over.strip_prefix("chaarfm_").unwrap().split_once('_').unwrap().1;
        assert_eq!(secret.len(), 43);
        assert!(!written.windows(secret.len()).any(|part| part == secret.as_bytes()));
    }
    coordinator.stop().await;

    let coordinator = Coordinator::start_with(&config).await;
    assert_eq!(coordinator.page, format!("{}/ingest", coordinator.address), "there is a browser already");
    coordinator.stop().await;
}

#[tokio::test]
async fn a_new_link_ends_the_old_one_and_whom_it_let_in() {
    let folders = Folders::with(&[]);
    let config = folders.config();
    let coordinator = Coordinator::start_with(&config).await;
    let origins = [coordinator.address.clone()];
    let entered = async |link: &str| {
        let answer = client().get(link).send().await.unwrap();
        (answer.status() == 303).then(|| Shows::Cookie(cookie(answer.headers())))
    };
    let is_in = async |browser: &Shows| get(&coordinator, "/api/libraries", browser).await.status() == 200;
    // The first link, which was never opened, is no longer valid.
    let [link] = new_link(&config.database, &origins, false).await.unwrap().try_into().unwrap();
    assert!(entered(&coordinator.page).await.is_none());
    let first = entered(&link).await.unwrap();
    assert!(is_in(&first).await);

    let [another] = new_link(&config.database, &origins, true).await.unwrap().try_into().unwrap();
    let second = entered(&another).await.unwrap();
    assert!(is_in(&first).await && is_in(&second).await);
    let [last] = new_link(&config.database, &origins, false).await.unwrap().try_into().unwrap();
    assert!(!is_in(&first).await && !is_in(&second).await);
    assert_eq!(coordinator.get("/api/libraries").await.status(), 200, "tokens are no browsers");

    // If many open a link at once, only one is logged in.
    let opened = futures_util::future::join_all((0..8).map(|_| entered(&last))).await;
    assert_eq!(opened.iter().flatten().count(), 1);
    coordinator.stop().await;
}

#[tokio::test]
async fn who_looks_on_sees_no_more_when_the_link_has_ended() {
    let folders = Folders::with(&[]);
    let config = folders.config();
    let coordinator = Coordinator::start_with(&config).await;
    let code = coordinator.current().await.code;
    let browser = enter(&coordinator).await;
    let mut events = get(&coordinator, &format!("/api/sessions/{code}/events"), &browser).await;
    assert!(events.chunk().await.unwrap().is_some());
    new_link(&config.database, &[], false).await.unwrap();
    within("the end of the stream", async { while events.chunk().await.unwrap().is_some() {} }).await;
    coordinator.stop().await;
}

#[tokio::test]
async fn the_cookie_is_for_tls_only_where_there_is_tls() {
    let folders = Folders::with(&[]);
    let access = Access {
        public_urls: vec!["https://music.example".parse().unwrap(), "http://plain.example".parse().unwrap()],
        trusted_proxies: vec!["127.0.0.1/32".parse().unwrap()],
        tls: None,
    };
    let config = Config { access, ..folders.config() };
    let coordinator = Coordinator::start_with(&config).await;
    for (host, proxy, is_secure) in [
        ("music.example", None, true),
        ("plain.example", None, false),
        ("127.0.0.1", None, false),
        ("127.0.0.1", Some("https"), true),
        ("music.example", Some("http"), false),
    ] {
        let [link] = new_link(&config.database, std::slice::from_ref(&coordinator.address), true)
            .await
            .unwrap()
            .try_into()
            .unwrap();
        let request = client().get(link).header("host", host);
        let request = proxy.into_iter().fold(request, |request, scheme| request.header("x-forwarded-proto", scheme));
        let answer = request.send().await.unwrap();
        let set = answer.headers()["set-cookie"].to_str().unwrap();
        assert_eq!(set.contains("; Secure"), is_secure, "{host}, {proxy:?}: {set}");
    }
    coordinator.stop().await;
}

#[tokio::test]
async fn other_sites_command_nothing_by_way_of_the_owners_browser() {
    let folders = Folders::with(&[]);
    let coordinator = Coordinator::start(&folders).await;
    let Shows::Cookie(cookie) = enter(&coordinator).await else { unreachable!() };
    let command = async |name: &str, value: &str| {
        let request = client().post(format!("{}/api/sessions", coordinator.address)).header("cookie", &cookie);
        request.header(name, value).send().await.unwrap().status().as_u16()
    };
    let own = coordinator.address.clone();
    for (name, value, status) in [
        ("origin", own.as_str(), 201),
        ("sec-fetch-site", "same-origin", 201),
        ("origin", "http://127.0.0.1:1", 403),
        ("origin", "http://evil.example", 403),
        ("origin", "null", 403),
        ("sec-fetch-site", "cross-site", 403),
        ("sec-fetch-site", "same-site", 403),
    ] {
        assert_eq!(command(name, value).await, status, "{name}: {value}");
    }
    coordinator.stop().await;
}

#[tokio::test]
async fn tokens_are_named_listed_and_revoked() {
    let folders = Folders::with(&[]);
    let coordinator = Coordinator::start(&folders).await;
    let add =
        async |name: &str, role: &str| coordinator.post("/api/tokens", &json!({ "name": name, "role": role })).await;
    let added = add("backup at home", "reader").await;
    assert_eq!(added.status(), 201);
    let added: AddedTokenView = added.json().await.unwrap();
    assert_eq!((added.name.as_str(), added.role), ("backup at home", Role::Reader));
    for (name, role, status) in [
        ("backup at home", "owner", 409),
        ("", "reader", 400),
        ("a/b", "reader", 400),
        ("w", "worker", 400),
        ("x", "king", 422),
    ] {
        assert_eq!(add(name, role).await.status(), status, "{name} {role}");
    }
    let listed = coordinator.get("/api/tokens").await.text().await.unwrap();
    let tokens: Vec<TokenView> = serde_json::from_str(&listed).unwrap();
    assert!(tokens.iter().any(|token| token.name == "backup at home" && token.role == Role::Reader), "{listed}");
    assert!(!listed.contains("chaarfm_") && !listed.contains("hash"), "{listed}");

    let reader = Shows::Token(added.token);
    for path in ["/api/libraries", "/api/collections", "/api/models", "/metrics"] {
        assert_eq!(get(&coordinator, path, &reader).await.status(), 200, "{path}");
    }
    let code = coordinator.current().await.code;
    for path in ["/api/tokens", &format!("/api/sessions/{code}"), &format!("/api/sessions/{code}/events")] {
        let refused = get(&coordinator, path, &reader).await;
        assert_eq!(refused.status(), 403, "{path}");
        assert_eq!(refused.json::<Value>().await.unwrap()["error"], "this is not for a reader");
    }
    assert_eq!(ask(&coordinator, &Method::POST, &format!("/api/sessions/{code}/pause"), &reader).await.status(), 403);
    assert_ne!(coordinator.current().await.state, SessionState::Paused);

    assert_eq!(coordinator.delete("/api/tokens/backup%20at%20home").await.status(), 204);
    assert_eq!(coordinator.delete("/api/tokens/backup%20at%20home").await.status(), 404);
    let refused = get(&coordinator, "/api/libraries", &reader).await;
    assert_eq!(
        (refused.status().as_u16(), &refused.headers()["www-authenticate"]),
        (401, &"Bearer realm=\"chaarfm\"".parse().unwrap())
    );
    coordinator.stop().await;
}

#[tokio::test]
async fn several_coordinators_let_in_the_same() {
    let folders = Folders::with(&[]);
    let config = on_postgres(&folders, Cluster::shared());
    let (first, second) = (Coordinator::start_with(&config).await, Coordinator::start_with(&config).await);
    let printed = first.page.strip_prefix(&first.address).unwrap();
    let answer = get(&second, printed, &Shows::Nothing).await;
    assert_eq!(answer.status(), 303);
    // A cookie's name contains the port, which is the same behind one proxy.
    let cookie = cookie(answer.headers());
    let secret = cookie.split_once('=').unwrap().1;
    let port = first.address.rsplit(':').next().unwrap();
    let browser = Shows::Cookie(format!("chaarfm-{port}={secret}"));
    assert_eq!(get(&first, "/api/libraries", &browser).await.status(), 200);
    assert_eq!(get(&first, printed, &Shows::Nothing).await.status(), 410);
    let link = second.page.strip_prefix(&second.address).unwrap();
    assert_eq!(get(&first, link, &Shows::Nothing).await.status(), 303, "each has its own link");

    let added = first.post("/api/tokens", &json!({ "name": "looks", "role": "reader" })).await;
    let token = Shows::Token(added.json::<AddedTokenView>().await.unwrap().token);
    assert_eq!(get(&second, "/api/libraries", &token).await.status(), 200);
    assert_eq!(first.delete("/api/tokens/looks").await.status(), 204);
    assert_eq!(get(&second, "/api/libraries", &token).await.status(), 401);
    first.stop().await;
    second.stop().await;
}

/// The coordinator needs a thread of its own: it may be in the middle of a transaction while the test waits for the program.
#[cfg(unix)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_program_makes_links_and_tokens_while_it_runs() {
    let folders = Folders::with(&[]);
    let program = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_chaarfm-server"));
        command.arg("--data").arg(folders.root().join("new")).args(arguments);
        let output = command.output().unwrap();
        (
            output.status.success(),
            String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap(),
        )
    };
    let (is_done, words) = program(&["token"]);
    assert!(!is_done && words.contains("start the coordinator first"), "{words}");

    let coordinator = Coordinator::start(&folders).await;
    let (is_done, words) = program(&["--listen", "0.0.0.0:8080", "--public-url", "https://music.example", "token"]);
    let (first, second) = words.trim_end().split_once('\n').unwrap();
    assert!(is_done && first.starts_with("open http://127.0.0.1:8080/enter?token=chaarfm_"), "{words}");
    assert!(second.starts_with("or, on another machine, https://music.example/enter?token=chaarfm_"), "{words}");
    let link = first.rsplit_once("/enter").unwrap().1;
    assert_eq!(get(&coordinator, &format!("/enter{link}"), &Shows::Nothing).await.status(), 303);

    let (is_done, token) = program(&["token", "add", "looks", "--role", "reader"]);
    assert!(is_done, "{token}");
    let reader = Shows::Token(token.trim_end().to_owned());
    assert_eq!(get(&coordinator, "/api/libraries", &reader).await.status(), 200);
    assert_eq!(get(&coordinator, "/api/tokens", &reader).await.status(), 403);
    let (is_done, words) = program(&["token", "add", "looks", "--role", "owner"]);
    assert!(!is_done && words.contains("there is a token called looks already"), "{words}");
    let (is_done, _) = program(&["token", "add", "looks", "--role", "owner", "--replace"]);
    assert!(is_done);
    assert_eq!(get(&coordinator, "/api/libraries", &reader).await.status(), 401);
    let (_, list) = program(&["token", "list"]);
    assert!(list.lines().any(|line| line == "looks\towner\t0 days old") && !list.contains("chaarfm_"), "{list}");
    assert!(program(&["token", "revoke", "looks"]).0 && !program(&["token", "revoke", "looks"]).0);
    coordinator.stop().await;
}
