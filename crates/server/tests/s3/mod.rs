//! A real S3 server for tests, in its own process: moto, from Python's package index, with additions in `server.py`. It
//! ends when the test process ends, however it ends.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use reqwest::{Client, Method, StatusCode, Url};

const KEY: &str = "test-key";
const SECRET: &str = "test-secret";
const REGION: &str = "eu-central-1";

/// A running server.
pub(crate) struct S3 {
    pub(crate) endpoint: String,
    /// Closing it ends the server.
    _life: ChildStdin,
    _server: Child,
}

impl S3 {
    /// A server shared by all tests of this process.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: OnceLock<S3> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    fn start() -> Self {
        let python = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("tools/moto/bin/python");
        assert!(python.exists(), "the tests need moto in {}; cargo xtask test installs it", python.display());
        let mut command = Command::new(python);
        command
            .args(["-c", include_str!("server.py"), KEY, SECRET, REGION])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut server = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port: u16 = line.trim().parse().expect("the S3 server says its port, or above why it did not start");
        let endpoint = format!("http://127.0.0.1:{port}");
        Self { endpoint, _life: server.stdin.take().unwrap(), _server: server }
    }

    /// Creates an empty bucket.
    pub(crate) async fn bucket(&self) -> Bucket {
        static MADE: AtomicUsize = AtomicUsize::new(0);
        let name = format!("bucket-{}", MADE.fetch_add(1, Ordering::Relaxed));
        // The workspace's client has no TLS provider but needs one even for plain HTTP. It may be installed already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let bucket = Bucket { name, endpoint: self.endpoint.clone(), client: Client::new() };
        let place = format!(
            "<CreateBucketConfiguration><LocationConstraint>{REGION}</LocationConstraint></CreateBucketConfiguration>"
        );
        bucket.send(Method::PUT, "", place.into()).await;
        bucket
    }
}

/// A bucket on the server.
pub(crate) struct Bucket {
    pub(crate) name: String,
    endpoint: String,
    client: Client,
}

impl Bucket {
    /// The environment variables with which a coordinator connects to it.
    pub(crate) fn environment(&self) -> HashMap<&'static str, String> {
        HashMap::from([
            ("AWS_ENDPOINT", self.endpoint.clone()),
            ("AWS_ALLOW_HTTP", "true".to_owned()),
            ("AWS_REGION", REGION.to_owned()),
            ("AWS_ACCESS_KEY_ID", KEY.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", SECRET.to_owned()),
        ])
    }

    /// Stores an object that anybody who knows its URL may read.
    pub(crate) async fn put_open(&self, key: &str, bytes: &[u8]) {
        let request = self.client.put(self.address(key)).header("x-amz-acl", "public-read").body(bytes.to_vec());
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{key}: {}", response.text().await.unwrap());
    }

    pub(crate) async fn put(&self, key: &str, bytes: &[u8]) {
        self.send(Method::PUT, key, bytes.to_vec()).await;
    }

    pub(crate) async fn delete(&self, key: &str) {
        self.send(Method::DELETE, key, Vec::new()).await;
    }

    /// Lets requests for `held.wav` be answered from now on.
    pub(crate) async fn release(&self) {
        let url = format!("{}/release/{}", self.endpoint, self.name);
        self.client.post(url).send().await.unwrap();
    }

    async fn send(&self, method: Method, key: &str, body: Vec<u8>) {
        // moto requires a signature but accepts any.
        let signed = format!("AWS4-HMAC-SHA256 Credential={KEY}/20260101/{REGION}/s3/aws4_request, Signature=0");
        let request = self.client.request(method, self.address(key)).header("authorization", signed);
        let response = request.body(body).send().await.unwrap();
        assert!(response.status().is_success(), "{key}: {}", response.text().await.unwrap());
    }

    fn address(&self, key: &str) -> Url {
        let mut url: Url = self.endpoint.parse().unwrap();
        url.set_path(&format!("{}/{key}", self.name));
        url
    }
}
