//! Keeps the screen on while a phone works: mobile browsers stop a tab when the screen turns off.
//!
//! The Wake Lock API is reached by name because web-sys has it only behind a compiler flag. Where a browser lacks it
//! (or the page came over plain HTTP), nothing happens.

use std::{cell::RefCell, rc::Rc};

use js_sys::{Function, Promise, Reflect};
use leptos::{ev, prelude::*, task::spawn_local};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::VisibilityState;

/// Whether the browser has the API; it may still refuse a lock.
pub(crate) fn is_offered() -> bool {
    Reflect::get(&window().navigator(), &"wakeLock".into()).is_ok_and(|wake_lock| wake_lock.is_object())
}

/// The lock, while it is wanted.
enum Held {
    Wanted,
    Lock(JsValue),
    Dropped,
}

/// A request to keep the screen on; withdrawn when dropped.
pub(crate) struct WakeLock {
    held: Rc<RefCell<Held>>,
    on_visible: Option<WindowListenerHandle>,
}

impl WakeLock {
    /// Requests the lock now, and again whenever the tab returns to the front, because hiding it releases the lock.
    pub(crate) fn acquire() -> Self {
        let held = Rc::new(RefCell::new(Held::Wanted));
        spawn_local(request(held.clone()));
        let listener = {
            let held = held.clone();
            window_event_listener(ev::visibilitychange, move |_| {
                if document().visibility_state() == VisibilityState::Visible {
                    spawn_local(request(held.clone()));
                }
            })
        };
        Self { held, on_visible: Some(listener) }
    }
}

impl Drop for WakeLock {
    fn drop(&mut self) {
        if let Some(listener) = self.on_visible.take() {
            listener.remove();
        }
        if let Held::Lock(lock) = self.held.replace(Held::Dropped) {
            release(&lock);
        }
    }
}

async fn request(held: Rc<RefCell<Held>>) {
    let Some(lock) = lock_screen().await else { return };
    let mut held = held.borrow_mut();
    match &*held {
        Held::Dropped => release(&lock),
        Held::Wanted | Held::Lock(_) => *held = Held::Lock(lock),
    }
}

/// `navigator.wakeLock.request("screen")`; none if that is missing or refused.
async fn lock_screen() -> Option<JsValue> {
    let wake_lock = Reflect::get(&window().navigator(), &"wakeLock".into()).ok()?;
    let promise = method(&wake_lock, "request")?.call1(&wake_lock, &"screen".into()).ok()?;
    JsFuture::from(promise.dyn_into::<Promise>().ok()?).await.ok()
}

/// `lock.release()`; harmless if the browser has already released the lock.
fn release(lock: &JsValue) {
    if let Some(release) = method(lock, "release") {
        _ = release.call0(lock);
    }
}

fn method(object: &JsValue, name: &str) -> Option<Function> {
    Reflect::get(object, &name.into()).ok()?.dyn_into().ok()
}
