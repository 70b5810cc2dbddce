//! From a folder to jobs, and audio for the workers that hold them.

use std::{
    fs::{self, File},
    path::Path,
};

use chaarfm_api::{LibraryView, SessionView};
use chaarfm_config::ConfigFile;
use chaarfm_domain::{JobState, LeftOutFiles};
use chaarfm_protocol::{AcceptedAs, Failure, FailureKind, Outcome, SessionState, ToWorker};
use chaarfm_server::{Config, NamedLocation};
use serde_json::{Value, json};

use crate::harness::{Coordinator, Folders, vector_for, wav, within};

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

/// Kinds of files that people have reported, with the tags they expect.
#[tokio::test]
async fn tags_are_what_people_expect() {
    const EXPECTED: [(&str, &str, &str); 8] = [
        ("tags/Disc A/Track 01.mp3", "Unknown Artist", "Track 1"),
        ("tags/Disc B/Track 01.mp3", "Unknown Artist", "Track 1"),
        ("tags/album artist only.mp3", "The Ensemble", "Movement"),
        ("tags/id3 without title, info with.wav", "Info", "Info Title"),
        ("tags/info latin1.wav", "Zoë", "Café Wave"),
        ("tags/tagged.mka", "In mka", "Song mka"),
        ("tags/v2 without title, v1 with.mp3", "Vee One", "Only in v1"),
        ("tags/v24 two artists.mp3", "Ann, Bob", "Duet"),
    ];
    let folders = Folders::with(&[]);
    folders.copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/library"));
    let coordinator = Coordinator::start(&folders).await;
    let code = coordinator.scanned().await;
    let jobs = coordinator.jobs(code).await;
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let found: Vec<_> =
        jobs.iter().map(|job| (job.track.file.clone(), text(&job.track.artist), text(&job.track.title))).collect();
    let expected = EXPECTED.map(|(file, artist, title)| (file.to_owned(), artist.to_owned(), title.to_owned()));
    assert_eq!(found, expected);
    let view = coordinator.current().await;
    assert_eq!(view.left_out, [LeftOutFiles { kind: "AppleDouble".into(), files: 1 }]);
    assert!(view.log.iter().any(|line| line.message.ends_with("; left out: 1 AppleDouble")), "{:?}", view.log);
    coordinator.stop().await;
}

#[tokio::test]
async fn tracks_of_one_artist_title_and_length_are_done_once_unless_every_file_is_wanted() {
    let song =
        fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/library/tags/v24 two artists.mp3"));
    let song = song.unwrap();
    let folders = Folders::with(&[]);
    folders.write("a.mp3", &song);
    folders.write("b.mp3", &[song.as_slice(), &[0]].concat());
    folders.write("half.mp3", &song[..song.len() / 2]);
    folders.write("copy.mp3", &song);
    let coordinator = Coordinator::start(&folders).await;
    let code = coordinator.scanned().await;
    let counts = coordinator.current().await.counts;
    assert_eq!((counts.queued, counts.skipped, counts.alike), (2, 2, 1), "half of it has another length");
    coordinator.command(code, "stop").await;

    let request = json!({ "library": "lib", "collection": "music", "every_file": true });
    assert_eq!(coordinator.post(&format!("/api/sessions/{code}/start"), &request).await.status(), 202);
    let view = coordinator.watch(code, |view| view.scan.is_none() && view.counts.queued > 0).await;
    assert_eq!((view.counts.queued, view.counts.skipped, view.counts.alike), (3, 1, 0));
    coordinator.stop().await;
}

#[cfg(unix)]
#[tokio::test]
async fn what_was_put_in_a_files_place_later_is_neither_waited_for_nor_followed() {
    let folders = Folders::with(&["1.wav"]);
    let coordinator = Coordinator::start(&folders).await;
    let code = coordinator.scanned().await;
    let mut worker = coordinator.join(code).await;
    let job = worker.job().await;
    let file = folders.file("1.wav");
    let put = |program: &str, arguments: &[&std::ffi::OsStr]| {
        fs::remove_file(&file).unwrap();
        assert!(std::process::Command::new(program).args(arguments).arg(&file).status().unwrap().success());
    };
    let secret = folders.root().join("secret.wav");
    fs::write(&secret, wav(b"1.wav")).unwrap();
    put("mkfifo", &[]);
    for _ in 0..10 {
        assert_eq!(within("no waiting", coordinator.audio(&job)).await.status(), 410);
    }
    put("ln", &["-s".as_ref(), secret.as_ref()]);
    assert_eq!(coordinator.audio(&job).await.status(), 410);
    put("ln", &["-s".as_ref(), "/dev/zero".as_ref()]);
    assert_eq!(coordinator.audio(&job).await.status(), 410);
    // A scan does not block on a pipe either.
    put("mkfifo", &[]);
    assert_eq!(coordinator.scan(code, "again").await.status(), 202);
    let view = coordinator.watch(code, |view| view.scan.is_none()).await;
    assert!(view.left_out.iter().any(|left_out| left_out.kind == "no file" && left_out.files == 1), "{view:?}");
    coordinator.stop().await;
}

#[tokio::test]
async fn a_file_that_was_replaced_by_one_of_its_size_is_not_given_out_for_it() {
    let folders = Folders::with(&["1.wav", "2.wav", "3.wav"]);
    let coordinator = Coordinator::start(&folders).await;
    let code = coordinator.scanned().await;
    let mut worker = coordinator.join(code).await;
    let job = worker.job().await;
    folders.write("other.wav", &wav(b"!.wav"));
    fs::rename(folders.file("other.wav"), folders.file("1.wav")).unwrap();
    let replaced = coordinator.audio(&job).await;
    assert_eq!(replaced.status(), 410);
    assert!(replaced.text().await.unwrap().contains("another content"));
    let failure = Failure { kind: FailureKind::Permanent, message: "gone".into() };
    worker.answer(&job.job, Outcome::Failed(failure)).await;

    // A file that was only copied counts as unchanged.
    let job = worker.job().await;
    let bytes = fs::read(folders.file("2.wav")).unwrap();
    folders.write("other.wav", &bytes);
    fs::rename(folders.file("other.wav"), folders.file("2.wav")).unwrap();
    assert_eq!(coordinator.audio(&job).await.status(), 200);
    let vector = || Outcome::Done(vector_for(&job));
    worker.answer_about(&job.job, vector(), Some(&bytes)).await;

    // The content that the worker received decides.
    let job = worker.job().await;
    let reply = worker.answer_about(&job.job, vector(), Some(&wav(b"!.wav"))).await;
    assert_eq!(reply, ToWorker::Accepted { job: job.job, outcome: AcceptedAs::Recorded });
    let jobs = coordinator.jobs(code).await;
    assert_eq!((jobs[2].state, jobs[2].attempts), (JobState::Queued, 1));
    assert!(jobs[2].error.as_ref().unwrap().contains("not what the scan found"), "{:?}", jobs[2].error);
    assert_eq!(coordinator.current().await.counts.done, 1);
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
    // An odd length is followed by a padding byte.
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
    // Slow to read, and the last one.
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
async fn a_library_that_is_absent_at_the_start_is_shown_and_the_others_serve() {
    let folders = Folders::with(&["1.wav"]);
    let disk = folders.root().join("disk");
    let mut config = folders.config();
    config.libraries.insert(0, NamedLocation { name: Some("jazz".into()), ..disk.clone().into() });
    let coordinator = Coordinator::start_with(&config).await;
    let libraries = async || coordinator.get("/api/libraries").await.json::<Vec<LibraryView>>().await.unwrap();
    let listed = libraries().await;
    assert_eq!(listed.iter().map(|library| library.name.as_str()).collect::<Vec<_>>(), ["jazz", "lib"]);
    assert!(listed[0].problem.as_ref().unwrap().contains("disk") && listed[1].problem.is_none(), "{listed:?}");

    let code = coordinator.current().await.code;
    let start = json!({ "library": "jazz", "collection": "music" });
    let refused = coordinator.post(&format!("/api/sessions/{code}/start"), &start).await;
    assert_eq!(refused.status(), 409);
    let error: Value = refused.json().await.unwrap();
    assert!(error["error"].as_str().unwrap().starts_with("the library jazz is absent: "), "{error}");
    let code = coordinator.scanned().await;
    assert_eq!(coordinator.jobs(code).await.len(), 1);

    fs::create_dir(&disk).unwrap();
    let response = coordinator.post("/api/libraries", &json!({ "location": disk })).await;
    assert_eq!(response.json::<Value>().await.unwrap()["name"], "jazz", "it is there again, under its name");
    assert!(libraries().await.iter().all(|library| library.problem.is_none()));
    coordinator.stop().await;
}

#[tokio::test]
async fn a_library_is_added_without_a_restart_and_stays() {
    let folders = Folders::with(&["1.wav"]);
    let file = folders.root().join("config.toml");
    fs::write(&file, "# mine\n[other]\n").unwrap();
    let settings = Some(ConfigFile::find("chaarfm-server", Some(file.clone())));
    let coordinator = Coordinator::start_with(&Config { libraries: Vec::new(), settings, ..folders.config() }).await;
    let code = coordinator.current().await.code;
    assert_eq!(coordinator.scan(code, "c").await.status(), 400, "it is not offered yet");

    let path = folders.file("").to_str().unwrap().trim_end_matches('/').to_owned();
    let add = async |location: &str| {
        let response = coordinator.post("/api/libraries", &json!({ "location": location })).await;
        (response.status().as_u16(), response.json::<Value>().await.unwrap())
    };
    assert_eq!(add(&path).await, (201, json!({ "name": "lib", "problem": null })));
    for (location, status, said) in [
        (path.as_str(), 409, "is the library lib already"),
        ("/no/such/folder", 400, "/no/such/folder is not a folder that can be read"),
        ("lib", 400, "lib is no whole path"),
        ("ftp://host/music", 400, "there is no storage called ftp://"),
    ] {
        let (was, error) = add(location).await;
        assert_eq!(was, status, "{location}");
        assert!(error["error"].as_str().unwrap().contains(said), "{error}");
    }
    let code = coordinator.scanned().await;
    assert_eq!(coordinator.jobs(code).await.len(), 1);
    assert_eq!(fs::read_to_string(&file).unwrap(), format!("libraries = [{path:?}]\n# mine\n[other]\n"));
    coordinator.stop().await;

    // When flags name the libraries, the settings file would have no effect.
    let coordinator = Coordinator::start_with(&Config { libraries: Vec::new(), ..folders.config() }).await;
    let response = coordinator.post("/api/libraries", &json!({ "location": path })).await;
    let added: Value = response.json().await.unwrap();
    assert!(added["problem"].as_str().unwrap().contains("until the server stops"), "{added}");
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

    let whole = coordinator.audio(&job).await;
    assert_eq!(whole.status(), 200);
    assert_eq!(whole.headers()["content-length"], bytes.len().to_string().as_str());
    assert_eq!(whole.headers()["cache-control"], "no-store");
    assert_eq!(whole.bytes().await.unwrap(), bytes);
    let part = coordinator.audio_part(&job, "bytes=4-7").await;
    assert_eq!((part.status().as_u16(), &part.bytes().await.unwrap()[..]), (206, &bytes[4..8]));

    assert_eq!(coordinator.audio_by(&job, "forged").await.status(), 403);
    let mut other = job.clone();
    other.audio.url = format!("/api/audio/{}", job.job.job + 1);
    assert_eq!(coordinator.audio(&other).await.status(), 403, "another job's lease");
    let in_address = format!("{}?lease={}", job.audio.url, job.job.lease);
    assert_eq!(coordinator.get(&in_address).await.status(), 403, "where proxies would log it");
    worker.finish(&job).await;
    assert_eq!(coordinator.audio(&job).await.status(), 403, "the lease has ended");

    let job = worker.job().await;
    fs::write(folders.file("z.wav"), b"shorter").unwrap();
    let changed = coordinator.audio(&job).await;
    assert_eq!(changed.status(), 410);
    assert!(changed.text().await.unwrap().contains("z.wav has changed"));
    fs::remove_file(folders.file("z.wav")).unwrap();
    let gone = coordinator.audio(&job).await;
    assert_eq!(gone.status(), 410);
    assert!(gone.text().await.unwrap().contains("z.wav is not there any more"));
    fs::remove_file(folders.file("with space ä.wav")).unwrap();
    let unmounted = coordinator.audio(&job).await;
    assert_eq!(unmounted.status(), 503, "an empty folder is one whose disk is not there");
    assert!(unmounted.headers().contains_key("retry-after"));
    coordinator.stop().await;
}
