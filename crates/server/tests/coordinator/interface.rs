//! The URLs that pages and people use.

use std::fs;

use chaarfm_api::{
    AdvertisedAddressView, CollectionView, DownloadView, LibraryView, ModelView, SessionView, TrackPage, TrackView,
    WaitingView,
};
use chaarfm_protocol::worker_socket_path;
use chaarfm_protocol::{Failure, FailureKind, Outcome, ToServer};
use chaarfm_server::{Access, Config};
use serde_json::Value;
use tokio_tungstenite::{
    connect_async,
    tungstenite::{Error, client::IntoClientRequest},
};

use crate::harness::{Coordinator, Folders, client, hello, wav, within};

#[tokio::test]
async fn sessions_are_made_shown_and_ended() {
    let folders = Folders::with(&[]);
    let coordinator = Coordinator::start(&folders).await;
    let first = coordinator.current().await;
    assert_eq!(coordinator.current().await.code, first.code, "a reload finds the same session");
    let response = coordinator.post("/api/sessions", &Value::Null).await;
    assert_eq!(response.status(), 201);
    let second: SessionView = response.json().await.unwrap();
    assert_ne!(second.code, first.code);
    assert_eq!(coordinator.current().await.code, second.code);

    let typed = second.code.to_string().to_lowercase().replace('-', "");
    let shown: SessionView = coordinator.get(&format!("/api/sessions/{typed}")).await.json().await.unwrap();
    assert_eq!(shown.code, second.code);
    let ended = coordinator.delete(&format!("/api/sessions/{typed}")).await;
    assert_eq!(ended.json::<Value>().await.unwrap()["state"], "ended");
    assert_eq!(coordinator.delete(&format!("/api/sessions/{typed}")).await.status(), 410);
    assert_eq!(coordinator.post(&format!("/api/sessions/{typed}/pause"), &Value::Null).await.status(), 410);
    assert_eq!(coordinator.current().await.code, first.code);

    let unknown = coordinator.get("/api/sessions/K7Q-M4X-WDP").await;
    assert_eq!(unknown.status(), 404);
    let malformed = coordinator.get("/api/sessions/K7Q-M4X-WD0").await;
    assert_eq!(malformed.status(), 400);
    let error: Value = malformed.json().await.unwrap();
    assert!(error["error"].as_str().unwrap().contains("no pairing code contains '0'"), "{error}");
    coordinator.stop().await;
}

#[tokio::test]
async fn pages_of_other_sites_command_nothing() {
    let folders = Folders::with(&[]);
    let coordinator = Coordinator::start_with(&known_as(&folders, &["https://music.example"])).await;
    let ask = async |headers: &[(&str, &str)]| {
        let request = client().post(format!("{}/api/sessions", coordinator.address)).bearer_auth(&coordinator.token);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        request.send().await.unwrap().status().as_u16()
    };
    for (site, status) in [("cross-site", 403), ("same-site", 403), ("same-origin", 201), ("none", 201)] {
        assert_eq!(ask(&[("sec-fetch-site", site)]).await, status, "{site}");
    }

    // To another machine without TLS, a browser sends only the page's origin.
    assert_eq!(ask(&[]).await, 201, "no browser");
    let own = coordinator.address.as_str();
    let longer = format!("{own}0");
    for (origin, status) in [
        (own, 201),
        (longer.as_str(), 403),
        ("http://127.0.0.1", 403),
        ("http://music.example", 403),
        ("file://", 403),
        ("null", 403),
    ] {
        assert_eq!(ask(&[("origin", origin)]).await, status, "{origin}");
    }
    assert_eq!(ask(&[("sec-fetch-site", "cross-site"), ("origin", own)]).await, 403);
    for (host, origin, status) in [
        ("music.example", "http://music.example", 201),
        ("music.example:80", "http://music.example", 201),
        // Behind a proxy.
        ("music.example", "https://music.example", 201),
        ("127.0.0.1", "https://music.example", 201),
        ("music.example:8080", "http://music.example", 403),
        ("localhost", "null", 403),
    ] {
        assert_eq!(ask(&[("host", host), ("origin", origin)]).await, status, "{host}, {origin}");
    }
    let read = client().get(format!("{own}/api/libraries")).header("origin", "http://music.example");
    assert_eq!(read.bearer_auth(&coordinator.token).send().await.unwrap().status(), 200, "reading is no command");
    coordinator.stop().await;
}

/// The configuration of a coordinator with these public URLs.
fn known_as(folders: &Folders, urls: &[&str]) -> Config {
    let access = Access { public_urls: urls.iter().map(|url| url.parse().unwrap()).collect(), ..Access::default() };
    Config { access, ..folders.config() }
}

#[tokio::test]
async fn names_that_are_not_its_own_get_no_answer() {
    let folders = Folders::with(&[]);
    let coordinator = Coordinator::start_with(&known_as(&folders, &["https://music.example"])).await;
    let code = coordinator.current().await.code;
    let session = format!("/api/sessions/{code}");
    let port = coordinator.address.rsplit(':').next().unwrap();
    let ask = async |path: &str, host: &str| {
        let request = client().get(format!("{}{path}", coordinator.address)).header("host", host);
        request.bearer_auth(&coordinator.token).send().await.unwrap()
    };
    for path in ["/", "/healthz", "/metrics", "/api/libraries", "/api/openapi.json", session.as_str(), "/nothing"] {
        for host in ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "192.0.2.1", "a@127.0.0.1"] {
            let refused = ask(path, &format!("{host}:{port}")).await;
            assert_eq!(refused.status(), 421, "{host}{path}");
            assert!(refused.headers()["content-type"].to_str().unwrap().starts_with("text/plain"));
            let words = refused.text().await.unwrap();
            assert!(words.contains(host) && words.contains("--public-url"), "{words}");
        }
    }
    for host in ["localhost", "127.0.0.1", "music.example", "music.example:443", "[::1]"] {
        assert_eq!(ask(&session, host).await.status(), 200, "{host}");
    }
    coordinator.stop().await;
}

#[tokio::test]
async fn workers_come_from_its_own_pages_or_from_none() {
    let folders = Folders::with(&[]);
    let coordinator = Coordinator::start_with(&known_as(&folders, &["https://music.example"])).await;
    let code = coordinator.current().await.code;
    let own = coordinator.address.as_str();
    for (origin, is_let_in) in [
        (None, true),
        (Some(own), true),
        (Some("https://music.example"), true),
        (Some("http://evil.example"), false),
        (Some("http://localhost:3000"), false),
        (Some("null"), false),
    ] {
        let address = format!("{}{}", own.replace("http:", "ws:"), worker_socket_path(&code));
        let mut request = address.into_client_request().unwrap();
        if let Some(origin) = origin {
            request.headers_mut().insert("origin", origin.parse().unwrap());
        }
        let opened = connect_async(request).await;
        match opened {
            Ok(_) => assert!(is_let_in, "{origin:?}"),
            Err(Error::Http(response)) => {
                assert_eq!((response.status().as_u16(), is_let_in), (403, false), "{origin:?}")
            }
            Err(error) => panic!("{origin:?}: {error}"),
        }
    }
    coordinator.stop().await;
}

#[tokio::test]
async fn browsers_are_told_what_a_page_may_do_and_what_is_kept() {
    let folders = Folders::with(&["1.wav"]);
    let coordinator = Coordinator::start(&folders).await;
    let code = coordinator.scanned().await;
    let mut worker = coordinator.join(code).await;
    let job = worker.job().await;
    worker.finish(&job).await;
    let jobs = format!("/api/sessions/{code}/jobs");
    let list = format!("{jobs}/export?format=csv");
    for path in
        ["/api/libraries", &jobs, &list, "/api/collections/music/export?format=jsonl", "/metrics", "/nothing.js"]
    {
        let answer = coordinator.get(path).await;
        let header = |name: &str| answer.headers()[name].to_str().unwrap();
        assert_eq!(header("cache-control"), "no-store", "{path}");
        assert_eq!(header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(header("cross-origin-resource-policy"), "same-origin", "{path}");
        let policy = header("content-security-policy");
        for rule in ["default-src 'none'", "connect-src 'self';", "frame-ancestors 'none'", "'wasm-unsafe-eval'"] {
            assert!(policy.contains(rule), "{path}: {policy}");
        }
        assert!(!policy.contains("unsafe-inline"), "{path}: {policy}");
    }
    let page = coordinator.get("/ingest").await;
    // Tests may run before the pages are built.
    if page.status() == 200 {
        let policy = page.headers()["content-security-policy"].to_str().unwrap().to_owned();
        let inline = page.text().await.unwrap().contains("<script type=\"module\">");
        assert_eq!(policy.contains("'sha256-"), inline, "{policy}");
    }
    coordinator.stop().await;
}

#[tokio::test]
async fn a_page_says_what_a_run_waits_for() {
    let folders = Folders::with(&["1.wav"]);
    folders.write("large.wav", &wav(&[7; 1000]));
    let coordinator = Coordinator::start(&folders).await;
    let code = coordinator.scanned().await;
    assert_eq!(coordinator.current().await.waiting, None, "that nobody is there is seen");
    let mut words = hello(1);
    if let ToServer::Hello { capacity, .. } = &mut words {
        capacity.max_audio_bytes = 500;
    }
    let mut small = coordinator.introduce(code, words).await;
    let job = small.job().await;
    let view = coordinator.watch(code, |view| view.waiting.is_some()).await;
    let too_large = WaitingView { too_large: 1, max_bytes: 500, ..WaitingView::default() };
    assert_eq!(view.waiting, Some(too_large));

    let failure = Failure { kind: FailureKind::Passing, message: "no network".into() };
    small.answer(&job.job, Outcome::Failed(failure)).await;
    let retries = |view: &SessionView| view.waiting.is_some_and(|waiting| waiting.retried == 1);
    let waiting = coordinator.watch(code, retries).await.waiting.unwrap();
    assert_eq!(waiting.too_large, 1);
    assert!((60..=120).contains(&waiting.next_try_seconds), "{waiting:?}: there is nobody else to try it");

    let mut large = coordinator.join(code).await;
    let job = large.job().await;
    assert_eq!(job.track.file, "large.wav");
    let is_soon = |view: &SessionView| view.waiting.is_some_and(|waiting| waiting.next_try_seconds <= 30);
    let waiting = coordinator.watch(code, is_soon).await.waiting.unwrap();
    assert_eq!((waiting.too_large, waiting.retried), (0, 1));
    assert_eq!(coordinator.command(code, "pause").await.waiting, None, "that it is paused is seen");
    coordinator.stop().await;
}

#[tokio::test]
async fn a_stream_on_which_nothing_happens_says_that_it_is_alive() {
    let folders = Folders::with(&[]);
    let coordinator = Coordinator::start(&folders).await;
    let code = coordinator.current().await.code;
    let mut stream = coordinator.get(&format!("/api/sessions/{code}/events")).await;
    let mut said = String::new();
    while !said.contains("event: alive\ndata: {}\n\n") {
        let chunk = within("a sign of life", stream.chunk()).await.unwrap().unwrap();
        said += std::str::from_utf8(&chunk).unwrap();
    }
    drop(stream);
    coordinator.stop().await;
}

#[tokio::test]
async fn a_page_knows_how_other_machines_reach_it() {
    let folders = Folders::with(&[]);
    let coordinator = Coordinator::start(&folders).await;
    let here = AdvertisedAddressView { loopback_only: true, ..AdvertisedAddressView::default() };
    assert_eq!(coordinator.current().await.advertised, Some(here));
    coordinator.stop().await;

    let config = Config { listen: ([0, 0, 0, 0], 0).into(), ..folders.config() };
    let coordinator = Coordinator::start_with(&config).await;
    let advertised = coordinator.current().await.advertised.unwrap();
    assert!(!advertised.loopback_only);
    // A machine without a network has no address.
    if let Some(origin) = advertised.origin {
        let elsewhere = client().get(format!("{origin}/healthz")).send().await.unwrap();
        assert_eq!(elsewhere.status(), 200, "{origin}");
    }
    coordinator.stop().await;
}

#[tokio::test]
async fn libraries_models_and_weights_are_listed_and_served() {
    let folders = Folders::with(&[]);
    let coordinator = Coordinator::start(&folders).await;
    let libraries: Vec<LibraryView> = coordinator.get("/api/libraries").await.json().await.unwrap();
    assert_eq!(libraries, [LibraryView { name: "lib".into(), problem: None }]);
    let models: Vec<ModelView> = coordinator.get("/api/models").await.json().await.unwrap();
    assert_eq!(models.iter().filter(|model| model.default).count(), 1);
    for model in chaarfm_models::all() {
        assert!(models.iter().any(|view| view.name == model.name));
        let response = coordinator.get(&format!("/models/{}/{}", model.sha256, model.file)).await;
        assert!(response.headers()["cache-control"].to_str().unwrap().contains("immutable"));
        assert_eq!(response.bytes().await.unwrap(), chaarfm_models::weights(model));
    }
    assert_eq!(coordinator.get("/models/0000/x").await.status(), 404);
    coordinator.stop().await;
}

#[tokio::test]
async fn a_collection_can_be_listed_and_taken_home() {
    let folders = Folders::with(&["1.wav", "2, \"two\".wav", "3.wav"]);
    let coordinator = Coordinator::start(&folders).await;
    let code = coordinator.scanned().await;
    let mut worker = coordinator.join(code).await;
    for _ in 0..3 {
        let job = worker.job().await;
        worker.finish(&job).await;
    }
    let collections: Vec<CollectionView> = coordinator.get("/api/collections").await.json().await.unwrap();
    assert_eq!(collections, [CollectionView { name: "music".into(), tracks: 3 }]);
    let page: TrackPage = coordinator.get("/api/collections/music/tracks").await.json().await.unwrap();
    assert_eq!((page.total, page.tracks.len()), (3, 3));
    let middle: TrackPage =
        coordinator.get("/api/collections/music/tracks?offset=1&limit=1").await.json().await.unwrap();
    assert_eq!((middle.total, &middle.tracks), (3, &vec![page.tracks[1].clone()]));

    let export = async |format: &str| {
        let response = coordinator.get(&format!("/api/collections/music/export?format={format}")).await;
        assert_eq!(response.status(), 200);
        let name = format!("attachment; filename=\"music.{format}\"");
        assert_eq!(response.headers()["content-disposition"], name.as_str());
        response.bytes().await.unwrap()
    };
    let lines = export("jsonl").await;
    let tracks: Vec<TrackView> = lines
        .split(|b| *b == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect();
    assert_eq!(tracks, page.tracks);

    let table = export("csv").await;
    let mut reader = csv::Reader::from_reader(&table[..]);
    let headers = reader.headers().unwrap().clone();
    let column = |name: &str| headers.iter().position(|header| header == name).unwrap();
    let rows: Vec<_> = reader.records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 3);
    for (row, track) in rows.iter().zip(&page.tracks) {
        assert_eq!(&row[column("file")], track.track.file);
        assert_eq!(&row[column("content_hash")], track.content_hash);
        let numbers: Vec<f32> = (0..200).map(|i| row[column(&format!("e{i}"))].parse().unwrap()).collect();
        assert_eq!(numbers, track.embedding);
    }

    let matrix = export("npy").await;
    let head = usize::from(u16::from_le_bytes([matrix[8], matrix[9]])) + 10;
    assert!(String::from_utf8_lossy(&matrix[10..head]).contains("'shape': (3, 200)"));
    let numbers: Vec<f32> = matrix[head..].as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    assert_eq!(numbers, page.tracks.iter().flat_map(|track| track.embedding.clone()).collect::<Vec<_>>());

    for (path, status) in
        [("nowhere/tracks", 404), ("nowhere/export?format=csv", 404), ("music/export?format=xls", 400)]
    {
        let response = coordinator.get(&format!("/api/collections/{path}")).await;
        assert_eq!(response.status(), status, "{path}");
        assert!(!response.json::<Value>().await.unwrap()["error"].as_str().unwrap().is_empty());
    }
    coordinator.stop().await;
}

#[tokio::test]
async fn the_interface_describes_itself_and_every_error_is_told_alike() {
    let folders = Folders::with(&[]);
    let coordinator = Coordinator::start(&folders).await;
    let document: Value = coordinator.get("/api/openapi.json").await.json().await.unwrap();
    let paths = document["paths"].as_object().unwrap();
    let some = ["/api/sessions/current", "/api/sessions/{code}/worker", "/api/collections/{name}/export"];
    for path in some.into_iter().chain(["/healthz", "/readyz", "/metrics"]) {
        assert!(paths.contains_key(path), "{path} is missing in {:?}", paths.keys());
    }
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let text = document.to_string();
    for reference in text.split("#/components/schemas/").skip(1) {
        let name = reference.split('"').next().unwrap();
        assert!(schemas.contains_key(name), "{name} is referred to and not there");
    }
    assert!(schemas.contains_key("SessionView") && schemas.contains_key("TrackView"), "{:?}", schemas.keys());

    assert_eq!(coordinator.get("/api/keepalive").await.json::<Value>().await.unwrap()["ok"], true);
    let health = coordinator.get("/healthz").await;
    assert_eq!(health.headers()["x-content-type-options"], "nosniff");
    assert_eq!(health.headers()["cross-origin-embedder-policy"], "require-corp");
    assert_eq!(health.text().await.unwrap(), "ok");

    for (response, status) in [
        (coordinator.get("/api/nothing").await, 404),
        (coordinator.get("/api/sessions/current/x/y").await, 404),
        (coordinator.delete("/api/libraries").await, 405),
        (coordinator.get("/api/audio/x").await, 400),
        (coordinator.get("/api/audio/1").await, 403),
        (coordinator.post("/api/nothing", &Value::Null).await, 404),
        (coordinator.post("/ingest", &Value::Null).await, 405),
    ] {
        assert_eq!(response.status(), status);
        let body: Value = response.json().await.unwrap();
        assert!(body["error"].is_string(), "{body}");
    }
    coordinator.stop().await;
}

#[tokio::test]
async fn programs_for_workers_are_offered_with_their_hashes() {
    let folders = Folders::with(&[]);
    let offered = folders.root().join("offered");
    fs::create_dir(&offered).unwrap();
    let (deb, bytes) = ("chaarfm-worker-0.2.0-linux-x86_64.deb", b"0123456789");
    for (name, bytes) in [(deb, &bytes[..]), ("release.json", b"{}"), ("release.json.minisig", b"s"), ("secret", b"s")]
    {
        fs::write(offered.join(name), bytes).unwrap();
    }
    let config = Config { downloads: Some(offered), ..folders.config() };
    let coordinator = Coordinator::start_with(&config).await;
    let listed: Vec<DownloadView> = coordinator.get("/api/downloads").await.json().await.unwrap();
    let [file] = &listed[..] else { panic!("{listed:?}") };
    assert_eq!((file.name.as_str(), file.bytes, file.url.as_str()), (deb, 10, &*format!("/downloads/{deb}")));
    let sums = coordinator.get("/downloads/SHA256SUMS").await.text().await.unwrap();
    assert_eq!(sums, format!("{}  {deb}\n", file.sha256));

    let whole = coordinator.get(&file.url).await;
    assert_eq!(whole.headers()["content-type"], "application/vnd.debian.binary-package");
    assert_eq!(whole.headers()["content-disposition"], format!("attachment; filename=\"{deb}\""));
    assert_eq!(whole.bytes().await.unwrap(), &bytes[..]);
    let part = coordinator.get_range(&file.url, "bytes=4-6").await;
    assert_eq!((part.status().as_u16(), part.text().await.unwrap().as_str()), (206, "456"));
    assert_eq!(coordinator.get_range(&file.url, "bytes=10-").await.status(), 416);
    for name in ["release.json", "release.json.minisig"] {
        assert_eq!(coordinator.get(&format!("/downloads/{name}")).await.status(), 200, "{name}");
    }
    for path in
        ["/downloads/secret", "/downloads/..%2frelease.json", "/downloads/chaarfm-worker-9.9.9-linux-x86_64.deb"]
    {
        let missing = coordinator.get(path).await;
        assert_eq!(missing.status(), 404, "{path}");
        assert!(missing.json::<Value>().await.unwrap()["error"].is_string(), "{path}");
    }
    coordinator.stop().await;
}

#[tokio::test]
async fn a_coordinator_without_programs_offers_none() {
    let folders = Folders::with(&[]);
    let coordinator = Coordinator::start(&folders).await;
    assert_eq!(coordinator.get("/api/downloads").await.text().await.unwrap(), "[]");
    assert_eq!(coordinator.get("/downloads/SHA256SUMS").await.text().await.unwrap(), "");
    coordinator.stop().await;
}
