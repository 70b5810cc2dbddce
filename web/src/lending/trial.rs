//! Trying out CPU and graphics card, each by its own program in a Web Worker that does nothing else, and remembering what they
//! have shown.

use std::{cell::RefCell, pin::pin, rc::Rc};

use chaarfm_protocol::Speeds;
use chaarfm_worker::tab::{FromWebWorker, ToWebWorker};
use futures_channel::oneshot;
use futures_util::future::{Either, join, select};
use gloo_timers::future::TimeoutFuture;
use leptos::prelude::window;
use serde::{Deserialize, Serialize};

use super::run::Known;
use crate::web_worker::{Program, WebWorker, folder};

/// How long a program may take to be loaded, to compile what it needs and to be timed.
const TRIAL_LIMIT_SECONDS: u32 = 60;

/// Where the browser keeps what was found.
const KEY: &str = "chaarfm-devices";

/// After so long the devices are tried again.
const MAX_AGE_MS: u64 = 30 * 24 * 3600 * 1000;

/// What the devices have shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Memory {
    /// The graphics card, by what the browser says of it.
    gpu: String,
    /// The programs' folder, which changes with them.
    programs: String,
    /// Milliseconds since 1970, UTC.
    at_ms: u64,
    /// Of one Web Worker, patches a second.
    cpu: f32,
    /// None when it does not work.
    gpu_speed: Option<f32>,
    reason: Option<String>,
}

impl Memory {
    /// What it means for so many Web Workers on the CPU. The graphics card's own Web Worker decodes on one more core, so that
    /// what both do adds up.
    fn known(&self, web_workers: u8) -> Known {
        let cpu = self.cpu * f32::from(web_workers);
        match (self.gpu_speed, &self.reason) {
            (Some(gpu), _) => Known::Measured(Speeds { cpu: Some(cpu), gpu: Some(gpu), both: Some(cpu + gpu) }),
            (None, reason) => {
                let reason = reason.as_deref().unwrap_or("it did not work");
                Known::Missing(format!("the graphics card is of no use here: {reason}"))
            }
        }
    }

    fn is_of(&self, gpu: &str, programs: &str, now_ms: u64) -> bool {
        let age = now_ms.checked_sub(self.at_ms);
        self.gpu == gpu && self.programs == programs && age.is_some_and(|age| age <= MAX_AGE_MS)
    }
}

/// What is known of this graphics card, from earlier if it was tried before. Takes a few seconds otherwise, and
/// [`TRIAL_LIMIT_SECONDS`] at most.
pub(super) async fn known(gpu: &str, web_workers: u8, server: &str, on_trial: impl FnOnce()) -> Known {
    let (programs, now_ms) = (folder(), js_sys::Date::now() as u64);
    if let Some(memory) = recall().filter(|memory| memory.is_of(gpu, &programs, now_ms)) {
        return memory.known(web_workers);
    }
    on_trial();
    let (gpu_speed, cpu) = join(measure(Program::Gpu, server), measure(Program::Cpu, server)).await;
    let (gpu_speed, reason) = match gpu_speed {
        Ok(speed) => (Some(speed), None),
        Err(reason) => (None, Some(reason)),
    };
    let memory = Memory { gpu: gpu.to_owned(), programs, at_ms: now_ms, cpu: cpu.unwrap_or(0.0), gpu_speed, reason };
    keep(&memory);
    memory.known(web_workers)
}

/// Patches a second of a program.
async fn measure(program: Program, server: &str) -> Result<f32, String> {
    let (sender, end) = oneshot::channel();
    let sender = RefCell::new(Some(sender));
    let worker: Rc<RefCell<Option<WebWorker>>> = Rc::default();
    let hear = {
        let (worker, server) = (Rc::clone(&worker), server.to_owned());
        move |message| {
            let end = match message {
                FromWebWorker::Ready => {
                    if let Some(worker) = &*worker.borrow() {
                        worker.say(&ToWebWorker::Measure { server: server.clone(), device: program.device().into() });
                    }
                    return;
                }
                FromWebWorker::Measured { speed } => Ok(speed),
                FromWebWorker::NoDevice { reason } => Err(reason),
                FromWebWorker::Crashed { message } => Err(format!("its program crashed: {message}")),
                FromWebWorker::Ended { .. } | FromWebWorker::Status { .. } | FromWebWorker::Log { .. } => return,
            };
            // Only the first end is waited for.
            if let Some(sender) = sender.borrow_mut().take() {
                drop(sender.send(end));
            }
        }
    };
    let started = WebWorker::start(program, Rc::new(hear))?;
    *worker.borrow_mut() = Some(started);
    let outcome = match select(pin!(end), TimeoutFuture::new(TRIAL_LIMIT_SECONDS * 1000)).await {
        Either::Left((end, _)) => end.unwrap_or_else(|_| Err("its program ended".into())),
        Either::Right(_) => Err(format!("it was not ready within {TRIAL_LIMIT_SECONDS} s")),
    };
    // The Web Worker holds what it calls, and that holds this: taking it ends both.
    drop(worker.borrow_mut().take());
    outcome
}

fn recall() -> Option<Memory> {
    let storage = window().local_storage().ok()??;
    serde_json::from_str(&storage.get_item(KEY).ok()??).ok()
}

/// A browser that keeps nothing tries again next time.
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
        Memory {
            gpu: "nvidia ampere".into(),
            programs: "/1/".into(),
            at_ms: 1_000,
            cpu: 50.0,
            gpu_speed: Some(70.0),
            reason: None,
        }
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
        let both = Speeds { cpu: Some(150.0), gpu: Some(70.0), both: Some(220.0) };
        assert_eq!(memory().known(3), Known::Measured(both));
        let broken = Memory { gpu_speed: None, reason: Some("it computes wrong numbers".into()), ..memory() };
        let reason = "the graphics card is of no use here: it computes wrong numbers";
        assert_eq!(broken.known(3), Known::Missing(reason.into()));
    }

    #[test]
    fn what_was_kept_is_recalled() {
        keep(&memory());
        assert_eq!(recall(), Some(memory()));
    }
}
