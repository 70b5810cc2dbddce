//! Measures CPU and graphics card, each with its own program in a separate Web Worker, and remembers the results.

use std::{
    cell::{Cell, RefCell},
    pin::pin,
    rc::Rc,
};

use chaarfm_protocol::Speeds;
use chaarfm_worker::tab::{FromWebWorker, ToWebWorker};
use futures_channel::oneshot;
use futures_util::future::{Either, select};
use gloo_timers::future::TimeoutFuture;
use leptos::prelude::window;
use serde::{Deserialize, Serialize};

use super::run::Known;
use crate::web_worker::{Program, WebWorker, folder};

/// Longest time for loading a program, compiling its kernels and timing it.
const TRIAL_LIMIT_SECONDS: u32 = 60;

/// Key of the results in the browser's storage.
const KEY: &str = "chaarfm-devices";

/// Age at which the devices are tried again.
const MAX_AGE_MS: u64 = 30 * 24 * 3600 * 1000;

/// A failed device is tried again sooner.
const MAX_AGE_OF_FAILURE_MS: u64 = 24 * 3600 * 1000;

/// The stored results.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Memory {
    /// The browser's description of the graphics card.
    gpu: String,
    /// The programs' folder, whose name changes with them.
    programs: String,
    /// Milliseconds since 1970, UTC.
    at_ms: u64,
    /// Patches a second of one Web Worker on the CPU.
    cpu: f32,
    /// Patches a second of the graphics card, or why it is unusable.
    gpu_speed: Result<f32, String>,
}

impl Memory {
    /// What the results mean for this many Web Workers. Beside the graphics card, whose own Web Worker decodes on the
    /// CPU, there is one fewer on the CPU.
    fn known(&self, web_workers: u8) -> Known {
        let cpu = |web_workers: u8| self.cpu * f32::from(web_workers);
        match &self.gpu_speed {
            Ok(gpu) => Known::Measured(Speeds {
                cpu: Some(cpu(web_workers)),
                gpu: Some(*gpu),
                both: (web_workers > 1).then(|| gpu + cpu(web_workers - 1)),
            }),
            Err(reason) => Known::Missing(of_no_use(reason)),
        }
    }

    fn is_of(&self, gpu: &str, programs: &str, now_ms: u64) -> bool {
        let max_age = if self.gpu_speed.is_ok() { MAX_AGE_MS } else { MAX_AGE_OF_FAILURE_MS };
        let age = now_ms.checked_sub(self.at_ms);
        self.gpu == gpu && self.programs == programs && age.is_some_and(|age| age <= max_age)
    }
}

fn of_no_use(reason: &str) -> String {
    format!("the graphics card is of no use here: {reason}")
}

/// What is known about this graphics card: the stored results, or else a new measurement, which takes a few seconds,
/// two minutes at most. Dropping the future cancels it.
pub(super) async fn known(gpu: &str, web_workers: u8, server: &str, on_trial: impl FnOnce()) -> Known {
    let (programs, now_ms) = (folder(), js_sys::Date::now() as u64);
    if let Some(memory) = recall().filter(|memory| memory.is_of(gpu, &programs, now_ms)) {
        return memory.known(web_workers);
    }
    on_trial();
    // One after the other, so that they do not disturb each other.
    let cpu = measure(Program::Cpu, server).await;
    let gpu_speed = measure(Program::Gpu, server).await;
    let memory = |cpu, gpu_speed| Memory { gpu: gpu.to_owned(), programs, at_ms: now_ms, cpu, gpu_speed };
    match (cpu, gpu_speed) {
        (Ok(cpu), Ok(gpu)) => {
            let memory = memory(cpu, Ok(gpu));
            keep(&memory);
            memory.known(web_workers)
        }
        (Ok(cpu), Err(Failure::Device(reason))) => {
            let memory = memory(cpu, Err(reason));
            keep(&memory);
            memory.known(web_workers)
        }
        // The network or the coordinator is at fault, so nothing is stored and the next run tries again.
        (Err(Failure::Device(reason) | Failure::Other(reason)), _) | (Ok(_), Err(Failure::Other(reason))) => {
            Known::Missing(format!("it could not be tried out: {reason}"))
        }
    }
}

/// Why a program could not be measured.
#[derive(Debug)]
enum Failure {
    /// Its device does not work.
    Device(String),
    /// Something else.
    Other(String),
}

/// Measures a program, in patches a second.
async fn measure(program: Program, server: &str) -> Result<f32, Failure> {
    let (sender, end) = oneshot::channel();
    let sender = RefCell::new(Some(sender));
    let worker: Rc<RefCell<Option<WebWorker>>> = Rc::default();
    let is_ready = Rc::new(Cell::new(false));
    let hear = {
        let (worker, is_ready, server) = (Rc::downgrade(&worker), Rc::clone(&is_ready), server.to_owned());
        move |message| {
            let end = match message {
                FromWebWorker::Ready => {
                    is_ready.set(true);
                    if let Some(worker) = worker.upgrade().as_deref().and_then(|worker| worker.try_borrow().ok())
                        && let Some(worker) = &*worker
                    {
                        worker.say(&ToWebWorker::Measure { server: server.clone(), device: program.device().into() });
                    }
                    return;
                }
                FromWebWorker::Measured { speed } => Ok(speed),
                FromWebWorker::NoDevice { reason } => Err(Failure::Device(reason)),
                FromWebWorker::Crashed { message } if is_ready.get() => {
                    Err(Failure::Device(format!("its program crashed: {message}")))
                }
                FromWebWorker::Crashed { message } => Err(Failure::Other(message)),
                FromWebWorker::Ended { reason } => Err(Failure::Other(reason.unwrap_or_default())),
                FromWebWorker::Status { .. } | FromWebWorker::Log { .. } => return,
            };
            // Only the first result counts.
            if let Some(sender) = sender.borrow_mut().take() {
                drop(sender.send(end));
            }
        }
    };
    let hear = Rc::new(hear);
    let started = WebWorker::start(program, move |message| hear(message)).map_err(Failure::Other)?;
    *worker.borrow_mut() = Some(started);
    match select(pin!(end), TimeoutFuture::new(TRIAL_LIMIT_SECONDS * 1000)).await {
        Either::Left((end, _)) => end.unwrap_or_else(|_| Err(Failure::Other("its program ended".into()))),
        // If it was not even loaded, the network is to blame.
        Either::Right(_) if !is_ready.get() => Err(Failure::Other("its program was not loaded in time".into())),
        Either::Right(_) => Err(Failure::Device(format!("it was not ready within {TRIAL_LIMIT_SECONDS} s"))),
    }
}

fn recall() -> Option<Memory> {
    let storage = window().local_storage().ok()??;
    serde_json::from_str(&storage.get_item(KEY).ok()??).ok()
}

/// Stores the results. A browser without storage measures again next time.
fn keep(memory: &Memory) {
    if let (Ok(Some(storage)), Ok(text)) = (window().local_storage(), serde_json::to_string(memory)) {
        _ = storage.set_item(KEY, &text);
    }
}

#[cfg(test)]
mod tests {
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    fn memory() -> Memory {
        Memory { gpu: "nvidia ampere".into(), programs: "/1/".into(), at_ms: 1_000, cpu: 50.0, gpu_speed: Ok(70.0) }
    }

    #[test]
    fn it_holds_for_the_same_card_and_programs_and_not_for_ever() {
        assert!(memory().is_of("nvidia ampere", "/1/", 1_000 + MAX_AGE_MS));
        assert!(!memory().is_of("nvidia ampere", "/1/", 1_001 + MAX_AGE_MS));
        assert!(!memory().is_of("nvidia ampere", "/1/", 999), "a clock that was wrong");
        assert!(!memory().is_of("intel gen-12", "/1/", 1_000));
        assert!(!memory().is_of("nvidia ampere", "/2/", 1_000));
    }

    #[test]
    fn each_web_worker_counts() {
        let both = Speeds { cpu: Some(150.0), gpu: Some(70.0), both: Some(170.0) };
        assert_eq!(memory().known(3), Known::Measured(both));
        let alone = Speeds { cpu: Some(50.0), gpu: Some(70.0), both: None };
        assert_eq!(memory().known(1), Known::Measured(alone));
        let broken = Memory { gpu_speed: Err("it computes wrong numbers".into()), ..memory() };
        assert!(!broken.is_of("nvidia ampere", "/1/", 1_001 + MAX_AGE_OF_FAILURE_MS));
        let reason = "the graphics card is of no use here: it computes wrong numbers";
        assert_eq!(broken.known(3), Known::Missing(reason.into()));
    }

    #[test]
    fn what_was_kept_is_recalled() {
        keep(&memory());
        assert_eq!(recall(), Some(memory()));
    }
}
