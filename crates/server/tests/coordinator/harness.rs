//! Shared test code: a coordinator with its own folders, a client, and scripted workers.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use chaarfm_api::SessionView;
use chaarfm_domain::Role;
use chaarfm_protocol::{
    Capacity, Device, Job, JobRef, LEASE_HEADER, Outcome, PairingCode, SessionState, Stage, ToServer, ToWorker, Trial,
    VERSION, Vector, WorkerKey, WorkerKind, limits::MAX_AUDIO_BYTES, worker_socket_path,
};
use chaarfm_server::{Access, Config, Database, Server, StorageSettings, VerifyShare, add_token};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{net::TcpStream, sync::oneshot, task::JoinHandle, time::timeout};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{
        Message,
        protocol::{CloseFrame, frame::coding::CloseCode},
    },
};

/// Time limit for any wait; only a bug exceeds it.
const WAIT: Duration = Duration::from_secs(40);

/// Waits for an expected event.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(WAIT, future).await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

/// Two folders that a coordinator uses, and that outlive it.
pub(crate) struct Folders {
    data: TempDir,
    library: TempDir,
}

impl Folders {
    /// With these audio files in the library, each with different content.
    pub(crate) fn with(files: &[&str]) -> Self {
        let folders = Self { data: tempfile::tempdir().unwrap(), library: tempfile::tempdir().unwrap() };
        for name in files {
            folders.write(name, &wav(name.as_bytes()));
        }
        folders
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.file(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// Copies a folder's content into the library.
    pub(crate) fn copy(&self, from: &Path) {
        let mut folders = vec![PathBuf::new()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(from.join(&folder)).unwrap() {
                let name = folder.join(entry.unwrap().file_name());
                if from.join(&name).is_dir() {
                    folders.push(name);
                } else {
                    self.write(name.to_str().unwrap(), &fs::read(from.join(&name)).unwrap());
                }
            }
        }
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.library.path().join("lib").join(name)
    }

    pub(crate) fn config(&self) -> Config {
        let library = self.library.path().join("lib");
        fs::create_dir_all(&library).unwrap();
        let database = Database::Sqlite(self.database());
        let (listen, storage) = (([127, 0, 0, 1], 0).into(), StorageSettings::default());
        Config {
            listen,
            database,
            libraries: vec![library.into()],
            storage,
            downloads: None,
            temporary: self.temporary(),
            job_retention_days: 0,
            verify: VerifyShare::None,
            settings: None,
            access: Access::default(),
        }
    }

    /// The program's default database path when its data folder is `new`.
    pub(crate) fn database(&self) -> PathBuf {
        self.data.path().join("new/chaarfm.sqlite3")
    }

    /// Its folder for temporary files in that case.
    pub(crate) fn temporary(&self) -> PathBuf {
        self.data.path().join("new/tmp")
    }

    pub(crate) fn root(&self) -> &Path {
        self.data.path()
    }
}

/// A WAV file of 8-bit samples.
pub(crate) fn wav(samples: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(b"RIFF");
    bytes.extend((36 + samples.len() as u32).to_le_bytes());
    bytes.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    bytes.extend(16_000_u32.to_le_bytes());
    bytes.extend(16_000_u32.to_le_bytes());
    bytes.extend(b"\x01\0\x08\0data");
    bytes.extend((samples.len() as u32).to_le_bytes());
    bytes.extend(samples);
    bytes
}

/// A running coordinator.
pub(crate) struct Coordinator {
    pub(crate) address: String,
    /// The page's URL, as printed by the program.
    pub(crate) page: String,
    /// The owner's token, with which tests give commands.
    pub(crate) token: String,
    pub(crate) client: reqwest::Client,
    stop: oneshot::Sender<()>,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Coordinator {
    pub(crate) async fn start(folders: &Folders) -> Self {
        Self::start_with(&folders.config()).await
    }

    pub(crate) async fn start_with(config: &Config) -> Self {
        let server = Server::bind(config).await.unwrap();
        let address = format!("http://{}", server.local_addr());
        let page = server.page();
        let token = token(&config.database, Role::Owner).await;
        let (stop, stopped) = oneshot::channel();
        let shutdown = async {
            let _ = stopped.await;
        };
        let task = tokio::spawn(server.run(shutdown));
        Self { address, page, token, client: client(), stop, task }
    }

    /// A coordinator that runs as a separate program, and continues when this value is stopped.
    pub(crate) async fn at(address: &str, database: &Database) -> Self {
        let token = token(database, Role::Owner).await;
        let (stop, stopped) = oneshot::channel();
        let (address, page) = (address.to_owned(), format!("{address}/ingest"));
        Self { address, page, token, client: client(), stop, task: tokio::spawn(async { Ok(stopped.await?) }) }
    }

    pub(crate) async fn stop(self) {
        self.stop.send(()).unwrap();
        within("the coordinator to stop", self.task).await.unwrap().unwrap();
    }

    pub(crate) async fn get(&self, path: &str) -> reqwest::Response {
        self.client.get(format!("{}{path}", self.address)).bearer_auth(&self.token).send().await.unwrap()
    }

    /// Gets a byte range of a file.
    pub(crate) async fn get_range(&self, path: &str, range: &str) -> reqwest::Response {
        let request = self.client.get(format!("{}{path}", self.address)).bearer_auth(&self.token);
        request.header("range", range).send().await.unwrap()
    }

    /// Fetches a job's audio like its worker.
    pub(crate) async fn audio(&self, job: &Job) -> reqwest::Response {
        self.audio_by(job, &job.job.lease).await
    }

    /// The same under any lease.
    pub(crate) async fn audio_by(&self, job: &Job, lease: &str) -> reqwest::Response {
        self.client.get(self.address.clone() + &job.audio.url).header(LEASE_HEADER, lease).send().await.unwrap()
    }

    /// A byte range of it.
    pub(crate) async fn audio_part(&self, job: &Job, range: &str) -> reqwest::Response {
        let request = self.client.get(self.address.clone() + &job.audio.url).header(LEASE_HEADER, &job.job.lease);
        request.header("range", range).send().await.unwrap()
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> reqwest::Response {
        self.client.post(format!("{}{path}", self.address)).bearer_auth(&self.token).json(body).send().await.unwrap()
    }

    pub(crate) async fn delete(&self, path: &str) -> reqwest::Response {
        self.client.delete(format!("{}{path}", self.address)).bearer_auth(&self.token).send().await.unwrap()
    }

    pub(crate) async fn current(&self) -> SessionView {
        self.post("/api/sessions/current", &Value::Null).await.json().await.unwrap()
    }

    /// Sends a command to a session, and expects success.
    pub(crate) async fn command(&self, code: PairingCode, command: &str) -> SessionView {
        let response = self.post(&format!("/api/sessions/{code}/{command}"), &Value::Null).await;
        assert!(response.status().is_success(), "{}", response.text().await.unwrap());
        response.json().await.unwrap()
    }

    pub(crate) async fn scan(&self, code: PairingCode, collection: &str) -> reqwest::Response {
        let request = json!({ "library": "lib", "collection": collection });
        self.post(&format!("/api/sessions/{code}/start"), &request).await
    }

    /// A session whose library was scanned, with nothing handed out yet.
    pub(crate) async fn scanned(&self) -> PairingCode {
        let code = self.current().await.code;
        assert_eq!(self.scan(code, "music").await.status(), 202);
        self.watch(code, |view| view.scan.is_none()).await;
        code
    }

    /// Follows the session's events until one satisfies the condition.
    pub(crate) async fn watch(&self, code: PairingCode, is_it: impl Fn(&SessionView) -> bool) -> SessionView {
        let watching = async {
            let mut response = self.get(&format!("/api/sessions/{code}/events")).await;
            let mut bytes = Vec::new();
            loop {
                // Chunks may end anywhere, even within a character.
                bytes.extend(response.chunk().await.unwrap().unwrap());
                while let Some(end) = bytes.windows(2).position(|pair| pair == b"\n\n") {
                    let event: Vec<u8> = bytes.drain(..end + 2).collect();
                    // An event with a name is only a keep-alive.
                    let view = event.strip_prefix(b"data: ").map(|data| serde_json::from_slice(data).unwrap());
                    if let Some(view) = view.filter(&is_it) {
                        return view;
                    }
                }
            }
        };
        within("a certain state of the session", watching).await
    }

    pub(crate) async fn jobs(&self, code: PairingCode) -> Vec<chaarfm_api::JobView> {
        self.get(&format!("/api/sessions/{code}/jobs")).await.json().await.unwrap()
    }

    pub(crate) async fn join(&self, code: PairingCode) -> Worker {
        self.join_with(code, 1).await
    }

    pub(crate) async fn join_with(&self, code: PairingCode, jobs: u8) -> Worker {
        self.introduce(code, hello(jobs)).await
    }

    /// A worker with a lasting key that resumes these jobs.
    pub(crate) async fn join_holding(&self, code: PairingCode, name: &str, jobs: u8, held: Vec<JobRef>) -> Worker {
        let mut words = hello_of(name);
        if let ToServer::Hello { capacity, holding, .. } = &mut words {
            (capacity.jobs, *holding) = (jobs, held);
        }
        self.introduce(code, words).await
    }

    /// A worker with the same key on all its connections.
    pub(crate) async fn join_as(&self, code: PairingCode, name: &str) -> Worker {
        self.introduce(code, hello_of(name)).await
    }

    /// The same with another code than the session's first one.
    pub(crate) async fn join_by(&self, session: PairingCode, code: PairingCode, name: &str) -> Worker {
        let mut worker = self.connect(&worker_socket_path(&code)).await;
        worker.say(&hello_of(name)).await;
        match worker.hear().await {
            ToWorker::Welcome { session: joined, .. } => {
                assert_ne!(joined, session.to_string(), "a code lets others in")
            }
            other => panic!("no welcome but {other:?}"),
        }
        worker
    }

    pub(crate) async fn introduce(&self, code: PairingCode, hello: ToServer) -> Worker {
        let mut worker = self.connect(&worker_socket_path(&code)).await;
        worker.say(&hello).await;
        match worker.hear().await {
            ToWorker::Welcome { session, .. } => assert_ne!(session, code.to_string(), "a code lets others in"),
            other => panic!("no welcome but {other:?}"),
        }
        worker
    }

    pub(crate) async fn connect(&self, path: &str) -> Worker {
        let address = format!("{}{path}", self.address.replace("http:", "ws:"));
        let (socket, _) = within("the connection", connect_async(address)).await.unwrap();
        Worker { socket }
    }
}

/// A client that stores no cookies and follows no redirects.
pub(crate) fn client() -> reqwest::Client {
    // The workspace's client has no TLS provider of its own but needs one even for plain HTTP. It may be installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap()
}

/// Creates a token like the program's command, under a unique name.
pub(crate) async fn token(database: &Database, role: Role) -> String {
    let name = format!("test {:032x}", rand::random::<u128>());
    add_token(database, &name, role, false).await.unwrap()
}

/// The origin of a coordinator that has printed this line.
pub(crate) fn origin(line: &str) -> &str {
    let page = line.trim_end().strip_prefix("open ").unwrap();
    page.split_once("/enter?token=").or_else(|| page.split_once("/ingest")).unwrap().0
}

/// The hello of the worker with this name.
pub(crate) fn hello_of(name: &str) -> ToServer {
    let mut words = hello(1);
    if let ToServer::Hello { key, .. } = &mut words {
        let hash = blake3::hash(name.as_bytes());
        *key = Some(WorkerKey::from_random(u128::from_le_bytes(*hash.as_bytes().first_chunk().unwrap())));
    }
    words
}

pub(crate) fn hello(jobs: u8) -> ToServer {
    ToServer::Hello {
        protocol: VERSION,
        agent: "test/1".into(),
        kind: WorkerKind::Native,
        device: Device { backend: "flex".into(), name: "CPU".into() },
        trial: Trial::default(),
        capacity: Capacity { jobs, max_audio_bytes: MAX_AUDIO_BYTES },
        key: Some(WorkerKey::from_random(rand::random())),
        holding: Vec::new(),
    }
}

/// A vector that fits the job's model; different for each file.
pub(crate) fn vector_for(job: &Job) -> Vector {
    let model = chaarfm_models::find(&job.model.name).unwrap();
    let seed = job.track.file.bytes().map(f32::from).sum::<f32>();
    Vector {
        model: model.name.clone(),
        embedding: (0..model.embedding_length).map(|i| (seed + i as f32).sin()).collect(),
        tags: vec![0.5; model.tags.len()],
        seconds: 3.25,
        patches: 2,
        flags: Vec::new(),
    }
}

/// A worker controlled by the test.
pub(crate) struct Worker {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Worker {
    pub(crate) async fn say(&mut self, message: &ToServer) {
        self.say_text(&serde_json::to_string(message).unwrap()).await;
    }

    pub(crate) async fn say_text(&mut self, text: &str) {
        self.socket.send(Message::text(text)).await.unwrap();
    }

    /// The next frame.
    pub(crate) async fn frame(&mut self) -> Message {
        within("a frame", self.socket.next()).await.unwrap().unwrap()
    }

    /// The next message except pings.
    pub(crate) async fn hear(&mut self) -> ToWorker {
        loop {
            match self.frame().await {
                Message::Text(text) => match serde_json::from_str(&text).unwrap() {
                    ToWorker::Ping => {}
                    message => return message,
                },
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("no message but {other:?}"),
            }
        }
    }

    /// The next message except session states.
    pub(crate) async fn hear_word(&mut self) -> ToWorker {
        loop {
            match self.hear().await {
                ToWorker::State { .. } => {}
                message => return message,
            }
        }
    }

    pub(crate) async fn job(&mut self) -> Job {
        match self.hear_word().await {
            ToWorker::Job(job) => job,
            other => panic!("no job but {other:?}"),
        }
    }

    pub(crate) async fn hear_state(&mut self, expected: SessionState) {
        loop {
            match self.hear().await {
                ToWorker::State { state } if state == expected => return,
                ToWorker::State { .. } => {}
                other => panic!("not {expected:?} but {other:?}"),
            }
        }
    }

    pub(crate) async fn start_on(&mut self, job: &Job) {
        self.say(&ToServer::Progress { job: job.job.clone(), stage: Stage::Analysing, fraction: 0.5 }).await;
    }

    /// Answers a job, and returns the reply.
    pub(crate) async fn answer(&mut self, job: &JobRef, outcome: Outcome) -> ToWorker {
        self.answer_about(job, outcome, None).await
    }

    /// The same with the content's hash.
    pub(crate) async fn answer_about(&mut self, job: &JobRef, outcome: Outcome, content: Option<&[u8]>) -> ToWorker {
        let content_hash = content.map(|content| blake3::hash(content).to_hex().to_string());
        self.say(&ToServer::Result { job: job.clone(), outcome, content_hash }).await;
        match self.hear_word().await {
            reply @ (ToWorker::Accepted { .. } | ToWorker::Rejected { .. }) => reply,
            other => panic!("no answer to the result but {other:?}"),
        }
    }

    pub(crate) async fn finish(&mut self, job: &Job) -> ToWorker {
        self.answer(&job.job, Outcome::Done(vector_for(job))).await
    }

    /// Sends pings without reading, until the connection breaks.
    pub(crate) async fn flood(mut self) {
        while self.socket.feed(Message::Ping(vec![0; 125].into())).await.is_ok() {}
    }

    /// Closes the connection like a browser whose tab is closed.
    pub(crate) async fn go_away(mut self) {
        let frame = CloseFrame { code: CloseCode::Away, reason: "".into() };
        self.socket.close(Some(frame)).await.unwrap();
    }

    /// Drops the connection without a goodbye, like a killed process.
    pub(crate) fn vanish(self) {
        drop(self);
    }
}
