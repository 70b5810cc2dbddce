//! Exchanges messages with the page, and starts or ends the run accordingly.

mod analyser;
mod download;
mod platform;
mod socket;
mod turn;

use std::{cell::RefCell, convert::Infallible, panic, pin::pin, time::Duration};

use chaarfm_analysis::Backend;
use chaarfm_domain::LogLevel;
use chaarfm_protocol::{PairingCode, RefusalReason, Trial, WorkerKey, WorkerKind, limits::MAX_AUDIO_BYTES_IN_TAB};
use chaarfm_worker::{
    Address, Config, Event, Exit, Status, run as live,
    tab::{FromWebWorker, ToWebWorker},
};
use futures_channel::oneshot;
use futures_util::{FutureExt, select_biased};
use gloo_timers::future::TimeoutFuture;
use wasm_bindgen::{JsCast, JsValue, prelude::Closure};
use wasm_bindgen_futures::spawn_local;
use web_sys::{DedicatedWorkerGlobalScope, MessageEvent};

use self::{
    analyser::{Analyser, OpenError},
    platform::Tab,
};

/// The page is sent the status at least this often, changed or not: it considers a Web Worker that is silent for a
/// minute to be stuck, for example in an endless analysis.
const SIGN_OF_LIFE_SECONDS: u32 = 10;

/// How long a device is timed, in milliseconds.
const TIMED_MILLIS: u64 = 700;

/// Starts listening to the page, and tells the page so.
pub fn start() {
    panic::set_hook(Box::new(|info| {
        console_error_panic_hook::hook(info);
        socket::hang_up();
        post(&FromWebWorker::Crashed { message: info.to_string() });
    }));
    let mut run = Run::default();
    let listener = Closure::<dyn FnMut(MessageEvent)>::new(move |event: MessageEvent| {
        let text = event.data().as_string().unwrap_or_default();
        match serde_json::from_str(&text) {
            Ok(message) => run.hear(message),
            Err(error) => log(LogLevel::Warning, &format!("the page sent what is no message: {error}")),
        }
    });
    scope().set_onmessage(Some(listener.as_ref().unchecked_ref()));
    // Running out of memory is not a panic, but an uncaught error.
    let on_error = Closure::<dyn FnMut()>::new(socket::hang_up);
    scope().set_onerror(Some(on_error.as_ref().unchecked_ref()));
    // The listeners live as long as the Web Worker.
    listener.forget();
    on_error.forget();
    post(&FromWebWorker::Ready);
}

/// The run of this Web Worker; there is only one.
#[derive(Default)]
struct Run {
    has_begun: bool,
    stop: Option<oneshot::Sender<()>>,
}

impl Run {
    fn hear(&mut self, message: ToWebWorker) {
        match message {
            ToWebWorker::Start { .. } | ToWebWorker::Measure { .. } if self.has_begun => {
                log(LogLevel::Warning, "the page asked to start what had been started");
            }
            ToWebWorker::Measure { server, device } => {
                self.has_begun = true;
                spawn_local(async move {
                    post(&measure(&server, &device).await.unwrap_or_else(|reason| FromWebWorker::NoDevice { reason }));
                });
            }
            ToWebWorker::Start { server, code, key, device, trial } => {
                let (sender, receiver) = oneshot::channel();
                self.has_begun = true;
                self.stop = Some(sender);
                spawn_local(async move {
                    let shown = RefCell::new(Status::starting());
                    let end = select_biased! {
                        end = pin!(work(&server, (&code, key), &device, trial, receiver, &shown).fuse()) => end,
                        never = pin!(show_signs_of_life(&shown).fuse()) => match never {},
                    };
                    post(&end.unwrap_or_else(|reason| FromWebWorker::Ended { reason: Some(reason) }));
                });
            }
            ToWebWorker::Stop if self.has_begun => {
                // A send without a receiver means that the run is about to end anyway.
                self.stop.take().map(|stop| stop.send(()));
            }
            ToWebWorker::Stop => post(&FromWebWorker::Ended { reason: None }),
        }
    }
}

/// Opens the device and works for a session. Returns the last message to the page, or why the work could not begin.
async fn work(
    server: &str,
    (code, key): (&str, WorkerKey),
    device: &str,
    trial: Trial,
    stop: oneshot::Receiver<()>,
    shown: &RefCell<Status>,
) -> Result<FromWebWorker, String> {
    let address: Address = server.parse().map_err(in_words)?;
    let code: PairingCode = code.parse().map_err(in_words)?;
    let backend: Backend = device.parse()?;
    let mut stop = pin!(stop.fuse());
    show(shown, &Status::starting());
    let opened = select_biased! {
        _ = stop => return Ok(FromWebWorker::Ended { reason: None }),
        opened = pin!(Analyser::open(address.clone(), backend).fuse()) => opened,
    };
    let (analyser, mut broken) = match opened {
        Err(error @ OpenError::Device(_)) => return Ok(FromWebWorker::NoDevice { reason: error.to_string() }),
        opened => opened.map_err(in_words)?,
    };
    let config = Config {
        address,
        code,
        key,
        kind: WorkerKind::Browser,
        agent: concat!("chaarfm-worker-web/", env!("CARGO_PKG_VERSION")).to_owned(),
        device: analyser.device.clone(),
        trial,
        max_audio_bytes: MAX_AUDIO_BYTES_IN_TAB,
    };
    let breakdown = RefCell::new(None);
    let stop = async {
        select_biased! {
            _ = stop => {}
            reason = broken => *breakdown.borrow_mut() = reason.ok(),
        }
    };
    let exit = live(&Tab::new(analyser), config, stop, |event| match event {
        Event::Status(status) => show(shown, status),
        Event::Log(level, line) => log(level, line),
    })
    .await;
    Ok(match (exit, breakdown.into_inner()) {
        (Exit::Stopped, Some(reason)) => FromWebWorker::Crashed { message: format!("the device failed: {reason}") },
        (exit, _) => FromWebWorker::Ended { reason: reason(&exit) },
    })
}

/// Opens the device and times it.
async fn measure(server: &str, device: &str) -> Result<FromWebWorker, String> {
    let address: Address = server.parse().map_err(in_words)?;
    let (analyser, _broken) = Analyser::open(address, device.parse()?).await.map_err(in_words)?;
    let speed = analyser.speed(Duration::from_millis(TIMED_MILLIS)).await?;
    Ok(FromWebWorker::Measured { speed: speed as f32 })
}

/// Why the worker ended if it was not asked to, for the person at the page.
fn reason(exit: &Exit) -> Option<String> {
    match exit {
        // The page was loaded before the coordinator was updated.
        Exit::Refused { reason: RefusalReason::ProtocolVersion, message } => {
            Some(format!("this page is out of date: reload it and join again ({message})"))
        }
        exit => exit.reason().map(str::to_owned),
    }
}

fn show(shown: &RefCell<Status>, status: &Status) {
    post(&FromWebWorker::Status { status: status.clone() });
    shown.replace(status.clone());
}

/// Sends the status at regular intervals.
async fn show_signs_of_life(shown: &RefCell<Status>) -> Infallible {
    loop {
        TimeoutFuture::new(SIGN_OF_LIFE_SECONDS * 1000).await;
        let status = shown.borrow().clone();
        post(&FromWebWorker::Status { status });
    }
}

fn in_words(error: impl ToString) -> String {
    error.to_string()
}

/// The browser's error message.
fn in_browsers_words(error: &JsValue) -> String {
    let message = error.dyn_ref::<js_sys::Error>().map(|error| String::from(error.message()));
    message.unwrap_or_else(|| format!("{error:?}"))
}

fn log(level: LogLevel, line: &str) {
    post(&FromWebWorker::Log { level, message: line.to_owned() });
}

fn post(message: &FromWebWorker) {
    let text = serde_json::to_string(message).expect("messages have string keys only and serialise to JSON");
    // Sending fails only for values that cannot be cloned; a string can.
    scope().post_message(&JsValue::from_str(&text)).unwrap_or_default();
}

fn scope() -> DedicatedWorkerGlobalScope {
    js_sys::global().unchecked_into()
}
