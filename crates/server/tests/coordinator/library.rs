//! From a folder to jobs, and audio to those who hold them.

use std::fs::{self, File};

use chaarfm_protocol::{
    SessionState,
    view::{JobState, SessionView},
};
use chaarfm_server::Config;
use serde_json::{Value, json};

use crate::harness::{Coordinator, Folders, wav};

#[tokio::test]
async fn a_library_is_scanned_with_all_that_can_be_in_it() {
    let folders = Folders::with(&["b/2.wav", "a.wav"]);
    folders.write("c.wav", &wav(b"a.wav"));
    folders.write("notes.txt", b"no audio");
    folders.write("tagged.wav", &tagged_wav());
    File::create(folders.file("huge.wav")).unwrap().set_len(3 << 30).unwrap();
    let coordinator = Coordinator::start(&folders).await;
    let code = coordinator.scanned().await;
    let view = coordinator.current().await;
    assert_eq!((view.counts.queued, view.counts.skipped, view.counts.failed), (3, 1, 1), "{:?}", view.log);
    let jobs = coordinator.jobs(code).await;
    let files: Vec<_> = jobs.iter().map(|job| job.track.file.as_str()).collect();
    assert_eq!(files, ["a.wav", "b/2.wav", "huge.wav", "tagged.wav"]);
    assert_eq!(jobs[2].state, JobState::Failed);
    assert!(jobs[2].error.as_ref().unwrap().contains("3221225472 bytes"), "{:?}", jobs[2].error);
    assert_eq!(jobs[3].track.title.as_deref(), Some("A Title"));
    assert_eq!(jobs[3].track.artist.as_deref(), Some("An Artist"));
    coordinator.stop().await;
}

/// A WAV file with a RIFF INFO list.
pub(crate) fn tagged_wav() -> Vec<u8> {
    let mut list = b"INFO".to_vec();
    for (key, value) in [(b"INAM", b"A Title\0"), (b"IART", b"An Artis")] {
        list.extend(key);
        list.extend((value.len() as u32).to_le_bytes());
        list.extend(value);
    }
    // An odd length is followed by a byte of padding.
    let at = list.len() - 12;
    list[at..at + 4].copy_from_slice(&10_u32.to_le_bytes());
    list.extend(b"t\0");
    let mut bytes = wav(b"tagged");
    bytes.extend(b"LIST");
    bytes.extend((list.len() as u32).to_le_bytes());
    bytes.extend(list);
    let length = bytes.len() as u32 - 8;
    bytes[4..8].copy_from_slice(&length.to_le_bytes());
    bytes
}

#[tokio::test]
async fn one_scan_at_a_time_and_it_survives_a_restart() {
    let folders = Folders::with(&["1.wav", "2.wav"]);
    // Takes its time to be read, and is the last.
    File::create(folders.file("z.wav")).unwrap().set_len(2 << 30).unwrap();
    let coordinator = Coordinator::start(&folders).await;
    let code = coordinator.current().await.code;
    assert_eq!(coordinator.scan(code, "music").await.status(), 202);
    let second = coordinator.scan(code, "music").await;
    assert_eq!(second.status(), 409);
    assert!(second.text().await.unwrap().contains("scanning a library already"));
    coordinator.watch(code, |view| view.scan.is_some() && view.counts.queued == 2).await;
    coordinator.stop().await;

    let coordinator = Coordinator::start(&folders).await;
    let view = coordinator.watch(code, |view| view.scan.as_ref().is_some_and(|scan| scan.files >= 2)).await;
    assert_eq!((view.counts.queued, view.counts.skipped, view.state), (2, 0, SessionState::Running));
    let view = coordinator.command(code, "stop").await;
    assert_eq!((view.scan, view.counts.queued, view.state), (None, 0, SessionState::Idle));
    coordinator.stop().await;
}

#[tokio::test]
async fn what_a_start_asks_for_has_to_exist() {
    let folders = Folders::with(&["1.wav"]);
    let coordinator = Coordinator::start(&folders).await;
    let code = coordinator.current().await.code;
    let path = format!("/api/sessions/{code}/start");
    let cases = [
        (json!({ "library": "nowhere", "collection": "c" }), 400, "no library called nowhere"),
        (json!({ "library": "lib", "collection": "No!" }), 400, "only a-z, 0-9, _ and -"),
        (json!({ "library": "lib", "collection": "c", "model": "gpt" }), 400, "no model called gpt"),
        (json!({ "collection": "c" }), 422, "missing field `library`"),
    ];
    for (request, status, words) in cases {
        let response = coordinator.post(&path, &request).await;
        assert_eq!(response.status(), status, "{request}");
        let body: Value = response.json().await.unwrap();
        assert!(body["error"].as_str().unwrap().contains(words), "{body}");
    }
    coordinator.stop().await;
}

#[tokio::test]
async fn what_is_analysed_already_is_skipped() {
    let folders = Folders::with(&["1.wav", "2.wav"]);
    let coordinator = Coordinator::start(&folders).await;
    let code = coordinator.scanned().await;
    let mut worker = coordinator.join(code).await;
    for _ in 0..2 {
        let job = worker.job().await;
        worker.finish(&job).await;
    }
    for collection in ["music", "elsewhere"] {
        assert_eq!(coordinator.scan(code, collection).await.status(), 202);
        let view = coordinator.watch(code, |view| view.scan.is_none() && view.collection == collection).await;
        assert_eq!((view.counts.skipped, view.counts.done, view.counts.total()), (2, 2, 2), "{collection}");
        let page: Value = coordinator.get(&format!("/api/collections/{collection}/tracks")).await.json().await.unwrap();
        assert_eq!(page["total"], 2, "{collection}");
    }
    coordinator.stop().await;
}

#[tokio::test]
async fn tracks_of_a_library_that_is_not_there_wait_for_it() {
    let folders = Folders::with(&["1.wav"]);
    let coordinator = Coordinator::start(&folders).await;
    let code = coordinator.scanned().await;
    coordinator.stop().await;

    let without = Config { libraries: Vec::new(), ..folders.config() };
    let coordinator = Coordinator::start_with(&without).await;
    let _worker = coordinator.join(code).await;
    let lacking = |view: &SessionView| view.log.iter().any(|line| line.message.contains("no library called lib"));
    let view = coordinator.watch(code, lacking).await;
    assert_eq!((view.counts.queued, view.counts.leased), (1, 0));
    coordinator.stop().await;

    let coordinator = Coordinator::start(&folders).await;
    let mut worker = coordinator.join(code).await;
    let job = worker.job().await;
    assert_eq!(coordinator.jobs(code).await[0].attempts, 0);
    worker.finish(&job).await;
    assert_eq!(coordinator.current().await.counts.done, 1);
    coordinator.stop().await;
}

#[tokio::test]
async fn audio_is_for_the_holder_of_the_lease() {
    let folders = Folders::with(&["with space ä.wav", "z.wav"]);
    let coordinator = Coordinator::start(&folders).await;
    let code = coordinator.scanned().await;
    let mut worker = coordinator.join(code).await;
    let job = worker.job().await;
    let bytes = fs::read(folders.file("with space ä.wav")).unwrap();
    assert_eq!(job.audio.bytes, bytes.len() as u64);

    let whole = coordinator.get(&job.audio.url).await;
    assert_eq!(whole.status(), 200);
    assert_eq!(whole.headers()["content-length"], bytes.len().to_string().as_str());
    assert_eq!(whole.headers()["cache-control"], "no-store");
    assert_eq!(whole.bytes().await.unwrap(), bytes);
    let part = coordinator.get_range(&job.audio.url, "bytes=4-7").await;
    assert_eq!((part.status().as_u16(), &part.bytes().await.unwrap()[..]), (206, &bytes[4..8]));

    let id = job.job.job;
    for path in [format!("/api/audio/{id}?lease=forged"), format!("/api/audio/{}?lease={}", id + 1, job.job.lease)] {
        assert_eq!(coordinator.get(&path).await.status(), 403, "{path}");
    }
    worker.finish(&job).await;
    assert_eq!(coordinator.get(&job.audio.url).await.status(), 403, "the lease has ended");

    let job = worker.job().await;
    fs::write(folders.file("z.wav"), b"shorter").unwrap();
    let changed = coordinator.get(&job.audio.url).await;
    assert_eq!(changed.status(), 410);
    assert!(changed.text().await.unwrap().contains("z.wav has changed"));
    fs::remove_file(folders.file("z.wav")).unwrap();
    let gone = coordinator.get(&job.audio.url).await;
    assert_eq!(gone.status(), 410);
    assert!(gone.text().await.unwrap().contains("z.wav is not there any more"));
    fs::remove_file(folders.file("with space ä.wav")).unwrap();
    let unmounted = coordinator.get(&job.audio.url).await;
    assert_eq!(unmounted.status(), 503, "an empty folder is one whose disk is not there");
    assert!(unmounted.headers().contains_key("retry-after"));
    coordinator.stop().await;
}
