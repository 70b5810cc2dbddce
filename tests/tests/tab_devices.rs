//! A tab chooses among its devices by their measured speed. A second CPU Web Worker plays the graphics card and reports a
//! speed that is scaled up or down.
#![expect(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

use chaarfm_api::WorkerView;
use chaarfm_protocol::SessionState;
use chaarfm_tests::{Browser, Server, fixtures};
use tempfile::TempDir;

/// Replaces the graphics card in pages. `FACTOR` scales its speed; null makes it never answer.
const STAND_IN: &str = r#"
    Object.defineProperty(navigator, "gpu", {
        value: { requestAdapter: async () => ({ info: { vendor: "stand-in" }, features: new Set() }) },
    });
    // Time flies, so that nobody waits for one that never answers.
    const realTimeout = window.setTimeout.bind(window);
    window.setTimeout = (f, wait, ...rest) => realTimeout(f, wait > 20000 && FACTOR === null ? wait / 4 : wait, ...rest);
    const Real = window.Worker;
    window.Worker = class extends Real {
        constructor(address, options) {
            super(String(address).replace("-web-gpu_", "-web_"), options);
            this.isGpu = String(address).includes("-web-gpu_");
        }
        postMessage(text) {
            if (this.isGpu && FACTOR === null && JSON.parse(text).type === "measure") return;
            super.postMessage(this.isGpu ? text.replace('"wgpu"', '"flex"') : text);
        }
        set onmessage(handler) {
            super.onmessage = handler && ((event) => {
                const message = JSON.parse(event.data);
                if (this.isGpu && message.type === "measured") message.speed *= FACTOR;
                if (this.isGpu && message.status?.device) message.status.device.backend = "wgpu";
                handler(new MessageEvent("message", { data: JSON.stringify(message) }));
            });
        }
    };
"#;

/// The workers that the coordinator sees from a tab with such a graphics card, once all its Web Workers have joined, and
/// the page's text about the devices.
async fn joined(factor: &str, web_workers: usize) -> (Vec<WorkerView>, String) {
    let (data, library) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    std::fs::copy(fixtures().join("music/band.ogg"), library.path().join("band.ogg")).unwrap();
    let server = Server::start(data.path(), library.path()).await;
    let session = server.session().await;
    let tab = Browser::open("about:blank").await;
    tab.before_pages(&STAND_IN.replace("FACTOR", factor)).await;
    tab.go(&format!("{}/join/{}?workers={web_workers}", server.url, session.code)).await;
    tab.press("Join").await;
    let view = server.wait_for(&session, "the Web Workers", |view| view.workers.len() == web_workers).await;
    server.ingest(&session).await;
    server.wait_for(&session, "the end", |view| view.state == SessionState::Complete).await;
    assert_eq!(server.tracks().await.len(), 1);
    (view.workers, tab.text("#device-used").await)
}

#[tokio::test]
async fn a_slow_graphics_card_leaves_the_work_to_the_cpu() {
    let (workers, text) = joined("0.01", 1).await;
    let speeds = workers[0].trial.speeds;
    assert!(speeds.cpu > speeds.gpu && speeds.gpu > Some(0.0), "{speeds:?}");
    assert_eq!(workers[0].trial.note.as_deref(), Some("it is faster here than the graphics card"));
    assert!(text.contains("CPU, 1 Web Worker") && text.contains("patches a second"), "{text}");
}

#[tokio::test]
async fn a_fast_graphics_card_is_taken() {
    let (workers, text) = joined("100", 1).await;
    let trial = &workers[0].trial;
    assert!(trial.speeds.gpu > trial.speeds.cpu, "{trial:?}");
    assert_eq!(trial.note, None);
    assert!(!text.contains("Web Worker"), "{text}");
}

#[tokio::test]
async fn both_work_where_they_do_more_than_either() {
    // Three times as fast as a CPU Web Worker: far from the thresholds, no matter how busy the machine is.
    let (workers, text) = joined("3", 2).await;
    let speeds = workers[0].trial.speeds;
    assert!(speeds.both > speeds.gpu && speeds.both > speeds.cpu, "{speeds:?}");
    assert!(text.contains("CPU, 1 Web Worker"), "{text}");
}

#[tokio::test]
async fn a_graphics_card_that_never_answers_is_given_up() {
    let (workers, text) = joined("null", 1).await;
    let note = workers[0].trial.note.as_deref();
    assert_eq!(note, Some("the graphics card is of no use here: it was not ready within 60 s"));
    assert!(text.contains("CPU, 1 Web Worker"), "{text}");
}
