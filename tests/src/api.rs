//! Client for a coordinator's HTTP interface, as used by the pages and by tests.

use chaarfm_api::{JobView, LibraryView, SessionView, StartRequest, TrackPage, TrackView};
use chaarfm_domain::JobState;
use futures_util::StreamExt;
use reqwest::{Client, Response, redirect::Policy};
use serde::{Serialize, de::DeserializeOwned};

use crate::{COLLECTION, PATIENCE};

/// Tracks or jobs per response.
const PAGE: usize = 1000;

/// A coordinator, or several behind one address.
#[derive(Debug, Clone)]
pub struct Api {
    pub url: String,
    /// Owner's credential of the tests: name and value of a header.
    pub credential: (&'static str, String),
}

impl Api {
    /// The open session.
    pub async fn session(&self) -> SessionView {
        self.post("/api/sessions/current", None::<()>).await
    }

    /// Starts the ingest of the library.
    pub async fn ingest(&self, session: &SessionView) -> SessionView {
        let libraries: Vec<LibraryView> = self.get("/api/libraries").await;
        let request = StartRequest {
            library: libraries[0].name.clone(),
            collection: COLLECTION.to_owned(),
            model: None,
            every_file: false,
        };
        self.post(&format!("/api/sessions/{}/start", session.code), Some(request)).await
    }

    /// Sends the session a command such as `pause`.
    pub async fn command(&self, session: &SessionView, command: &str) -> SessionView {
        self.post(&format!("/api/sessions/{}/{command}", session.code), None::<()>).await
    }

    /// Waits until the session satisfies `wanted`, as a page would.
    pub async fn wait_for(
        &self,
        session: &SessionView,
        what: &str,
        wanted: impl Fn(&SessionView) -> bool,
    ) -> SessionView {
        let mut seen = None;
        match tokio::time::timeout(PATIENCE, self.watch(session, wanted, &mut seen)).await {
            Ok(Some(view)) => view,
            Ok(None) => panic!("the event stream ended before {what}; last seen: {seen:#?}"),
            Err(_) => panic!("{what} did not happen within {PATIENCE:?}; last seen: {seen:#?}"),
        }
    }

    /// Follows the session's events until it satisfies `wanted`; none if the stream ends before or does not start.
    pub async fn watch(
        &self,
        session: &SessionView,
        wanted: impl Fn(&SessionView) -> bool,
        seen: &mut Option<SessionView>,
    ) -> Option<SessionView> {
        let url = format!("{}/api/sessions/{}/events", self.url, session.code);
        let mut body = http()
            .get(url)
            .header(self.credential.0, &self.credential.1)
            .send()
            .await
            .ok()?
            .error_for_status()
            .ok()?
            .bytes_stream();
        let mut text = Vec::new();
        while let Some(Ok(bytes)) = body.next().await {
            text.extend_from_slice(&bytes);
            while let Some(end) = text.windows(2).position(|pair| pair == b"\n\n") {
                let event: Vec<u8> = text.drain(..end + 2).collect();
                // A named event only signals that the stream is alive.
                let Some(data) = event.strip_prefix(b"data:") else { continue };
                let view: SessionView = serde_json::from_slice(data.trim_ascii()).unwrap();
                if wanted(&view) {
                    return Some(view);
                }
                *seen = Some(view);
            }
        }
        None
    }

    /// Every stored track.
    pub async fn tracks(&self) -> Vec<TrackView> {
        let mut tracks: Vec<TrackView> = Vec::new();
        loop {
            let path = format!("/api/collections/{COLLECTION}/tracks?offset={}&limit={PAGE}", tracks.len());
            let page: TrackPage = self.get(&path).await;
            let is_last = page.tracks.len() < PAGE;
            tracks.extend(page.tracks);
            if is_last {
                assert_eq!(page.total as usize, tracks.len());
                return tracks;
            }
        }
    }

    /// The jobs in a given state.
    pub async fn jobs(&self, session: &SessionView, state: JobState) -> Vec<JobView> {
        let state_name = serde_json::to_value(state).unwrap();
        let state_name = state_name.as_str().unwrap();
        let mut jobs: Vec<JobView> = Vec::new();
        loop {
            let query = format!("state={state_name}&offset={}&limit={PAGE}", jobs.len());
            let page: Vec<JobView> = self.get(&format!("/api/sessions/{}/jobs?{query}", session.code)).await;
            let is_last = page.len() < PAGE;
            jobs.extend(page);
            if is_last {
                assert!(jobs.iter().all(|job| job.state == state));
                return jobs;
            }
        }
    }

    /// The failed jobs.
    pub async fn failures(&self, session: &SessionView) -> Vec<JobView> {
        self.jobs(session, JobState::Failed).await
    }

    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> T {
        self.ask(path).await.error_for_status().unwrap().json().await.unwrap()
    }

    pub async fn bytes(&self, path: &str) -> Vec<u8> {
        self.ask(path).await.error_for_status().unwrap().bytes().await.unwrap().to_vec()
    }

    /// Sends a GET request and returns any response, errors included.
    pub async fn ask(&self, path: &str) -> Response {
        http()
            .get(format!("{}{path}", self.url))
            .header(self.credential.0, &self.credential.1)
            .timeout(PATIENCE)
            .send()
            .await
            .unwrap()
    }

    /// Sends a POST request and returns any response, errors included.
    pub async fn tell(&self, path: &str, body: Option<impl Serialize>) -> Response {
        let request =
            http().post(format!("{}{path}", self.url)).header(self.credential.0, &self.credential.1).timeout(PATIENCE);
        let request = match body {
            Some(body) => request.json(&body),
            None => request,
        };
        request.send().await.unwrap()
    }

    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: Option<impl Serialize>) -> T {
        self.tell(path, body).await.error_for_status().unwrap().json().await.unwrap()
    }
}

/// An HTTP client.
pub fn http() -> Client {
    client(Policy::default())
}

/// An HTTP client that follows no redirects.
pub(crate) fn http_undirected() -> Client {
    client(Policy::none())
}

/// The workspace's reqwest has no TLS provider of its own, and requires one even for plain HTTP.
fn client(redirects: Policy) -> Client {
    // Fails if a provider is already installed, which is fine.
    let _ = rustls::crypto::ring::default_provider().install_default();
    // No authority signs the certificates of the tests' coordinators.
    Client::builder().redirect(redirects).danger_accept_invalid_certs(true).build().unwrap()
}
