//! A Web Worker, which does the work of this tab: the programs offered, starting one, messages, ending it.

use chaarfm_worker::tab::{FromWebWorker, ToWebWorker};
use leptos::prelude::document;
use wasm_bindgen::{JsCast, JsValue, closure::Closure};
use web_sys::{ErrorEvent, Event, MessageEvent, Worker, WorkerOptions, WorkerType};

/// Element of index.html that lists the programs and their folder, which the build names after their content.
const PROGRAMS: &str = "meta[name='browser-worker']";

/// The programs that a Web Worker can run. A tab downloads the second one only where it may be useful.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    Cpu,
    Gpu,
}

impl Program {
    /// A name for people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Cpu => "CPU",
            Self::Gpu => "GPU",
        }
    }

    /// The device's name in messages to the program.
    pub(crate) fn device(self) -> &'static str {
        match self {
            Self::Cpu => "flex",
            Self::Gpu => "wgpu",
        }
    }

    /// Whether the coordinator offers it: a first build omits programs that take long to compile.
    pub(crate) fn is_offered(self) -> bool {
        let programs = programs("data-programs").unwrap_or_default();
        programs.split_whitespace().any(|name| name == self.device())
    }

    /// The module that trunk creates for a program; it loads and starts the program.
    fn loader(self) -> &'static str {
        match self {
            Self::Cpu => "chaarfm-worker-web_loader.js",
            Self::Gpu => "chaarfm-worker-web-gpu_loader.js",
        }
    }

    fn address(self) -> String {
        in_folder(&folder(), self.loader())
    }
}

/// The folder of the programs. Its name changes with their content.
pub(crate) fn folder() -> String {
    programs("content").unwrap_or_default()
}

/// An attribute of the element in index.html.
fn programs(attribute: &str) -> Option<String> {
    document().query_selector(PROGRAMS).ok().flatten()?.get_attribute(attribute)
}

fn in_folder(folder: &str, file: &str) -> String {
    format!("{}/{file}", folder.trim_end_matches('/'))
}

/// A running Web Worker; terminated when dropped.
pub(crate) struct WebWorker {
    worker: Worker,
    // The browser calls these while the Web Worker lives.
    _on_message: Closure<dyn FnMut(MessageEvent)>,
    _on_error: Closure<dyn FnMut(Event)>,
}

impl WebWorker {
    /// Starts a Web Worker. `on_message` gets its messages; a script error or a program that cannot be loaded is
    /// reported as [`FromWebWorker::Crashed`], too.
    pub(crate) fn start(
        program: Program,
        on_message: impl Fn(FromWebWorker) + Clone + 'static,
    ) -> Result<Self, String> {
        let options = WorkerOptions::new();
        options.set_type(WorkerType::Module);
        let worker = Worker::new_with_options(&program.address(), &options).map_err(|error| describe(&error))?;
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

    /// Sends a message. Messages sent before `Ready` are lost.
    pub(crate) fn say(&self, message: &ToWebWorker) {
        let text = serde_json::to_string(message).expect("strings serialise");
        // Cannot fail: a string can always be cloned for another thread.
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
    fn a_folder_may_be_the_root() {
        assert_eq!(in_folder("/", "a.js"), "/a.js");
        assert_eq!(in_folder("/worker-0123456789abcdef/", "a.js"), "/worker-0123456789abcdef/a.js");
        assert_eq!(in_folder("/worker-0123456789abcdef", "a.js"), "/worker-0123456789abcdef/a.js");
    }
}
