//! Analyses a folder with every format through a native worker and a browser tab at once.
#![expect(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

use std::{collections::BTreeMap, fs, path::Path};

use chaarfm_protocol::{SessionState, WorkerKind};
use chaarfm_tests::{Browser, Server, analyze, cosine, executable, files, fixtures, native_worker};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

/// Files of `broken/` that yield no vector, with a word of the reason.
const REFUSED: [(&str, &str); 4] = [
    ("bad_empty.mp3", "empty"),
    ("bad_garbage.mp3", "not a known audio format"),
    ("bad_html.mp3", "web page"),
    ("too_short.wav", "at least 2.96 s"),
];

/// Files without a reference: the peer crashes on them, or they are truncated. They are compared with this project's
/// native result.
const WITHOUT_REFERENCE: [&str; 4] = ["band.opus", "band_opus.webm", "band_5_1.flac", "bad_truncated.mp3"];

#[tokio::test]
async fn a_native_worker_and_a_tab_share_a_folder_and_every_vector_is_right() {
    let (data, library) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let music = files("music");
    let all: Vec<_> = music.iter().cloned().chain(files("broken")).collect();
    for file in &all {
        fs::copy(file, library.path().join(file.file_name().unwrap())).unwrap();
    }
    two_tracks_in_three_files(library.path());
    let server = Server::start(data.path(), library.path()).await;
    let session = server.session().await;
    let _native = native_worker(&server.url, session.code);
    let tab = Browser::open(&format!("{}/join/{}?device=flex&workers=1", server.url, session.code)).await;
    tab.press("Join").await;
    server.wait_for(&session, "both workers' arrival", |view| view.workers.len() == 2).await;
    server.ingest(&session).await;
    let end = server.wait_for(&session, "the end", |view| view.state == SessionState::Complete).await;

    let failures = server.failures(&session).await;
    assert_eq!(failures.len(), REFUSED.len(), "{failures:#?}");
    for (file, reason) in REFUSED {
        let job = failures.iter().find(|job| job.track.file == file).unwrap_or_else(|| panic!("{file} did not fail"));
        let error = job.error.as_deref().unwrap_or_default();
        assert!(error.contains(reason), "{file}: {error}");
        assert_eq!(job.attempts, 0, "{file}: no other attempt can help, so none is counted");
    }

    let tracks = server.tracks().await;
    assert_eq!(tracks.len(), all.len() - REFUSED.len());
    assert_eq!((end.counts.done as usize, end.counts.skipped), (tracks.len(), 1));
    for kind in [WorkerKind::Native, WorkerKind::Browser] {
        assert!(tracks.iter().any(|track| track.worker == kind), "{kind:?} did nothing");
    }
    let (_, lines) = analyze(&all).await;
    let native: BTreeMap<&str, &Value> =
        lines.iter().map(|line| (line["file"].as_str().unwrap().rsplit('/').next().unwrap(), line)).collect();
    let golden: Value = serde_json::from_slice(&fs::read(fixtures().join("golden.json")).unwrap()).unwrap();
    for track in &tracks {
        let file = track.track.file.as_str();
        let own = cosine(&track.embedding, &numbers(&native[file]["embedding"]));
        assert!(own >= 0.99999, "{file} by {:?}: {own} from the native answer", track.worker);
        let Some(reference) = golden[file].get("embedding") else {
            assert!(WITHOUT_REFERENCE.contains(&file), "{file} has no reference");
            continue;
        };
        let peer = cosine(&track.embedding, &numbers(reference));
        assert!(peer >= if file == "band_mono_8bit.wav" { 0.999 } else { 0.9999 }, "{file}: {peer} from the peer");
    }
    let tagged = tracks.iter().find(|track| track.track.file == "band.mp3").unwrap();
    assert_eq!(tagged.track.label(), "The Fixtures – Band");
    let flags = |file: &str| tracks.iter().find(|track| track.track.file == file).unwrap().flags.clone();
    assert_eq!(flags("silence.wav"), ["silent"]);
    assert_eq!(flags("bad_truncated.mp3"), ["truncated"]);

    exports_hold_every_track(&server, tracks.len()).await;

    // A second run finds every file analysed, and retries the refused ones.
    server.ingest(&session).await;
    let skipped = |view: &chaarfm_api::SessionView| view.counts.skipped as usize == tracks.len() + 1;
    server.wait_for(&session, "everything skipped", |view| skipped(view) && view.state == SessionState::Complete).await;
    assert_eq!(server.tracks().await.len(), tracks.len());

    // A closed tab disappears at once, not after a timeout.
    tab.close().await;
    server.wait_for(&session, "the tab's leaving", |view| view.workers.len() == 1).await;
}

/// Copies `band.mp3` with other bytes but the same tags, which must be recognised as the same track. The truncated file
/// has these tags as well, so it gets its own title.
fn two_tracks_in_three_files(library: &Path) {
    let mut again = fs::read(library.join("band.mp3")).unwrap();
    again.push(0);
    fs::write(library.join("band_again.mp3"), again).unwrap();
    let mut cut = fs::read(library.join("bad_truncated.mp3")).unwrap();
    let title = cut.windows(4).position(|word| word == b"Band").unwrap();
    cut[title..title + 4].copy_from_slice(b"Half");
    fs::write(library.join("bad_truncated.mp3"), cut).unwrap();
}

async fn exports_hold_every_track(server: &Server, tracks: usize) {
    let export = |format: &str| {
        let path = format!("/api/collections/{}/export?format={format}", chaarfm_tests::COLLECTION);
        async move { server.bytes(&path).await }
    };
    let csv = String::from_utf8(export("csv").await).unwrap();
    assert_eq!(csv.lines().count(), tracks + 1);
    let jsonl = String::from_utf8(export("jsonl").await).unwrap();
    for line in jsonl.lines() {
        assert_eq!(numbers(&serde_json::from_str::<Value>(line).unwrap()["embedding"]).len(), 200);
    }
    assert_eq!(jsonl.lines().count(), tracks);
    let npy = export("npy").await;
    assert!(npy.starts_with(b"\x93NUMPY"));
    let header = usize::from(u16::from_le_bytes([npy[8], npy[9]]));
    assert_eq!(npy.len() - 10 - header, tracks * 200 * 4);
}

/// A worker and a tab reach a coordinator with a self-signed certificate: the worker by the pin in its link, the tab after
/// a person has accepted the certificate.
#[tokio::test]
async fn everything_goes_over_tls_with_a_certificate_of_the_coordinators_own() {
    let (data, library) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    for file in ["band.mp3", "band.ogg", "band.flac"] {
        fs::copy(fixtures().join("music").join(file), library.path().join(file)).unwrap();
    }
    let mut command = Command::new(executable("chaarfm-server"));
    command.arg("--data").arg(data.path()).arg("--tls-self-signed");
    let server = Server::spawn(command, 0, library.path()).await;
    assert!(server.url.starts_with("https://"), "{}", server.url);
    let session = server.session().await;
    let pin = session.advertised.clone().unwrap().pin.unwrap();

    // Without the pin, the worker cannot distinguish the coordinator from an eavesdropper.
    let _without_pin = native_worker(&server.url, session.code);
    let link = format!("{}#pin={pin}", server.url);
    let _native = native_worker(&link, session.code);
    let tab = Browser::open(&format!("{}/join/{}?device=flex&workers=1", server.url, session.code)).await;
    tab.press("Join").await;
    let both = server.wait_for(&session, "both workers' arrival", |view| view.workers.len() == 2).await;
    let kinds: Vec<_> = both.workers.iter().map(|worker| worker.kind).collect();
    assert!(kinds.contains(&WorkerKind::Native) && kinds.contains(&WorkerKind::Browser), "{kinds:?}");
    server.ingest(&session).await;
    let end = server.wait_for(&session, "the end", |view| view.state == SessionState::Complete).await;
    assert_eq!((end.counts.done, end.counts.failed), (3, 0));
    assert_eq!(end.workers.len(), 2, "the worker without a pin stayed away");
    tab.close().await;
    server.stop().await;
}

#[tokio::test]
async fn analyze_says_what_is_wrong_with_each_file_and_goes_on() {
    let files = ["broken/bad_html.mp3", "music/band.mp3", "broken/too_short.wav"].map(|file| fixtures().join(file));
    let (code, lines) = analyze(&files).await;
    assert_eq!(code, Some(1));
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[0]["error"]["kind"], "not_audio");
    assert_eq!(lines[2]["error"]["kind"], "too_short");
    let good = &lines[1];
    assert_eq!(numbers(&good["embedding"]).len(), 200);
    assert_eq!(good["tags"].as_object().unwrap().len(), 50);
    assert_eq!((&good["patches"], &good["model"]), (&7.into(), &"msd-musicnn".into()));
    assert!(good["device"].as_str().unwrap().starts_with("flex"));
    assert!(good["elapsed_ms"]["total"].as_f64().unwrap() > 0.0);
    let (code, _) = analyze(&files[1..2]).await;
    assert_eq!(code, Some(0));
}

fn numbers(value: &Value) -> Vec<f32> {
    serde_json::from_value(value.clone()).unwrap()
}
