//! The page's HTTP server: its files, one stream of the state, and the person's commands.
//!
//! It is for this user's browser only. It listens on the loopback interface. Its path begins with a secret of 128 bits,
//! which only this user's files and browser know. A request must address it by IP number, so that no other site's host
//! name leads here (DNS rebinding). Pages of other origins may request nothing.

use std::{convert::Infallible, net::Ipv4Addr, sync::Arc, time::Duration};

use anyhow::{Context, Result, anyhow};
use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Request, State},
    http::{HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
    routing::{get, post},
};
use chaarfm_config::ConfigFile;
use chaarfm_protocol::PairingCode;
use chaarfm_worker::Address;
use futures_util::{Stream, stream};
use rustls::crypto::ring;
use serde::Deserialize;
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
};

use super::board::{Board, View};
use crate::{
    command::Command,
    manners::{Keeper, Manners, Permit},
};

/// Largest request body accepted, in bytes.
const MAX_BODY_BYTES: usize = 16 * 1024;

/// Shortest interval between two events of the stream.
const SENT_EVERY: Duration = Duration::from_millis(250);

/// Nothing is loaded from elsewhere, inline scripts are forbidden, and no page may frame it. `mediastream:` is for the
/// camera's picture.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      media-src mediastream:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The page, and the parts of the program that it controls.
pub(super) struct Served {
    board: Arc<Board>,
    keeper: Arc<Keeper>,
    file: ConfigFile,
    commands: mpsc::Sender<Command>,
    secret: String,
}

type Page = State<Arc<Served>>;

impl Served {
    /// Creates a server with a new secret.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub(super) fn new(
        board: Arc<Board>,
        keeper: Arc<Keeper>,
        file: ConfigFile,
        commands: mpsc::Sender<Command>,
    ) -> Result<Self> {
        let mut bytes = [0; 16];
        ring::default_provider().secure_random.fill(&mut bytes).map_err(|_| anyhow!("the system has no randomness"))?;
        let secret = format!("{:032x}", u128::from_be_bytes(bytes));
        Ok(Self { board, keeper, file, commands, secret })
    }

    /// Serves the page while the program runs. Returns its address.
    ///
    /// # Errors
    /// When no port can be opened.
    pub(super) async fn serve(self) -> Result<String> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("the page cannot be served")?;
        let host = listener.local_addr().context("the page cannot be served")?.to_string();
        let address = format!("http://{host}/{}/", self.secret);
        let routes = routes(self, host);
        tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, routes).await {
                tracing::error!("the page is not served any more: {error}");
            }
        });
        Ok(address)
    }
}

/// The page's address with a join link filled in. The part after `#` stays in the browser.
pub(super) fn with_link(page: &str, address: &Address, code: Option<PairingCode>) -> String {
    let code = code.map(|code| format!("/join/{code}")).unwrap_or_default();
    format!("{page}#{address}{code}")
}

fn routes(served: Served, host: String) -> Router {
    let at = {
        let secret = served.secret.clone();
        move |path: &str| format!("/{secret}/{path}")
    };
    Router::new()
        .route(&at(""), get(|| file("text/html; charset=utf-8", include_str!("../../page/index.html"))))
        .route(&at("page.css"), get(|| file("text/css; charset=utf-8", include_str!("../../page/page.css"))))
        .route(&at("page.js"), get(|| file("text/javascript; charset=utf-8", include_str!("../../page/page.js"))))
        // The style sheet and icon of the coordinator's pages.
        .route(&at("style.css"), get(|| file("text/css; charset=utf-8", include_str!("../../../../web/style.css"))))
        .route(&at("icon.svg"), get(|| file("image/svg+xml", include_str!("../../../../web/favicon.svg"))))
        .route(&at("view"), get(view))
        .route(&at("views"), get(views))
        .route(&at("join"), post(join))
        .route(&at("forget"), post(forget))
        .route(&at("manners"), post(manners))
        .route(&at("pause"), post(|page: Page| pause(page, true)))
        .route(&at("resume"), post(|page: Page| pause(page, false)))
        .route(&at("finish"), post(|page: Page| command(page, Command::Finish)))
        .route(&at("leave"), post(|page: Page| command(page, Command::Leave)))
        .route(&at("quit"), post(|page: Page| command(page, Command::Quit)))
        .with_state(Arc::new(served))
        .fallback(|| async { StatusCode::FORBIDDEN })
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(middleware::from_fn_with_state(Arc::<str>::from(host), guard))
}

/// Rejects every request that does not come from a browser at exactly this address, and adds the security headers to
/// the answer.
async fn guard(State(host): State<Arc<str>>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    let is = |name, allowed: &[&str]| {
        headers.get(name).is_none_or(|value| allowed.iter().any(|allowed| value.as_bytes() == allowed.as_bytes()))
    };
    let origin = format!("http://{host}");
    let is_addressed_to_us = headers.contains_key(header::HOST) && is(header::HOST, &[&host]);
    let is_from_us = is(header::ORIGIN, &[&origin])
        && is(header::HeaderName::from_static("sec-fetch-site"), &["same-origin", "none"]);
    let mut response =
        if is_addressed_to_us && is_from_us { next.run(request).await } else { StatusCode::FORBIDDEN.into_response() };
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (header::HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

async fn file(kind: &'static str, text: &'static str) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, kind)], text)
}

/// The current state.
async fn view(State(page): Page) -> Json<View> {
    Json(page.view())
}

/// The state, now and after each change.
async fn views(State(page): Page) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    struct Following {
        page: Arc<Served>,
        board: watch::Receiver<()>,
        permits: watch::Receiver<Permit>,
        is_first: bool,
    }
    let (board, permits) = (page.board.changes(), page.keeper.gate().changes());
    let following = Following { page, board, permits, is_first: true };
    let events = stream::unfold(following, |mut following| async move {
        if !following.is_first {
            tokio::time::sleep(SENT_EVERY).await;
            // Cannot fail, as the page owns the senders.
            tokio::select! {
                _ = following.board.changed() => {}
                _ = following.permits.changed() => {}
            }
        }
        following.is_first = false;
        following.board.mark_unchanged();
        following.permits.mark_unchanged();
        let event = Event::default().json_data(following.page.view()).expect("a view has string keys only");
        Some((Ok(event), following))
    });
    Sse::new(events).keep_alive(KeepAlive::default())
}

/// The text that a person pasted or the camera read.
#[derive(Deserialize)]
struct Wanted {
    /// A join link, or a session code of the coordinator joined last.
    link: String,
    /// The code, if the link is only a coordinator's address.
    #[serde(default)]
    code: String,
}

async fn join(State(page): Page, Json(wanted): Json<Wanted>) -> Result<StatusCode, Problem> {
    let (address, code) = whom(&wanted, page.board.last_coordinator().as_deref()).map_err(Problem)?;
    page.order(Command::Join(address, code))
}

/// The coordinator and code to work for, or what is wrong with the text.
fn whom(wanted: &Wanted, last: Option<&str>) -> Result<(Address, PairingCode), String> {
    if let (Ok(code), Some(last)) = (wanted.link.parse(), last) {
        return Ok((last.parse().map_err(|error: chaarfm_worker::AddressError| error.to_string())?, code));
    }
    let address: Address = wanted.link.parse().map_err(|error: chaarfm_worker::AddressError| error.to_string())?;
    if let Some(code) = address.code() {
        return Ok((address, code));
    }
    if wanted.code.trim().is_empty() {
        return Err("the code of the session is missing; a join link has it at its end".to_owned());
    }
    let code = wanted.code.parse().map_err(|error: chaarfm_protocol::CodeError| error.to_string())?;
    Ok((address, code))
}

#[derive(Deserialize)]
struct Forgotten {
    address: String,
}

async fn forget(State(page): Page, Json(forgotten): Json<Forgotten>) -> StatusCode {
    page.board.forget(&forgotten.address);
    StatusCode::NO_CONTENT
}

/// Applies new manners at once, and saves them for the next start.
async fn manners(State(page): Page, Json(manners): Json<Manners>) -> Result<StatusCode, Problem> {
    page.keeper.set_manners(manners.clone());
    page.file.set("manners", &Manners::KEYS, &manners).map_err(|error| Problem(format!("not kept: {error}")))?;
    Ok(StatusCode::NO_CONTENT)
}

async fn pause(State(page): Page, is_paused: bool) -> StatusCode {
    page.keeper.pause(is_paused);
    StatusCode::NO_CONTENT
}

async fn command(State(page): Page, command: Command) -> Result<StatusCode, Problem> {
    page.order(command)
}

impl Served {
    fn view(&self) -> View {
        self.board.view(self.keeper.overview())
    }

    fn order(&self, command: Command) -> Result<StatusCode, Problem> {
        let busy = |_| Problem("the worker is busy ending".to_owned());
        self.commands.try_send(command).map_err(busy)?;
        Ok(StatusCode::NO_CONTENT)
    }
}

/// An error text for the person.
struct Problem(String);

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        (StatusCode::UNPROCESSABLE_ENTITY, self.0).into_response()
    }
}

#[cfg(test)]
mod tests;
