//! A worker that invents its vectors works next to an honest one, across a restart of the coordinator.

use std::{fs, path::Path};

use chaarfm_api::{InvitationView, NewInvitation, SessionView};
use chaarfm_domain::Standing;
use chaarfm_protocol::SessionState;
use chaarfm_tests::{Server, cosine, executable, files, fixtures, native_worker, simulated_worker};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

/// As fast as possible, so that the liar would do all the work.
const LIAR_MILLIS: std::ops::Range<u64> = 0..1;

/// Minimum cosine to the reference. Some files only come close to theirs: see the end-to-end tests.
const LEAST_COSINE: f64 = 0.999;

/// A coordinator that verifies every result.
async fn server(port: u16, data: &Path, library: &Path) -> Server {
    let mut command = Command::new(executable("chaarfm-server"));
    command.arg("--data").arg(data).args(["--verify", "all"]);
    Server::spawn(command, port, library).await
}

fn is_exposed(view: &SessionView) -> bool {
    view.log.iter().any(|line| line.message.contains("is set aside: its result for"))
}

#[tokio::test]
async fn nothing_that_a_liar_invents_is_stored() {
    let (data, library) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let music = files("music");
    for file in &music {
        fs::copy(file, library.path().join(file.file_name().unwrap())).unwrap();
    }
    let first = server(0, data.path(), library.path()).await;
    let (url, port) = (first.url.clone(), first.address().port());
    let session = first.session().await;
    let _liar = simulated_worker(&url, &session, &LIAR_MILLIS).spawn().unwrap();
    first.wait_for(&session, "the liar", |view| !view.workers.is_empty()).await;
    first.ingest(&session).await;
    let exposed = first.wait_for(&session, "the liar's exposure", is_exposed).await;
    assert_eq!(exposed.counts.done, 0);
    first.kill().await;

    // The restarted coordinator knows the liar by its key, and gives it nothing.
    let second = server(port, data.path(), library.path()).await;
    let is_set_aside = |view: &SessionView| view.workers.iter().any(|worker| worker.standing == Standing::SetAside);
    second.wait_for(&session, "the liar's return", is_set_aside).await;
    // No new worker may join with the invitation that a liar used.
    let wish = NewInvitation { name: "honest".to_owned(), ..NewInvitation::default() };
    let other: InvitationView = second.post(&format!("/api/sessions/{}/invitations", session.code), Some(wish)).await;
    let _honest = native_worker(&url, other.code);
    let end = second.wait_for(&session, "the end", |view| view.state == SessionState::Complete).await;
    assert!(!is_exposed(&end), "the liar was given a track again");

    let golden: Value = serde_json::from_slice(&fs::read(fixtures().join("golden.json")).unwrap()).unwrap();
    let tracks = second.tracks().await;
    assert_eq!(tracks.len(), music.len());
    for track in &tracks {
        let Some(reference) = golden[&track.track.file].get("embedding") else { continue };
        let reference: Vec<f32> = serde_json::from_value(reference.clone()).unwrap();
        let cosine = cosine(&track.embedding, &reference);
        assert!(cosine >= LEAST_COSINE, "{}: {cosine}", track.track.file);
    }
    second.stop().await;
}
