//! What this browser's graphics card is good for: asked before the program for it is downloaded.
//!
//! WebGPU is reached by name because web-sys has it only behind a compiler flag.

use js_sys::{Array, Function, Promise, Reflect};
use leptos::prelude::window;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;

/// How long a browser may take to find its graphics card; one that is asleep needs a second or two.
const LOOK_LIMIT_SECONDS: i32 = 10;

/// The feature without which burn panics.
const NEEDED_FEATURE: &str = "timestamp-query";

/// Words by which adapters are known that a processor imitates.
const SOFTWARE_NAMES: [&str; 2] = ["swiftshader", "llvmpipe"];

/// What the graphics card is good for, as far as the browser says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gpu {
    /// It may well be of use; only the known answer will tell.
    Real,
    /// A processor imitates one: it computes the same, but slower than the program for the CPU.
    Software,
    /// There is none that can be used, and this is why.
    Missing(&'static str),
}

/// Asks the browser.
pub(crate) async fn look() -> Gpu {
    if !window().is_secure_context() {
        return Gpu::Missing("browsers offer their graphics card only to https pages and to localhost");
    }
    look_at(&window().navigator()).await
}

async fn look_at(navigator: &JsValue) -> Gpu {
    let Some(gpu) = get(navigator, "gpu") else { return Gpu::Missing("this browser has no WebGPU") };
    let Some(adapter) = adapter(&gpu).await else { return Gpu::Missing("this browser found no graphics card") };
    if is_software(&adapter) {
        Gpu::Software
    } else if has_feature(&adapter, NEEDED_FEATURE) {
        Gpu::Real
    } else {
        Gpu::Missing("this browser lacks a part of WebGPU that is needed")
    }
}

/// The adapter that burn will choose: the most powerful one. None, too, where the browser fails to find it in time.
async fn adapter(gpu: &JsValue) -> Option<JsValue> {
    let options = js_sys::Object::new();
    Reflect::set(&options, &"powerPreference".into(), &"high-performance".into()).ok()?;
    let adapter = call(gpu, "requestAdapter", &options)?;
    let first = Promise::race(&Array::of2(&adapter, &timeout()));
    JsFuture::from(first).await.ok().filter(is_something)
}

fn is_software(adapter: &JsValue) -> bool {
    // The flag has moved from the adapter to its information.
    let info = get(adapter, "info");
    let is_fallback = |object| get(object, "isFallbackAdapter").is_some_and(|flag| flag.is_truthy());
    let named = |info: &JsValue| {
        ["description", "vendor", "architecture", "device"]
            .into_iter()
            .filter_map(|property| get(info, property)?.as_string())
            .any(|text| SOFTWARE_NAMES.iter().any(|name| text.to_lowercase().contains(name)))
    };
    is_fallback(adapter) || info.as_ref().is_some_and(|info| is_fallback(info) || named(info))
}

fn has_feature(adapter: &JsValue, feature: &str) -> bool {
    get(adapter, "features")
        .and_then(|features| call(&features, "has", &feature.into()))
        .is_some_and(|has| has.is_truthy())
}

/// Resolves to nothing when the time is up.
fn timeout() -> Promise {
    Promise::new(&mut |resolve, _| {
        // Without a timer the browser's own answer is waited for.
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

    /// What `look_at` makes of a navigator that is written in JavaScript.
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
        let features = "features: new Set(['timestamp-query'])";
        let with = |info: &str| format!("{{ {features}, info: {info} }}");
        assert_eq!(seen_adapter(&with("{ vendor: 'nvidia', architecture: 'ampere' }")).await, Gpu::Real);
        assert_eq!(seen_adapter(&with("{ vendor: 'google', architecture: 'swiftshader' }")).await, Gpu::Software);
        assert_eq!(seen_adapter(&with("{ description: 'llvmpipe (LLVM 19.1)' }")).await, Gpu::Software);
        assert_eq!(seen_adapter(&with("{ isFallbackAdapter: true }")).await, Gpu::Software);
        assert_eq!(seen_adapter(&format!("{{ {features}, isFallbackAdapter: true }}")).await, Gpu::Software);
        assert_eq!(seen_adapter(&format!("{{ {features} }}")).await, Gpu::Real);
    }

    #[test]
    async fn a_graphics_card_that_burn_would_panic_on_is_none() {
        let missing = Gpu::Missing("this browser lacks a part of WebGPU that is needed");
        assert_eq!(seen_adapter("{ features: new Set(), info: {} }").await, missing);
        assert_eq!(seen_adapter("{}").await, missing);
    }

    /// webdriver.json gives the browser an imitation.
    #[test]
    async fn a_real_browser_answers() {
        assert_eq!(look().await, Gpu::Software);
    }
}
