//! One worker's WebSocket: the handshake, then messages both ways until one side ends it.
//!
//! The hub interprets the messages. A misbehaving peer can only end its own connection. Rare and short futures are boxed,
//! so that thousands of connections do not reserve space for them.

use std::{convert::Infallible, iter, net::IpAddr, sync::Arc, time::Duration};

use axum::{
    Extension,
    extract::{
        Path, State,
        ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code},
    },
    response::Response,
};
use chaarfm_coordinator::WorkerId;
use chaarfm_domain::{AuditEvent, text};
use chaarfm_protocol::{
    Device, Pace, PairingCode, ProgramRef, RefusalReason, ToServer, ToWorker, Trial, VERSION, WorkerKind,
    limits::{
        HANDSHAKE_TIMEOUT_SECONDS, MAX_MESSAGE_BYTES, MAX_MESSAGES_PER_SECOND, MAX_TEXT_CHARS, MAX_UNSENT_BYTES,
        PING_INTERVAL_SECONDS,
    },
};
use chaarfm_store::{Invited, Maker};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until, timeout},
};
use tracing::Instrument;

use crate::{
    audit::{self, Event},
    border::{Client, Guesses},
    hub::{ActiveSession, Denial, Farewell, Guest, Hello, Hub, Joined},
    identity::hash_of,
    spans,
};

/// If the worker's system has not accepted a message within this time, it never will.
const SEND_TIMEOUT_SECONDS: u64 = 10;

/// How long a stopping coordinator waits for results that are on their way.
pub(crate) const PARTING_SECONDS: u64 = 3;

/// Wait for the peer to close too, so that the last message is not lost.
pub(crate) const LINGER_SECONDS: u64 = 2;

/// Read buffer of each connection, of which there may be thousands: a result fits in.
const READ_BUFFER_BYTES: usize = 8 * 1024;

/// Write buffer; every message is flushed at once.
const WRITE_BUFFER_BYTES: usize = 8 * 1024;

/// Longest reason that fits into a close frame.
const MAX_CLOSE_REASON_BYTES: usize = 123;

/// A worker's connection. An invalid code is answered in the protocol, since a browser cannot read the HTTP status.
#[utoipa::path(
    get, path = "/api/sessions/{code}/worker", tag = "workers",
    params(("code" = String, Path, description = "Pairing code")),
    responses((status = 101, description = "A WebSocket of the worker protocol"))
)]
pub(crate) async fn worker_socket(
    State(hub): State<Arc<Hub>>,
    Path(code): Path<String>,
    Extension(guesses): Extension<Arc<Guesses>>,
    client: Option<Extension<Client>>,
    upgrade: WebSocketUpgrade,
) -> Response {
    let upgrade = upgrade.max_message_size(MAX_MESSAGE_BYTES).max_frame_size(MAX_MESSAGE_BYTES);
    let upgrade = upgrade.read_buffer_size(READ_BUFFER_BYTES);
    let upgrade = upgrade.write_buffer_size(WRITE_BUFFER_BYTES).max_write_buffer_size(MAX_UNSENT_BYTES);
    let visitor = Visitor { guesses, client: client.map(|Extension(client)| client.address) };
    upgrade.on_upgrade(move |socket| {
        let tasks = hub.tasks.clone();
        tasks.track_future(async move { serve(&hub, &code, &visitor, Connection::new(socket)).await })
    })
}

/// A message channel to a worker: a WebSocket, or a simulated connection.
pub(crate) trait Link: Send {
    /// The next event from the worker. Cancellation-safe: dropping the future loses nothing.
    fn hear(&mut self) -> impl Future<Output = Heard> + Send;

    /// Sends a message; the error says why the peer is considered gone.
    fn say(&mut self, message: &ToWorker) -> impl Future<Output = Result<(), String>> + Send;

    /// Closes the connection from this side.
    fn close(self, closing: Closing) -> impl Future<Output = ()> + Send;
}

struct Connection {
    socket: WebSocket,
    opened: Instant,
    pace: Pace,
}

/// Why a connection is closed from this side.
pub(crate) struct Closing {
    code: u16,
    reason: String,
}

impl Closing {
    fn new(code: u16, reason: impl Into<String>) -> Self {
        Self { code, reason: reason.into() }
    }
}

/// A client with a code, and its address.
#[derive(Default)]
pub(crate) struct Visitor {
    guesses: Arc<Guesses>,
    client: Option<IpAddr>,
}

impl Visitor {
    /// A client from this address, which has not guessed any codes.
    #[cfg(test)]
    pub(crate) fn from(client: IpAddr) -> Self {
        Self { client: Some(client), ..Self::default() }
    }

    /// Must be awaited before the code is checked.
    async fn wait(&self) -> Result<(), Denial> {
        let Some(client) = self.client else { return Ok(()) };
        // The worker retries later, whether it or another client behind the same address is to blame.
        self.guesses.wait(client).await.map_err(|error| Denial::new(RefusalReason::Full, error.to_string()))
    }

    /// The answer to an invalid code. It does not reveal whether such a session ever existed.
    fn deny(&self) -> Denial {
        if let Some(client) = self.client {
            self.guesses.wrong(client);
        }
        Denial::new(RefusalReason::UnknownCode, "this code lets nobody in: there is no such invitation, or it is over")
    }

    /// The network that counts as one address, as text; empty when unknown.
    fn address(&self) -> String {
        audit::address(self.client)
    }
}

/// Serves a worker until one side ends the connection.
pub(crate) async fn serve<L: Link>(hub: &Hub, code: &str, visitor: &Visitor, mut connection: L) {
    hub.metrics.connection_opened();
    let admitted = tokio::select! {
        biased;
        () = hub.shutdown.cancelled() => None,
        admitted = Box::pin(admit(hub, code, visitor, &mut connection)) => Some(admitted),
    };
    let (active, hello, guest) = match admitted {
        Some(Ok(admitted)) => admitted,
        Some(Err(Some(denial))) => return refuse(hub, visitor, connection, denial).await,
        Some(Err(None)) => return,
        None => {
            let _ = connection.say(&ToWorker::Goodbye).await;
            return connection.close(stopping()).await;
        }
    };
    let (kind, device, key) = (hello.kind, hello.device.clone(), hello.key.clone());
    let maker = Maker { kind, device, key, invitation: guest.invitation.id };
    let joined = match Box::pin(hub.join(&active, hello, &guest)).await {
        Ok(Ok(joined)) => joined,
        Ok(Err(Denial { reason: RefusalReason::SessionEnded | RefusalReason::UnknownCode, .. })) => {
            return refuse(hub, visitor, connection, visitor.deny()).await;
        }
        Ok(Err(denial)) => return refuse(hub, visitor, connection, denial).await,
        Err(error) => {
            spans::session(active.id).in_scope(|| tracing::error!("a worker could not be let in: {error}"));
            hub.note_outage(&error);
            return connection.close(Closing::new(close_code::ERROR, error.to_string())).await;
        }
    };
    let connected = hub.metrics.connected(maker.kind, &maker.device.backend);
    let (id, span) = (joined.id, spans::worker(active.id, joined.id));
    let farewell = converse(hub, &active, &maker, joined, &mut connection).instrument(span.clone()).await;
    Box::pin(hub.leave(&active, id, farewell.0)).instrument(span).await;
    drop(connected);
    if let Some(closing) = farewell.1 {
        connection.close(closing).await;
    }
}

/// Reads the worker's hello and finds its session and invitation. The error is the answer to send; none when the peer is
/// gone.
async fn admit<L: Link>(
    hub: &Hub,
    code: &str,
    visitor: &Visitor,
    connection: &mut L,
) -> Result<(Arc<ActiveSession>, Hello, Guest), Option<Denial>> {
    let hello = hello(connection).await?;
    visitor.wait().await.map_err(Some)?;
    let code: Option<PairingCode> = code.parse().ok();
    let invited = match hub.invited(code.as_ref(), &hello.key).await {
        Ok(invited) => invited,
        Err(error) => {
            tracing::error!("a worker could not be let in: {error}");
            return Err(None);
        }
    };
    let (active, invited) = invited.ok_or_else(|| Some(visitor.deny()))?;
    let Invited { invitation, is_known, set_aside, .. } = invited;
    Ok((active, hello, Guest { invitation, is_known, set_aside, address: visitor.address() }))
}

async fn converse<L: Link>(
    hub: &Hub,
    active: &ActiveSession,
    maker: &Maker,
    joined: Joined,
    connection: &mut L,
) -> (Farewell, Option<Closing>) {
    let Joined { id, greeting, mut outgoing } = joined;
    for message in &greeting {
        if let Err(reason) = connection.say(message).await {
            return (Farewell::Lost(reason), None);
        }
    }
    let mut spoke = Instant::now();
    loop {
        let next = tokio::select! {
            // The worker's messages come last: there may always be more of them.
            biased;
            () = hub.shutdown.cancelled() => {
                let limit = Duration::from_secs(PARTING_SECONDS);
                let part = Box::pin(part(hub, active, id, maker, &mut outgoing, connection));
                let farewell = timeout(limit, part).await.unwrap_or(Farewell::Shutdown);
                return (farewell, Some(stopping()));
            }
            message = outgoing.recv() => match message {
                Some(message) => Some(message),
                None => return dropped(),
            },
            () = sleep_until(spoke + Duration::from_secs(PING_INTERVAL_SECONDS)) => Some(ToWorker::Ping),
            heard = connection.hear() => {
                let answered = Box::pin(answer(hub, active, id, maker, heard));
                match alive_during(connection, || active.heard(id), answered).await {
                    Ok(reply) => reply,
                    Err(end) => return end,
                }
            }
        };
        let Some(message) = next else { continue };
        if let Err(reason) = connection.say(&message).await {
            return (Farewell::Lost(reason), None);
        }
        if matches!(message, ToWorker::Refused { .. }) {
            return (Farewell::Bye, Some(Closing::new(close_code::POLICY, "refused")));
        }
        spoke = Instant::now();
    }
}

/// Says goodbye to a worker because the coordinator stops, after all pending messages, and reads its remaining messages: a
/// result on its way still counts. The worker keeps its leases.
async fn part<L: Link>(
    hub: &Hub,
    active: &ActiveSession,
    id: WorkerId,
    maker: &Maker,
    outgoing: &mut mpsc::Receiver<ToWorker>,
    connection: &mut L,
) -> Farewell {
    hub.handed_out(active).await;
    let mut words: Vec<ToWorker> = iter::from_fn(|| outgoing.try_recv().ok()).collect();
    words.push(ToWorker::Goodbye);
    for message in &words {
        if connection.say(message).await.is_err() {
            return Farewell::Shutdown;
        }
    }
    while active.holds_something(id) {
        let heard = connection.hear().await;
        match answer(hub, active, id, maker, heard).await {
            Err((Farewell::Bye, _)) => return Farewell::Bye,
            Err(_) => break,
            Ok(None) => {}
            Ok(Some(reply)) => {
                if connection.say(&reply).await.is_err() {
                    break;
                }
            }
        }
    }
    Farewell::Shutdown
}

fn stopping() -> Closing {
    Closing::new(close_code::RESTART, "the coordinator stops")
}

fn dropped() -> (Farewell, Option<Closing>) {
    let reason = "the coordinator dropped the connection: silent, too slow to read, or replaced by a newer one";
    (Farewell::Lost("the connection was dropped".into()), Some(Closing::new(close_code::POLICY, reason)))
}

/// Handles a frame from the worker: the result is a reply, nothing, or the end.
async fn answer(
    hub: &Hub,
    active: &ActiveSession,
    id: WorkerId,
    maker: &Maker,
    heard: Heard,
) -> Result<Option<ToWorker>, (Farewell, Option<Closing>)> {
    active.heard(id);
    let message = match heard {
        Heard::Message(message) => message,
        Heard::Sign => return Ok(None),
        Heard::Left => return Err((Farewell::Bye, None)),
        Heard::Gone(reason) => return Err((Farewell::Lost(reason), None)),
        Heard::Nonsense(closing) => return Err((Farewell::Lost(closing.reason.clone()), Some(closing))),
    };
    match message {
        ToServer::Bye => Err((Farewell::Bye, Some(Closing::new(close_code::NORMAL, "goodbye")))),
        ToServer::Hello { .. } => {
            let reason = "a second hello on one connection";
            Err((Farewell::Lost(reason.into()), Some(Closing::new(close_code::POLICY, reason))))
        }
        message => match hub.handle(active, id, maker, message).await {
            Ok(reply) => Ok(reply),
            // Sends no receipt: the worker keeps its answer and sends it again later, or on its next connection.
            Err(error) if error.is_passing() => {
                tracing::warn!("a message of worker {id} has to wait: {error}");
                hub.note_outage(&error);
                Ok(None)
            }
            Err(error) => {
                tracing::error!("a message of worker {id} could not be handled: {error}");
                Err((Farewell::Lost(error.to_string()), Some(Closing::new(close_code::ERROR, error.to_string()))))
            }
        },
    }
}

/// The answer to a worker with another protocol version. Earlier versions show only the text.
fn other_version(protocol: u32, kind: WorkerKind) -> Denial {
    const PAGE: &str = "/join";
    let versions = format!("the worker speaks protocol {protocol}, this coordinator {VERSION}");
    let program = env!("CARGO_PKG_VERSION");
    let (todo, get) = match kind {
        _ if protocol > VERSION => ("the coordinator is too old: ask whoever runs it to update it".to_owned(), None),
        WorkerKind::Browser => ("the page is too old: reload it".to_owned(), None),
        WorkerKind::Native => (
            format!("it is too old: get chaarfm-worker {program} from the page {PAGE} of this coordinator"),
            Some(ProgramRef { version: program.to_owned(), page: PAGE.to_owned() }),
        ),
    };
    Denial { get, ..Denial::new(RefusalReason::ProtocolVersion, format!("{versions}; {todo}")) }
}

/// An event from a socket.
pub(crate) enum Heard {
    Message(ToServer),
    /// A sign of life; nothing to do.
    Sign,
    /// A normal close, as browsers send when a tab is closed without time for more messages.
    Left,
    Gone(String),
    Nonsense(Closing),
}

/// Waits for the first message, which must be a hello of this protocol version.
async fn hello<L: Link>(connection: &mut L) -> Result<Hello, Option<Denial>> {
    let limit = Duration::from_secs(HANDSHAKE_TIMEOUT_SECONDS);
    let heard = async {
        loop {
            match connection.hear().await {
                Heard::Sign => {}
                heard => return heard,
            }
        }
    };
    let bad = |message: String| Err(Some(Denial::new(RefusalReason::BadHello, message)));
    match timeout(limit, heard).await {
        Err(_) => bad(format!("no hello within {HANDSHAKE_TIMEOUT_SECONDS} s")),
        Ok(Heard::Gone(_) | Heard::Left | Heard::Sign) => Err(None),
        Ok(Heard::Nonsense(closing)) => bad(closing.reason),
        Ok(Heard::Message(ToServer::Hello { protocol, agent, kind, device, trial, capacity, key, holding })) => {
            let key = match key {
                Some(key) if protocol == VERSION => hash_of(&key),
                // A worker without a key uses an earlier version, whatever number it sends.
                None if protocol == VERSION => return Err(Some(other_version(VERSION - 1, kind))),
                _ => return Err(Some(other_version(protocol, kind))),
            };
            let [agent, backend, device_name] =
                [agent, device.backend, device.name].map(|words| text::cut(&words, MAX_TEXT_CHARS));
            let device = Device { backend, name: device_name };
            let note = trial.note.map(|note| text::cut(&note, MAX_TEXT_CHARS));
            let trial = Trial { note, ..trial };
            Ok(Hello { key, agent, kind, device, trial, capacity, holding })
        }
        Ok(Heard::Message(_)) => bad("the first message has to be a hello".into()),
    }
}

/// Waits for an event, and pings the worker meanwhile: while the database is locked or down, or a result is recomputed, it
/// takes as long as a worker is willing to wait. `heard` is called as well, because nobody reads the worker's messages
/// meanwhile: that they are not heard does not mean that it is silent.
async fn alive_during<L: Link, T>(
    connection: &mut L,
    heard: impl Fn() + Send,
    event: impl Future<Output = T> + Send,
) -> T {
    tokio::select! {
        biased;
        value = event => value,
        never = keep_pinging(connection, heard) => match never {},
    }
}

async fn keep_pinging<L: Link>(connection: &mut L, heard: impl Fn() + Send) -> Infallible {
    loop {
        sleep(Duration::from_secs(PING_INTERVAL_SECONDS)).await;
        // If the peer is gone, the next frame will show it.
        let _ = connection.say(&ToWorker::Ping).await;
        heard();
    }
}

/// Tells the worker why it is refused. The reason is kept out of the log: it may contain a session code.
async fn refuse<L: Link>(hub: &Hub, visitor: &Visitor, mut connection: L, denial: Denial) {
    hub.metrics.connection_refused(denial.reason);
    let event = Event { address: &visitor.address(), ..Event::default() };
    hub.audit.note(hub.now(), AuditEvent::Refused, &event, &denial.message);
    if connection.say(&denial.into()).await.is_ok() {
        connection.close(Closing::new(close_code::POLICY, "refused")).await;
    }
}

impl Connection {
    fn new(socket: WebSocket) -> Self {
        Self { socket, opened: Instant::now(), pace: Pace::new(Duration::ZERO) }
    }

    async fn send(&mut self, message: Message) -> Result<(), String> {
        match timeout(Duration::from_secs(SEND_TIMEOUT_SECONDS), self.socket.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(format!("the connection broke: {error}")),
            Err(_) => Err(format!("it has read nothing for {SEND_TIMEOUT_SECONDS} s")),
        }
    }
}

impl Link for Connection {
    async fn hear(&mut self) -> Heard {
        let frame = self.socket.recv().await;
        if !self.pace.allows(self.opened.elapsed()) {
            let reason = format!("more than {MAX_MESSAGES_PER_SECOND} messages a second");
            return Heard::Nonsense(Closing::new(close_code::POLICY, reason));
        }
        match frame {
            None => Heard::Gone("the connection broke".into()),
            Some(Err(error)) => Heard::Gone(format!("the connection broke: {error}")),
            Some(Ok(Message::Text(text))) => match serde_json::from_str(&text) {
                Ok(message) => Heard::Message(message),
                // The error quotes the message, so it must be truncated.
                Err(error) => {
                    let reason = text::cut(&format!("malformed message: {error}"), MAX_TEXT_CHARS);
                    Heard::Nonsense(Closing::new(close_code::INVALID, reason))
                }
            },
            Some(Ok(Message::Binary(_))) => {
                Heard::Nonsense(Closing::new(close_code::UNSUPPORTED, "binary frames have no meaning here"))
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => Heard::Sign,
            Some(Ok(Message::Close(Some(CloseFrame { code: close_code::AWAY, .. })))) => Heard::Left,
            Some(Ok(Message::Close(_))) => Heard::Gone("it closed the connection without a goodbye".into()),
        }
    }

    async fn say(&mut self, message: &ToWorker) -> Result<(), String> {
        let text = serde_json::to_string(message).expect("messages are always JSON");
        self.send(Message::Text(text.into())).await
    }

    async fn close(mut self, closing: Closing) {
        let reason = text::cut_bytes(&closing.reason, MAX_CLOSE_REASON_BYTES).into();
        if self.send(Message::Close(Some(CloseFrame { code: closing.code, reason }))).await.is_ok() {
            let drain = async {
                while let Some(Ok(_)) = self.socket.recv().await
                    && self.pace.allows(self.opened.elapsed())
                {}
            };
            let _ = timeout(Duration::from_secs(LINGER_SECONDS), drain).await;
        }
    }
}
