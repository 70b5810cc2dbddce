//! Checks the way to a coordinator step by step; the first failed step is the last.

use std::{
    io,
    net::IpAddr,
    time::{Duration, SystemTime},
};

use chaarfm_doctor::{Check, State, clock, http_date, within};
use chaarfm_protocol::PairingCode;
use chaarfm_worker::{Address, Socket};
use reqwest::header::DATE;
use tokio::net::lookup_host;
use url::{Host, Url};

use crate::network::{Network, in_plain_words, proxy_name};

/// Longest wait for each step.
const LIMIT: Duration = Duration::from_secs(15);

/// Tolerance for clock differences: the time in an answer is cut to whole seconds, and the answer may have taken as
/// long as a step.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(30);

/// Most addresses of a host that are shown.
const MAX_ADDRESSES: usize = 4;

/// Checks each step in turn and hands over the results.
pub(super) async fn checks(
    network: &Network,
    address: &Address,
    mut add: impl FnMut(Vec<Check>) -> io::Result<()>,
) -> io::Result<()> {
    let keep_alive = match address.resolve("/api/keepalive") {
        Ok(url) => url,
        Err(error) => return add(vec![Check::failed("coordinator", error.to_string(), "look at the address again")]),
    };
    let name = within(LIMIT, "name", name(network, &keep_alive)).await;
    if !passed(name, &mut add)? {
        return Ok(());
    }
    let connection = within(LIMIT, "connection", connection(network, &keep_alive)).await;
    if !passed(connection, &mut add)? {
        return Ok(());
    }
    if keep_alive.scheme() == "https" && !passed(within(LIMIT, "TLS", tls(network, &keep_alive)).await, &mut add)? {
        return Ok(());
    }
    let (answer, clock) = answer(network, keep_alive).await;
    let answered = answer.state != State::Failed;
    add(std::iter::once(answer).chain(clock).collect())?;
    if answered {
        // Any code will do, even an invalid one: the connection opens before the code is checked.
        let url = address.socket(&address.code().unwrap_or_else(|| PairingCode::from_random(0)));
        add(vec![within(LIMIT, "WebSocket", websocket(network, &url)).await])?;
    }
    Ok(())
}

fn passed(check: Check, add: &mut impl FnMut(Vec<Check>) -> io::Result<()>) -> io::Result<bool> {
    let passed = check.state != State::Failed;
    add(vec![check])?;
    Ok(passed)
}

async fn name(network: &Network, url: &Url) -> Check {
    const NAME: &str = "name";
    let host = match url.host() {
        Some(Host::Domain(host)) => host.to_owned(),
        Some(ip) => return Check::ok(NAME, format!("{ip}, which is an address already")),
        None => return Check::failed(NAME, "the address has no host", "look at the address again"),
    };
    if network.proxies().for_url(url).is_some() {
        return Check::ok(NAME, format!("{host}, which the proxy looks up"));
    }
    match lookup_host((host.as_str(), url.port_or_known_default().unwrap_or_default())).await {
        Ok(found) => {
            let mut ips: Vec<IpAddr> = found.map(|address| address.ip()).collect();
            ips.dedup();
            let ips: Vec<String> = ips.iter().take(MAX_ADDRESSES).map(ToString::to_string).collect();
            Check::ok(NAME, format!("{host} is {}", ips.join(", ")))
        }
        Err(error) => {
            let advice = "is it written correctly, and is this computer connected to the network?";
            Check::failed(NAME, format!("nobody knows {host} ({error})"), advice)
        }
    }
}

async fn connection(network: &Network, url: &Url) -> Check {
    const NAME: &str = "connection";
    let port = url.port_or_known_default().unwrap_or_default();
    let way = network.proxies().for_url(url).map(|proxy| format!(", through the proxy {}", proxy_name(&proxy)));
    let way = format!("port {port}{}", way.unwrap_or_default());
    match network.connect(url).await {
        Ok(_) => Check::ok(NAME, format!("{way} is open")),
        Err(reason) => {
            let default = "start the coordinator, and let firewalls on the way pass it";
            let (found, advice) = with_advice(&reason, default);
            Check::failed(NAME, format!("{way}: {found}"), advice)
        }
    }
}

async fn tls(network: &Network, url: &Url) -> Check {
    const NAME: &str = "TLS";
    let greeted = match network.connect(url).await {
        Ok((stream, _)) => network.greet(url, stream).await,
        Err(reason) => Err(reason),
    };
    match greeted {
        Ok(version) => Check::ok(NAME, format!("{version}, with a certificate that is trusted")),
        Err(reason) => {
            let (found, advice) = with_advice(&reason, "tell who runs the coordinator");
            Check::failed(NAME, found, advice)
        }
    }
}

/// Checks the program that answers, and its clock.
async fn answer(network: &Network, url: Url) -> (Check, Option<Check>) {
    const NAME: &str = "coordinator";
    let advice = "is the address a coordinator's? Open it in a browser";
    let response = match tokio::time::timeout(LIMIT, network.http_of_owner().get(url).send()).await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => {
            let words = in_plain_words(&error.without_url());
            let (found, advice) = with_advice(&words, advice);
            return (Check::failed(NAME, found, advice), None);
        }
        Err(_) => return (Check::failed(NAME, format!("no answer for {} s", LIMIT.as_secs()), advice), None),
    };
    let time = response.headers().get(DATE).and_then(|date| http_date(date.to_str().ok()?));
    let clock = clock("coordinator", time, SystemTime::now(), CLOCK_TOLERANCE);
    let status = response.status();
    let check = if status.is_success() {
        Check::ok(NAME, "answers")
    } else {
        Check::failed(NAME, format!("what answers there says HTTP status {status}"), advice)
    };
    (check, Some(clock))
}

async fn websocket(network: &Network, url: &Url) -> Check {
    const NAME: &str = "WebSocket";
    match network.websocket(url).await {
        Ok(socket) => {
            socket.close().await;
            Check::ok(NAME, "opens")
        }
        Err(error) => {
            let advice =
                "a proxy on the way may not let WebSockets through: its owner has to allow them for this address";
            Check::failed(NAME, error.to_string(), advice)
        }
    }
}

/// Splits plain words at the colon: what is wrong comes before it, what to do after it.
fn with_advice<'a>(words: &'a str, default: &'a str) -> (&'a str, &'a str) {
    words.split_once(": ").unwrap_or((words, default))
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
    };
    use tokio_tungstenite::accept_async;

    use super::*;

    async fn found(address: &str) -> Vec<Check> {
        let mut found = Vec::new();
        let network = Network::of_system(false).unwrap();
        let add = |checks: Vec<Check>| {
            found.extend(checks);
            Ok(())
        };
        checks(&network, &address.parse().unwrap(), add).await.unwrap();
        found
    }

    fn states(checks: &[Check]) -> Vec<(&str, State)> {
        checks.iter().map(|check| (check.name.as_str(), check.state)).collect()
    }

    /// Answers requests with `head`, and accepts WebSockets as a coordinator does.
    async fn coordinator(head: String) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let head = head.clone();
                tokio::spawn(async move { converse(stream, &head).await });
            }
        });
        address
    }

    async fn converse(mut stream: TcpStream, head: &str) {
        let mut first = [0; 64];
        let length = stream.peek(&mut first).await.unwrap();
        if first[..length].starts_with(b"GET /api/sessions/") {
            let mut socket = accept_async(stream).await.unwrap();
            while let Some(Ok(_)) = socket.next().await {}
        } else if length > 0 {
            let _ = stream.read(&mut [0; 4096]).await.unwrap();
            stream.write_all(head.as_bytes()).await.unwrap();
        }
    }

    fn answer_at(time: SystemTime) -> String {
        format!("HTTP/1.1 200 OK\r\ncontent-length: 0\r\ndate: {}\r\n\r\n", httpdate::fmt_http_date(time))
    }

    #[tokio::test]
    async fn a_way_that_is_open_is_told_step_by_step() {
        let checks = found(&coordinator(answer_at(SystemTime::now())).await).await;
        let names = ["name", "connection", "coordinator", "clock", "WebSocket"];
        assert_eq!(states(&checks), names.map(|name| (name, State::Ok)), "{checks:?}");
    }

    #[tokio::test]
    async fn a_wrong_clock_is_told_with_its_difference() {
        let yesterday = SystemTime::now() - Duration::from_secs(3 * 86_400);
        let checks = found(&coordinator(answer_at(yesterday)).await).await;
        let clock = checks.iter().find(|check| check.name == "clock").unwrap();
        assert_eq!(clock.state, State::Failed);
        assert!(
            clock.found.starts_with("this computer's is 3 days ahead") || clock.found.contains("72 h"),
            "{clock:?}"
        );
    }

    #[tokio::test]
    async fn the_first_step_that_fails_is_the_last() {
        let unknown = found("http://no-such-host.invalid").await;
        assert_eq!(states(&unknown), [("name", State::Failed)]);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let nobody = format!("http://{}/join/K7Q-M4X-WDP", listener.local_addr().unwrap());
        drop(listener);
        let checks = found(&nobody).await;
        assert_eq!(states(&checks), [("name", State::Ok), ("connection", State::Failed)]);
        assert!(checks[1].found.ends_with("nothing listens there"), "{checks:?}");
        assert_eq!(checks[1].advice.as_deref(), Some("is it running, and are address and port right?"));
        let other = found(&coordinator("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".into()).await).await;
        assert_eq!(other[2].state, State::Failed, "{other:?}");
        assert_eq!(other.len(), 4, "and no WebSocket");
    }

    #[tokio::test]
    async fn what_has_no_tls_is_told_apart() {
        let address = coordinator("HTTP/1.1 400 Bad Request\r\n\r\n".into()).await.replace("http://", "https://");
        let checks = found(&address).await;
        assert_eq!(states(&checks), [("name", State::Ok), ("connection", State::Ok), ("TLS", State::Failed)]);
        assert!(checks[2].found.contains("speaks no TLS"), "{checks:?}");
    }
}
