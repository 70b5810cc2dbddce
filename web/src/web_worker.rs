//! The Web Worker that does the work of this tab: starting it, talking to it, ending it, and when to start another.

use chaarfm_worker::tab::{FromWebWorker, ToWebWorker};
use wasm_bindgen::{JsCast, JsValue, closure::Closure};
use web_sys::{ErrorEvent, Event, MessageEvent, Worker, WorkerOptions, WorkerType};

/// The module that trunk puts beside the pages; it loads the browser worker's program and starts it.
/// Its name carries no hash of its content, so the coordinator has browsers ask whether it is still the same.
const SCRIPT: &str = "/chaarfm-worker-web_loader.js";

/// Web Workers started in place of lost ones during one run.
pub(crate) const MAX_RESTARTS: u8 = 3;

/// What the person wants the worker to compute on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeviceWish {
    Auto,
    Gpu,
    Cpu,
}

impl DeviceWish {
    /// All of them, in the order in which they are offered.
    pub(crate) const ALL: [Self; 3] = [Self::Auto, Self::Gpu, Self::Cpu];

    /// Its name between page and Web Worker, and in the page's address.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Gpu => "wgpu",
            Self::Cpu => "flex",
        }
    }

    /// Reads a name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|wish| wish.name() == name)
    }
}

/// How often, and on what, a lost Web Worker is started anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Restarts {
    device: DeviceWish,
    used: u8,
}

impl Restarts {
    pub(crate) fn new(device: DeviceWish) -> Self {
        Self { device, used: 0 }
    }

    /// What the Web Worker of this moment computes on.
    pub(crate) fn device(&self) -> DeviceWish {
        self.device
    }

    /// Counts a loss. True when another Web Worker should be started, on what `device` then says: on the CPU if the
    /// lost one had been `running`, because a GPU is the likeliest reason; on the same if it never came up.
    pub(crate) fn again(&mut self, running: bool) -> bool {
        if self.used == MAX_RESTARTS {
            return false;
        }
        self.used += 1;
        if running {
            self.device = DeviceWish::Cpu;
        }
        true
    }
}

/// A running Web Worker; terminated when dropped.
pub(crate) struct WebWorker {
    worker: Worker,
    // The browser calls these as long as the Web Worker lives.
    _on_message: Closure<dyn FnMut(MessageEvent)>,
    _on_error: Closure<dyn FnMut(Event)>,
}

impl WebWorker {
    /// Starts one. `on_message` gets what it says; a script error, or a program that cannot be loaded, comes as
    /// [`FromWebWorker::Crashed`] too.
    pub(crate) fn start(on_message: impl Fn(FromWebWorker) + Clone + 'static) -> Result<Self, String> {
        let options = WorkerOptions::new();
        options.set_type(WorkerType::Module);
        let worker = Worker::new_with_options(SCRIPT, &options).map_err(|error| describe(&error))?;
        let on_error = Closure::<dyn FnMut(Event)>::new({
            let on_message = on_message.clone();
            move |event: Event| on_message(FromWebWorker::Crashed { message: describe_event(&event) })
        });
        let on_message = Closure::<dyn FnMut(MessageEvent)>::new(move |event: MessageEvent| {
            let text = event.data().as_string().unwrap_or_default();
            on_message(serde_json::from_str(&text).unwrap_or_else(|error| FromWebWorker::Crashed {
                message: format!("it speaks another version than this page ({error}); reload the page"),
            }));
        });
        worker.set_onmessage(Some(on_message.as_ref().unchecked_ref()));
        worker.set_onerror(Some(on_error.as_ref().unchecked_ref()));
        Ok(Self { worker, _on_message: on_message, _on_error: on_error })
    }

    /// Says something to it. What is said before it was `Ready` is lost.
    pub(crate) fn say(&self, message: &ToWebWorker) {
        let text = serde_json::to_string(message).expect("strings serialise");
        // A text can always be copied to another thread, so there is nothing that could fail.
        _ = self.worker.post_message(&JsValue::from_str(&text));
    }
}

impl Drop for WebWorker {
    fn drop(&mut self) {
        self.worker.set_onmessage(None);
        self.worker.set_onerror(None);
        self.worker.terminate();
    }
}

fn describe_event(event: &Event) -> String {
    event
        .dyn_ref::<ErrorEvent>()
        .map(ErrorEvent::message)
        .filter(|message| !message.is_empty())
        .unwrap_or_else(|| "its program could not be loaded".into())
}

fn describe(error: &JsValue) -> String {
    error.dyn_ref::<js_sys::Error>().map_or_else(|| format!("{error:?}"), |error| error.message().into())
}

#[cfg(test)]
mod tests {
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn a_crash_is_followed_by_the_cpu() {
        for wish in DeviceWish::ALL {
            let mut restarts = Restarts::new(wish);
            assert!(restarts.again(true));
            assert_eq!(restarts.device(), DeviceWish::Cpu);
        }
    }

    #[test]
    fn a_program_that_did_not_load_says_nothing_about_the_gpu() {
        let mut restarts = Restarts::new(DeviceWish::Auto);
        assert!(restarts.again(false));
        assert_eq!(restarts.device(), DeviceWish::Auto);
        assert!(restarts.again(true));
        assert_eq!(restarts.device(), DeviceWish::Cpu);
        assert!(restarts.again(false));
        assert_eq!(restarts.device(), DeviceWish::Cpu);
    }

    #[test]
    fn enough_is_enough() {
        let mut restarts = Restarts::new(DeviceWish::Auto);
        let started = std::iter::repeat_with(|| restarts.again(true)).take_while(|again| *again).count();
        assert_eq!(started, usize::from(MAX_RESTARTS));
        assert!(!restarts.again(true));
    }

    #[test]
    fn wishes_are_read_by_their_names() {
        for wish in DeviceWish::ALL {
            assert_eq!(DeviceWish::named(wish.name()), Some(wish));
        }
        assert_eq!(DeviceWish::named("toaster"), None);
    }
}
