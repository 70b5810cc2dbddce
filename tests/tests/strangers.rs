//! What strangers, and pages of other sites, can do to a coordinator in a real browser.

#![expect(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

use chaarfm_protocol::worker_socket_path;
use chaarfm_tests::{Browser, Server, executable};
use serde_json::json;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    process::Command,
};

/// A script that a page runs against a coordinator: it returns the statuses of commands and a query, and whether a worker's
/// socket opens.
fn attempts(url: &str, socket: &str) -> String {
    let socket = format!("{}{socket}", url.replace("http://", "ws://"));
    format!(
        "const status = (path, options) => fetch('{url}' + path, {{ credentials: 'include', ...options }})
            .then(answer => answer.status, () => 'unreadable');
        const opens = new Promise(resolve => {{
            const socket = new WebSocket('{socket}');
            socket.onopen = () => resolve(true);
            socket.onerror = () => resolve(false);
        }});
        return [
            await status('/api/sessions', {{ method: 'POST' }}),
            await status('/api/sessions', {{ method: 'POST', mode: 'no-cors' }}),
            await status('/api/libraries'),
            await opens,
        ];"
    )
}

/// Another site on this machine. Browsers send it the host's cookies from other ports.
async fn foreign_site() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 4096]).await;
            let page = "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 12\r\n\r\n<p>hello</p>";
            let _ = stream.write_all(page.as_bytes()).await;
        }
    });
    format!("http://{address}/")
}

#[tokio::test]
async fn a_page_of_another_site_commands_and_reads_nothing_in_the_owners_browser() {
    let (data, library) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let server = Server::start(data.path(), library.path()).await;
    let session = server.session().await;
    let made =
        Command::new(executable("chaarfm-server")).arg("--data").arg(data.path()).args(["token", "--keep"]).output();
    let made = String::from_utf8(made.await.unwrap().stdout).unwrap();
    let (_, token) = made.lines().next().unwrap().split_once("/enter").unwrap();
    let browser = Browser::open(&format!("{}/enter{token}", server.url)).await;
    browser.shows("#session-code", &session.code.to_string()).await;

    let attempts = attempts(&server.url, &worker_socket_path(&session.code));
    browser.go(&foreign_site().await).await;
    browser.shows("p", "hello").await;
    let got = browser.run(&attempts).await;
    // Not even an opaque response gets to a page of another origin, because of the header Cross-Origin-Resource-Policy.
    assert_eq!(got, json!(["unreadable", "unreadable", "unreadable", false]), "from another site");
    assert_eq!(server.session().await.code, session.code, "no session was made");

    browser.go(&format!("{}/ingest", server.url)).await;
    browser.shows("#session-code", &session.code.to_string()).await;
    let got = browser.run(&attempts).await;
    assert_eq!((&got[0], &got[2], &got[3]), (&json!(201), &json!(200), &json!(true)), "from its own page: {got}");
    server.stop().await;
}

#[tokio::test]
async fn a_name_that_leads_here_opens_nothing() {
    let (data, library) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let server = Server::start(data.path(), library.path()).await;
    let port = server.address().port();
    let here = format!("http://evil.example:{port}");
    let browser = Browser::open_with(&["--host-resolver-rules=MAP evil.example 127.0.0.1"], &here).await;
    browser.shows("body", "this coordinator does not answer as evil.example").await;
    let socket = worker_socket_path(&server.session().await.code);
    let got = browser.run(&attempts(&here, &socket)).await;
    assert_eq!(got, json!([421, 421, 421, false]));
    server.stop().await;
}

#[tokio::test]
async fn a_second_browser_is_not_the_owners() {
    let (data, library) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    // The owner's browser is let in: the tests have opened the link.
    let server = Server::start(data.path(), library.path()).await;
    let session = server.session().await;
    let browser = Browser::open(&format!("{}/ingest", server.url)).await;
    browser.shows("body", "owner").await;
    let guess = format!("{}/enter?token=1.{}", server.url, "0".repeat(64));
    browser.go(&guess).await;
    browser.shows("body", "chaarfm-server token").await;
    browser.go(&format!("{}/join", server.url)).await;
    browser.shows("h1, h2", "").await;
    let got = browser.run(&attempts(&server.url, &worker_socket_path(&session.code))).await;
    assert_eq!(got, json!([401, 401, 401, true]), "it may become a worker, and nothing else");
    assert_eq!(server.session().await.code, session.code);
    server.stop().await;
}
