//! A session's views as the coordinator streams them (server-sent events).
//!
//! The browser's automatic reconnection is switched off: the code that opens a stream decides when to open the next
//! one, and can say so on the page. After a laptop has slept or a phone has changed networks, a stream may be dead
//! without the browser noticing. The coordinator sends something every ten seconds, so a stream that is silent for
//! longer is given up.

use std::{cell::Cell, rc::Rc};

use chaarfm_api::SessionView;
use chaarfm_protocol::PairingCode;
use gloo_timers::callback::Interval;
use leptos::{ev, prelude::*};
use wasm_bindgen::{JsCast, closure::Closure};
use web_sys::{Event, EventSource, MessageEvent, VisibilityState};

use crate::api::ApiError;

/// A stream that has been silent for this long is dead: it has missed three signs of life.
const SILENCE_SECONDS: u64 = 30;

/// Interval of that check. Timers stop while a machine sleeps, and run rarely in a hidden tab, so the check also runs
/// when the tab becomes visible.
const WATCH_INTERVAL_SECONDS: u32 = 5;

/// An open stream; closed when dropped.
pub(crate) struct SessionEvents {
    source: EventSource,
    on_visible: Option<WindowListenerHandle>,
    // The browser calls these while the stream is open.
    _watch: Interval,
    _on_view: Closure<dyn FnMut(MessageEvent)>,
    _on_alive: Closure<dyn FnMut(Event)>,
    _on_error: Closure<dyn FnMut(Event)>,
}

impl SessionEvents {
    /// Opens a session's stream. `on_event` gets every view, and one error when the stream has ended.
    pub(crate) fn open(
        code: PairingCode,
        on_event: impl Fn(Result<SessionView, ApiError>) + Clone + 'static,
    ) -> Result<Self, ApiError> {
        let source = EventSource::new(&format!("/api/sessions/{code}/events"))
            .map_err(|error| ApiError::Unreachable(format!("{error:?}")))?;
        let heard = Rc::new(Cell::new(js_sys::Date::now()));
        let end = {
            let (on_event, source, is_over) = (on_event.clone(), source.clone(), Rc::new(Cell::new(false)));
            move |reason: String| {
                source.close();
                if !is_over.replace(true) {
                    on_event(Err(ApiError::Unreachable(reason)));
                }
            }
        };
        let on_view = Closure::<dyn FnMut(MessageEvent)>::new({
            let (heard, end) = (heard.clone(), end.clone());
            move |event: MessageEvent| {
                heard.set(js_sys::Date::now());
                let text = event.data().as_string().unwrap_or_default();
                match serde_json::from_str(&text) {
                    Ok(view) => on_event(Ok(view)),
                    Err(error) => end(error.to_string()),
                }
            }
        });
        let on_alive = Closure::<dyn FnMut(Event)>::new({
            let heard = heard.clone();
            move |_| heard.set(js_sys::Date::now())
        });
        let on_error = Closure::<dyn FnMut(Event)>::new({
            let end = end.clone();
            move |_| end("the connection was lost".into())
        });
        source.set_onmessage(Some(on_view.as_ref().unchecked_ref()));
        source.set_onerror(Some(on_error.as_ref().unchecked_ref()));
        source
            .add_event_listener_with_callback("alive", on_alive.as_ref().unchecked_ref())
            .map_err(|error| ApiError::Unreachable(format!("{error:?}")))?;
        let look = move || {
            if is_silent(heard.get(), js_sys::Date::now()) {
                end(format!("it has said nothing for {SILENCE_SECONDS} s"));
            }
        };
        let on_visible = window_event_listener(ev::visibilitychange, {
            let look = look.clone();
            move |_| {
                if document().visibility_state() == VisibilityState::Visible {
                    look();
                }
            }
        });
        Ok(Self {
            source,
            on_visible: Some(on_visible),
            _watch: Interval::new(WATCH_INTERVAL_SECONDS * 1000, look),
            _on_view: on_view,
            _on_alive: on_alive,
            _on_error: on_error,
        })
    }
}

impl Drop for SessionEvents {
    fn drop(&mut self) {
        if let Some(on_visible) = self.on_visible.take() {
            on_visible.remove();
        }
        self.source.set_onmessage(None);
        self.source.set_onerror(None);
        self.source.close();
    }
}

/// Whether a stream last heard at `heard_ms` counts as dead now. In milliseconds of the wall clock, which goes on while
/// a machine sleeps.
fn is_silent(heard_ms: f64, now_ms: f64) -> bool {
    now_ms - heard_ms >= SILENCE_SECONDS as f64 * 1000.0
}

#[cfg(test)]
mod tests {
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn a_stream_is_given_up_after_half_a_minute_of_silence() {
        assert!(!is_silent(5_000.0, 34_999.0));
        assert!(is_silent(5_000.0, 35_000.0));
        assert!(!is_silent(5_000.0, 0.0), "the clock was set back");
    }
}
