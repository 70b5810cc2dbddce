//! Libraries in an S3 bucket.

use std::{
    collections::HashMap,
    fs,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use chaarfm_api::LibraryView;
use chaarfm_domain::LogLevel;
use chaarfm_protocol::Job;
use chaarfm_server::{Config, NamedLocation, StorageSettings};
use reqwest::Url;
use serde_json::{Value, json};

use crate::{
    harness::{Coordinator, Folders, origin, wav},
    library::tagged_wav,
    postgres::Cluster,
    s3::{Bucket, S3},
    several::on_postgres,
    start::Running,
};

/// A configuration whose library is the bucket's objects below `lib/`.
fn config(folders: &Folders, bucket: &Bucket) -> Config {
    Config { libraries: vec![library(bucket)], storage: settings(bucket.environment()), ..folders.config() }
}

fn library(bucket: &Bucket) -> NamedLocation {
    NamedLocation::parse(format!("s3://{}/lib", bucket.name).into()).unwrap()
}

fn settings(environment: HashMap<&str, String>) -> StorageSettings {
    environment.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

async fn bucket_with(keys: &[&str]) -> Bucket {
    let bucket = S3::shared().bucket().await;
    for key in keys {
        bucket.put(key, &wav(key.as_bytes())).await;
    }
    bucket
}

fn direct(job: &Job) -> Url {
    job.audio.direct.as_ref().expect("the storage hands it out").parse().unwrap()
}

#[tokio::test]
async fn a_bucket_is_scanned_as_a_folder_is() {
    let folders = Folders::with(&[]);
    let bucket = S3::shared().bucket().await;
    let files = [("a.wav", wav(b"a")), ("b/2 ä+.wav", wav(b"b")), ("c.wav", wav(b"a")), ("tagged.wav", tagged_wav())];
    for (file, bytes) in &files {
        bucket.put(&format!("lib/{file}"), bytes).await;
        folders.write(file, bytes);
    }
    for key in ["lib/", "lib/d//e.wav", "lib/notes.txt", "library/f.wav", "g.wav"] {
        bucket.put(key, &wav(key.as_bytes())).await;
    }
    let mut config = config(&folders, &bucket);
    config.libraries.extend(folders.config().libraries);
    let coordinator = Coordinator::start_with(&config).await;
    let code = coordinator.scanned().await;
    let view = coordinator.current().await;
    assert_eq!((view.counts.queued, view.counts.skipped, view.counts.failed), (3, 1, 0), "{:?}", view.log);
    let obstacle = view.log.iter().find(|line| line.level == LogLevel::Warning).expect("one key is no path");
    assert!(obstacle.message.contains("the key lib/d//e.wav is no path"), "{}", obstacle.message);
    let jobs = coordinator.jobs(code).await;
    let names: Vec<_> = jobs.iter().map(|job| job.track.file.as_str()).collect();
    assert_eq!(names, ["a.wav", "b/2 ä+.wav", "tagged.wav"]);
    assert_eq!(jobs[2].track.title.as_deref(), Some("A Title"));
    assert_eq!(jobs[2].track.artist.as_deref(), Some("An Artist"));

    let mut worker = coordinator.join(code).await;
    for _ in 0..3 {
        let job = worker.job().await;
        worker.finish(&job).await;
    }
    let page: Value = coordinator.get("/api/collections/music/tracks").await.json().await.unwrap();
    for (track, file) in page["tracks"].as_array().unwrap().iter().zip([0, 1, 3]) {
        assert_eq!(track["content_hash"], blake3::hash(&files[file].1).to_hex().as_str(), "{track}");
    }

    let libraries: Vec<LibraryView> = coordinator.get("/api/libraries").await.json().await.unwrap();
    let start = json!({ "library": libraries[1].name, "collection": "music" });
    assert_eq!(coordinator.post(&format!("/api/sessions/{code}/start"), &start).await.status(), 202);
    let view = coordinator.watch(code, |view| view.scan.is_none() && view.counts.skipped > 1).await;
    assert_eq!((view.counts.open(), view.counts.skipped), (0, 4), "all of the folder is known from the bucket");
    coordinator.stop().await;
}

#[tokio::test]
async fn a_bucket_of_several_pages_is_listed_to_its_end() {
    let folders = Folders::with(&[]);
    let bucket = S3::shared().bucket().await;
    for number in 0..1100 {
        bucket.put(&format!("lib/{number:04}.txt"), b"").await;
    }
    for key in ["lib/0000//x.wav", "lib/0900.wav", "lib/1000//x.wav", "lib/1000//y.wav", "lib/2.wav"] {
        bucket.put(key, &wav(key.as_bytes())).await;
    }
    let coordinator = Coordinator::start_with(&config(&folders, &bucket)).await;
    let code = coordinator.scanned().await;
    let names: Vec<_> = coordinator.jobs(code).await.into_iter().map(|job| job.track.file).collect();
    assert_eq!(names, ["0900.wav", "2.wav"]);
    let log = coordinator.current().await.log;
    assert_eq!(log.iter().filter(|line| line.message.contains("is no path")).count(), 3, "{log:?}");
    coordinator.stop().await;
}

#[tokio::test]
async fn workers_get_audio_from_the_bucket_itself() {
    let folders = Folders::with(&[]);
    let bucket = bucket_with(&["lib/with space ä.wav", "lib/z.wav"]).await;
    let coordinator = Coordinator::start_with(&config(&folders, &bucket)).await;
    let code = coordinator.scanned().await;
    let mut worker = coordinator.join(code).await;
    let job = worker.job().await;
    let (bytes, address) = (wav("lib/with space ä.wav".as_bytes()), direct(&job));
    assert!(address.as_str().starts_with(&format!("{}/{}/lib/", S3::shared().endpoint, bucket.name)), "{address}");

    let client = reqwest::Client::new();
    let get = async |address: &Url, later: &str| {
        let response = client.get(address.clone()).header("x-test-later", later).send().await.unwrap();
        (response.status().as_u16(), response.bytes().await.unwrap())
    };
    assert_eq!(get(&address, "0").await, (200, bytes.clone().into()));
    assert_eq!(get(&address, "3500").await, (200, bytes.into()), "good for an hour");
    let (status, words) = get(&address, "3601").await;
    assert_eq!((status, &words[..]), (403, &b"Request has expired"[..]));

    let changed = |from: &str, to: &str| -> Url {
        assert!(address.as_str().contains(from), "{address}");
        address.as_str().replace(from, to).parse().unwrap()
    };
    for forged in [changed("X-Amz-Expires=3600", "X-Amz-Expires=9999"), changed("with%20space%20%C3%A4", "z")] {
        let (status, words) = get(&forged, "0").await;
        assert_eq!((status, &words[..]), (403, &b"SignatureDoesNotMatch"[..]), "{forged}");
    }
    let mut unsigned = address.clone();
    unsigned.set_query(None);
    assert_eq!(get(&unsigned, "0").await.0, 403, "nobody else gets it");
    coordinator.stop().await;
}

#[tokio::test]
async fn audio_of_a_bucket_comes_through_the_coordinator_as_well() {
    let folders = Folders::with(&[]);
    let bucket = bucket_with(&["lib/with space ä.wav", "lib/z.wav"]).await;
    let coordinator = Coordinator::start_with(&config(&folders, &bucket)).await;
    let code = coordinator.scanned().await;
    let mut worker = coordinator.join(code).await;
    let job = worker.job().await;
    let bytes = wav("lib/with space ä.wav".as_bytes());
    assert_eq!(job.audio.bytes, bytes.len() as u64);

    let whole = coordinator.audio(&job).await;
    assert_eq!(whole.status(), 200);
    for (name, value) in [("accept-ranges", "bytes"), ("cache-control", "no-store"), ("content-type", "audio/wav")] {
        assert_eq!(whole.headers()[name], value);
    }
    assert_eq!(whole.headers()["content-length"], bytes.len().to_string().as_str());
    assert_eq!(whole.bytes().await.unwrap(), bytes);
    let part = coordinator.audio_part(&job, "bytes=4-7").await;
    assert_eq!(part.status(), 206);
    assert_eq!(part.headers()["content-range"], format!("bytes 4-7/{}", bytes.len()).as_str());
    assert_eq!(part.bytes().await.unwrap(), bytes[4..8]);
    assert_eq!(coordinator.audio_part(&job, "bytes=9999-").await.status(), 416);
    assert_eq!(coordinator.audio_by(&job, "forged").await.status(), 403);

    worker.finish(&job).await;
    let job = worker.job().await;
    bucket.put("lib/z.wav", b"shorter").await;
    let changed = coordinator.audio(&job).await;
    assert_eq!(changed.status(), 410);
    assert!(changed.text().await.unwrap().contains("z.wav has changed"));
    bucket.delete("lib/z.wav").await;
    let gone = coordinator.audio(&job).await;
    assert_eq!(gone.status(), 410);
    assert!(gone.text().await.unwrap().contains("z.wav is not there any more"));
    coordinator.stop().await;
}

#[tokio::test]
async fn what_is_read_without_credentials_comes_through_the_coordinator_only() {
    let folders = Folders::with(&[]);
    let bucket = S3::shared().bucket().await;
    bucket.put_open("lib/a.wav", &wav(b"a")).await;
    let mut environment = bucket.environment();
    environment.retain(|name, _| !["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"].contains(name));
    environment.insert("AWS_SKIP_SIGNATURE", "true".to_owned());
    let config = Config { storage: settings(environment), ..config(&folders, &bucket) };
    let coordinator = Coordinator::start_with(&config).await;
    let code = coordinator.scanned().await;
    let mut worker = coordinator.join(code).await;
    let job = worker.job().await;
    assert_eq!(job.audio.direct, None);
    assert_eq!(coordinator.audio(&job).await.bytes().await.unwrap(), wav(b"a"));
    coordinator.stop().await;
}

#[tokio::test]
async fn a_folder_has_no_address_but_the_coordinators() {
    let folders = Folders::with(&["a.wav"]);
    let coordinator = Coordinator::start(&folders).await;
    let code = coordinator.scanned().await;
    assert_eq!(coordinator.join(code).await.job().await.audio.direct, None);
    coordinator.stop().await;
}

#[tokio::test]
async fn a_bucket_that_cannot_be_listed_is_absent_and_says_why() {
    let folders = Folders::with(&[]);
    let bucket = bucket_with(&[]).await;
    let problem = async |library: NamedLocation, environment: HashMap<&str, String>| {
        let config = Config { libraries: vec![library], storage: settings(environment), ..folders.config() };
        let coordinator = Coordinator::start_with(&config).await;
        let libraries: Vec<LibraryView> = coordinator.get("/api/libraries").await.json().await.unwrap();
        coordinator.stop().await;
        let words = libraries[0].problem.clone().expect("it is absent");
        assert!(words.lines().count() == 1 && !words.contains("test-secret"), "{words}");
        words
    };
    let missing = NamedLocation::parse("s3://nowhere/music".into()).unwrap();
    let words = problem(missing, bucket.environment()).await;
    assert!(words.starts_with("the library s3://nowhere/music/ cannot be listed: NoSuchBucket: "), "{words}");

    let elsewhere = |endpoint: &str| {
        let mut environment = bucket.environment();
        environment.insert("AWS_ENDPOINT", endpoint.to_owned());
        environment
    };
    let words = problem(library(&bucket), elsewhere("http://127.0.0.1:1")).await;
    assert!(words.contains(&format!("s3://{}/lib/ cannot be listed: ", bucket.name)), "{words}");
    assert!(words.contains("127.0.0.1:1"), "{words}");

    let mut without = bucket.environment();
    without.remove("AWS_ALLOW_HTTP");
    let words = problem(library(&bucket), without).await;
    assert!(words.contains("cannot be listed"), "{words}");
}

#[tokio::test]
async fn a_scan_of_a_bucket_is_taken_over_when_its_coordinator_stops() {
    let folders = Folders::with(&[]);
    let bucket = bucket_with(&["lib/1.wav", "lib/2.wav", "lib/held.wav"]).await;
    let Config { libraries, storage, .. } = config(&folders, &bucket);
    let config = Config { libraries, storage, ..on_postgres(&folders, Cluster::shared()) };
    let (first, second) = (Coordinator::start_with(&config).await, Coordinator::start_with(&config).await);
    let code = first.current().await.code;
    assert_eq!(first.scan(code, "music").await.status(), 202);
    first.watch(code, |view| view.scan.is_some() && view.counts.queued == 2).await;
    first.stop().await;
    second.watch(code, |view| view.scan.is_some()).await;
    bucket.release().await;
    let view = second.watch(code, |view| view.scan.is_none()).await;
    assert_eq!((view.counts.queued, view.counts.skipped), (3, 0), "{:?}", view.log);
    let job = second.join(code).await.job().await;
    let bytes = reqwest::get(direct(&job)).await.unwrap().bytes().await.unwrap();
    assert_eq!(bytes, wav(format!("lib/{}", job.track.file).as_bytes()));
    second.stop().await;
}

#[cfg(unix)]
#[tokio::test]
async fn the_program_takes_addresses_and_the_environment() {
    let folders = Folders::with(&["a.wav"]);
    let bucket = bucket_with(&["tunes/jazz/a.wav"]).await;
    let mut command = Command::new(env!("CARGO_BIN_EXE_chaarfm-server"));
    command.args(["--listen", "127.0.0.1:0", "--data"]).arg(folders.root().join("new"));
    command.args(["--library", &format!("s3://{}/tunes/jazz", bucket.name)]);
    let folder = fs::canonicalize(folders.file("")).unwrap();
    command.args(["--library", Url::from_file_path(&folder).unwrap().as_str()]);
    command.envs(bucket.environment()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut running = Running(command.spawn().unwrap());
    let mut line = String::new();
    BufReader::new(running.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let coordinator = Coordinator::at(origin(&line), &folders.config().database).await;
    let libraries: Vec<LibraryView> = coordinator.get("/api/libraries").await.json().await.unwrap();
    assert_eq!(libraries.iter().map(|library| library.name.as_str()).collect::<Vec<_>>(), ["jazz", "lib"]);
}
