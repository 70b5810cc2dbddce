//! Limits on the resources that strangers can use, tested on real sockets.

use std::time::{Duration, Instant};

use chaarfm_protocol::{PairingCode, RefusalReason, ToWorker, worker_socket_path};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::harness::{Coordinator, Folders, hello, within};

/// Connections in a flood: more than the maximum that may wait. Both ends are in this process.
const FLOOD: usize = 5000;

/// Open files needed for a flood.
const OPEN_FILES: u64 = 2 * FLOOD as u64 + 1000;

/// Longest acceptable wait for an honest client, even on a slow machine.
const PATIENCE: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a_worker_that_floods_and_never_reads_is_cut_off() {
    let folders = Folders::with(&["1.wav"]);
    let coordinator = Coordinator::start(&folders).await;
    let code = coordinator.scanned().await;
    let flood = coordinator.join(code).await.flood();
    within("the end of the flood", flood).await;
    coordinator.watch(code, |view| view.worker_count == 0).await;
    assert_eq!(coordinator.join(code).await.job().await.track.file, "1.wav", "others go on");
    coordinator.stop().await;
}

async fn connection(coordinator: &Coordinator) -> TcpStream {
    TcpStream::connect(coordinator.address.strip_prefix("http://").unwrap()).await.unwrap()
}

#[tokio::test]
async fn silent_connections_make_room_for_who_has_something_to_ask() {
    // If the system grants fewer, the coordinator uses fewer too, and there is nothing to test.
    if rlimit::increase_nofile_limit(OPEN_FILES).unwrap_or_default() < OPEN_FILES {
        return;
    }
    let folders = Folders::with(&[]);
    let coordinator = Coordinator::start(&folders).await;
    let code = coordinator.current().await.code;
    let mut worker = coordinator.join(code).await;
    let mut silent = Vec::with_capacity(FLOOD);
    for _ in 0..FLOOD {
        silent.push(connection(&coordinator).await);
    }
    let asked = Instant::now();
    assert_eq!(coordinator.get("/healthz").await.status(), 200);
    coordinator.join(code).await;
    assert!(asked.elapsed() < PATIENCE, "{:?}", asked.elapsed());
    worker.say(&chaarfm_protocol::ToServer::Ping).await;
    assert_eq!(worker.hear_word().await, ToWorker::Pong, "who is connected stays so");
    let ended = within("the end of the oldest", silent[0].read(&mut [0])).await;
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    coordinator.stop().await;
}

#[tokio::test]
async fn bodies_that_do_not_arrive_keep_nobody_waiting() {
    let folders = Folders::with(&[]);
    let coordinator = Coordinator::start(&folders).await;
    let mut stalled = Vec::new();
    for _ in 0..300 {
        let mut connection = connection(&coordinator).await;
        // The coordinator waits only for authorised clients, so this one sends a token.
        let head = format!(
            "POST /api/sessions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\nauthorization: Bearer {}\r\n\r\n",
            coordinator.token
        );
        connection.write_all(head.as_bytes()).await.unwrap();
        stalled.push(connection);
    }
    let asked = Instant::now();
    assert_eq!(coordinator.get("/healthz").await.status(), 200);
    coordinator.current().await;
    assert!(asked.elapsed() < PATIENCE, "{:?}", asked.elapsed());
    let status = async |connection: &mut TcpStream| {
        let mut line = [0; 12];
        within("an answer", connection.read_exact(&mut line)).await.unwrap();
        String::from_utf8_lossy(&line[9..]).into_owned()
    };
    let (first, last) = stalled.split_at_mut(1);
    assert_eq!(status(last.last_mut().unwrap()).await, "429", "there are too many of them");
    assert_eq!(status(&mut first[0]).await, "408", "its time is over");
    coordinator.stop().await;
}

#[tokio::test]
async fn a_body_and_a_head_have_a_size() {
    let folders = Folders::with(&[]);
    let coordinator = Coordinator::start(&folders).await;
    let long = serde_json::Value::String("x".repeat(70_000));
    assert_eq!(coordinator.post("/api/sessions", &long).await.status(), 413);
    let mut connection = connection(&coordinator).await;
    let head = format!("GET /healthz HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n", "x".repeat(20_000));
    connection.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    // It may be disconnected before everything was read.
    let _ = within("the end", connection.read_to_string(&mut answer)).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    assert_eq!(coordinator.get("/healthz").await.status(), 200);
    coordinator.stop().await;
}

#[tokio::test]
async fn who_guesses_waits_and_who_has_a_code_joins() {
    let folders = Folders::with(&[]);
    let coordinator = Coordinator::start(&folders).await;
    let code = coordinator.current().await.code;
    let over = coordinator.post("/api/sessions", &serde_json::Value::Null).await;
    let over: chaarfm_api::SessionView = over.json().await.unwrap();
    coordinator.delete(&format!("/api/sessions/{}", over.code)).await;
    let refusal = async |code: String| {
        let mut worker = coordinator.connect(&format!("/api/sessions/{code}/worker")).await;
        worker.say(&hello(1)).await;
        match worker.hear().await {
            ToWorker::Refused { reason, message, get: None } => (reason, message),
            other => panic!("let in: {other:?}"),
        }
    };
    let unknown = refusal(PairingCode::from_random(7).to_string()).await;
    assert_eq!(unknown.0, RefusalReason::UnknownCode);
    assert_eq!(refusal(over.code.to_string()).await, unknown, "whether there was such a session is not told");

    let begun = Instant::now();
    for number in 0..12 {
        assert_eq!(refusal(PairingCode::from_random(1000 + number).to_string()).await, unknown);
    }
    // With the two before, these are 14 wrong guesses, of which 10 are free: 250 ms, 500 ms, 1 s.
    assert!(begun.elapsed() >= Duration::from_millis(1750), "{:?}", begun.elapsed());
    coordinator.join(code).await;
    assert_eq!(worker_socket_path(&code), format!("/api/sessions/{code}/worker"));

    // Many at once: most are rejected without a check, and a worker can still join after a wait.
    let guesses = (0..200).map(|number| refusal(PairingCode::from_random(2000 + number).to_string()));
    let reasons = within("the answers", futures_util::future::join_all(guesses)).await;
    assert!(
        reasons.iter().all(|(reason, _)| [RefusalReason::UnknownCode, RefusalReason::Full].contains(reason)),
        "{reasons:?}"
    );
    assert!(reasons.iter().filter(|(reason, _)| *reason == RefusalReason::Full).count() >= 100, "{reasons:?}");
    coordinator.join(code).await;
    coordinator.stop().await;
}
