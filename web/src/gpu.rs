//! Whether this browser's graphics card is usable. Checked before the program for it is downloaded.
//!
//! WebGPU is reached by name because web-sys has it only behind a compiler flag.

use js_sys::{Array, Function, Promise, Reflect};
use leptos::prelude::window;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;

use crate::web_worker::Program;

/// How long a browser may take to find its graphics card; a sleeping one needs a second or two.
const LOOK_LIMIT_SECONDS: i32 = 10;

/// Words in the names of adapters that are emulated on the CPU.
const SOFTWARE_NAMES: [&str; 2] = ["swiftshader", "llvmpipe"];

/// The graphics card, as far as the browser tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Gpu {
    /// A real one, which may be useful; only a trial will tell. With the browser's description, to recognise it.
    Real(String),
    /// Emulated on the CPU: same results, but slower than the program for the CPU.
    Software,
    /// There is no usable one, for this reason.
    Missing(&'static str),
}

/// Asks the browser about the graphics card.
pub(crate) async fn look() -> Gpu {
    if !Program::Gpu.is_offered() {
        return Gpu::Missing("this coordinator was built without the program for graphics cards");
    }
    if !window().is_secure_context() {
        return Gpu::Missing("browsers offer their graphics card only to https pages and to localhost");
    }
    look_at(&window().navigator()).await
}

async fn look_at(navigator: &JsValue) -> Gpu {
    let Some(gpu) = get(navigator, "gpu") else { return Gpu::Missing("this browser has no WebGPU") };
    let Some(adapter) = adapter(&gpu).await else { return Gpu::Missing("this browser found no graphics card") };
    if is_software(&adapter) { Gpu::Software } else { Gpu::Real(description(&adapter)) }
}

/// The most powerful adapter, which the program will choose. None also if the browser does not find it in time.
async fn adapter(gpu: &JsValue) -> Option<JsValue> {
    let options = js_sys::Object::new();
    Reflect::set(&options, &"powerPreference".into(), &"high-performance".into()).ok()?;
    let adapter = call(gpu, "requestAdapter", &options)?;
    let first = Promise::race(&Array::of2(&adapter, &timeout()));
    JsFuture::from(first).await.ok().filter(is_something)
}

fn is_software(adapter: &JsValue) -> bool {
    // Browsers have moved the flag from the adapter to its information.
    let info = get(adapter, "info");
    let is_fallback = |object| get(object, "isFallbackAdapter").is_some_and(|flag| flag.is_truthy());
    let words = description(adapter).to_lowercase();
    is_fallback(adapter)
        || info.as_ref().is_some_and(is_fallback)
        || SOFTWARE_NAMES.iter().any(|word| words.contains(word))
}

/// The browser's description of the adapter; often short.
fn description(adapter: &JsValue) -> String {
    let Some(info) = get(adapter, "info") else { return String::new() };
    let parts = ["vendor", "architecture", "device", "description"];
    let parts = parts.into_iter().filter_map(|property| get(&info, property)?.as_string());
    parts.collect::<Vec<_>>().join(" ").trim().to_owned()
}

/// Resolves to nothing when the time has passed.
fn timeout() -> Promise {
    Promise::new(&mut |resolve, _| {
        // Without a timer only the browser's own answer is awaited.
        _ = window().set_timeout_with_callback_and_timeout_and_arguments_0(&resolve, LOOK_LIMIT_SECONDS * 1000);
    })
}

fn get(object: &JsValue, name: &str) -> Option<JsValue> {
    Reflect::get(object, &name.into()).ok().filter(is_something)
}

fn call(object: &JsValue, name: &str, argument: &JsValue) -> Option<JsValue> {
    get(object, name)?.dyn_into::<Function>().ok()?.call1(object, argument).ok()
}

fn is_something(value: &JsValue) -> bool {
    !value.is_undefined() && !value.is_null()
}

#[cfg(test)]
mod tests {
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    /// The result of `look_at` for a navigator written in JavaScript.
    async fn seen(navigator: &str) -> Gpu {
        look_at(&js_sys::eval(&format!("({navigator})")).unwrap()).await
    }

    async fn seen_adapter(adapter: &str) -> Gpu {
        seen(&format!("{{ gpu: {{ requestAdapter: async () => ({adapter}) }} }}")).await
    }

    #[test]
    async fn browsers_without_a_graphics_card_say_so() {
        let none = Gpu::Missing("this browser has no WebGPU");
        assert_eq!(seen("{}").await, none);
        assert_eq!(seen("{ gpu: undefined }").await, none);
        let nothing_found = Gpu::Missing("this browser found no graphics card");
        assert_eq!(seen_adapter("null").await, nothing_found);
        assert_eq!(seen("{ gpu: { requestAdapter: () => Promise.reject(new Error('no')) } }").await, nothing_found);
        assert_eq!(seen("{ gpu: { requestAdapter() { throw new Error('no'); } } }").await, nothing_found);
        assert_eq!(seen("{ gpu: {} }").await, nothing_found);
    }

    #[test]
    async fn imitations_are_told_from_the_real_thing() {
        let with = |info: &str| format!("{{ info: {info} }}");
        let real = |words: &str| Gpu::Real(words.into());
        assert_eq!(seen_adapter(&with("{ vendor: 'nvidia', architecture: 'ampere' }")).await, real("nvidia ampere"));
        assert_eq!(seen_adapter(&with("{ vendor: 'google', architecture: 'swiftshader' }")).await, Gpu::Software);
        assert_eq!(seen_adapter(&with("{ description: 'llvmpipe (LLVM 19.1)' }")).await, Gpu::Software);
        assert_eq!(seen_adapter(&with("{ isFallbackAdapter: true }")).await, Gpu::Software);
        assert_eq!(seen_adapter("{ isFallbackAdapter: true }").await, Gpu::Software);
        assert_eq!(seen_adapter("{}").await, real(""));
    }

    /// webdriver.json gives the browser an emulated graphics card.
    #[test]
    async fn a_real_browser_answers() {
        assert_eq!(look_at(&window().navigator()).await, Gpu::Software);
    }
}
