//! Kills workers and coordinators in the middle of their work: every track is still stored exactly once.
#![expect(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

use std::{collections::BTreeSet, path::Path};

use chaarfm_api::SessionView;
use chaarfm_protocol::{SessionState, Stage};
use chaarfm_tests::{Server, fixtures, native_worker};
use tempfile::TempDir;

/// At most two are lost with the first worker, three are done when the server is killed, one has begun.
const TRACKS: usize = 6;

/// Repetitions of the fixture per track: seconds of work, so that a test can act in the middle of a track.
const REPEATS: usize = 10;

/// Creates tracks of eleven minutes with different contents: the fixture's left channel, played far too slowly, in the
/// smallest format.
fn long_tracks(folder: &Path) {
    let mut reader = hound::WavReader::open(fixtures().join("music/band.wav")).unwrap();
    let channels = usize::from(reader.spec().channels);
    let samples: Vec<i16> = reader.samples().step_by(channels).map(Result::unwrap).collect();
    let spec = hound::WavSpec { channels: 1, sample_rate: 8_000, bits_per_sample: 8, ..reader.spec() };
    for track in 0..TRACKS {
        let mut writer = hound::WavWriter::create(folder.join(format!("track {track:02}.wav")), spec).unwrap();
        let rotated = samples.iter().cycle().skip(track * 44_100).take(samples.len() * REPEATS);
        rotated.for_each(|&sample| writer.write_sample((sample >> 8) as i8).unwrap());
        writer.finalize().unwrap();
    }
}

fn is_in_mid_track(view: &SessionView) -> bool {
    let current = view.workers.iter().filter_map(|worker| worker.current.as_ref());
    current.into_iter().any(|job| job.stage == Stage::Analysing && job.fraction > 0.1)
}

#[tokio::test]
async fn killing_a_worker_in_mid_track_and_the_server_in_mid_run_loses_nothing() {
    let (data, library) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    long_tracks(library.path());
    let server = Server::start(data.path(), library.path()).await;
    let port = server.address().port();
    let session = server.session().await;

    let mut first = native_worker(&server.url, session.code);
    server.wait_for(&session, "the first worker", |view| view.workers.len() == 1).await;
    server.ingest(&session).await;
    server.wait_for(&session, "a track in analysis", is_in_mid_track).await;
    first.kill().await.unwrap();
    server
        .wait_for(&session, "the jobs given back", |view| {
            view.workers.is_empty() && view.counts.leased == 0 && view.counts.queued > 0
        })
        .await;

    let _second = native_worker(&server.url, session.code);
    let middle = |view: &SessionView| view.counts.done >= 3 && view.counts.leased > 0;
    server.wait_for(&session, "three tracks done and one begun", middle).await;
    server.kill().await;
    let server = Server::start_on(port, data.path(), library.path()).await;
    assert_eq!(server.session().await.code, session.code, "the session outlives the server");
    let end = server.wait_for(&session, "the end", |view| view.state == SessionState::Complete).await;

    assert_eq!((end.counts.done, end.counts.failed), (TRACKS as u64, 0), "{end:#?}");
    let tracks = server.tracks().await;
    let names: BTreeSet<_> = tracks.iter().map(|track| &track.track.file).collect();
    assert_eq!((tracks.len(), names.len()), (TRACKS, TRACKS), "each track once");
}

#[tokio::test]
async fn a_worker_says_why_it_is_not_let_in_and_does_not_try_for_ever() {
    let (data, library) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let server = Server::start(data.path(), library.path()).await;
    let run = |code: &'static str| {
        let mut command = tokio::process::Command::new(chaarfm_tests::executable("chaarfm-worker"));
        command.args(["--url", &server.url, "--code", code, "--device", "flex"]);
        async move { chaarfm_tests::within("the worker's end", command.output()).await.unwrap() }
    };
    let unknown = run("KKK-KKK-KKK").await;
    assert_eq!(unknown.status.code(), Some(3), "{unknown:?}");
    let malformed = run("0000").await;
    assert_eq!(malformed.status.code(), Some(2), "{malformed:?}");
    assert!(String::from_utf8_lossy(&malformed.stderr).contains("no pairing code contains '0'"), "{malformed:?}");
}
