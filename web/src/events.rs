//! A session's views as the coordinator streams them (server-sent events).
//!
//! The browser's own reconnecting is switched off: whoever opens a stream decides when to open the next one, and can
//! say so on the page.

use chaarfm_protocol::{PairingCode, view::SessionView};
use wasm_bindgen::{JsCast, closure::Closure};
use web_sys::{Event, EventSource, MessageEvent};

use crate::api::ApiError;

/// An open stream; closed when dropped.
pub(crate) struct SessionEvents {
    source: EventSource,
    // The browser calls these as long as the stream is open.
    _on_view: Closure<dyn FnMut(MessageEvent)>,
    _on_error: Closure<dyn FnMut(Event)>,
}

impl SessionEvents {
    /// Opens the stream of one session. `on_event` gets every view, and one error when the stream has ended.
    pub(crate) fn open(
        code: PairingCode,
        on_event: impl Fn(Result<SessionView, ApiError>) + Clone + 'static,
    ) -> Result<Self, ApiError> {
        let source = EventSource::new(&format!("/api/sessions/{code}/events"))
            .map_err(|error| ApiError::Unreachable(format!("{error:?}")))?;
        let on_view = Closure::<dyn FnMut(MessageEvent)>::new({
            let (on_event, source) = (on_event.clone(), source.clone());
            move |event: MessageEvent| {
                let text = event.data().as_string().unwrap_or_default();
                let view = serde_json::from_str(&text).map_err(|error| ApiError::Unreachable(error.to_string()));
                if view.is_err() {
                    source.close();
                }
                on_event(view);
            }
        });
        let on_error = Closure::<dyn FnMut(Event)>::new({
            let source = source.clone();
            move |_| {
                source.close();
                on_event(Err(ApiError::Unreachable("the connection was lost".into())));
            }
        });
        source.set_onmessage(Some(on_view.as_ref().unchecked_ref()));
        source.set_onerror(Some(on_error.as_ref().unchecked_ref()));
        Ok(Self { source, _on_view: on_view, _on_error: on_error })
    }
}

impl Drop for SessionEvents {
    fn drop(&mut self) {
        self.source.set_onmessage(None);
        self.source.set_onerror(None);
        self.source.close();
    }
}
